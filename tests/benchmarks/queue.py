"""A queue as it stands after a bad hour, written by the database itself."""

import psycopg

from tests.benchmarks import corpus

# Conversations whose heads the probe of claims takes, while the worker drains the others.
PROBED = 400
A_UUID = "019de3a1-4b7c-7d10-8f52-2a6b9c0d1e31"
BLOCKED_CONVERSATIONS, BLOCKED_EACH = 500, 101
SENT_CONVERSATIONS, SENT_EACH = 200, 100
FIRST_PROBED = SENT_CONVERSATIONS + BLOCKED_CONVERSATIONS + 1
FIRST_DUE = FIRST_PROBED + PROBED
# Texts are "conversation:number", so that whoever gets them can tell whether one is missing, doubled or too early.
FILL = """
INSERT INTO messaging_message (id, uuid, conversation_id, connection_id, direction, seq, occurred_at, created_at, author_id,
    client_token, sender_id, recipient_id, sender_name, text, priority, state, detached, send_by, not_before, expires_at,
    claim_count, fence, worker, unknown_since, looks, fingerprint, operation_status, attempt_count,
    failed_attempts, reason, error_type, source_id, source_thread_id, record_status, changed_xid)
  SELECT nextval(pg_get_serial_sequence('messaging_message', 'id')), gen_random_uuid(), c.id, c.connection_id, 'out', n,
    now(), now(), 1, gen_random_uuid(), c.driver_id, c.driver_id, 'Office',
    c.id || ':' || n || ' Load LD004711 please use the south gate, dock 4 is closed until 15:00 today', 'medium',
    CASE WHEN n = 1 THEN %(head)s ELSE 'waiting' END, false, now() + %(due)s, now() + %(due)s, now() + interval '3 days',
    0, 0, '', CASE WHEN %(head)s = 'unknown' THEN now() END,
    0, '', '', 0, 0, '', '', '', '', '', 0
  FROM messaging_conversation c, generate_series(1, %(each)s) n WHERE c.id BETWEEN %(first)s AND %(last)s
  ORDER BY n, c.id;
UPDATE messaging_conversation SET next_seq = %(each)s + 1 WHERE id BETWEEN %(first)s AND %(last)s;
"""
# What has been sent before: a planner that knows only empty tables would keep plans that read them from end to end.
HISTORY = """
INSERT INTO messaging_operation (id, catena_id, connection_id, resource, operation_type, status, payload, source_id,
    catena_created_at, catena_updated_at, first_seen_at, raw)
  SELECT m.id, gen_random_uuid(), m.connection_id, 'message', 'create', 'success', '{}', '', now(), now(), now(), '{}'
  FROM messaging_message m WHERE m.conversation_id BETWEEN %(first)s AND %(last)s;
INSERT INTO messaging_sendattempt (message_id, fence, authority, worker, posting_at, finished_at, outcome, http_status,
    error_class, error_text, body_sha256, operation_id)
  SELECT m.id, 1, 'compose', 'bench', now(), now(), 'accepted', 202, '', '', '', m.id
  FROM messaging_message m WHERE m.conversation_id BETWEEN %(first)s AND %(last)s;
UPDATE messaging_message SET state = 'succeeded', operation_id = id, operation_status = 'success', fence = 1
  WHERE conversation_id BETWEEN %(first)s AND %(last)s;
SELECT setval(pg_get_serial_sequence('messaging_operation', 'id'), max(id)) FROM messaging_operation;
"""


def build(dsn: str, conversations: int, each: int) -> None:
    """50,000 messages wait behind heads in doubt, `PROBED` heads are due in a day, `conversations` times `each` messages
    are due now, behind all of them, and 20,000 have been sent before.
    """
    first = 1
    groups = [
        (SENT_CONVERSATIONS, SENT_EACH, "waiting", "-1 day"),
        (BLOCKED_CONVERSATIONS, BLOCKED_EACH, "unknown", "-1 hour"),
        (PROBED, 1, "queued", "1 day"),
        (conversations, each, "queued", "-1 minute"),
    ]
    with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("SET statement_timeout = 0; SET synchronous_commit = off")
        people = sum(count for count, *_ in groups)
        world = corpus.WORLD.split("INSERT INTO messaging_operation")[0].replace("%%", "%")
        connection.execute(world.replace("%(conversations)s", str(people)))  # type: ignore[arg-type]  (constants)
        connection.execute("INSERT INTO messaging_fleetmembership (user_id, fleet_id) VALUES (1, 4), (1, 5)")
        for count, length, head, due in groups:
            values = {"head": head, "due": due, "each": length, "first": first, "last": first + count - 1}
            connection.execute(FILL.replace("%(due)s", "%(due)s::interval"), values)  # type: ignore[arg-type]
            if head == "waiting":
                connection.execute(HISTORY, values)
            first += count
        connection.execute("VACUUM ANALYZE")
