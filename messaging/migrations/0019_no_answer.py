"""Somebody may say that what a driver wrote wants no answer."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("messaging", "0018_seems_over"),
    ]

    operations = [
        migrations.AlterField(
            model_name="conversation",
            name="unanswered_since",
            field=models.DateTimeField(
                help_text="The driver's first message that nobody answered or waived; null when none waits for an answer.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="conversation",
            name="no_answer_through",
            field=models.BigIntegerField(
                help_text="The newest message of the driver of which somebody said that it, and all before, wants no answer.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="conversation",
            name="no_answer_before",
            field=models.BigIntegerField(help_text="The same before the last press, for its undoing.", null=True),
        ),
        migrations.AddField(
            model_name="conversation",
            name="no_answer_by",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
    ]
