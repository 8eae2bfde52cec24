"""Tables and columns of the support desk: incidents, recoveries, explanations, notes, saved views, causes and search words."""

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.contrib.postgres.search
import django.db.models.deletion
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('messaging', '0012_answers'),
    ]

    operations = [
        # A large table takes longer than a page may.
        migrations.RunSQL("SET LOCAL statement_timeout = 0", migrations.RunSQL.noop),
        migrations.CreateModel(
            name='Explanation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('title', models.CharField(max_length=120)),
                ('what', models.TextField(help_text='In plain words. {provider} and {driver} are filled in.', verbose_name='what happened')),
                ('who', models.CharField(choices=[('sender', 'You, who wrote it'), ('fleet', 'The fleet'), ('provider', 'The provider'), ('us', 'Your administrator')], max_length=10, verbose_name='who can mend it')),
                ('again', models.CharField(choices=[('yes', 'Safe to send again'), ('later', 'Safe to send again, later'), ('pointless', 'Would fail again'), ('check', 'May have arrived: ask first')], max_length=10, verbose_name='sending again')),
                ('step', models.CharField(choices=[('resend', 'Send again'), ('shorten', 'Edit and send again'), ('connection', 'Look at the connection'), ('other_connection', "Use the driver's other connection"), ('call', 'Call the driver'), ('wait', 'Wait'), ('escalate', "Write to the provider's support")], max_length=20, verbose_name='next step')),
                ('advice', models.TextField(blank=True, help_text='What to do, in one or two sentences.')),
                ('source_name', models.CharField(blank=True, help_text='Blank: any.', max_length=100, verbose_name='provider')),
                ('error_type', models.CharField(blank=True, help_text="Catena's word; blank: any.", max_length=50)),
                ('code_from', models.PositiveSmallIntegerField(blank=True, help_text='Empty: any code, or none.', null=True)),
                ('code_to', models.PositiveSmallIntegerField(blank=True, help_text='Empty: only that one code.', null=True)),
                ('words', models.CharField(blank=True, help_text="In the failure's text; blank: any text.", max_length=200)),
                ('is_specific', models.BooleanField(default=True, help_text='Off for what is said when nothing better is known: such failures stay on the worklist.')),
                ('is_active', models.BooleanField(default=True)),
                ('changed_at', models.DateTimeField(auto_now=True)),
            ],
            options={
                'ordering': ['error_type', 'code_from', 'source_name', 'words', 'id'],
            },
        ),
        migrations.CreateModel(
            name='Incident',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('uuid', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('source_name', models.CharField(max_length=100)),
                ('error_type', models.CharField(blank=True, max_length=50)),
                ('response_status_code', models.IntegerField(blank=True, null=True)),
                ('cause', models.CharField(blank=True, help_text='What the failures say, without ids and numbers.', max_length=200)),
                ('opened_at', models.DateTimeField()),
                ('first_failed_at', models.DateTimeField()),
                ('last_failed_at', models.DateTimeField()),
                ('failures', models.PositiveIntegerField(default=0)),
                ('drivers', models.PositiveIntegerField(default=0)),
                ('closing_proposed_at', models.DateTimeField(blank=True, help_text='Since when sends succeed again.', null=True)),
                ('acknowledged_at', models.DateTimeField(blank=True, null=True)),
                ('snoozed_until', models.DateTimeField(blank=True, null=True)),
                ('resolved_at', models.DateTimeField(blank=True, null=True)),
                ('alerted_at', models.DateTimeField(blank=True, help_text='When people were last told outside Backhaul.', null=True)),
                ('changed_xid', models.BigIntegerField(default=0, editable=False)),
            ],
            options={
                'ordering': [models.OrderBy(models.F('resolved_at'), descending=True, nulls_first=True), '-opened_at', '-id'],
            },
        ),
        migrations.CreateModel(
            name='IncidentEntry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField()),
                ('kind', models.CharField(choices=[('opened', 'Opened'), ('widened', 'Widened to the provider'), ('owned', 'Owner changed'), ('acknowledged', 'Acknowledged'), ('snoozed', 'Snoozed'), ('noted', 'Note'), ('alerted', 'Told by e-mail or webhook'), ('alert_failed', 'Alert could not be sent'), ('recovering', 'Sends succeed again'), ('relapsed', 'Failures returned'), ('recovery', 'Recovery started'), ('resolved', 'Resolved')], max_length=20)),
                ('text', models.TextField(blank=True)),
            ],
            options={
                'verbose_name_plural': 'incident entries',
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='MessageCare',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('changed_at', models.DateTimeField(auto_now=True)),
            ],
            options={
                'verbose_name_plural': 'message care',
            },
        ),
        migrations.CreateModel(
            name='MessageNote',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('text', models.TextField()),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='MessageWords',
            fields=[
                ('message', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='words', serialize=False, to='messaging.message')),
                ('vector', django.contrib.postgres.search.SearchVectorField()),
                ('occurred_at', models.DateTimeField()),
            ],
            options={
                'verbose_name_plural': 'message words',
            },
        ),
        migrations.CreateModel(
            name='Recovery',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('uuid', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('query', models.CharField(blank=True, max_length=1000)),
                ('about', models.CharField(blank=True, max_length=300)),
                ('state', models.CharField(choices=[('draft', 'Not started'), ('canary', 'Trying three first'), ('running', 'Sending'), ('stopped', 'Stopped'), ('finished', 'Finished')], default='draft', max_length=10)),
                ('stop_reason', models.CharField(blank=True, max_length=300)),
                ('created_at', models.DateTimeField()),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('changed_xid', models.BigIntegerField(default=0, editable=False)),
            ],
            options={
                'verbose_name_plural': 'recoveries',
                'ordering': ['-created_at', '-id'],
            },
        ),
        migrations.CreateModel(
            name='RecoveryItem',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('verdict', models.CharField(choices=[('safe', 'Will be sent again'), ('may_have_arrived', 'May have arrived'), ('superseded', 'A later message says more'), ('too_old', 'Too old to be of use'), ('done', 'Sent again or handled already')], max_length=20)),
                ('is_canary', models.BooleanField(default=False)),
                ('resent_at', models.DateTimeField(blank=True, null=True)),
                ('problem', models.CharField(blank=True, max_length=300)),
            ],
            options={
                'ordering': ['recovery', 'id'],
            },
        ),
        migrations.CreateModel(
            name='SavedView',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=60)),
                ('query', models.CharField(max_length=1000)),
                ('is_shared', models.BooleanField(default=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['name', 'id'],
            },
        ),
        migrations.AlterModelOptions(
            name='message',
            options={'ordering': ['occurred_at', 'id'], 'permissions': [('export_messages', 'Can export messages as CSV')]},
        ),
        migrations.AddField(
            model_name='message',
            name='cause',
            field=models.CharField(blank=True, db_default='', default='', help_text='The reason without ids and numbers.', max_length=200),
        ),
        migrations.AddField(
            model_name='message',
            name='is_test',
            field=models.BooleanField(db_default=False, default=False, help_text="Support's test of a connection: sent in synchronous mode."),
        ),
        migrations.AddField(
            model_name='operationlog',
            name='request_ids',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=256), blank=True, db_default=[], default=list),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('source_id', ''), _negated=True), fields=['source_id'], name='message_source_id'),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('state__in', ['failed', 'rejected'])), fields=['occurred_at'], include=('connection', 'error_type', 'response_status_code', 'cause', 'conversation', 'id'), name='message_causes'),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('state__in', ['failed', 'rejected'])), fields=['settled_at'], name='message_ended_badly'),
        ),
        migrations.AddIndex(
            model_name='operation',
            index=models.Index(condition=models.Q(('source_id', ''), _negated=True), fields=['source_id'], name='operation_source_id'),
        ),
        migrations.AddIndex(
            model_name='operationlog',
            index=django.contrib.postgres.indexes.GinIndex(fields=['request_ids'], name='log_request_ids'),
        ),
        migrations.AddField(
            model_name='explanation',
            name='changed_by',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='incident',
            name='acknowledged_by',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='incident',
            name='connection',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='incidents', to='messaging.connection'),
        ),
        migrations.AddField(
            model_name='incident',
            name='owner',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='incident',
            name='resolved_by',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='incidententry',
            name='incident',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='entries', to='messaging.incident'),
        ),
        migrations.AddField(
            model_name='incidententry',
            name='user',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='messagecare',
            name='message',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='care', to='messaging.message'),
        ),
        migrations.AddField(
            model_name='messagecare',
            name='owner',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='messagenote',
            name='author',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='messagenote',
            name='message',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='notes', to='messaging.message'),
        ),
        migrations.AddField(
            model_name='messagewords',
            name='connection',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='messaging.connection'),
        ),
        migrations.AddField(
            model_name='recovery',
            name='author',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='recovery',
            name='incident',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='recoveries', to='messaging.incident'),
        ),
        migrations.AddField(
            model_name='recovery',
            name='stopped_by',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='recoveryitem',
            name='message',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='recovery_items', to='messaging.message'),
        ),
        migrations.AddField(
            model_name='recoveryitem',
            name='recovery',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='items', to='messaging.recovery'),
        ),
        migrations.AddField(
            model_name='recoveryitem',
            name='resent',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='messaging.message'),
        ),
        migrations.AddField(
            model_name='savedview',
            name='user',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='saved_views', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddConstraint(
            model_name='explanation',
            constraint=models.CheckConstraint(condition=models.Q(('code_to', None), models.Q(('code_from__isnull', False), ('code_to__gte', models.F('code_from'))), _connector='OR'), name='explanation_codes_ascend'),
        ),
        migrations.AddIndex(
            model_name='incident',
            index=models.Index(fields=['-opened_at', '-id'], name='incident_by_age'),
        ),
        migrations.AddConstraint(
            model_name='incident',
            constraint=models.UniqueConstraint(condition=models.Q(('resolved_at', None)), fields=('source_name', 'connection', 'error_type', 'response_status_code'), name='incident_open_once', nulls_distinct=False),
        ),
        migrations.AddIndex(
            model_name='messagewords',
            index=django.contrib.postgres.indexes.GinIndex(fields=['vector'], name='words_vector'),
        ),
        migrations.AddIndex(
            model_name='recovery',
            index=models.Index(condition=models.Q(('state__in', ('canary', 'running'))), fields=['id'], name='recovery_under_way'),
        ),
        migrations.AddConstraint(
            model_name='recovery',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ('draft', 'canary', 'running', 'stopped', 'finished'))), name='recovery_state_is_known'),
        ),
        migrations.AddIndex(
            model_name='recoveryitem',
            index=models.Index(condition=models.Q(('problem', ''), ('resent_at', None), ('verdict', 'safe')), fields=['recovery', 'id'], name='recovery_item_due'),
        ),
        migrations.AddConstraint(
            model_name='recoveryitem',
            constraint=models.UniqueConstraint(fields=('recovery', 'message'), name='recovery_item_once'),
        ),
        migrations.AddConstraint(
            model_name='savedview',
            constraint=models.UniqueConstraint(fields=('user', 'name'), name='saved_view_once'),
        ),
    ]
