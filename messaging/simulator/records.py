"""What the simulated Catena remembers. Plain records: no clock, no HTTP, no JSON (`render.py` writes them down)."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from messaging.simulator.wire import Json

Resource = Literal["message", "group_message"]


@dataclass(frozen=True)
class Provider:
    """One telematics provider (TSP) and what its platform can do."""

    tsp_id: str
    slug: str
    prefix: str
    """Starts the provider's own ids."""
    reports_delivered: bool
    reports_read: bool
    text_limit: int
    """Characters; a longer text is refused by the provider, not by Catena."""
    integrations: dict[str, str]


@dataclass
class Fleet:
    id: str
    name: str
    legal_name: str
    fleet_ref: str | None
    city: str
    province: str
    regulatory_id: str
    created_at: datetime
    updated_at: datetime


@dataclass
class Schedule:
    """How Catena fetches one resource of one connection."""

    id: str
    resource: str
    share_level: str | None
    status: str


@dataclass
class Connection:
    id: str
    fleet_id: str
    slug: str
    status: str
    description: str | None
    credentials: dict[str, str]
    schedules: list[Schedule]
    created_at: datetime
    updated_at: datetime

    def schedule(self, resource: str) -> Schedule:
        return next(schedule for schedule in self.schedules if schedule.resource == resource)

    @property
    def can_write(self) -> bool:
        return self.schedule("message").share_level == "read_write"


@dataclass
class User:
    """A driver or an office person at one connection."""

    id: str
    connection_id: str
    source_id: str
    is_driver: bool
    username: str
    first_name: str | None
    last_name: str | None
    phone_number: str | None
    designation: str
    status: str
    started_at: datetime
    created_at: datetime
    updated_at: datetime
    last_login_at: datetime | None = None
    deleted_at: datetime | None = None

    @property
    def is_active(self) -> bool:
        return self.status == "ACTIVE" and self.deleted_at is None

    @property
    def full_name(self) -> str | None:
        """None when the provider knows only a user name."""
        return " ".join(part for part in (self.first_name, self.last_name) if part) or None


@dataclass
class Message:
    """A direct or a group message: one recipient, or several and a group."""

    id: str
    resource: Resource
    connection_id: str
    source_id: str
    sender_id: str
    recipient_ids: list[str]
    sent_by_driver: bool
    text: str | None
    priority: str | None
    occurred_at: datetime
    created_at: datetime
    updated_at: datetime
    sender_name: str | None = None
    recipient_name: str | None = None
    status: str = "sent"
    delivered_at: datetime | None = None
    read_at: datetime | None = None
    reply_to_id: str | None = None
    deleted_at: datetime | None = None
    owes_reply: bool = False
    """The driver has decided to answer and has not done so yet."""

    @property
    def driver_id(self) -> str:
        return self.sender_id if self.sent_by_driver else self.recipient_ids[0]


@dataclass
class Attempt:
    """One try of Catena's to hand a write to the provider."""

    id: str
    created_at: datetime
    status: str
    error_type: str | None = None
    error_details: str | None = None
    response_status_code: int | None = None
    response_headers: dict[str, str] | None = None


@dataclass
class Operation:
    id: str
    resource: Resource
    connection_id: str
    payload: Json
    created_at: datetime
    updated_at: datetime
    listed_at: datetime | None
    """From when lists show it; None means never."""
    is_sync: bool = False
    status: str = "pending"
    resource_id: str | None = None
    source_id: str | None = None
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def text(self) -> str:
        return str(self.payload.get("message_text") or "")

    @property
    def recipient_ids(self) -> list[str]:
        if self.resource == "message":
            return [str(self.payload["recipient_id"])]
        recipients = self.payload["recipient_ids"]
        assert isinstance(recipients, list)
        return [str(recipient) for recipient in recipients]


@dataclass
class Subscription:
    """A webhook subscription: one event at one address."""

    id: str
    url: str
    event_name: str
    filters: Json | None
    secret: str
    status: str
    created_at: datetime
    updated_at: datetime
    judged_after_at: datetime
    """The circuit breaker leaves it alone until then."""


@dataclass(frozen=True)
class Event:
    """Something that happened, before it is cut into deliveries."""

    id: str
    name: str
    record: Json
    fleet_id: str | None
    connection_id: str | None = None
    text: str = ""


@dataclass(frozen=True)
class JournalEntry:
    """One accepted write. Tests count these to prove that nothing was sent twice."""

    sequence: int
    operation_id: str
    resource: str
    connection_id: str
    sender_id: str
    recipient_id: str
    """Several recipients are joined by a comma."""
    message_text: str | None
    priority: str | None
    reply_to_message_id: str | None
    accepted_at: str


@dataclass(frozen=True)
class LogEntry:
    """One try of one delivery."""

    id: str
    created_at: datetime
    event_id: str
    event_name: str
    status_code: int
    error_message: str | None
    response_time_ms: int

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code < 300

    @property
    def status(self) -> str:
        return "success" if self.is_success else "failed"


@dataclass(frozen=True)
class Delivery:
    """One event on its way to one subscription. `number` counts tries from 1."""

    event: Event
    subscription_id: str
    number: int = 1
