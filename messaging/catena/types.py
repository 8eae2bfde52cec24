"""What Catena's records look like to us, and what we ask it to send (CONTRACT sections 5 to 13). `Record` says how
they are read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

from .errors import BadPayload
from .records import Record, plan, read_moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet(Record):
    """CONTRACT section 5; `fleet_ref` is our own reference and may be null despite its schema."""

    id: UUID
    name: str
    fleet_ref: str | None = None
    display_name: str | None = None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection(Record):
    """CONTRACT section 5; the masked credentials still hold client ids and user names, so they are never kept."""

    NEVER_KEPT: ClassVar[frozenset[str]] = frozenset({"credentials"})

    id: UUID
    fleet_id: UUID | None = None
    fleet_ref: str | None = None
    tsp_id: UUID
    source_name: str
    status: str
    description: str | None = None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Record):
    """CONTRACT section 6; `raw` holds only these fields, because the rest is personal data that nobody is shown."""

    id: UUID
    connection_id: UUID
    fleet_id: UUID | None = None
    source_id: str
    source_name: str
    first_name: str | None = field(default=None, repr=False)
    last_name: str | None = field(default=None, repr=False)
    username: str | None = field(default=None, repr=False)
    is_driver: bool | None = None
    user_designation: str | None = None
    is_active: bool | None = None
    status: str | None = None
    phone_number: str | None = field(default=None, repr=False)
    employee_number: str | None = field(default=None, repr=False)
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None

    @classmethod
    def _kept(cls, body: Mapping[str, Any]) -> Mapping[str, Any]:
        shown = {"fleet_ref", "tsp_id", "tsp_slug", *(name for name, _, _ in plan(cls))}
        return {name: value for name, value in body.items() if name in shown}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conversed(Record):
    """What direct and group messages share (CONTRACT section 8)."""

    id: UUID
    connection_id: UUID
    fleet_id: UUID | None = None
    source_name: str
    source_id: str
    sender_id: UUID | None = None
    source_sender_id: str | None = None
    sender_name: str | None = field(default=None, repr=False)
    sent_by_driver: bool | None = None
    message_text: str | None = field(default=None, repr=False)
    status: str | None = None
    delivered_at: datetime | None = None
    thread_id: UUID | None = None
    source_thread_id: str | None = None
    occurred_at: datetime
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None

    @classmethod
    def _given(cls, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """A message without a readable `occurred_at` happened, as far as anybody knows, when Catena stored it."""
        try:
            read_moment(body.get("occurred_at"), "occurred_at")
        except ValueError:
            return {**body, "occurred_at": body.get("created_at")}
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(_Conversed):
    """A direct message as listed or as carried by an event, which lacks `thread_id` and `reply_to_message_id`."""

    recipient_id: UUID | None = None
    source_recipient_id: str | None = None
    recipient_name: str | None = field(default=None, repr=False)
    read_at: datetime | None = None
    reply_to_message_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMessage(_Conversed):
    """A message to several people; there is no `read_at` and no reply."""

    recipient_ids: tuple[UUID, ...] = ()
    source_recipient_ids: tuple[str, ...] = ()
    group_id: UUID | None = None
    source_group_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationLog(Record):
    """One attempt of Catena at the provider (CONTRACT section 9). `error_details` and headers are untrusted text."""

    id: UUID
    resource_operation_id: UUID
    status: str
    error_type: str | None = None
    error_details: str | None = field(default=None, repr=False)
    response_status_code: int | None = None
    response_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Record):
    """A write as Catena sees it (CONTRACT section 9), as answered to a POST, as read back and as carried by events."""

    id: UUID
    connection_id: UUID
    resource: str
    operation_type: str
    status: str
    payload: Mapping[str, Any] = field(repr=False)
    resource_id: UUID | None = None
    source_id: str | None = None
    logs: tuple[OperationLog, ...] = ()
    fleet_ref: str | None = None
    source_name: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @classmethod
    def parse_receipt(cls, body: object, resource: str) -> Self:
        """The answer to a POST: only `id` and `connection_id` must be readable.

        An accepted message must not count as lost for want of a field that we know or that defaults (section 9).
        """
        if not isinstance(body, Mapping):
            raise BadPayload("is not an object")
        known = {"resource": resource, "operation_type": "create", "status": "pending", "payload": {}}
        sound = {name: body[name] for name in known if isinstance(body.get(name), type(known[name]))}
        return replace(cls.parse({**body, **known, **sound}), raw=cls._kept(body))


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness(Record):
    """What a connection shares of one resource and how its fetching goes (CONTRACT section 5)."""

    connection_id: UUID
    fleet_id: UUID | None = None
    resource: str
    share_level: str | None = None
    schedule_status: str | None = None
    last_successful_execution_at: datetime | None = None
    next_execution_at: datetime | None = None
    source_name: str | None = None
    tsp_id: UUID | None = None
    tsp_slug: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TspIntegrations(Record):
    """Resource name to `implemented`, `not_implemented`, `not_supported` or a word to come, for one provider."""

    tsp_id: UUID
    slug: str | None = None
    source_name: str | None = None
    integrations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook(Record):
    """A subscription as read back or as named in an event (CONTRACT section 11); the masked secret is not kept."""

    NEVER_KEPT: ClassVar[frozenset[str]] = frozenset({"secret"})

    id: UUID
    event_name: str
    status: str
    url: str | None = None
    filters: Mapping[str, Any] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookCreated(Record):
    """The answer to a subscription, the one place where `secret` is in clear; the schema does not promise `id`."""

    NEVER_KEPT: ClassVar[frozenset[str]] = frozenset({"secret"})

    id: UUID | None = None
    event_name: str
    url: str
    status: str | None = None
    secret: str | None = field(default=None, repr=False)
    filters: Mapping[str, Any] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookLog(Record):
    """One delivery try of a subscription; kept 14 days by Catena."""

    webhook_id: UUID
    message_id: UUID
    event_name: str
    status: str
    status_code: int | None = None
    error_message: str | None = None
    response_time_ms: int | None = None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookMetrics(Record):
    """Delivery health; the windowed figures map `6h`, `24h`, `7d` and `14d` to a number or null."""

    webhook_id: UUID
    http_attempts: Mapping[str, Any]
    http_success_attempts: Mapping[str, Any]
    http_failure_attempts: Mapping[str, Any]
    message_count: Mapping[str, Any]
    message_success_count: Mapping[str, Any]
    success_rate: Mapping[str, Any]
    avg_response_time_ms: Mapping[str, Any]
    ewma_success_rate: float | None = None
    dlq_count: int


@dataclass(frozen=True, slots=True)
class MessageDraft:
    """One direct message to send (CONTRACT section 7); checks nothing, because the refusal is Catena's."""

    connection_id: UUID
    sender_id: UUID
    recipient_id: UUID
    message_text: str = field(repr=False)
    priority: str | None = None
    reply_to_message_id: UUID | None = None

    def body(self) -> dict[str, Any]:
        """The JSON body; optional fields that are not set are left out."""
        body: dict[str, Any] = {
            "connection_id": str(self.connection_id),
            "sender_id": str(self.sender_id),
            "recipient_id": str(self.recipient_id),
            "message_text": self.message_text,
        }
        if self.priority is not None:
            body["priority"] = self.priority
        if self.reply_to_message_id is not None:
            body["reply_to_message_id"] = str(self.reply_to_message_id)
        return body


@dataclass(frozen=True, slots=True)
class GroupMessageDraft:
    """One message to several people of one connection: one request, one operation."""

    connection_id: UUID
    sender_id: UUID
    recipient_ids: tuple[UUID, ...]
    message_text: str = field(repr=False)
    priority: str | None = None

    def body(self) -> dict[str, Any]:
        """The JSON body; a priority that is not set is left out."""
        body: dict[str, Any] = {
            "connection_id": str(self.connection_id),
            "sender_id": str(self.sender_id),
            "recipient_ids": [str(recipient) for recipient in self.recipient_ids],
            "message_text": self.message_text,
        }
        if self.priority is not None:
            body["priority"] = self.priority
        return body
