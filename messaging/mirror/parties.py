"""Who speaks to whom in a message record: its connection, its driver and its direction (contract section 16, rows 18, 19).

Reads for a whole page at once. Writes nothing but stand-ins for drivers of whom no user record has come yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from messaging.catena import types
from messaging.mirror.changes import cut
from messaging.mirror.directory import NEVER, placeholder_id, unnamed
from messaging.models import Connection, Conversation, FleetUser, Operation
from messaging.states import Direction


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record belongs. `driver` None: nobody we know of. `is_evident` False: nothing told the direction.

    A direction that nothing tells is shown as incoming, so that nobody overlooks the message.
    """

    connection: Connection
    direction: Direction
    is_evident: bool
    sender: FleetUser | None
    recipient: FleetUser | None
    driver: FleetUser | None


class Parties:
    """What a page of records refers to, read in five queries however long the page."""

    def __init__(self, records: Sequence[types.Message]) -> None:
        found = Connection.objects.filter(catena_id__in={record.connection_id for record in records})
        self.connections = {row.catena_id: row for row in found}
        self._read_users(records)
        threads = {record.thread_id for record in records if record.thread_id}
        talks = Conversation.objects.filter(connection__in=found, thread_id__in=threads).select_related("driver")
        self._drivers = {(talk.connection_id, talk.thread_id): talk.driver for talk in talks}
        sent = Operation.objects.filter(resource_id__in={record.id for record in records})
        self._sent_by_us = set(sent.values_list("resource_id", flat=True))

    def _read_users(self, records: Sequence[types.Message]) -> None:
        ids = {user for record in records for user in (record.sender_id, record.recipient_id) if user}
        sources = {
            cut(FleetUser, "source_id", source)
            for record in records
            for source in (record.source_sender_id, record.source_recipient_id)
            if source
        }
        self._users = {user.catena_id: user for user in FleetUser.objects.filter(catena_id__in=ids)}
        by_source = FleetUser.objects.filter(connection__in=self.connections.values(), source_id__in=sources)
        self._by_source = {(user.connection_id, user.source_id): user for user in by_source.order_by("-id")}

    def place(self, record: types.Message) -> Place | None:
        """None when the record's connection is not ours yet."""
        connection = self.connections.get(record.connection_id)
        if connection is None:
            return None
        sender = self._user(connection, record.sender_id, record.source_sender_id)
        recipient = self._user(connection, record.recipient_id, record.source_recipient_id)
        said = self._direction(record, sender, recipient)
        direction = said or Direction.IN
        driver = sender if direction == Direction.IN else recipient
        if driver is None and record.thread_id:
            driver = self._drivers.get((connection.pk, record.thread_id))
        return Place(connection, direction, said is not None, sender, recipient, driver)

    def _user(self, connection: Connection, catena_id: UUID | None, source_id: str | None) -> FleetUser | None:
        known = self._users.get(catena_id) if catena_id else None
        if known is not None or not source_id:
            return known
        same = self._by_source.get((connection.pk, cut(FleetUser, "source_id", source_id)))
        # Somebody else's id under this source id: the provider gave it away again, and Catena's id decides.
        return same if same is None or catena_id is None or is_placeholder(same, connection) else None

    def _direction(
        self, record: types.Message, sender: FleetUser | None, recipient: FleetUser | None
    ) -> Direction | None:
        if record.id in self._sent_by_us:
            return Direction.OUT
        for is_incoming in (
            record.sent_by_driver,
            sender.is_driver if sender else None,
            not recipient.is_driver if recipient and recipient.is_driver is not None else None,
        ):
            if is_incoming is not None:
                return Direction.IN if is_incoming else Direction.OUT
        return None

    def driver_of(self, record: types.Message, place: Place) -> FleetUser:
        """The driver, or a row that stands in for one (see `_stand_in`). Keeps what it made for the rest of the page."""
        incoming = place.direction == Direction.IN
        catena_id = record.sender_id if incoming else record.recipient_id
        source_id = record.source_sender_id if incoming else record.source_recipient_id
        driver = self._user(place.connection, catena_id, source_id) or place.driver
        if driver is not None:
            return self._made_real(driver, catena_id, place.connection)
        return self._stand_in(record, place, catena_id, source_id)

    def _made_real(self, driver: FleetUser, catena_id: UUID | None, connection: Connection) -> FleetUser:
        """A placeholder whose id at Catena is now known takes it, so that it can be written to."""
        if catena_id is None or driver.catena_id == catena_id or not is_placeholder(driver, connection):
            return driver
        FleetUser.objects.filter(pk=driver.pk, catena_id=driver.catena_id).update(catena_id=catena_id, is_active=None)
        driver.catena_id, driver.is_active = catena_id, None
        self._users[catena_id] = driver
        return driver

    def _stand_in(
        self, record: types.Message, place: Place, catena_id: UUID | None, source_id: str | None
    ) -> FleetUser:
        """A row for a driver whom no user record describes yet; `apply_fleet_user` fills it when one comes.

        With Catena's id it is that user already. Without (Catena could not map the participant) its id is made from
        the connection and the provider's id for the person, else the thread, so that the same stranger is always the
        same row; it is inactive, because Catena would not know the id if we wrote to it.
        """
        incoming = place.direction == Direction.IN
        thread = record.source_thread_id or record.thread_id
        key = source_id or (f"thread:{thread}" if thread else "unknown")
        shown_key = cut(FleetUser, "source_id", (source_id or "") if catena_id else key)
        columns = {
            "connection": place.connection,
            "source_id": shown_key,
            "name": self._name(record, incoming, catena_id),
            "is_driver": True if place.is_evident else None,
            "is_active": None if catena_id else False,
            "catena_created_at": NEVER,
            "catena_updated_at": NEVER,
        }
        made = catena_id or placeholder_id(place.connection, shown_key)
        row, _ = FleetUser.objects.get_or_create(catena_id=made, defaults=columns)
        self._users[row.catena_id] = row
        self._by_source.setdefault((place.connection.pk, row.source_id), row)
        return row

    def _name(self, record: types.Message, incoming: bool, catena_id: UUID | None) -> str:
        said = record.sender_name if incoming else record.recipient_name
        name = cut(FleetUser, "name", " ".join((said or "").split()))
        if name or catena_id is None:
            return name or ("Unknown sender" if incoming else "Unknown recipient")
        source_id = record.source_sender_id if incoming else record.source_recipient_id
        return unnamed(source_id or str(catena_id), True)


def is_placeholder(user: FleetUser, connection: Connection) -> bool:
    return user.catena_id == placeholder_id(connection, user.source_id)
