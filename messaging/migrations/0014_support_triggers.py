"""What the database writes by itself for support: the cause of a failure and the words of a message.

Both hang on a column that several statements write; here none of them can forget it.
"""

from django.db import migrations

# A word with a digit in it is an id, a number or a time: it tells two failures of one cause apart, and nothing else.
CAUSE = """
CREATE FUNCTION messaging_cause_of(reason text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT left(regexp_replace(reason, '[[:alnum:]_-]*[0-9][[:alnum:]_-]*', '#', 'g'), 200)
$$;
CREATE FUNCTION messaging_name_cause() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.cause := messaging_cause_of(NEW.reason);
    RETURN NEW;
END $$;
CREATE TRIGGER message_cause_insert BEFORE INSERT ON messaging_message
    FOR EACH ROW WHEN (NEW.reason <> '') EXECUTE FUNCTION messaging_name_cause();
CREATE TRIGGER message_cause_change BEFORE UPDATE OF reason ON messaging_message
    FOR EACH ROW WHEN (OLD.reason IS DISTINCT FROM NEW.reason) EXECUTE FUNCTION messaging_name_cause();
"""
FORGET_CAUSE = """
DROP TRIGGER message_cause_insert ON messaging_message;
DROP TRIGGER message_cause_change ON messaging_message;
DROP FUNCTION messaging_name_cause();
DROP FUNCTION messaging_cause_of(text);
"""

# `simple`: drivers write in many languages, and ids and load numbers must stay what they are. The first 4,000 characters,
# so that no text can outgrow what a vector may hold.
WORDS = """
CREATE FUNCTION messaging_words_of(said text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT to_tsvector('pg_catalog.simple', left(coalesce(said, ''), 4000))
$$;
CREATE FUNCTION messaging_keep_words() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO messaging_messagewords (message_id, vector, occurred_at, connection_id)
        SELECT id, messaging_words_of(text), occurred_at, connection_id FROM fresh;
    RETURN NULL;
END $$;
CREATE FUNCTION messaging_change_words() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE messaging_messagewords SET vector = messaging_words_of(NEW.text), occurred_at = NEW.occurred_at
        WHERE message_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER message_words_insert AFTER INSERT ON messaging_message
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION messaging_keep_words();
CREATE TRIGGER message_words_change AFTER UPDATE OF text, occurred_at ON messaging_message
    FOR EACH ROW WHEN (OLD.text IS DISTINCT FROM NEW.text OR OLD.occurred_at IS DISTINCT FROM NEW.occurred_at)
    EXECUTE FUNCTION messaging_change_words();
"""
FORGET_WORDS = """
DROP TRIGGER message_words_insert ON messaging_message;
DROP TRIGGER message_words_change ON messaging_message;
DROP FUNCTION messaging_keep_words();
DROP FUNCTION messaging_change_words();
DROP FUNCTION messaging_words_of(text);
"""

MARKED_TABLES = ("incident", "recovery")
KEPT_TABLES = ("incidententry", "messagenote")

# What was there before these triggers.
CATCH_UP = """
UPDATE messaging_message SET cause = messaging_cause_of(reason) WHERE reason <> '';
INSERT INTO messaging_messagewords (message_id, vector, occurred_at, connection_id)
    SELECT id, messaging_words_of(text), occurred_at, connection_id FROM messaging_message
    ON CONFLICT (message_id) DO NOTHING;
UPDATE messaging_operationlog l SET request_ids = found.ids FROM (
    SELECT k.id, array_agg(DISTINCT h.value) AS ids FROM messaging_operationlog k, jsonb_each_text(k.response_headers) h
    WHERE lower(h.key) IN ('x-request-id', 'x-correlation-id', 'x-trace-id') AND h.value <> '' GROUP BY k.id) found
WHERE found.id = l.id;
"""


def _mark(table: str) -> migrations.RunSQL:
    return migrations.RunSQL(
        f"CREATE TRIGGER {table}_marks_change BEFORE INSERT OR UPDATE ON messaging_{table} "
        "FOR EACH ROW EXECUTE FUNCTION messaging_mark_change();",
        f"DROP TRIGGER {table}_marks_change ON messaging_{table};",
    )


def _keep(table: str) -> migrations.RunSQL:
    return migrations.RunSQL(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON messaging_{table} "
        "FOR EACH ROW EXECUTE FUNCTION messaging_keep_history();",
        f"DROP TRIGGER {table}_append_only ON messaging_{table};",
    )


class Migration(migrations.Migration):
    dependencies = [("messaging", "0013_support")]

    operations = [
        # A large table takes longer than a page may.
        migrations.RunSQL("SET LOCAL statement_timeout = 0", migrations.RunSQL.noop),
        migrations.RunSQL(CAUSE, FORGET_CAUSE),
        migrations.RunSQL(WORDS, FORGET_WORDS),
        *[_mark(table) for table in MARKED_TABLES],
        *[_keep(table) for table in KEPT_TABLES],
        migrations.RunSQL(CATCH_UP, migrations.RunSQL.noop),
    ]
