"""`CatenaClient`: one method per endpoint in use. How a call is made and what its failure means is `calls.py`'s."""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import batched, chain
from typing import Any
from uuid import UUID

from .calls import BadItem, Caller, Hook, Params, operation_of, parse_each
from .config import CatenaConfig
from .records import Record
from .transport import Clock
from .types import (
    Connection,
    Fleet,
    Freshness,
    GroupMessage,
    GroupMessageDraft,
    Message,
    MessageDraft,
    Operation,
    TspIntegrations,
    User,
    Webhook,
    WebhookCreated,
    WebhookLog,
    WebhookMetrics,
)

__all__ = ["CatenaClient", "CatenaConfig"]

FLEETS = "/v2/orgs/fleets"
TSPS = "/v2/integrations/tsps"
CONNECTIONS = "/v2/integrations/connections"
OPERATIONS = "/v2/integrations/connections/resource-operations"
MESSAGES = "/v2/telematics/messages"
GROUP_MESSAGES = "/v2/telematics/group-messages"
USERS = "/v2/telematics/users"
WEBHOOKS = "/v2/notifications/webhooks"
MAX_WINDOW = timedelta(days=45)
MAX_VALUES = 100


class CatenaClient:
    """Thread-safe; make one per process, because it holds the process's access token.

    `create_message` and `create_group_message` end in a return value or in exactly one of `ProvenUnsent`,
    `Unauthorized`, `RateLimited`, `Refused` and `Ambiguous`; they never repeat themselves. All other calls raise
    `Unavailable`, `Unauthorized`, `RateLimited`, `Refused`, `NotSupported` or `BadPayload`.

    Listings are lazy iterators. An item that cannot be read is given to `on_bad` and skipped; without `on_bad` it is
    raised. Reads by fleet accept any number of fleets and ask for 100 at a time.
    """

    def __init__(self, config: CatenaConfig, *, clock: Clock = time.monotonic) -> None:
        self._calls = Caller(config, clock=clock)

    def create_message(
        self, draft: MessageDraft, *, is_sync: bool = False, before_first_byte: Hook | None = None
    ) -> Operation:
        """Sends; exactly one request on the wire (CONTRACT section 7).

        `before_first_byte` runs once token, connection and request bytes are ready, immediately before the first byte;
        what it raises propagates unchanged with nothing sent. Not safe to repeat: Catena has no idempotency key.
        """
        return self._create(MESSAGES, "message", draft, is_sync, before_first_byte)

    def create_group_message(
        self, draft: GroupMessageDraft, *, is_sync: bool = False, before_first_byte: Hook | None = None
    ) -> Operation:
        """The same for several recipients: one request, one operation."""
        return self._create(GROUP_MESSAGES, "group_message", draft, is_sync, before_first_byte)

    def forget_token(self) -> None:
        """The next call asks for a new access token: to find out whether our credentials are taken."""
        self._calls.forget_token()

    def hang_up(self) -> None:
        """Closes the connection that this thread keeps for its reads; another read opens a new one."""
        self._calls.hang_up()

    def list_fleets(self, *, on_bad: BadItem | None = None) -> Iterator[Fleet]:
        """Fleets with an active share agreement."""
        return self._calls.pages(Fleet, FLEETS, {}, on_bad)

    def list_connections(
        self, *, fleet_ids: Sequence[UUID] = (), on_bad: BadItem | None = None
    ) -> Iterator[Connection]:
        """Connections of these fleets, or all; there is no filter by status."""
        return self._pages(Connection, CONNECTIONS, {}, fleet_ids, on_bad)

    def get_connection(self, connection_id: UUID) -> Connection:
        """`Refused` with status 404 when it is not visible to us."""
        return Connection.parse(self._calls.read(f"{CONNECTIONS}/{connection_id}"))

    def data_freshness(self, *, fleet_ids: Sequence[UUID] = (), on_bad: BadItem | None = None) -> list[Freshness]:
        """What each connection shares of each resource; not paged."""
        found: list[Freshness] = []
        for fleets in _batches(fleet_ids):
            entries = self._calls.read(f"{CONNECTIONS}/data-freshness", fleets)
            found += parse_each(Freshness, entries, "", on_bad)
        return found

    def list_tsps(self, *, on_bad: BadItem | None = None) -> Iterator[TspIntegrations]:
        """What Catena implements for each provider."""
        return self._calls.pages(TspIntegrations, TSPS, {}, on_bad)

    def list_users(
        self,
        *,
        connection_id: UUID | None = None,
        fleet_ids: Sequence[UUID] = (),
        is_driver: bool | None = None,
        on_bad: BadItem | None = None,
    ) -> Iterator[User]:
        """Drivers and office people; there is no time window and no filter by activity."""
        filters = _given(connection_id=connection_id, is_driver=is_driver)
        return self._pages(User, USERS, filters, fleet_ids, on_bad)

    def get_user(self, user_id: UUID) -> User:
        """`Refused` with status 404 when it is not visible to us."""
        return User.parse(self._calls.read(f"{USERS}/{user_id}"))

    def list_messages(
        self,
        *,
        from_datetime: datetime,
        to_datetime: datetime,
        connection_id: UUID | None = None,
        fleet_ids: Sequence[UUID] = (),
        on_bad: BadItem | None = None,
    ) -> Iterator[Message]:
        """Messages that occurred from (inclusive) to (exclusive); raises `ValueError` for more than 45 days."""
        filters = _window(from_datetime, to_datetime) | _given(connection_id=connection_id)
        return self._pages(Message, MESSAGES, filters, fleet_ids, on_bad)

    def list_group_messages(
        self,
        *,
        from_datetime: datetime,
        to_datetime: datetime,
        connection_id: UUID | None = None,
        fleet_ids: Sequence[UUID] = (),
        on_bad: BadItem | None = None,
    ) -> Iterator[GroupMessage]:
        """The same for group messages."""
        filters = _window(from_datetime, to_datetime) | _given(connection_id=connection_id)
        return self._pages(GroupMessage, GROUP_MESSAGES, filters, fleet_ids, on_bad)

    def list_operations(
        self,
        *,
        from_datetime: datetime,
        to_datetime: datetime,
        connection_id: UUID | None = None,
        resource: str | None = None,
        operation: str | None = None,
        on_bad: BadItem | None = None,
    ) -> Iterator[Operation]:
        """Write operations, presumably by creation time (inferred); no filter by status, in no promised order."""
        filters = _given(connection_id=connection_id, resource=resource, operation=operation)
        return self._calls.pages(Operation, OPERATIONS, _window(from_datetime, to_datetime) | filters, on_bad)

    def get_operation(self, connection_id: UUID, operation_id: UUID) -> Operation:
        """One operation with its attempts; both ids are needed."""
        return Operation.parse(self._calls.read(f"{CONNECTIONS}/{connection_id}/resource-operations/{operation_id}"))

    def list_webhooks(
        self, *, event_name: str | None = None, status: str | None = None, on_bad: BadItem | None = None
    ) -> Iterator[Webhook]:
        """Our subscriptions, url and secret masked (CONTRACT section 11)."""
        return self._calls.pages(Webhook, WEBHOOKS, _given(event_name=event_name, status=status), on_bad)

    def create_webhook(
        self, url: str, event_name: str, secret: str | None = None, filters: Mapping[str, Any] | None = None
    ) -> list[WebhookCreated]:
        """Subscribes; a name ending in `.*` gives several. Without `secret` Catena makes one, readable only here."""
        body = {"url": url, "event_name": event_name} | _set(secret=secret, filters=filters)
        made = self._calls.change("POST", WEBHOOKS, body)
        return list(parse_each(WebhookCreated, made if isinstance(made, list) else [made], "", None))

    def get_webhook(self, webhook_id: UUID) -> Webhook:
        """One subscription, url and secret masked."""
        return Webhook.parse(self._calls.read(f"{WEBHOOKS}/{webhook_id}"))

    def update_webhook(
        self,
        webhook_id: UUID,
        *,
        url: str | None = None,
        secret: str | None = None,
        filters: Mapping[str, Any] | None = None,
    ) -> Webhook:
        """Changes what is given; a new secret signs from that moment on, with no overlap."""
        body = _set(url=url, secret=secret, filters=filters)
        return Webhook.parse(self._calls.change("PATCH", f"{WEBHOOKS}/{webhook_id}", body))

    def delete_webhook(self, webhook_id: UUID) -> None:
        """Removes the subscription."""
        self._calls.change("DELETE", f"{WEBHOOKS}/{webhook_id}")

    def activate_webhook(self, webhook_id: UUID) -> Webhook:
        """Resumes a paused or stale subscription; what was missed needs `replay_webhook`."""
        return Webhook.parse(self._calls.change("POST", f"{WEBHOOKS}/{webhook_id}/activate"))

    def pause_webhook(self, webhook_id: UUID) -> Webhook:
        """Stops deliveries until `activate_webhook`."""
        return Webhook.parse(self._calls.change("POST", f"{WEBHOOKS}/{webhook_id}/pause"))

    def replay_webhook(self, webhook_id: UUID) -> None:
        """Asks for the dead letter queue to be sent again."""
        self._calls.change("POST", f"{WEBHOOKS}/{webhook_id}/replay")

    def webhook_metrics(self, webhook_id: UUID) -> WebhookMetrics:
        """Delivery health of one subscription."""
        return WebhookMetrics.parse(self._calls.read(f"{WEBHOOKS}/{webhook_id}/metrics"))

    def webhook_logs(
        self,
        webhook_id: UUID,
        *,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        status: str | None = None,
        on_bad: BadItem | None = None,
    ) -> Iterator[WebhookLog]:
        """Delivery tries of one subscription; Catena keeps 14 days."""
        filters = _given(start_date=start_date, end_date=end_date, status=status)
        return self._calls.pages(WebhookLog, f"{WEBHOOKS}/{webhook_id}/logs", filters, on_bad)

    def _create(
        self, path: str, resource: str, draft: MessageDraft | GroupMessageDraft, is_sync: bool, hook: Hook | None
    ) -> Operation:
        answer = self._calls.send(path, _given(is_sync=is_sync), draft.body(), hook)
        return operation_of(answer, resource, draft.connection_id, is_sync=is_sync)

    def _pages[R: Record](
        self, record: type[R], path: str, filters: Params, fleet_ids: Sequence[UUID], on_bad: BadItem | None
    ) -> Iterator[R]:
        return chain.from_iterable(
            self._calls.pages(record, path, {**filters, **fleets}, on_bad) for fleets in _batches(fleet_ids)
        )


def _batches(fleet_ids: Sequence[UUID]) -> Iterator[Params]:
    """Fleet filters of 100 values at most (CONTRACT section 3); one empty filter when no fleet is named."""
    if not fleet_ids:
        yield {}
    for batch in batched(fleet_ids, MAX_VALUES):
        yield {"fleet_ids": [str(fleet_id) for fleet_id in batch]}


def _window(start: datetime, end: datetime) -> dict[str, str]:
    if end - start > MAX_WINDOW:
        raise ValueError("a window spans 45 days at most")
    return _given(from_datetime=start, to_datetime=end)


def _given(**filters: UUID | datetime | bool | str | None) -> dict[str, str]:
    """Query parameters as the contract writes them, without those that are None."""
    return {name: _text(value) for name, value in filters.items() if value is not None}


def _text(value: UUID | datetime | bool | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a time needs its zone")
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


def _set(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
