"""Fewer indexes on the tables that every send writes: single ones of foreign keys that no query needs, or that begin another."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

FREED = {
    "messaging_message": ["author_id", "conversation_id", "handled_by_id", "reply_to_id", "retry_of_id", "sender_id",
                          "settled_by_id"],
    "messaging_operation": ["connection_id", "resource_id"],
    "messaging_sendattempt": ["message_id"],
}
# By hand: Django's own alteration would drop every index of the single column, also the partial unique ones behind
# `message_one_head`, `message_resent_once`, `attempt_one_open` and `attempt_composed_once`.
DROP = """
DO $$
DECLARE
    found regclass;
BEGIN
    FOR found IN SELECT x.indexrelid FROM pg_index x JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
        WHERE x.indrelid = '%(table)s'::regclass AND a.attname IN (%(columns)s)
          AND x.indnkeyatts = 1 AND NOT x.indisunique AND x.indpred IS NULL
    LOOP
        EXECUTE format('DROP INDEX %%s', found);
    END LOOP;
END $$;
"""


def drop(table, columns):
    return migrations.RunSQL(
        DROP % {"table": table, "columns": ", ".join(f"'{column}'" for column in columns)},
        "".join(f"CREATE INDEX ON {table} ({column});" for column in columns),
    )


class Migration(migrations.Migration):

    dependencies = [
        ('messaging', '0005_attention'),
    ]

    operations = [
        *[drop(table, columns) for table, columns in FREED.items()],
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name='message',
                    name='author',
                    field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
                ),
                migrations.AlterField(
                    model_name='message',
                    name='conversation',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='thread', to='messaging.conversation'),
                ),
                migrations.AlterField(
                    model_name='message',
                    name='handled_by',
                    field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
                ),
                migrations.AlterField(
                    model_name='message',
                    name='reply_to',
                    field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='replies', to='messaging.message'),
                ),
                migrations.AlterField(
                    model_name='message',
                    name='retry_of',
                    field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='retries', to='messaging.message'),
                ),
                migrations.AlterField(
                    model_name='message',
                    name='sender',
                    field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='messaging.fleetuser'),
                ),
                migrations.AlterField(
                    model_name='message',
                    name='settled_by',
                    field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
                ),
                migrations.AlterField(
                    model_name='operation',
                    name='connection',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='operations', to='messaging.connection'),
                ),
                migrations.AlterField(
                    model_name='operation',
                    name='resource_id',
                    field=models.UUIDField(blank=True, null=True),
                ),
                migrations.AlterField(
                    model_name='sendattempt',
                    name='message',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='send_attempts', to='messaging.message'),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('reply_to__isnull', False)), fields=['reply_to'], name='message_replies'),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('retry_of__isnull', False)), fields=['retry_of'], name='message_retries'),
        ),
        migrations.AddIndex(
            model_name='operation',
            index=models.Index(condition=models.Q(('resource_id__isnull', False)), fields=['resource_id'], name='operation_of_record'),
        ),
    ]
