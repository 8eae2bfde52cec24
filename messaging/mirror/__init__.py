"""The only writer of what Catena says: idempotent, and never backwards."""

from messaging.mirror.changes import Change
from messaging.mirror.directory import (
    SHARED,
    apply_connection,
    apply_fleet,
    apply_fleet_user,
    apply_fleet_users,
    apply_freshness,
    apply_tsp,
    withdraw_unlisted,
)
from messaging.mirror.fingerprint import fingerprint, is_new_message
from messaging.mirror.groups import apply_group_messages, complete_groups
from messaging.mirror.listing import CREATED_AFTER, CREATED_BEFORE, apply_listed
from messaging.mirror.messages import adopt_record, apply_message, apply_messages
from messaging.mirror.notices import apply_connection_status, apply_schedule_status, apply_share_agreement
from messaging.mirror.operations import apply_operation, bind_found, bind_operation, bind_posted
from messaging.mirror.reasons import plain_reason
from messaging.mirror.redaction import redact_headers
from messaging.mirror.subscriptions import (
    apply_subscribed,
    apply_webhook,
    apply_webhook_metrics,
    forget_webhook,
    note_secret,
    note_webhook_problem,
    summarise_webhooks,
    withdraw_webhooks,
)

__all__ = [
    "CREATED_AFTER",
    "CREATED_BEFORE",
    "SHARED",
    "Change",
    "adopt_record",
    "apply_connection",
    "apply_connection_status",
    "apply_fleet",
    "apply_fleet_user",
    "apply_fleet_users",
    "apply_freshness",
    "apply_group_messages",
    "apply_listed",
    "apply_message",
    "apply_messages",
    "apply_operation",
    "apply_schedule_status",
    "apply_share_agreement",
    "apply_subscribed",
    "apply_tsp",
    "apply_webhook",
    "apply_webhook_metrics",
    "bind_found",
    "bind_operation",
    "bind_posted",
    "complete_groups",
    "fingerprint",
    "forget_webhook",
    "is_new_message",
    "note_secret",
    "note_webhook_problem",
    "plain_reason",
    "redact_headers",
    "summarise_webhooks",
    "withdraw_unlisted",
    "withdraw_webhooks",
]
