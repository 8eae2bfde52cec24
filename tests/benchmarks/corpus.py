"""A seeded world of N messages in N/10 conversations, written by the database itself."""

from typing import Any

import psycopg

# Conversation 1 is long, so that a thread's cost can be seen apart from its length.
LONG_THREAD = 5000

WORLD = """
INSERT INTO messaging_user (id, username, password, first_name, last_name, email, is_active, is_staff, is_superuser, date_joined,
    role, time_zone, theme, undo_seconds, has_shortcuts)
  VALUES (1, 'bench', '', 'Mara', 'Bench', '', true, false, false, now() - interval '30 days', 'manager', '', 'system', 8, true);
INSERT INTO messaging_fleet (id, catena_id, name, fleet_ref, catena_created_at, catena_updated_at, expires_high_hours,
    expires_other_hours, raw, synced_at)
  SELECT f, gen_random_uuid(), 'Fleet ' || f, 'REF-' || f, now(), now(), 4, 24, '{}', now() FROM generate_series(1, 5) f;
INSERT INTO messaging_fleetmembership (user_id, fleet_id) SELECT 1, f FROM generate_series(1, 3) f;
INSERT INTO messaging_connection (id, catena_id, fleet_id, tsp_id, source_name, tsp_slug, description, status, share_level,
    catena_created_at, catena_updated_at, raw, synced_at, changed_xid)
  SELECT n, gen_random_uuid(), 1 + n % 5, gen_random_uuid(), 'samsara', 'samsara', 'Samsara account ' || n, 'active',
    'read_write', now(), now(), '{}', now(), 0 FROM generate_series(1, 20) n;
INSERT INTO messaging_fleetuser (id, catena_id, connection_id, source_id, name, username, phone_number, is_driver,
    user_designation, is_active, status, catena_created_at, catena_updated_at, raw, synced_at)
  SELECT u, gen_random_uuid(), 1 + u % 20, 'drv_' || u, 'Driver Number ' || u, 'driver' || u, '+1555' || u, true, 'DRIVER',
    true, 'ACTIVE', now(), now(), '{}', now() FROM generate_series(1, %(conversations)s) u;
INSERT INTO messaging_conversation (id, uuid, connection_id, driver_id, next_seq, last_text, attention_count, created_at,
    changed_xid)
  SELECT u.id, gen_random_uuid(), u.connection_id, u.id, 1, '', 0, now(), 0 FROM messaging_fleetuser u;
INSERT INTO messaging_operation (id, catena_id, connection_id, resource, operation_type, status, payload, source_id,
    catena_created_at, catena_updated_at, first_seen_at, raw)
  SELECT m, gen_random_uuid(), 1 + %(owner)s %% 20, 'message', 'create', CASE WHEN m %% 97 = 0 THEN 'failed' ELSE 'success' END,
    '{}', '', now(), now(), now(), '{}' FROM generate_series(2, %(messages)s, 2) m;
INSERT INTO messaging_message (id, uuid, conversation_id, connection_id, direction, seq, occurred_at, created_at, author_id,
    client_token, sender_id, recipient_id, sender_name, text, priority, state, detached, send_by, not_before, expires_at,
    claim_count, fence, worker, looks, fingerprint, operation_id, operation_status, accepted_at, attempt_count,
    failed_attempts, reason, error_type, response_status_code, catena_id, source_id, source_thread_id, record_status,
    changed_xid)
  SELECT m, gen_random_uuid(), %(owner)s, 1 + %(owner)s %% 20, CASE WHEN m %% 2 = 0 THEN 'out' ELSE 'in' END,
    CASE WHEN m %% 2 = 0 THEN m END, t.at, t.at, CASE WHEN m %% 2 = 0 THEN 1 END,
    CASE WHEN m %% 2 = 0 THEN gen_random_uuid() END, %(owner)s, CASE WHEN m %% 2 = 0 THEN %(owner)s END, 'Driver',
    'Load LD' || lpad(m::text, 6, '0') || ' please use the south gate, dock ' || m %% 40 || ' is closed until 15:00 today',
    CASE m %% 6 WHEN 0 THEN 'high' WHEN 2 THEN 'medium' WHEN 4 THEN 'low' END,
    CASE WHEN m %% 2 = 1 THEN 'mirrored' WHEN m %% 97 = 0 THEN 'failed' ELSE 'succeeded' END, false,
    CASE WHEN m %% 2 = 0 THEN t.at END, CASE WHEN m %% 2 = 0 THEN t.at END, CASE WHEN m %% 2 = 0 THEN t.at END,
    (m %% 2 = 0)::int, (m %% 2 = 0)::int, '', 0, '', CASE WHEN m %% 2 = 0 THEN m END,
    CASE WHEN m %% 2 = 0 THEN 'success' ELSE '' END,
    CASE WHEN m %% 2 = 0 THEN t.at END, (m %% 2 = 0)::int, (m %% 97 = 0)::int,
    CASE WHEN m %% 97 = 0 THEN 'Samsara answered 503 (unavailable)' ELSE '' END, '', CASE WHEN m %% 97 = 0 THEN 503 END,
    gen_random_uuid(), '', '', '', 0
  FROM generate_series(1, %(messages)s) m,
    LATERAL (SELECT now() - interval '1 hour' - (%(messages)s - m) * interval '7 days' / %(messages)s AS at) t;
UPDATE messaging_message SET handled_at = now() WHERE state = 'failed' AND id < %(messages)s - 2000;
UPDATE messaging_conversation c SET last_message_id = x.id, last_at = x.occurred_at, last_text = left(x.text, 120),
    last_incoming_id = (SELECT max(i.id) FROM messaging_message i WHERE i.conversation_id = c.id AND i.direction = 'in'),
    last_incoming_at = x.occurred_at,
    unanswered_since = (SELECT min(i.occurred_at) FROM messaging_message i WHERE i.conversation_id = c.id
      AND i.direction = 'in' AND i.occurred_at > coalesce((SELECT max(a.occurred_at) FROM messaging_message a
        WHERE a.conversation_id = c.id AND a.direction = 'out' AND NOT (a.state = 'failed' AND a.handled_at IS NULL)),
        '-infinity')),
    attention_count = (SELECT count(*) FROM messaging_message a
      WHERE a.conversation_id = c.id AND a.state = 'failed' AND a.handled_at IS NULL)
  FROM (SELECT DISTINCT ON (conversation_id) * FROM messaging_message ORDER BY conversation_id, occurred_at DESC, id DESC) x
  WHERE x.conversation_id = c.id;
INSERT INTO messaging_readmark (user_id, conversation_id, read_through, changed_xid)
  SELECT 1, id, last_incoming_id, 0 FROM messaging_conversation WHERE last_incoming_id IS NOT NULL AND id %% 20 <> 0;
"""


def build(dsn: str, messages: int) -> dict[str, Any]:
    """Fills an empty, migrated database. Returns the uuids that the scenarios open. Needs a few seconds per 100,000."""
    conversations = messages // 10
    # The long thread takes its share of the newest and oldest messages alike; the rest spread evenly.
    long_share = max(2, messages // min(LONG_THREAD, messages // 4))
    owner = f"(CASE WHEN m % {long_share} < 1 THEN 1 ELSE 2 + m % {conversations - 1} END)"
    script = (
        WORLD.replace("%(owner)s", owner)
        .replace("%(messages)s", str(messages))
        .replace("%(conversations)s", str(conversations))
        .replace("%%", "%")
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0; SET synchronous_commit = off")
        connection.execute(script)  # type: ignore[arg-type]  (built from constants above)
        connection.execute("VACUUM ANALYZE")
        row = connection.execute(
            "SELECT c.uuid::text, (SELECT count(*) FROM messaging_message WHERE conversation_id = c.id) FROM"
            " messaging_conversation c WHERE c.connection_id IN (SELECT n.id FROM messaging_connection n WHERE n.fleet_id <= 3)"
            " ORDER BY 2 DESC LIMIT 1"
        ).fetchone()
    assert row is not None
    return {"conversation": row[0], "thread_length": row[1]}
