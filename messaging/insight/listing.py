"""The rows of the operations list: every outgoing message, filtered, in pages of constant cost."""

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import JSONField, Q, QuerySet
from django.db.models.expressions import RawSQL

from messaging.insight.figures import figures_sql
from messaging.insight.situations import ATTENTION, situation_q
from messaging.models import Message, User
from messaging.models.directory import provider_name
from messaging.models.outlook import DELIVERY_COLUMNS, ClosedGates, delivery_of

Row = dict[str, Any]
Key = tuple[datetime, int]
PAGE_SIZE = 50
# Unhandled failures that the unfiltered list shows on top; the rest is one link away.
MOST_ATTENTION = 20
SNIPPET_LENGTH = 160
# How far back the list looks, by the word in the URL; None looks at everything.
RANGES: dict[str, timedelta | None] = {
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "all": None,
}
USUAL_RANGE = "7d"

_COLUMNS = (
    *DELIVERY_COLUMNS,
    "id", "uuid", "text", "priority", "error_type", "response_status_code", "attempt_count", "handled_at",
    "sender_name", "author__first_name", "author__last_name", "author__username",
    "conversation__driver__name", "connection__description", "connection__fleet__name",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OperationFilter:
    """What the list shows; empty means everything. `status` is a situation's key or `attention` or `pending`."""

    status: str = ""
    fleet_id: int | None = None
    connection_id: int | None = None
    priority: str = ""
    error: str = ""
    code: int | None = None
    span: str = USUAL_RANGE
    before: Key | None = None  # keyset: time and id of the last row of the page before
    after: Key | None = None  # keyset backwards: the first row of the page after

    @property
    def is_usual(self) -> bool:
        """Nothing chosen: failures are gathered on top."""
        bare = replace(self, before=None, after=None)
        return all(getattr(bare, one.name) == one.default for one in fields(bare))


def outgoing(user: User, chosen: OperationFilter, now: datetime, gates: ClosedGates) -> "QuerySet[Message]":
    """The messages that the filter means, without order and page."""
    found = Message.objects.visible_to(user).outgoing().filter(deleted_at=None)
    reach = RANGES[chosen.span]
    if reach is not None:
        found = found.filter(occurred_at__gt=now - reach)
    if chosen.status:
        found = found.filter(situation_q(chosen.status, now, gates))
    if chosen.fleet_id is not None:
        found = found.filter(connection__fleet_id=chosen.fleet_id)
    plain = {
        "connection_id": chosen.connection_id,
        "priority": chosen.priority,
        "error_type": chosen.error,
        "response_status_code": chosen.code,
    }
    return found.filter(**{name: value for name, value in plain.items() if value not in ("", None)})


def page(user: User, chosen: OperationFilter, now: datetime, gates: ClosedGates) -> tuple[list[Row], bool]:
    """One page, newest first, and whether more lie beyond it in the direction of travel. One query.

    The unfiltered list leaves out what `attention` shows above it.
    """
    found = outgoing(user, chosen, now, gates)
    if chosen.is_usual:
        found = found.exclude(situation_q(ATTENTION, now, gates))
    if chosen.after:
        at, pk = chosen.after
        found = found.filter(Q(occurred_at__gt=at) | Q(id__gt=pk), occurred_at__gte=at).order_by("occurred_at", "id")
    else:
        if chosen.before:
            at, pk = chosen.before
            # The bare comparison gives the index its starting point, the other one the exact row.
            found = found.filter(Q(occurred_at__lt=at) | Q(id__lt=pk), occurred_at__lte=at)
        found = found.order_by("-occurred_at", "-id")
    rows = read_rows(found, PAGE_SIZE + 1, now, gates)
    shown = rows[:PAGE_SIZE]
    return (shown[::-1] if chosen.after else shown), len(rows) > PAGE_SIZE


def attention(user: User, now: datetime, gates: ClosedGates) -> list[Row]:
    """The newest unhandled failures of any age, one more than MOST_ATTENTION when there are more. One query."""
    found = outgoing(user, OperationFilter(status=ATTENTION, span="all"), now, gates).order_by("-occurred_at", "-id")
    return read_rows(found, MOST_ATTENTION + 1, now, gates)


def read_rows(found: "QuerySet[Message]", most: int, now: datetime, gates: ClosedGates) -> list[Row]:
    return [_row(row, now, gates) for row in found.values(*_COLUMNS)[:most]]


def read_changed(user: User, found: "QuerySet[Message]", most: int, now: datetime, gates: ClosedGates) -> list[Row]:
    """The same, newest first, each row with the `figures` of this moment for `figures.parse`. Still one query."""
    carried = RawSQL(figures_sql(user), (), JSONField())  # noqa: S611 (constants and an integer key)
    rows = found.order_by("-occurred_at", "-id").annotate(figures=carried).values(*_COLUMNS, "figures")[:most]
    return [_row(row, now, gates) for row in rows]


def _row(row: Row, now: datetime, gates: ClosedGates) -> Row:
    """Adds what the template prints, so that its loop only prints."""
    row["url"] = f"/m/{row['uuid']}/"
    row["driver"] = row["conversation__driver__name"]
    row["label"] = row["connection__description"] or provider_name(
        row["connection__tsp_slug"] or row["connection__source_name"]
    )
    row["fleet"] = row["connection__fleet__name"] or ""
    row["badge"] = delivery_of(row, now, gates)
    row["snippet"] = " ".join((row["text"] or "").split())[:SNIPPET_LENGTH]
    row["author"] = _author(row)
    return row


def _author(row: Row) -> str:
    name = f"{row['author__first_name'] or ''} {row['author__last_name'] or ''}".strip()
    return name or str(row["author__username"] or row["sender_name"] or "")
