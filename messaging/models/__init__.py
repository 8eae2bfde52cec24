"""Tables, constraints and querysets. No HTTP, no request."""

from messaging.models.audit import AuditEntry
from messaging.models.conversation import Conversation, Message, ReadMark
from messaging.models.delivery import Decision, Gate, Look, Operation, OperationLog, SendAttempt
from messaging.models.directory import Connection, Fleet, FleetMembership, FleetUser
from messaging.models.groups import GroupMessage
from messaging.models.inbound import RefusedDelivery, SyncCursor, WebhookEvent
from messaging.models.outlook import closed_gates, delivery_columns, delivery_of, message_delivery
from messaging.models.people import LogInAttempt, Role, Theme, User
from messaging.models.safeguards import RequestBudget, Restore, RestoreCause, SendEpoch, Verification
from messaging.models.subscriptions import WebhookSubscription, WebhookWatch, WebhookWork

__all__ = [
    "AuditEntry",
    "Connection",
    "Conversation",
    "Decision",
    "Fleet",
    "FleetMembership",
    "FleetUser",
    "Gate",
    "GroupMessage",
    "LogInAttempt",
    "Look",
    "Message",
    "Operation",
    "OperationLog",
    "ReadMark",
    "RefusedDelivery",
    "RequestBudget",
    "Restore",
    "RestoreCause",
    "Role",
    "SendAttempt",
    "SendEpoch",
    "SyncCursor",
    "Theme",
    "User",
    "Verification",
    "WebhookEvent",
    "WebhookSubscription",
    "WebhookWatch",
    "WebhookWork",
    "closed_gates",
    "delivery_columns",
    "delivery_of",
    "message_delivery",
]
