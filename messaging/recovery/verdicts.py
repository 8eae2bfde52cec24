"""What may be done with each failure of a set, judged by one statement.

The first that holds counts: `done`, `may_have_arrived`, `superseded`, `too_old`, else `safe`. The second is
`outbox.doubt_about` in SQL, along the same chain of resends; a test holds the two equal.
"""

from collections.abc import Sequence
from datetime import datetime

from django.db import connection

from messaging.states import TAKEN_STATES, UNSETTLED_OUTCOMES, MessageState

S = MessageState


def _words(words: Sequence[str]) -> str:
    return ", ".join(f"'{word}'" for word in sorted(words))


# `outbox.resend.is_unclear` of a message or of one of Catena's tries.
_UNCLEAR = (
    "({0}.error_type = 'network' OR {0}.response_status_code IS NULL OR {0}.response_status_code NOT BETWEEN 400 AND 499"
    " OR {0}.response_status_code = 408)"
)
# Whether one message, by itself, may be with the driver.
_DOUBT = f"""(x.state IN ({_words([*TAKEN_STATES])}) OR x.is_sent_twice
    OR x.state = '{S.FAILED.value}' AND ({_UNCLEAR.format("x")} OR EXISTS (SELECT 1 FROM messaging_operationlog g
        WHERE g.operation_id = x.operation_id AND g.status = 'failed' AND {_UNCLEAR.format("g")}))
    OR EXISTS (SELECT 1 FROM messaging_sendattempt a WHERE a.message_id = x.id AND a.operation_id IS NULL
        AND a.outcome IN ({_words([*UNSETTLED_OUTCOMES])})))"""  # noqa: S608 (our own words)
# A resend has no words of its own, a withdrawn message says nothing, and a test is not about anything. Later words count also
# when they failed themselves: which of the two the driver needs is for a person to say.
_SUPERSEDED = f"""EXISTS (SELECT 1 FROM messaging_message l WHERE l.conversation_id = m.conversation_id
    AND (l.occurred_at, l.id) > (m.occurred_at, m.id) AND l.direction = 'out' AND l.deleted_at IS NULL
    AND l.retry_of_id IS NULL AND l.group_id IS NULL AND NOT l.is_test AND l.state <> '{S.CANCELLED.value}')"""  # noqa: S608
_DONE = f"""(m.handled_at IS NOT NULL OR EXISTS (SELECT 1 FROM messaging_message r
    WHERE r.retry_of_id = m.id AND r.state <> '{S.CANCELLED.value}'))"""  # noqa: S608 (our own words)
# `picked` is a relation with the primary keys of the set; takes the parameter `now` and answers id, occurred_at, verdict.
JUDGED_SQL = f"""
chain AS (
    SELECT m.id AS root, m.id, m.retry_of_id FROM messaging_message m WHERE m.id IN (SELECT id FROM picked)
    UNION ALL
    SELECT c.root, e.id, e.retry_of_id FROM chain c JOIN messaging_message e ON e.id = c.retry_of_id),
doubtful AS (
    SELECT DISTINCT c.root FROM chain c JOIN messaging_message x ON x.id = c.id WHERE {_DOUBT}),
judged AS (
    SELECT m.id, m.occurred_at, CASE
        WHEN {_DONE} THEN 'done'
        WHEN m.id IN (SELECT root FROM doubtful) THEN 'may_have_arrived'
        WHEN {_SUPERSEDED} THEN 'superseded'
        WHEN m.expires_at <= %s THEN 'too_old'
        ELSE 'safe' END AS verdict
    FROM messaging_message m WHERE m.id IN (SELECT id FROM picked))
"""  # noqa: S608 (our own words)


def judge(message_ids: Sequence[int], now: datetime) -> dict[int, str]:
    """The verdict of this moment on each of these failures. One query."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE picked AS (SELECT unnest(%s::bigint[]) AS id), {JUDGED_SQL} SELECT id, verdict FROM judged",  # noqa: S608
            [list(message_ids), now],
        )
        return dict(cursor.fetchall())
