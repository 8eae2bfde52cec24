"""The constraints, indexes and triggers that keep the rules of sending, and which of them the database lacks.

What they should be is read from the models themselves, so that a new constraint is watched from its first day.
"""

from functools import cache

from django.apps import apps
from django.db.models import CheckConstraint, ForeignKey, UniqueConstraint

# Written by migrations, so the models do not know them.
TRIGGERS = (
    "messaging_auditentry.auditentry_append_only",
    "messaging_connection.connection_marks_change",
    "messaging_conversation.conversation_marks_change",
    "messaging_decision.decision_append_only",
    "messaging_gate.gate_marks_change",
    "messaging_incident.incident_marks_change",
    "messaging_incidententry.incidententry_append_only",
    "messaging_message.message_asks_again",
    "messaging_message.message_cause_change",
    "messaging_message.message_cause_insert",
    "messaging_message.message_marks_change",
    "messaging_message.message_marks_insert",
    "messaging_message.message_words_change",
    "messaging_message.message_words_insert",
    "messaging_messagenote.messagenote_append_only",
    "messaging_readmark.readmark_marks_change",
    "messaging_recovery.recovery_marks_change",
    "messaging_sendattempt.sendattempt_authority",
    "messaging_sendattempt.sendattempt_finished_once",
    "messaging_sendattempt.sendattempt_kept",
    "messaging_webhookwatch.webhookwatch_marks_change",
    "messaging_webhookwatch.webhookwatch_marks_insert",
)
_INDEX = """SELECT 1 FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = g.source AND i.indisunique AND i.indisvalid AND i.indisready AND i.indislive"""
_CONSTRAINT = "SELECT 1 FROM pg_constraint k WHERE k.conrelid = g.source AND k.convalidated"
_COLUMN = "(SELECT attnum FROM pg_attribute a WHERE a.attrelid = g.source AND a.attname = g.name)"
_HOLDS = {
    "index": f"{_INDEX} AND x.relname = g.name",
    "unique column": f"{_INDEX} AND i.indnkeyatts = 1 AND i.indpred IS NULL AND i.indkey[0] = {_COLUMN}",
    "check": f"{_CONSTRAINT} AND k.contype = 'c' AND k.conname = g.name",
    "foreign key": f"{_CONSTRAINT} AND k.contype = 'f' AND k.conkey = ARRAY[{_COLUMN}]",
    "trigger": "SELECT 1 FROM pg_trigger t WHERE t.tgrelid = g.source AND t.tgname = g.name AND t.tgenabled IN ('O', 'A')",
}
# For parameters of the names of `expected` with underscores: one text for each guard that is missing or not in force.
MISSING_SQL = " UNION ALL ".join(
    f"SELECT '{kind} ' || n FROM unnest(%({kind.replace(' ', '_')})s::text[]) n, LATERAL (SELECT"  # noqa: S608 (our own words)
    " to_regclass(split_part(n, '.', 1)) AS source, split_part(n, '.', 2) AS name) g"
    f" WHERE NOT EXISTS ({holds})"
    for kind, holds in _HOLDS.items()
)


@cache
def expected() -> dict[str, list[str]]:
    """Of each kind, `table.name` or `table.column`."""
    found: dict[str, list[str]] = {kind.replace(" ", "_"): [] for kind in _HOLDS}
    found["trigger"] += TRIGGERS
    for model in apps.get_app_config("messaging").get_models():
        table = model._meta.db_table
        for constraint in model._meta.constraints:
            if isinstance(constraint, UniqueConstraint | CheckConstraint):
                found["index" if isinstance(constraint, UniqueConstraint) else "check"].append(
                    f"{table}.{constraint.name}"
                )
        for column in model._meta.local_concrete_fields:
            if column.unique:
                found["unique_column"].append(f"{table}.{column.column}")
            if isinstance(column, ForeignKey):
                found["foreign_key"].append(f"{table}.{column.column}")
    return found
