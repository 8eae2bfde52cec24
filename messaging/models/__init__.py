"""Tables, constraints and querysets. No HTTP, no request."""

from messaging.models.audit import AuditEntry
from messaging.models.conversation import Conversation, Message, ReadMark
from messaging.models.delivery import Decision, Gate, Look, Operation, OperationLog, SendAttempt
from messaging.models.directory import Connection, Fleet, FleetMembership, FleetUser
from messaging.models.explanations import Explanation
from messaging.models.groups import GroupMessage
from messaging.models.inbound import RefusedDelivery, SyncCursor, WebhookEvent
from messaging.models.incidents import Incident, IncidentEntry
from messaging.models.outlook import closed_gates, delivery_columns, delivery_of, message_delivery
from messaging.models.people import LogInAttempt, Role, Theme, User
from messaging.models.recoveries import Recovery, RecoveryItem
from messaging.models.safeguards import RequestBudget, Restore, RestoreCause, SendEpoch, Verification
from messaging.models.subscriptions import WebhookSubscription, WebhookWatch, WebhookWork
from messaging.models.workbench import MessageCare, MessageNote, MessageWords, SavedView

__all__ = [
    "AuditEntry",
    "Connection",
    "Conversation",
    "Decision",
    "Explanation",
    "Fleet",
    "FleetMembership",
    "FleetUser",
    "Gate",
    "GroupMessage",
    "Incident",
    "IncidentEntry",
    "LogInAttempt",
    "Look",
    "Message",
    "MessageCare",
    "MessageNote",
    "MessageWords",
    "Operation",
    "OperationLog",
    "ReadMark",
    "Recovery",
    "RecoveryItem",
    "RefusedDelivery",
    "RequestBudget",
    "Restore",
    "RestoreCause",
    "Role",
    "SavedView",
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
