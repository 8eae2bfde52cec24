"""How sending goes: the figures over the operations list, in one bounded statement."""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection

from messaging.models import User
from messaging.models.directory import visible_connections_sql
from messaging.states import LIVELY_STATES

# The newest messages of the day that the figures look at; more than that says itself on the page.
MOST_COUNTED = 10_000
HOURS = 24

# Connection and time of every message on its way.
PENDING_SQL = " UNION ALL ".join(
    # One arm for each state, so that each is answered by the partial index of its state.
    f"SELECT p.occurred_at, p.connection_id FROM messaging_message p WHERE p.state = '{state.value}' AND p.deleted_at IS NULL"
    for state in sorted(LIVELY_STATES)
)
_FAILED = "'failed', 'rejected', 'expired'"


@dataclass(frozen=True, slots=True)
class Figures:
    """The last 24 hours of what this person sees. `finished` counts messages that were accepted or failed for good.

    `median` and `p95` run from Catena's acceptance to the provider's answer; None when nothing finished. `failed_hours`
    counts by hour, oldest first. `is_capped` says that there was more than MOST_COUNTED and only the newest count.
    """

    failed: int
    failed_hours: list[int]
    pending: int
    oldest_pending: timedelta | None
    accepted: int
    finished: int
    median: timedelta | None
    p95: timedelta | None
    is_capped: bool

    @property
    def rate(self) -> float | None:
        """Accepted of finished, in percent; None when nothing finished."""
        return 100 * self.accepted / self.finished if self.finished else None


def figures_sql(user: User) -> str:
    """One SELECT of one jsonb value for `parse`, without parameters, bounded by MOST_COUNTED rows of the day and as many
    pending ones. A query of rows can carry it along.
    """

    def visible(column: str) -> str:
        return visible_connections_sql(user, column).replace("%(user)s", str(int(user.pk)))

    return f"""
WITH recent AS (
  SELECT m.state, m.settled_at - m.accepted_at AS took,
    floor(extract(epoch FROM now() - m.occurred_at) / 3600)::int AS hours_ago
  FROM messaging_message m
  WHERE m.direction = 'out' AND m.occurred_at > now() - interval '{HOURS} hours' AND m.state <> 'mirrored'
    AND m.deleted_at IS NULL AND {visible("m.connection_id")}
  ORDER BY m.occurred_at DESC, m.id DESC LIMIT {MOST_COUNTED + 1}),
pending AS (SELECT p.occurred_at FROM ({PENDING_SQL}) p WHERE {visible("p.connection_id")} LIMIT {MOST_COUNTED}),
bad AS (SELECT hours_ago, count(*) AS failed FROM recent WHERE state IN ({_FAILED}) GROUP BY 1)
SELECT jsonb_build_object(
  'hours', (SELECT jsonb_object_agg(hours_ago, failed) FROM bad),
  'pending', (SELECT count(*) FROM pending),
  'oldest', (SELECT extract(epoch FROM now() - min(occurred_at)) FROM pending),
  'seen', count(*),
  'accepted', count(*) FILTER (WHERE state = 'succeeded'),
  'failed', count(*) FILTER (WHERE state IN ({_FAILED})),
  'took', percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY extract(epoch FROM took)::float8)
    FILTER (WHERE state IN ('succeeded', 'failed') AND took >= interval '0'))
FROM recent"""


def figures(user: User) -> Figures:
    """One query."""
    with connection.cursor() as cursor:
        cursor.execute(figures_sql(user))
        return parse(cursor.fetchone()[0])


def parse(answer: str | dict[str, Any]) -> Figures:
    """The figures from the value that `figures_sql` selects."""
    found: dict[str, Any] = json.loads(answer) if isinstance(answer, str) else answer
    by_hour = {int(ago): count for ago, count in (found["hours"] or {}).items()}
    took = [timedelta(seconds=seconds) for seconds in found["took"] or [] if seconds is not None]
    return Figures(
        failed=found["failed"],
        failed_hours=[by_hour.get(ago, 0) for ago in reversed(range(HOURS))],
        pending=found["pending"],
        oldest_pending=timedelta(seconds=float(found["oldest"])) if found["oldest"] is not None else None,
        accepted=found["accepted"],
        finished=found["accepted"] + found["failed"],
        median=took[0] if took else None,
        p95=took[1] if took else None,
        is_capped=found["seen"] > MOST_COUNTED,
    )
