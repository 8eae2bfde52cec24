"""Writes the lines of an incident's timeline, and counts in words for them."""

from datetime import datetime

from messaging.models import Incident, IncidentEntry, User


def enter(incident: Incident, kind: IncidentEntry.Kind, at: datetime, text: str = "", user: User | None = None) -> None:
    """Adds one line; without `user` it was Backhaul itself. Belongs into the transaction of what it tells."""
    IncidentEntry.objects.create(incident=incident, at=at, user=user, kind=kind, text=text)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
