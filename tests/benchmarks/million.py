"""The world of the support desk at size: 90 days of 60 connections, written by the database itself, as fast as it can.

Reusable: `fill` for any database that is migrated and empty; `facts` says which rows a scenario may ask for.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

CONNECTIONS, FLEETS, DRIVERS, PEOPLE, DAYS = 60, 20, 2000, 40, 90
LOGS_PER_MESSAGE = 3
# Every fifth message comes from a driver, three in a hundred of the others fail.
INCOMING, FAILED = 5, 0.03
TABLES = ("message", "messagewords", "operation", "operationlog")

# (weight, error type, code, what it says): what a year of providers says when it does not work.
CAUSES = [
    (24, "tsp", 503, "Service unavailable, request req-%s, retry after %s s"),
    (18, "auth", 401, "Session of account %s expired"),
    (14, "network", None, "Timed out after %s ms while connecting to the provider"),
    (10, "validation", 422, "Message exceeds 2500 characters: %s given"),
    (8, "tsp", 404, "Driver drv_%s is not known"),
    (7, "tsp", 429, "Too many requests, slow down for %s s"),
    (6, "tsp", 500, "Internal error, trace %s"),
    (4, "auth", 403, "Account %s may not send messages"),
    (3, "tsp", 409, "Vehicle of driver %s is being changed"),
    (3, "network", 502, "Bad gateway at edge-%s"),
    (2, "validation", 400, "Field recipient %s is malformed"),
    (1, "", None, "Provider answered in a way that nobody understood: %s"),
]
COMMON = (
    "load dock gate please call when you arrive at the south north trailer is closed until today tomorrow road ice"
    " police weigh station fuel stop delivery pickup late early customer paperwork seal number check in with"
    " dispatch thank"
)
PROVIDERS = ("samsara", "motive", "geotab", "verizon_connect", "omnitracs", "isaac")

WORLD = """
INSERT INTO messaging_user (id, username, password, first_name, last_name, email, is_active, is_staff, is_superuser, date_joined,
    role, time_zone, theme, undo_seconds, has_shortcuts)
  SELECT u, CASE u WHEN 1 THEN 'bench' ELSE 'person' || u END, '', 'Person', 'Number ' || u, '', true, false, false,
    now() - interval '30 days', CASE u WHEN 1 THEN 'support' ELSE 'manager' END, '', 'system', 8, true
  FROM generate_series(1, {people}) u;
INSERT INTO messaging_fleet (id, catena_id, name, fleet_ref, catena_created_at, catena_updated_at, expires_high_hours,
    expires_other_hours, raw, synced_at)
  SELECT f, gen_random_uuid(), 'Fleet ' || f, 'REF-' || f, now(), now(), 4, 24, '{{}}', now() FROM generate_series(1, {fleets}) f;
INSERT INTO messaging_fleetmembership (user_id, fleet_id) SELECT u, 1 + u % {fleets} FROM generate_series(2, {people}) u;
INSERT INTO messaging_connection (id, catena_id, fleet_id, tsp_id, source_name, tsp_slug, description, status, share_level,
    catena_created_at, catena_updated_at, raw, synced_at, changed_xid)
  SELECT n, gen_random_uuid(), 1 + n % {fleets}, gen_random_uuid(), s.slug, s.slug, 'Account ' || n, 'active', 'read_write',
    now(), now(), '{{}}', now(), 0
  FROM generate_series(1, {connections}) n, LATERAL (SELECT ({slugs})[1 + n % {providers}] AS slug) s;
INSERT INTO messaging_fleetuser (id, catena_id, connection_id, source_id, name, username, phone_number, is_driver,
    user_designation, is_active, status, catena_created_at, catena_updated_at, raw, synced_at)
  SELECT u, gen_random_uuid(), 1 + u % {connections}, 'drv_' || u, 'Driver Number ' || u, 'driver' || u,
    '+1555' || lpad(u::text, 7, '0'), true, 'DRIVER', true, 'ACTIVE', now(), now(), '{{}}', now()
  FROM generate_series(1, {drivers}) u;
INSERT INTO messaging_conversation (id, uuid, connection_id, driver_id, next_seq, last_text, attention_count, created_at,
    changed_xid)
  SELECT u.id, gen_random_uuid(), u.connection_id, u.id, 1, '', 0, now(), 0 FROM messaging_fleetuser u;
CREATE TEMP TABLE draft AS
  SELECT m.id, (m.id % {incoming} <> 0) AS is_ours, 1 + (m.id::bigint * 7919 % {drivers})::int AS conversation_id,
    now() - interval '1 hour' - ({messages} - m.id) * interval '{days} days' / {messages} AS at,
    random() AS fate, random() AS luck, 1 + floor(random() * 100)::int AS dice
  FROM generate_series(1, {messages}) m (id);
"""
OPERATIONS = """
INSERT INTO messaging_operation (id, catena_id, connection_id, resource, operation_type, status, payload, source_id,
    catena_created_at, catena_updated_at, first_seen_at, raw)
  SELECT d.id, gen_random_uuid(), 1 + d.conversation_id % {connections}, 'message', 'create',
    CASE WHEN d.fate < {failed} THEN 'failed' ELSE 'success' END, '{{}}', 'src-' || d.id, d.at, d.at, d.at, '{{}}'
  FROM draft d WHERE d.is_ours;
"""
MESSAGES = """
INSERT INTO messaging_message (id, uuid, conversation_id, connection_id, direction, seq, occurred_at, created_at, author_id,
    client_token, sender_id, recipient_id, sender_name, text, priority, state, detached, send_by, not_before, expires_at,
    claim_count, fence, worker, looks, fingerprint, operation_id, operation_status, accepted_at, settled_at, attempt_count,
    failed_attempts, reason, cause, error_type, response_status_code, catena_id, source_id, source_thread_id, record_status,
    delivered_at, read_at, handled_at, changed_xid)
  SELECT d.id, gen_random_uuid(), d.conversation_id, 1 + d.conversation_id % {connections},
    CASE WHEN d.is_ours THEN 'out' ELSE 'in' END, CASE WHEN d.is_ours THEN d.id END, d.at, d.at,
    CASE WHEN d.is_ours THEN 2 + (power(d.luck, 2) * ({people} - 2))::int END,
    CASE WHEN d.is_ours THEN gen_random_uuid() END, d.conversation_id, CASE WHEN d.is_ours THEN d.conversation_id END, 'Driver',
    t.words || ' LD' || lpad(d.id::text, 7, '0'),
    CASE WHEN NOT d.is_ours THEN NULL WHEN d.dice <= 8 THEN 'high' WHEN d.dice <= 20 THEN 'low' ELSE 'medium' END,
    s.state, false, o.at, o.at, o.at, d.is_ours::int, d.is_ours::int, '', 0, '',
    CASE WHEN d.is_ours AND s.state <> ALL ('{{rejected,cancelled,expired}}') THEN d.id END,
    CASE WHEN NOT d.is_ours THEN '' WHEN s.state = 'failed' THEN 'failed' ELSE 'success' END, o.at,
    o.at + interval '1 second' * (1 + d.dice / 10.0), d.is_ours::int + s.is_bad::int * 2, s.is_bad::int * 3,
    coalesce(c.reason, ''), coalesce(messaging_cause_of(c.reason), ''), coalesce(c.error_type, ''),
    CASE WHEN s.is_bad THEN c.code WHEN d.is_ours THEN 200 END,
    gen_random_uuid(), 'msg-' || d.id, '', CASE WHEN d.is_ours AND NOT s.is_bad THEN 'sent' ELSE '' END,
    CASE WHEN s.state = 'succeeded' AND d.dice > 50 THEN d.at + interval '20 seconds' END,
    CASE WHEN s.state = 'succeeded' AND d.dice > 75 THEN d.at + interval '90 seconds' END,
    CASE WHEN s.is_bad AND (d.dice > 2 OR d.id < {messages} - 30000) THEN d.at + interval '1 hour' END, 0
  FROM draft d
  CROSS JOIN LATERAL (
    SELECT string_agg(coalesce(({common})[1 + n], left(translate(md5(n::text), '0123456789', 'aeiourstln'), 4 + n % 6)), ' ')
      AS words
    FROM generate_series(1, 5 + d.dice % 9) g, LATERAL (SELECT (power(random(), 3 + 0 * g) * 4000)::int AS n OFFSET 0) r) t
  CROSS JOIN LATERAL (SELECT CASE WHEN NOT d.is_ours THEN 'mirrored' WHEN d.fate < {failed} * 0.1 THEN 'rejected'
      WHEN d.fate < {failed} THEN 'failed' WHEN d.fate < {failed} + 0.002 THEN 'cancelled'
      WHEN d.fate < {failed} + 0.0025 THEN 'expired' ELSE 'succeeded' END AS state,
    d.is_ours AND d.fate < {failed} AS is_bad) s
  CROSS JOIN LATERAL (SELECT CASE WHEN d.is_ours THEN d.at END AS at) o
  LEFT JOIN LATERAL (SELECT k.error_type, k.code, format(replace(k.says, '%s', '%1$s'), d.id % 90000 + 10) AS reason
    FROM causes k WHERE s.is_bad AND d.dice > k.low AND d.dice <= k.high) c ON TRUE;
INSERT INTO messaging_messagewords (message_id, vector, occurred_at, connection_id)
  SELECT id, messaging_words_of(text), occurred_at, connection_id FROM messaging_message;
"""
LOGS = """
INSERT INTO messaging_operationlog (id, catena_id, operation_id, status, error_type, error_details, response_status_code,
    response_headers, request_ids, catena_created_at, catena_updated_at)
  SELECT l, gen_random_uuid(), o.id, CASE WHEN is_last AND o.status = 'success' THEN 'success' ELSE 'failed' END,
    CASE WHEN is_last AND o.status = 'success' THEN '' ELSE 'tsp' END, '',
    CASE WHEN is_last AND o.status = 'success' THEN 200 ELSE 503 END,
    jsonb_build_object('content-type', 'application/json', 'x-request-id', 'req-' || md5(l::text)), ARRAY['req-' || md5(l::text)],
    o.catena_created_at, o.catena_created_at
  FROM (SELECT l, 1 + (l - 1) % {operations} AS place, l > {logs} - {operations} AS is_last FROM generate_series(1, {logs}) l) x
  JOIN numbered n ON n.place = x.place JOIN messaging_operation o ON o.id = n.id;
"""
# The newest messages of a hundred drivers are under way or wait for a verdict.
UNDER_WAY = """
WITH newest AS (SELECT DISTINCT ON (conversation_id) id, conversation_id FROM messaging_message
  WHERE id > {messages} - {drivers} * 4 AND state = 'succeeded' AND conversation_id <= 100 ORDER BY conversation_id, id DESC)
UPDATE messaging_message m SET state = CASE WHEN n.conversation_id % 5 = 0 THEN 'needs_decision' ELSE 'accepted' END,
  question = CASE WHEN n.conversation_id % 5 = 0 THEN 'absent' ELSE '' END, operation_status = 'pending', settled_at = NULL,
  next_poll_at = now() + interval '1 day', delivered_at = NULL, read_at = NULL, record_status = ''
FROM newest n WHERE n.id = m.id;
UPDATE messaging_conversation c SET last_message_id = x.id, last_at = x.occurred_at, last_text = left(x.text, 120),
    attention_count = (SELECT count(*) FROM messaging_message a WHERE a.conversation_id = c.id
      AND a.state IN ('failed', 'rejected', 'expired', 'needs_decision') AND a.handled_at IS NULL)
  FROM (SELECT DISTINCT ON (conversation_id) * FROM messaging_message ORDER BY conversation_id, occurred_at DESC, id DESC) x
  WHERE x.conversation_id = c.id;
SELECT setval(pg_get_serial_sequence('messaging_message', 'id'), {messages});
SELECT setval(pg_get_serial_sequence('messaging_operation', 'id'), {messages});
SELECT setval(pg_get_serial_sequence('messaging_operationlog', 'id'), {logs});
"""


def fill(dsn: str, messages: int) -> dict[str, Any]:
    """Fills an empty, migrated database. Returns its `facts`. A million messages need some minutes and a superuser."""
    sizes = {
        "messages": messages, "logs": messages * LOGS_PER_MESSAGE, "operations": messages - messages // INCOMING,
        "connections": CONNECTIONS, "fleets": FLEETS, "drivers": DRIVERS, "people": PEOPLE, "days": DAYS, "incoming": INCOMING,
        "failed": FAILED, "providers": len(PROVIDERS), "slugs": _array(PROVIDERS), "common": _array(COMMON.split()),
    }  # fmt: skip
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "SET statement_timeout = 0; SET synchronous_commit = off; SET maintenance_work_mem = '512MB'"
        )
        # Neither triggers nor the checks of foreign keys: what they would write is written here, in one go.
        connection.execute("SET session_replication_role = replica; SELECT setseed(0.42)")
        with _without_indexes(connection):
            for script in _scripts(sizes):
                connection.execute(script)  # type: ignore[arg-type]  (built from constants above)
        connection.execute("VACUUM ANALYZE messaging_message")
        connection.execute(UNDER_WAY.format(**sizes))  # type: ignore[arg-type]
        connection.execute("VACUUM ANALYZE")
        return facts(connection)


def _scripts(sizes: dict[str, Any]) -> Iterator[str]:
    yield from (part.format(**sizes) for part in (WORLD, OPERATIONS))
    low, rows = 0, []
    for weight, error_type, code, says in CAUSES:
        rows.append(f"({low}, {low + weight}, '{error_type}', {code or 'NULL::int'}, '{says}')")
        low += weight
    yield f"CREATE TEMP TABLE causes AS SELECT * FROM (VALUES {', '.join(rows)}) k (low, high, error_type, code, says)"
    yield MESSAGES.format(**sizes)
    yield "CREATE TEMP TABLE numbered AS SELECT id, row_number() OVER (ORDER BY id) AS place FROM messaging_operation"
    yield "ANALYZE numbered"
    yield LOGS.format(**sizes)


def _array(words: Sequence[str]) -> str:
    return "ARRAY[" + ", ".join(f"'{word}'" for word in words) + "]"


@contextmanager
def _without_indexes(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Takes the indexes that no constraint needs off the large tables, and builds them when the rows are there."""
    found = connection.execute(
        "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i"
        " WHERE i.indrelid = ANY (%s::regclass[]) AND NOT i.indisunique",
        [[f"messaging_{table}" for table in TABLES]],
    ).fetchall()
    for name, _ in found:
        connection.execute(f"DROP INDEX {name}")  # type: ignore[arg-type]
    yield
    for _, definition in found:
        connection.execute(definition)


def facts(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """What a scenario may ask for: a rare word and a common one, ids of a message in the middle, a connection, a driver."""
    row = connection.execute(
        "SELECT m.id, m.uuid::text, m.text, o.catena_id::text, o.source_id, l.request_ids[1], n.catena_id::text, d.name,"
        " f.catena_id::text, m.cause"
        " FROM messaging_message m JOIN messaging_operation o ON o.id = m.operation_id"
        " JOIN messaging_operationlog l ON l.operation_id = o.id JOIN messaging_connection n ON n.id = m.connection_id"
        " JOIN messaging_fleet f ON f.id = n.fleet_id"
        " JOIN messaging_conversation c ON c.id = m.conversation_id JOIN messaging_fleetuser d ON d.id = c.driver_id"
        " WHERE m.state = 'failed' AND m.occurred_at < now() - interval '3 days' ORDER BY m.id DESC LIMIT 1"
    ).fetchone()
    assert row is not None
    names = ("id", "message", "text", "operation", "source_id", "request_id", "connection", "driver", "fleet", "cause")
    middle = connection.execute(
        "SELECT (extract(epoch FROM occurred_at) * 1000000)::bigint, id FROM messaging_message WHERE direction = 'out'"
        " AND occurred_at < now() - make_interval(days => %s) ORDER BY occurred_at DESC LIMIT 1",
        [DAYS // 2],
    ).fetchone()
    return dict(zip(names, row, strict=True)) | {
        "rare": row[2].split()[-1].lower(),
        "common": "dock",
        "provider": "motive",
        "middle": middle,
    }
