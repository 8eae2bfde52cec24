"""Who still waits for an answer, and which connections have ever reported a receipt: both from the messages at hand."""

from django.db import migrations, models

UNANSWERED = """
UPDATE messaging_conversation c SET unanswered_since = found.since FROM (
  SELECT t.id, (SELECT min(i.occurred_at) FROM messaging_message i WHERE i.conversation_id = t.id AND i.direction = 'in'
    AND i.deleted_at IS NULL AND i.occurred_at > coalesce((SELECT max(a.occurred_at) FROM messaging_message a
      WHERE a.conversation_id = t.id AND a.direction = 'out' AND a.deleted_at IS NULL AND a.group_id IS NULL
        AND NOT (a.handled_at IS NULL AND a.state IN ('cancelled', 'closed_not_sent', 'expired', 'failed', 'rejected'))), '-infinity')) AS since
  FROM messaging_conversation t) found
WHERE found.id = c.id AND found.since IS NOT NULL;
"""
RECEIPTS = """
UPDATE messaging_connection n SET first_receipt_at = found.at FROM (
  SELECT connection_id, min(coalesce(delivered_at, read_at, catena_updated_at, occurred_at)) AS at
  FROM messaging_message WHERE direction = 'out'
    AND (delivered_at IS NOT NULL OR read_at IS NOT NULL OR record_status IN ('delivered', 'read'))
  GROUP BY connection_id) found
WHERE found.connection_id = n.id;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("messaging", "0011_groups"),
    ]

    operations = [
        migrations.AddField(
            model_name="connection",
            name="first_receipt_at",
            field=models.DateTimeField(blank=True, help_text="When a receipt was first seen here.", null=True),
        ),
        migrations.AddField(
            model_name="conversation",
            name="unanswered_since",
            field=models.DateTimeField(
                help_text="The driver's first message that nobody answered; null when none waits for an answer.",
                null=True,
            ),
        ),
        migrations.AddIndex(
            model_name="conversation",
            index=models.Index(
                models.OrderBy(models.F("last_at"), descending=True, nulls_last=True),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("unanswered_since__isnull", False)),
                name="conversation_unanswered",
            ),
        ),
        migrations.RunSQL(UNANSWERED + RECEIPTS, migrations.RunSQL.noop),
    ]
