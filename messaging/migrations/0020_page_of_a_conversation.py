"""A page of a conversation is read from the index alone, however long the conversation is."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("messaging", "0019_no_answer"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                fields=["conversation", "occurred_at", "id"], include=("deleted_at",), name="message_page"
            ),
        ),
        migrations.RemoveIndex(model_name="message", name="message_thread"),
    ]
