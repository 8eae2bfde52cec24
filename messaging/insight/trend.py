"""A day of one connection, hour by hour: what failed, and how long the provider takes. Carried by the statement around it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import JSONField, QuerySet
from django.db.models.expressions import RawSQL

from messaging.insight.figures import HOURS
from messaging.insight.health import NEWEST_OPERATIONS
from messaging.models import Connection

# A correlated subquery like `health.COUNTS`. An operation that is not ours has no message, so nobody knows how long it took.
_TREND = f"""
WITH ended AS (
  SELECT o.status = 'success' AS ok, floor(extract(epoch FROM now() - o.catena_created_at) / 3600)::int AS ago,
    CASE WHEN m.state = 'succeeded' AND m.settled_at >= m.accepted_at
      THEN extract(epoch FROM m.settled_at - m.accepted_at)::float8 END AS took
  FROM (SELECT * FROM messaging_operation x
        WHERE x.connection_id = messaging_connection.id AND x.resource = 'message'
          AND x.catena_created_at > now() - interval '{HOURS} hours'
        ORDER BY x.catena_created_at DESC LIMIT {NEWEST_OPERATIONS}) o
  LEFT JOIN messaging_message m ON m.operation_id = o.id
  WHERE o.status IN ('success', 'failed')),
hours AS (SELECT ago, count(*) FILTER (WHERE NOT ok) AS failed,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY took) FILTER (WHERE took IS NOT NULL) AS p95
  FROM ended GROUP BY ago)
SELECT jsonb_build_object(
  'took', (SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY took) FILTER (WHERE took IS NOT NULL) FROM ended),
  'hours', (SELECT jsonb_object_agg(ago, jsonb_build_array(failed, p95)) FROM hours))"""


@dataclass(frozen=True, slots=True)
class Trend:
    """The newest operations of 24 hours that ended. `median` and `p95` run from Catena's acceptance to the provider's; None
    when nothing of ours was accepted. The hours stand oldest first, with 0 where nothing ended.
    """

    median: timedelta | None
    p95: timedelta | None
    failed_hours: Sequence[int]
    p95_hours: Sequence[float]


def with_trend(found: "QuerySet[Connection]") -> "QuerySet[Connection]":
    """Lets each connection of the queryset be told by `trend` without a further query."""
    return found.annotate(told_trend=RawSQL(_TREND, (), JSONField()))  # noqa: S611 (constants)


def trend(connection: Connection) -> Trend:
    """The day of a connection that came through `with_trend`. No query."""
    row: dict[str, Any] = vars(connection)["told_trend"]
    by_hour = {int(ago): pair for ago, pair in (row["hours"] or {}).items()}
    hours = [by_hour.get(ago, (0, None)) for ago in reversed(range(HOURS))]
    median, p95 = (None if took is None else timedelta(seconds=took) for took in row["took"] or (None, None))
    return Trend(median, p95, [failed for failed, _ in hours], [round(slow or 0, 1) for _, slow in hours])
