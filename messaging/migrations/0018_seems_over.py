"""An incident may also be over because nothing was sent: its line says no more than that."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('messaging', '0017_tests_of_a_connection'),
    ]

    operations = [
        migrations.AlterField(
            model_name='incidententry',
            name='kind',
            field=models.CharField(choices=[('opened', 'Opened'), ('widened', 'Widened to the provider'), ('owned', 'Owner changed'), ('acknowledged', 'Acknowledged'), ('snoozed', 'Snoozed'), ('noted', 'Note'), ('alerted', 'Told by e-mail or webhook'), ('alert_failed', 'Alert could not be sent'), ('recovering', 'Seems over'), ('relapsed', 'Failures returned'), ('recovery', 'Recovery started'), ('resolved', 'Resolved')], max_length=20),
        ),
    ]
