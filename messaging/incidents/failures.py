"""What failed lately, by place and cause, and what went out meanwhile: the questions of the watch. Reads only."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import connection as database
from django.db.models import Count, Max, Q, QuerySet

from messaging.models import Incident, Message
from messaging.states import CAUSED_STATES, Direction, MessageState

# What was accepted within the window may have been written long before it, but not longer than this: behind it the index by
# time of writing would have to be read for ever.
OLDEST_WRITTEN = timedelta(hours=6)


class Cause(NamedTuple):
    """What failures have in common, wherever they happen. `code` None: the provider gave none."""

    error_type: str
    code: int | None


@dataclass(frozen=True, slots=True)
class Group:
    """The failures of one cause on one connection within the window."""

    connection_id: int
    source_name: str
    cause: Cause
    failures: int
    first_at: datetime
    last_at: datetime
    words: str
    """What most of them say."""


# A person who resolved an incident has seen what failed until then: only what fails afterwards counts.
GROUPS = """
SELECT m.connection_id, n.source_name, m.error_type, m.response_status_code, count(*), min(m.settled_at), max(m.settled_at),
    mode() WITHIN GROUP (ORDER BY m.cause)
FROM messaging_message m JOIN messaging_connection n ON n.id = m.connection_id
WHERE m.state IN ('failed', 'rejected') AND m.settled_at > %(since)s AND m.settled_at <= %(now)s AND NOT m.is_test
    AND NOT EXISTS (SELECT 1 FROM messaging_incident r WHERE r.resolved_at >= m.settled_at
        AND r.source_name = n.source_name AND (r.connection_id = m.connection_id OR r.connection_id IS NULL)
        AND r.error_type = m.error_type AND r.response_status_code IS NOT DISTINCT FROM m.response_status_code
        AND r.resolved_by_id IS NOT NULL)
GROUP BY m.connection_id, n.source_name, m.error_type, m.response_status_code
ORDER BY min(m.settled_at), m.connection_id
"""


def groups(since: datetime, now: datetime) -> list[Group]:
    """The failures after `since`, the earliest first. Tests of support do not count. One query."""
    with database.cursor() as cursor:
        cursor.execute(GROUPS, {"since": since, "now": now})
        return [
            Group(connection_id, source_name, Cause(error_type, code), failures, first_at, last_at, words or "")
            for connection_id, source_name, error_type, code, failures, first_at, last_at, words in cursor.fetchall()
        ]


def accepted(connections: Collection[int], since: datetime, now: datetime) -> Mapping[int, int]:
    """How many messages each of these connections' provider accepted after `since`. A query only when there are some."""
    if not connections:
        return {}
    found = _accepted(since, now).filter(connection_id__in=connections).values("connection_id").order_by()
    return dict(found.annotate(number=Count("id")).values_list("connection_id", "number"))


def accepted_since(incident: Incident, since: datetime, now: datetime, most: int) -> int:
    """How many were accepted where the incident is, up to `most`."""
    return _accepted(since, now).filter(place(incident))[:most].count()


def _accepted(since: datetime, now: datetime) -> "QuerySet[Message]":
    return Message.objects.filter(
        direction=Direction.OUT,
        state=MessageState.SUCCEEDED,
        occurred_at__gt=since - OLDEST_WRITTEN,
        settled_at__gt=since,
        settled_at__lte=now,
        is_test=False,
    )


def place(incident: Incident) -> Q:
    """The messages of the incident's connection, or of all connections of its provider."""
    if incident.connection_id is not None:
        return Q(connection_id=incident.connection_id)
    return Q(connection__source_name=incident.source_name)


def affected(incident: Incident, until: datetime | None = None) -> Q:
    """The incident's messages: the failures of its cause in its place, from its first to its last one, or `until` then."""
    return place(incident) & Q(
        state__in=sorted(CAUSED_STATES),
        error_type=incident.error_type,
        response_status_code=incident.response_status_code,
        settled_at__gte=incident.first_failed_at,
        settled_at__lte=until or incident.last_failed_at,
        is_test=False,
    )


class Figures(NamedTuple):
    """What an incident repeats of its messages."""

    failures: int
    drivers: int
    last_failed_at: datetime | None


def figures(incident: Incident, until: datetime) -> Figures:
    """Those of everything that failed until then. One query."""
    found = Message.objects.filter(affected(incident, until)).order_by()
    return Figures(
        **found.aggregate(
            failures=Count("id"), drivers=Count("conversation_id", distinct=True), last_failed_at=Max("settled_at")
        )
    )
