"""Stops sending where too many sends end without a clear answer: each further one would only make more work for people."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection

from messaging import gates
from messaging.states import UNSETTLED_OUTCOMES, GateCause

# Since a gate last opened: what closed it before must not close it again. A gate that is closed now needs no counting.
UNSETTLED_SQL = f"""
WITH recent AS MATERIALIZED (
    SELECT m.connection_id, a.finished_at FROM messaging_sendattempt a JOIN messaging_message m ON m.id = a.message_id
    WHERE a.outcome IN ({", ".join(f"'{outcome}'" for outcome in sorted(UNSETTLED_OUTCOMES))})
      AND a.finished_at > %(since)s),
counted AS (
    SELECT connection_id, finished_at FROM recent
    UNION ALL SELECT NULL, finished_at FROM recent)
SELECT c.connection_id, count(*) FROM counted c
LEFT JOIN messaging_gate g ON g.connection_id IS NOT DISTINCT FROM c.connection_id
WHERE g.id IS NULL OR g.state = 'open' AND c.finished_at > g.changed_at
   OR g.state = 'closed' AND g.until <= %(now)s AND c.finished_at > g.until
GROUP BY c.connection_id
"""  # noqa: S608 (our own words)


def trip(now: datetime) -> int:
    """Closes every gate whose budget of unclear sends within the window is spent; answers how many. Safe to repeat.

    One short query when there is nothing to do. Called after the outcome is committed, so that of several workers the last
    one sees them all.
    """
    most, most_of_all = settings.BREAKER_CONNECTION_UNKNOWNS, settings.BREAKER_CREDENTIAL_UNKNOWNS
    if not most and not most_of_all:
        return 0
    since = now - timedelta(seconds=settings.BREAKER_WINDOW_SECONDS)
    with connection.cursor() as cursor:
        cursor.execute(UNSETTLED_SQL, {"since": since, "now": now})
        counts: list[tuple[int | None, int]] = cursor.fetchall()
    tripped = 0
    for connection_id, count in counts:
        limit = most_of_all if connection_id is None else most
        if limit and count >= limit:
            gates.close_gate(connection_id, GateCause.AMBIGUITY, now)
            tripped += 1
    return tripped
