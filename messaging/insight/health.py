"""How each connection fares: its operations counted in the same statement that reads it, and a word for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import JSONField, QuerySet
from django.db.models.expressions import RawSQL

from messaging.insight.figures import PENDING_SQL
from messaging.models import Connection
from messaging.states import Tone

# Of each connection at most this many operations are looked at, the newest.
NEWEST_OPERATIONS = 500
FAILING_RUN = 5
SILENT_TRIES = 3
DEGRADED_BELOW = 0.95

# A correlated subquery: the statement around it names the table `messaging_connection` without an alias.
COUNTS = f"""
SELECT jsonb_build_object(
  'finished', count(*) FILTER (WHERE f.at > now() - interval '24 hours'),
  'accepted', count(*) FILTER (WHERE f.ok AND f.at > now() - interval '24 hours'),
  'hour_finished', count(*) FILTER (WHERE f.at > now() - interval '1 hour'),
  'hour_accepted', count(*) FILTER (WHERE f.ok AND f.at > now() - interval '1 hour'),
  'quarter_finished', count(*) FILTER (WHERE f.at > now() - interval '15 minutes'),
  'quarter_accepted', count(*) FILTER (WHERE f.ok AND f.at > now() - interval '15 minutes'),
  'run_finished', count(*) FILTER (WHERE f.place <= {FAILING_RUN}),
  'run_accepted', count(*) FILTER (WHERE f.ok AND f.place <= {FAILING_RUN}),
  'last_success', max(f.at) FILTER (WHERE f.ok),
  'pending', (SELECT count(*) FROM ({PENDING_SQL}) p WHERE p.connection_id = messaging_connection.id))
FROM (SELECT o.status = 'success' AS ok, o.catena_updated_at AS at,
        row_number() OVER (ORDER BY o.catena_updated_at DESC, o.id DESC) AS place
      FROM (SELECT * FROM messaging_operation x
            WHERE x.connection_id = messaging_connection.id AND x.resource = 'message'
            ORDER BY x.catena_created_at DESC LIMIT {NEWEST_OPERATIONS}) o
      WHERE o.status IN ('success', 'failed')) f"""


@dataclass(frozen=True, slots=True)
class Counts:
    """Operations that ended, and of them accepted: in 24 hours, in one hour, in 15 minutes, of the last five.

    `last_success` is among the newest NEWEST_OPERATIONS; None when none of them succeeded.
    """

    finished: int = 0
    accepted: int = 0
    hour_finished: int = 0
    hour_accepted: int = 0
    quarter_finished: int = 0
    quarter_accepted: int = 0
    run_finished: int = 0
    run_accepted: int = 0
    last_success: datetime | None = None
    pending: int = 0

    @property
    def failed(self) -> int:
        return self.finished - self.accepted

    @property
    def rate(self) -> float | None:
        """Accepted of ended in 24 hours, in percent; None when nothing ended."""
        return 100 * self.accepted / self.finished if self.finished else None


@dataclass(frozen=True, slots=True)
class Health:
    """A word with its look, and the sentence that gives the grounds."""

    key: str
    word: str
    icon: str
    tone: Tone
    why: str


def with_counts(found: "QuerySet[Connection]") -> "QuerySet[Connection]":
    """Lets each connection of the queryset be counted by `counts` without a further query."""
    return found.annotate(told_counts=RawSQL(COUNTS, (), JSONField()))  # noqa: S611 (constants)


def counts(connection: Connection) -> Counts:
    """The figures of a connection that came through `with_counts`. No query."""
    return counts_of(vars(connection)["told_counts"])


def counts_of(row: Mapping[str, Any]) -> Counts:
    """The figures of one value of COUNTS."""
    last = row["last_success"]
    return Counts(**{**row, "last_success": datetime.fromisoformat(last) if last else None})


def health(obstacle: str | None, found: Counts) -> Health:
    """The word for a connection. `obstacle` says why nothing can be sent on it, None when sending is allowed."""
    if obstacle is not None:
        return Health("disabled", "Disabled", "ban", Tone.BAD, obstacle)
    if not found.finished:
        return Health("no_data", "No data", "circle-minus", Tone.NEUTRAL, "Nothing ended here in the last 24 hours.")
    if found.run_finished >= FAILING_RUN and not found.run_accepted:
        return Health("failing", "Failing", "octagon-x", Tone.BAD, f"The last {FAILING_RUN} messages all failed.")
    if found.quarter_finished >= SILENT_TRIES and not found.quarter_accepted:
        why = f"None of {found.quarter_finished} messages was accepted in the last 15 minutes."
        return Health("failing", "Failing", "octagon-x", Tone.BAD, why)
    if found.hour_finished and found.hour_accepted < DEGRADED_BELOW * found.hour_finished:
        why = f"{found.hour_finished - found.hour_accepted} of {found.hour_finished} messages failed in the last hour."
        return Health("degraded", "Degraded", "triangle-alert", Tone.HIGH, why)
    return Health("healthy", "Healthy", "circle-check", Tone.OK, "Messages are being accepted.")
