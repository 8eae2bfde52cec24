"""The tests of a connection are found at once."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('messaging', '0016_explanations'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('is_test', True)), fields=['connection', '-id'], name='message_tests'),
        ),
    ]
