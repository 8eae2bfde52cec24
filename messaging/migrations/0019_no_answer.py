"""Somebody may say that what a driver wrote wants no answer."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("messaging", "0018_seems_over"),
    ]

    operations = [
        migrations.AddField(
            model_name="conversation",
            name="no_answer_through",
            field=models.BigIntegerField(
                help_text="The newest message of the driver of which somebody said that it, and all before, wants no answer.",
                null=True,
            ),
        ),
    ]
