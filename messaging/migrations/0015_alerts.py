"""When people outside Backhaul are told of an incident, and by which ways; what changed about incidents is found at once."""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('messaging', '0014_support_triggers'),
    ]

    operations = [
        migrations.AddField(
            model_name='incident',
            name='alert_due_at',
            field=models.DateTimeField(blank=True, help_text='When people are to be told next.', null=True),
        ),
        migrations.AddField(
            model_name='incident',
            name='alert_left',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=20), blank=True, db_default=[], default=list, help_text='The ways not yet gone.'),
        ),
        migrations.AddField(
            model_name='incident',
            name='alert_tries',
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddIndex(
            model_name='incident',
            index=models.Index(fields=['changed_xid'], name='incident_changed'),
        ),
    ]
