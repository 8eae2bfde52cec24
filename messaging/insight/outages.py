"""Incidents in words and rows: what fails where, since when, whom it hits, what to do. Reads only."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Count, F, Max, Q, QuerySet

from messaging.incidents.failures import affected
from messaging.incidents.timeline import counted
from messaging.insight import listing
from messaging.insight.meanings import code_hint, code_phrase, error_type_words
from messaging.live import OpenIncident
from messaging.models import Incident, IncidentEntry, Message, User
from messaging.models.directory import provider_name, sees_every_fleet
from messaging.models.outlook import ClosedGates

KEPT = timedelta(days=30)
MOST_LISTED = 200
MOST_DRIVERS = 10

# What fails, by Catena's error type; the code says more of a provider's own error.
WHATS = {
    "auth": "sign-in rejected",
    "validation": "content refused",
    "network": "provider not reached",
}
STEPS = {
    "auth": "Only the fleet can mend this, by signing in at {provider} again. Until then messages here fail.",
    "validation": "{provider} refuses what is sent. Sending the same again fails too; support looks at what it refuses.",
    "network": "{provider} cannot be reached. Wait if it can wait; for what is urgent, call the driver.",
    "tsp": "{provider} has trouble of its own. Wait if it can wait; for what is urgent, call the driver.",
    "": "Catena refuses what is sent. Support looks into it; for what is urgent, call the driver.",
}


class Look(NamedTuple):
    """State of an incident as icon, word and tone."""

    icon: str
    word: str
    tone: str


def what(error_type: str, code: int | None) -> str:
    """What fails, in few words: `sign-in rejected`, `answers 503 (Service unavailable)`."""
    if error_type in WHATS:
        return WHATS[error_type] + (f" ({code})" if code else "")
    if code is None:
        return (error_type_words(error_type) or "refused by Catena").lower()
    phrase = f" ({code_phrase(code)})" if code_phrase(code) else ""
    return f"answers {code}{phrase}" if error_type else f"Catena answers {code}{phrase}"


def step(error_type: str, provider: str) -> str:
    """What a person who wants to write does meanwhile."""
    return STEPS.get(error_type, STEPS["tsp"]).format(provider=provider)


def look(incident: Incident, now: datetime) -> Look:
    """The one state that a person sees of it, the most telling first."""
    if incident.resolved_at is not None:
        return Look("circle-check", "Resolved", "ok")
    if incident.closing_proposed_at is not None:
        return Look("rotate-cw", "Seems over", "wait")
    if incident.snoozed_until is not None and incident.snoozed_until > now:
        return Look("clock", "Snoozed", "wait")
    if incident.acknowledged_at is not None:
        return Look("user-check", "Being looked at", "hi")
    return Look("octagon-x", "Open", "bad")


def place(incident: Incident) -> str:
    """`Motive, fleet North`, or `Motive, every fleet`."""
    one = incident.connection
    if one is None:
        return f"{incident.provider}, every fleet"
    return f"{one.provider}, {one.fleet.name}" if one.fleet else f"{one.provider}, {one.label}"


def said(row: Incident, now: datetime, seen: tuple[int, int] | None = None) -> dict[str, Any]:
    """What the templates print of an incident. `seen`: failures and drivers among what the reader may see, when not all."""
    failures, drivers = seen or (row.failures, row.drivers)
    return {
        "row": row,
        "url": row.get_absolute_url(),
        "place": place(row),
        "what": what(row.error_type, row.response_status_code),
        "step": step(row.error_type, row.provider),
        "hint": code_hint(row.response_status_code) if row.response_status_code else "",
        "look": look(row, now),
        "failures": failures,
        "drivers": drivers,
        "counted": f"{counted(failures, 'message')} to {counted(drivers, 'driver')} failed",
    }


def listed(user: User, now: datetime) -> list[dict[str, Any]]:
    """What is open, then what was resolved within 30 days; what is put aside comes after what is not. At most two queries."""
    recent = Q(resolved_at=None) | Q(resolved_at__gt=now - KEPT)
    found = (
        Incident.objects.visible_to(user)
        .filter(recent)
        .select_related("connection__fleet", "owner")
        .order_by(F("resolved_at").desc(nulls_first=True), "-opened_at", "-id")[:MOST_LISTED]
    )
    rows = sorted(found, key=lambda one: _rank(one, now))
    seen = _seen(user, [one for one in rows if one.connection_id is None])
    return [said(one, now, seen.get(one.pk)) for one in rows]


def _rank(incident: Incident, now: datetime) -> int:
    if incident.resolved_at is not None:
        return 2
    return int(incident.snoozed_until is not None and incident.snoozed_until > now)


def _seen(user: User, wide: list[Incident]) -> dict[int, tuple[int, int]]:
    """Of a provider's incidents, what lies in the person's own fleets. One query, and none for those who see all."""
    if sees_every_fleet(user) or not wide:
        return {}
    questions: dict[str, Any] = {}
    for one in wide:
        questions[f"failures_{one.pk}"] = Count("id", filter=affected(one))
        questions[f"drivers_{one.pk}"] = Count("conversation_id", filter=affected(one), distinct=True)
    since = min(one.first_failed_at for one in wide)
    found = messages_seen(user).filter(settled_at__gte=since, state__in=["failed", "rejected"]).aggregate(**questions)
    return {one.pk: (found[f"failures_{one.pk}"], found[f"drivers_{one.pk}"]) for one in wide}


def messages_seen(user: User) -> "QuerySet[Message]":
    return Message.objects.visible_to(user).order_by()


def seen_of(user: User, incident: Incident) -> tuple[int, int] | None:
    """Failures and drivers that this person may see, when these are not all. One query at most."""
    if incident.connection_id is not None:
        return None
    return _seen(user, [incident]).get(incident.pk)


def open_count(user: User) -> int:
    return Incident.objects.visible_to(user).open().count()


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the messages that an incident hit, newest first."""

    rows: list[listing.Row]
    has_more: bool


PAGE_SIZE = 25


def hit_messages(user: User, incident: Incident, before: listing.Key | None, now: datetime, gates: ClosedGates) -> Page:
    """The messages of the incident that this person may see, before a key when one is given. One query."""
    chosen = listing.OperationFilter(span="all")
    found = listing.outgoing(user, chosen, now, gates).filter(affected(incident))
    if before:
        at, pk = before
        found = found.filter(Q(occurred_at__lt=at) | Q(id__lt=pk), occurred_at__lte=at)
    rows = listing.read_rows(found.order_by("-occurred_at", "-id"), PAGE_SIZE + 1, now, gates)
    return Page(rows[:PAGE_SIZE], len(rows) > PAGE_SIZE)


def hit_drivers(user: User, incident: Incident) -> list[dict[str, Any]]:
    """The drivers with the most failures in it, with the newest of each; at most MOST_DRIVERS. One query."""
    found = messages_seen(user).filter(affected(incident))
    rows = found.values("conversation__uuid", "conversation__driver__name", "connection__fleet__name")
    counted_rows = rows.annotate(number=Count("id"), last_at=Max("occurred_at")).order_by("-number", "-last_at")
    return [dict(row) for row in counted_rows[:MOST_DRIVERS]]


ENTRY_ICONS = {
    IncidentEntry.Kind.OPENED: ("octagon-x", "bad"),
    IncidentEntry.Kind.WIDENED: ("chevrons-up", "bad"),
    IncidentEntry.Kind.RELAPSED: ("octagon-x", "bad"),
    IncidentEntry.Kind.RECOVERING: ("rotate-cw", "ok"),
    IncidentEntry.Kind.RESOLVED: ("circle-check", "ok"),
    IncidentEntry.Kind.ALERTED: ("send", "wait"),
    IncidentEntry.Kind.ALERT_FAILED: ("triangle-alert", "hi"),
    IncidentEntry.Kind.OWNED: ("user", "wait"),
    IncidentEntry.Kind.ACKNOWLEDGED: ("user-check", "wait"),
    IncidentEntry.Kind.SNOOZED: ("clock", "wait"),
    IncidentEntry.Kind.NOTED: ("message-square", "accent"),
    IncidentEntry.Kind.RECOVERY: ("refresh-cw", "wait"),
}
MOST_ENTRIES = 200
# Its text is the address of the recovery, which is open to those who see every fleet and to its author.
RECOVERY = IncidentEntry.Kind.RECOVERY
# Its figures, and what was noted before it grew to the provider, reach beyond the fleets of those who do not see every fleet.
FIGURED = frozenset(
    {IncidentEntry.Kind.OPENED, IncidentEntry.Kind.RELAPSED, IncidentEntry.Kind.WIDENED, IncidentEntry.Kind.NOTED}
)


def timeline(user: User, incident: Incident) -> list[dict[str, Any]]:
    """What happened to it, newest first. What would tell of other fleets is left out for those who do not see them."""
    sees_all = sees_every_fleet(user)
    is_cut = incident.connection_id is None and not sees_all
    return [
        {
            "at": entry.at,
            "kind": entry.kind,
            "word": entry.get_kind_display(),
            "icon": ENTRY_ICONS.get(IncidentEntry.Kind(entry.kind), ("circle-minus", "wait"))[0],
            "tone": ENTRY_ICONS.get(IncidentEntry.Kind(entry.kind), ("circle-minus", "wait"))[1],
            "who": entry.user.label if entry.user else "Backhaul",
            "text": "" if (is_cut and entry.kind in FIGURED) or entry.kind == RECOVERY else entry.text,
            "url": entry.text if entry.kind == RECOVERY and (sees_all or entry.user_id == user.pk) else "",
        }
        for entry in incident.entries.select_related("user")[:MOST_ENTRIES]
    ]


class Notice(NamedTuple):
    """What somebody who is about to write is told."""

    url: str
    place: str
    what: str
    counted: str
    since: datetime
    step: str


def warning(user: User, incident: OpenIncident, fleet: str) -> Notice:
    """The figures of a whole provider are those of every fleet, and not told to those who see some. No query."""
    provider = provider_name(incident.source_name)
    is_all = incident.connection_id is not None or sees_every_fleet(user)
    told = f"{counted(incident.failures, 'message')} to {counted(incident.drivers, 'driver')}" if is_all else "Messages"
    where = f"{provider}, every fleet" if incident.connection_id is None else f"{provider}, {fleet}"
    return Notice(
        url=f"/ops/incidents/{incident.uuid}/",
        place=where,
        what=what(incident.error_type, incident.code),
        counted=told,
        since=incident.since,
        step=step(incident.error_type, provider),
    )
