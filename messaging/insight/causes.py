"""Failures by what they have in common: where, and why. Reads only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Count, Max, Min, QuerySet
from django.http import QueryDict

from messaging.insight.filtering import canonical_query
from messaging.insight.listing import NONE, OperationFilter, outgoing
from messaging.insight.meanings import error_type_words
from messaging.insight.situations import FAILURES
from messaging.models import Message, User
from messaging.models.directory import provider_name
from messaging.models.outlook import ClosedGates
from messaging.states import CAUSED_STATES

# Groups on the page; beyond these a cause is rare enough to be looked for with the filter.
MOST_GROUPS = 100
_WHERE = (
    "connection_id", "connection__catena_id", "connection__description", "connection__tsp_slug", "connection__source_name",
    "connection__fleet__name",
)  # fmt: skip
_WHY = ("error_type", "response_status_code", "cause")


@dataclass(frozen=True, slots=True)
class CauseGroup:
    """Failures on one connection with one cause. `drivers` counts whom they were for, `sample` is what the newest one says.

    `query` is the filter of the operations list that shows exactly these; `response_status_code` None means that the provider
    gave none.
    """

    connection_id: int
    connection_uuid: UUID
    label: str
    provider: str
    fleet: str
    error_type: str
    response_status_code: int | None
    cause: str
    count: int
    drivers: int
    first_at: datetime
    last_at: datetime
    sample: str
    sample_uuid: UUID
    query: str

    @property
    def error_words(self) -> str:
        return error_type_words(self.error_type)

    @property
    def key(self) -> str:
        """For ids on a page: the newest failure of the group is in no other group."""
        return str(self.sample_uuid)


def groups(
    user: User, query: QueryDict, chosen: OperationFilter, now: datetime, gates: ClosedGates
) -> tuple[list[CauseGroup], bool]:
    """The failures of the filter by cause, the most frequent first, and whether there are more groups. One query.

    `chosen` is what `query` means to this person.
    """
    found = outgoing(user, chosen, now, gates).filter(state__in=sorted(CAUSED_STATES)).order_by()
    rows = _with_sample(found)
    return [_group(row, query) for row in rows[:MOST_GROUPS]], len(rows) > MOST_GROUPS


_COUNTS = ("count", "drivers", "first_at", "last_at", "newest")
_NAMES = (*_WHERE, *_WHY, *_COUNTS, "sample", "sample_uuid")


def _with_sample(found: "QuerySet[Message]") -> list[dict[str, Any]]:
    """The groups with what the newest message of each says; one more than MOST_GROUPS when there are more."""
    counted = found.values(*_WHERE, *_WHY).annotate(
        count=Count("pk"),
        drivers=Count("conversation_id", distinct=True),
        first_at=Min("occurred_at"),
        last_at=Max("occurred_at"),
        newest=Max("pk"),
    )
    shown = counted.order_by("-count", "-last_at", "newest")[: MOST_GROUPS + 1]
    try:
        inner, parameters = shown.query.sql_with_params()
    except EmptyResultSet:
        return []
    columns = ", ".join(f'"{name}"' for name in (*_WHERE, *_WHY, *_COUNTS))
    # Joined to the groups that are shown: a subquery in the grouping itself would be asked for each failure.
    statement = f"""SELECT g.*, m.reason, m.uuid FROM ({inner}) g ({columns})
      JOIN messaging_message m ON m.id = g.newest ORDER BY g.count DESC, g.last_at DESC, g.newest"""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return [dict(zip(_NAMES, row, strict=True)) for row in cursor.fetchall()]


def _group(row: dict[str, Any], query: QueryDict) -> CauseGroup:
    slug = row["connection__tsp_slug"] or row["connection__source_name"]
    code = row["response_status_code"]
    chosen = canonical_query(
        query,
        status=query.get("status", "") or FAILURES,
        fleet="",
        provider="",
        connection=str(row["connection__catena_id"]),
        error=row["error_type"] or NONE,
        code=NONE if code is None else str(code),
        cause=row["cause"] or NONE,
    )
    return CauseGroup(
        connection_id=row["connection_id"],
        connection_uuid=row["connection__catena_id"],
        label=row["connection__description"] or provider_name(slug),
        provider=provider_name(slug),
        fleet=row["connection__fleet__name"] or "",
        error_type=row["error_type"],
        response_status_code=code,
        cause=row["cause"],
        count=row["count"],
        drivers=row["drivers"],
        first_at=row["first_at"],
        last_at=row["last_at"],
        sample=row["sample"],
        sample_uuid=row["sample_uuid"],
        query=chosen,
    )
