"""The tests of a connection are found at once."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('messaging', '0016_explanations'),
    ]

    operations = [
        # A large table takes longer than a page may.
        migrations.RunSQL("SET LOCAL statement_timeout = 0", migrations.RunSQL.noop),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('is_test', True)), fields=['connection', '-id'], name='message_tests'),
        ),
    ]
