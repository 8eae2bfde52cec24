"""The head of an open conversation: its driver, its connection, and what this person may do there, in one statement.

A page opens with it; with the models' own queries it would be five.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Max

from messaging import access, outbox
from messaging.insight.health import COUNTS, Counts, counts_of
from messaging.models import Connection, Conversation, Fleet, FleetUser, Message, User
from messaging.models.conversation import READ_THROUGH_SQL, unsettled_head_sql, waiting_sql
from messaging.models.directory import visible_connections_sql
from messaging.rows import Row, Unsettled, read, unsettled_of
from messaging.states import Direction

_DRIVER = (
    "id",
    "catena_id",
    "name",
    "username",
    "phone_number",
    "user_designation",
    "status",
    "is_active",
    "deleted_at",
)
_CONNECTION = (
    "id", "catena_id", "fleet_id", "source_name", "tsp_slug", "description", "status", "share_level", "message_support",
    "schedule_status", "last_successful_execution_at", "next_execution_at", "withdrawn_at", "pinned_sender_id",
)  # fmt: skip


def _columns(table: str, prefix: str, names: tuple[str, ...]) -> str:
    return ", ".join(f"{table}.{name} AS {prefix}__{name}" for name in names)


WAITING = ("waits_at", "heard_through", "waived_through", "waived_by")
# `messaging_connection` goes without an alias: COUNTS names it so.
_HEAD = f"""
SELECT pg_current_snapshot()::text AS snapshot, c.id, c.uuid, c.last_incoming_id, c.last_message_id,
  {READ_THROUGH_SQL} AS read_through, f.name AS fleet_name,
  {_columns("d", "driver", _DRIVER)}, {_columns("messaging_connection", "connection", _CONNECTION)},
  EXISTS (SELECT 1 FROM messaging_fleetmembership w
    WHERE w.user_id = %(user)s AND w.fleet_id = messaging_connection.fleet_id) AS is_member,
  messaging_connection.pinned_sender_id IS NOT NULL OR EXISTS (SELECT 1 FROM messaging_fleetuser s
    WHERE s.connection_id = messaging_connection.id AND s.deleted_at IS NULL AND s.is_active IS DISTINCT FROM FALSE)
    AS has_sender,
  EXISTS (SELECT 1 FROM messaging_connection p WHERE p.tsp_id = messaging_connection.tsp_id
    AND p.first_receipt_at IS NOT NULL) AS has_receipts,
  {waiting_sql("c")}, {unsettled_head_sql("c", "id")} AS unsettled, ({COUNTS})::text AS counts
FROM messaging_conversation c
JOIN messaging_connection ON messaging_connection.id = c.connection_id
JOIN messaging_fleetuser d ON d.id = c.driver_id
LEFT JOIN messaging_fleet f ON f.id = messaging_connection.fleet_id
LEFT JOIN messaging_readmark r ON r.conversation_id = c.id AND r.user_id = %(user)s
"""


@dataclass(frozen=True, slots=True)
class Head:
    """A conversation that this person may see. Its models carry the columns that a page shows, and no others.

    `obstacle` says why this person cannot write there now, as a sentence; None when they can. `unsettled` is the message
    that holds up the others. `has_receipts` says that the connection's provider has ever reported one. `waits` holds
    the columns of `waiting_sql`. `snapshot` is PostgreSQL's own at the reading: what changes after it is news to the page.
    """

    conversation: Conversation
    read_through: int
    obstacle: str | None
    counts: Counts
    unsettled: Unsettled | None
    has_receipts: bool
    waits: Row
    snapshot: str

    @property
    def driver(self) -> FleetUser:
        return self.conversation.driver

    @property
    def connection(self) -> Connection:
        return self.conversation.connection

    @property
    def address(self) -> str:
        return f"/c/{self.conversation.uuid}/"

    @property
    def unread_through(self) -> int | None:
        """The newest message of the driver, if this person has not read it."""
        newest = self.conversation.last_incoming_id or 0
        return newest if newest > self.read_through else None


def head(user: User, uuid: UUID) -> Head | None:
    """None when there is no such conversation, or not for this person. One query."""
    where = f"WHERE c.uuid = %(uuid)s AND {visible_connections_sql(user, 'c.connection_id')}"
    found = read(_HEAD + where, {"user": user.pk, "joined": user.date_joined, "uuid": uuid})
    return _head(user, found[0]) if found else None


def _head(user: User, row: Mapping[str, Any]) -> Head:
    connection = Connection(**{name: row[f"connection__{name}"] for name in _CONNECTION})
    connection.fleet = Fleet(id=connection.fleet_id, name=row["fleet_name"]) if row["fleet_name"] is not None else None
    driver = FleetUser(connection=connection, **{name: row[f"driver__{name}"] for name in _DRIVER})
    conversation = Conversation(
        id=row["id"], uuid=row["uuid"], last_incoming_id=row["last_incoming_id"], connection=connection, driver=driver,
        last_message_id=row["last_message_id"],
    )  # fmt: skip
    may_write = user.is_superuser or (row["is_member"] and user.is_active)
    return Head(
        conversation=conversation,
        read_through=row["read_through"],
        obstacle=_obstacle(driver, may_write=may_write, has_sender=row["has_sender"]),
        counts=counts_of(json.loads(row["counts"])),
        unsettled=unsettled_of(row["unsettled"]),
        has_receipts=row["has_receipts"],
        waits={name: row[name] for name in WAITING},
        snapshot=row["snapshot"],
    )


def obstacle(user: User, driver: FleetUser, *, is_resend: bool = False) -> str | None:
    """Why this person cannot write to this driver now, as a sentence; None when they can. At most two queries.

    `is_resend`: not to write anew, but to send a failure again.
    """
    connection = driver.connection
    try:
        has_sender = bool(outbox.sender_of(connection))
    except outbox.NoSender:
        has_sender = False
    may_write = access.can_resend(user, connection) if is_resend else access.can_send(user, connection)
    return _obstacle(driver, may_write=may_write, has_sender=has_sender)


def _obstacle(driver: FleetUser, *, may_write: bool, has_sender: bool) -> str | None:
    connection = driver.connection
    if connection.sending_obstacle is not None:
        return connection.sending_obstacle
    if driver.deleted_at is not None or driver.is_active is False:
        return f"{connection.provider} no longer lists {driver.name} as active, so nothing can be sent."
    if not may_write:
        fleet = connection.fleet.name if connection.fleet else "this fleet"
        return f"You may read the messages of {fleet}, not write them. An administrator can add you to the fleet."
    return None if has_sender else str(outbox.NoSender(connection))


# Of what others wrote meanwhile this many lines are shown again above the composer, the newest.
MOST_LINES = 4
LINE_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Line:
    who: str
    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class NewerLines:
    """What others wrote in a conversation, oldest first; `more` came before these, and `through` is the newest of all."""

    lines: list[Line]
    more: int
    through: int

    @property
    def who(self) -> str:
        return " and ".join(dict.fromkeys(line.who for line in self.lines))


def newer_lines(user: User, found: Head, seen: int) -> NewerLines:
    """What others wrote after the message `seen`. Two queries."""
    news = Message.objects.visible_to(user).filter(conversation=found.conversation).news_for(user, seen)
    total = news.aggregate(number=Count("pk"), through=Max("pk"))
    newest = news.select_related("author").order_by("-occurred_at", "-pk")[:MOST_LINES]
    lines = [_line(message, found) for message in reversed(newest)]
    return NewerLines(lines, total["number"] - len(lines), total["through"] or seen)


def _line(message: Message, found: Head) -> Line:
    who = message.author.label if message.author else message.sender_name
    words = " ".join((message.text or "").split())
    text = words if len(words) <= LINE_LENGTH else f"{words[:LINE_LENGTH]}…"
    return Line(
        who or (found.driver.name if message.direction == Direction.IN else "The office"), message.occurred_at, text
    )
