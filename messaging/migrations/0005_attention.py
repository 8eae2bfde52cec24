"""What needs a person: indexes for it, and the rule that nobody has handled a failure before it happened."""

from django.db import migrations, models


# An urgent message can be handled while it is late, and fail afterwards: then it asks again. By the database, because
# messages fail in many places, and none of them may forget it.
ASK_AGAIN = """
CREATE FUNCTION messaging_ask_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.handled_at := NULL;
    NEW.handled_by_id := NULL;
    NEW.handled_note := '';
    RETURN NEW;
END $$;
CREATE TRIGGER message_asks_again BEFORE UPDATE ON messaging_message
    FOR EACH ROW WHEN (
        OLD.handled_at IS NOT NULL AND NEW.handled_at IS NOT DISTINCT FROM OLD.handled_at
        AND NEW.state IN ('failed', 'rejected', 'expired', 'needs_decision')
        AND OLD.state NOT IN ('failed', 'rejected', 'expired', 'needs_decision')
    ) EXECUTE FUNCTION messaging_ask_again();
"""
ASK_ONCE = """
DROP TRIGGER message_asks_again ON messaging_message;
DROP FUNCTION messaging_ask_again();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("messaging", "0004_authority"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(
                    models.Q(
                        ("state__in", ["expired", "failed", "needs_decision", "rejected"]),
                        models.Q(
                            ("escalated_at__isnull", False),
                            ("state__in", ["accepted", "claimed", "posting", "queued", "unknown", "waiting"]),
                        ),
                        _connector="OR",
                    ),
                    ("handled_at", None),
                ),
                fields=["author", "-id"],
                name="message_to_author",
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(
                    models.Q(
                        ("state__in", ["expired", "failed", "needs_decision", "rejected"]),
                        models.Q(
                            ("escalated_at__isnull", False),
                            ("state__in", ["accepted", "claimed", "posting", "queued", "unknown", "waiting"]),
                        ),
                        _connector="OR",
                    ),
                    ("handled_at", None),
                ),
                fields=["conversation"],
                name="message_attention",
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(
                    ("escalated_at", None),
                    ("priority", "high"),
                    ("state__in", ["accepted", "claimed", "posting", "queued", "unknown", "waiting"]),
                ),
                fields=["occurred_at"],
                name="message_urgent",
            ),
        ),
        migrations.RunSQL(ASK_AGAIN, ASK_ONCE),
    ]
