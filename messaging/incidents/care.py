"""What people do about an incident: each act is one conditional UPDATE, one line of the timeline and one of the audit.

Every function answers whether anything was changed; False means that a colleague was quicker, or that it is resolved.
"""

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from messaging.incidents.timeline import enter
from messaging.models import AuditEntry, Incident, IncidentEntry, User

Kind = IncidentEntry.Kind
LONGEST_NOTE = 2000
SNOOZES = {"1h": "1 hour", "4h": "4 hours", "tomorrow": "the night, until 07:00"}
MORNING = 7


def snoozed_until(word: str, now: datetime) -> datetime:
    """The end of a snooze of SNOOZES, in the time zone that is active."""
    if word != "tomorrow":
        return now + timedelta(hours={"1h": 1, "4h": 4}[word])
    local = timezone.localtime(now) + timedelta(days=1)
    return local.replace(hour=MORNING, minute=0, second=0, microsecond=0)


def give(incident: Incident, owner: User | None, user: User, now: datetime) -> bool:
    """Makes somebody the owner, or nobody. False when that is so already."""
    same = Q(owner=owner) if owner else Q(owner=None)
    said = f"{owner.label} looks after it." if owner else "Nobody looks after it."
    detail = {"owner": owner.pk if owner else None}
    return _act("owned", ~same, {"owner": owner}, Kind.OWNED, incident, user, now, said, detail)


def acknowledge(incident: Incident, user: User, now: datetime) -> bool:
    """Says that somebody has seen it. The first one counts; without an owner they become it."""
    columns: dict[str, Any] = {"acknowledged_at": now, "acknowledged_by": user}
    if incident.owner_id is None:
        columns["owner"] = user
    still = Q(acknowledged_at=None) & (Q(owner=None) if incident.owner_id is None else Q())
    return _act("acknowledged", still, columns, Kind.ACKNOWLEDGED, incident, user, now)


def snooze(incident: Incident, until: datetime, user: User, now: datetime) -> bool:
    """Puts it aside until then: it stays open, and is listed below what nobody has put aside."""
    said = f"Until {timezone.localtime(until):%a %d %b, %H:%M}."
    still = Q(snoozed_until=None) | ~Q(snoozed_until=until)
    detail = {"until": until.isoformat()}
    return _act("snoozed", still, {"snoozed_until": until}, Kind.SNOOZED, incident, user, now, said, detail)


def note(incident: Incident, text: str, user: User, now: datetime) -> None:
    """Adds a person's words, also after the end. Whoever has the page open sees them."""
    with transaction.atomic():
        # Written over with itself, so that open pages are told.
        Incident.objects.filter(pk=incident.pk).update(failures=F("failures"))
        enter(incident, Kind.NOTED, now, text, user)
        _audit("noted", incident, user, {"characters": len(text)})


def resolve(incident: Incident, user: User, now: datetime) -> bool:
    """Ends it. Only what fails after `now` can open another one of the same cause."""
    columns = {"resolved_at": now, "resolved_by": user, "alert_due_at": None}
    return _act("resolved", Q(), columns, Kind.RESOLVED, incident, user, now)


def _act(
    action: str,
    still: Q,
    columns: dict[str, Any],
    kind: IncidentEntry.Kind,
    incident: Incident,
    user: User,
    now: datetime,
    text: str = "",
    detail: dict[str, Any] | None = None,
) -> bool:
    with transaction.atomic():
        if not Incident.objects.open().filter(still, pk=incident.pk).update(**columns):
            return False
        enter(incident, kind, now, text, user)
        _audit(action, incident, user, detail or {})
    return True


def _audit(action: str, incident: Incident, user: User, detail: dict[str, Any]) -> None:
    AuditEntry.objects.create(
        action=f"incident_{action}",
        user=user,
        connection_id=incident.connection_id,
        detail={"incident": str(incident.uuid), **detail},
    )
