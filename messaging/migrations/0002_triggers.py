"""What the database does by itself: marks each change for the live poll, and keeps history as it was written."""

from django.db import migrations

# Each row carries the transaction that last changed it. `live.py` compares it with the snapshot of the page's last
# look, which no commit order can fool (a sequence can: number 101 may commit after 102 was read).
MARK_CHANGE = """
CREATE FUNCTION messaging_mark_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_xid := pg_current_xact_id()::text::bigint;
    RETURN NEW;
END $$;
"""
MARKED_TABLES = ("connection", "conversation", "gate", "readmark")

# When a message is looked at next is nobody's news: a sweep notes it every few seconds for each pending message, and would
# have every page painted again. The second half is reached only when `next_poll_at` differs.
MARK_MESSAGE = """
CREATE TRIGGER message_marks_insert BEFORE INSERT ON messaging_message
    FOR EACH ROW EXECUTE FUNCTION messaging_mark_change();
CREATE TRIGGER message_marks_change BEFORE UPDATE ON messaging_message
    FOR EACH ROW WHEN (
        OLD.next_poll_at IS NOT DISTINCT FROM NEW.next_poll_at
        OR to_jsonb(OLD) - 'next_poll_at' IS DISTINCT FROM to_jsonb(NEW) - 'next_poll_at'
    ) EXECUTE FUNCTION messaging_mark_change();
"""
UNMARK_MESSAGE = """
DROP TRIGGER message_marks_insert ON messaging_message;
DROP TRIGGER message_marks_change ON messaging_message;
"""

# History is written once. A finished attempt never changes; an open one may only be finished.
KEEP_HISTORY = """
CREATE FUNCTION messaging_keep_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER auditentry_append_only BEFORE UPDATE OR DELETE ON messaging_auditentry
    FOR EACH ROW EXECUTE FUNCTION messaging_keep_history();
CREATE TRIGGER decision_append_only BEFORE UPDATE OR DELETE ON messaging_decision
    FOR EACH ROW EXECUTE FUNCTION messaging_keep_history();
CREATE TRIGGER sendattempt_kept BEFORE DELETE ON messaging_sendattempt
    FOR EACH ROW EXECUTE FUNCTION messaging_keep_history();
CREATE TRIGGER sendattempt_finished_once BEFORE UPDATE ON messaging_sendattempt
    FOR EACH ROW WHEN (OLD.outcome IS NOT NULL AND OLD.outcome NOT IN ('lost', 'ambiguous'))
    EXECUTE FUNCTION messaging_keep_history();
"""

FORGET_HISTORY = """
DROP TRIGGER auditentry_append_only ON messaging_auditentry;
DROP TRIGGER decision_append_only ON messaging_decision;
DROP TRIGGER sendattempt_kept ON messaging_sendattempt;
DROP TRIGGER sendattempt_finished_once ON messaging_sendattempt;
DROP FUNCTION messaging_keep_history();
"""


def _mark(table: str) -> migrations.RunSQL:
    return migrations.RunSQL(
        f"CREATE TRIGGER {table}_marks_change BEFORE INSERT OR UPDATE ON messaging_{table} "
        "FOR EACH ROW EXECUTE FUNCTION messaging_mark_change();",
        f"DROP TRIGGER {table}_marks_change ON messaging_{table};",
    )


# State changes are never heap-only (the partial indexes name the state), so these tables want an early vacuum.
EAGER_VACUUM = """
ALTER TABLE messaging_message SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE messaging_webhookevent SET (autovacuum_vacuum_scale_factor = 0.02);
"""


class Migration(migrations.Migration):
    dependencies = [("messaging", "0001_initial")]

    operations = [
        migrations.RunSQL(MARK_CHANGE, "DROP FUNCTION messaging_mark_change();"),
        *[_mark(table) for table in MARKED_TABLES],
        migrations.RunSQL(MARK_MESSAGE, UNMARK_MESSAGE),
        migrations.RunSQL(KEEP_HISTORY, FORGET_HISTORY),
        migrations.RunSQL(EAGER_VACUUM, migrations.RunSQL.noop),
    ]
