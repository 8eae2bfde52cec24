"""The rule behind "never twice", kept by the database itself: what entitles a POST. And work for the first reconciler."""

from django.db import migrations

# The columns say that an authority is cited; this says that it is a true one. It costs one index look-up an attempt, if
# the order is the index's own: by id, a plan kept from an empty table would walk through all attempts.
AUTHORITY = """
CREATE FUNCTION messaging_check_authority() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    latest messaging_sendattempt%ROWTYPE;
BEGIN
    SELECT * INTO latest FROM messaging_sendattempt WHERE message_id = NEW.message_id ORDER BY fence DESC LIMIT 1;
    IF NEW.authority = 'compose' AND latest.id IS NOT NULL THEN
        RAISE EXCEPTION 'message % was posted before', NEW.message_id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.authority = 'proof_not_sent' AND (latest.id IS DISTINCT FROM NEW.prior_attempt_id
            OR latest.outcome NOT IN ('unsent', 'unauthorized', 'rate_limited') OR latest.outcome IS NULL) THEN
        RAISE EXCEPTION 'attempt % does not prove that message % was not sent', NEW.prior_attempt_id, NEW.message_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.authority = 'human' AND NOT EXISTS (SELECT 1 FROM messaging_decision d WHERE d.id = NEW.decision_id
            AND d.message_id = NEW.message_id AND d.kind = 'send_again') THEN
        RAISE EXCEPTION 'decision % does not send message % again', NEW.decision_id, NEW.message_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER sendattempt_authority BEFORE INSERT ON messaging_sendattempt
    FOR EACH ROW EXECUTE FUNCTION messaging_check_authority();
"""
NO_AUTHORITY = """
DROP TRIGGER sendattempt_authority ON messaging_sendattempt;
DROP FUNCTION messaging_check_authority();
"""

# What is being checked already is looked for from now on.
FIRST_LOOKS = """
UPDATE messaging_sendattempt a SET fingerprint = m.fingerprint, next_look_at = now()
FROM messaging_message m WHERE m.id = a.message_id AND m.state = 'unknown' AND a.outcome IN ('lost', 'ambiguous');
"""


class Migration(migrations.Migration):
    dependencies = [("messaging", "0003_reconciliation")]

    operations = [
        migrations.RunSQL(AUTHORITY, NO_AUTHORITY),
        migrations.RunSQL(FIRST_LOOKS, migrations.RunSQL.noop),
    ]
