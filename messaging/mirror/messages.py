"""Message records of Catena: which message of ours each one is, and what it adds (contract section 8).

The only writer of a message's record columns. Everything here is idempotent, and the outcome does not depend on the order
in which versions of a record arrive. Lock order: conversations by id, then messages.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Case, Exists, OuterRef, Subquery, UUIDField, Value, When

from messaging.catena import types
from messaging.mirror.changes import Change
from messaging.mirror.copying import insert
from messaging.mirror.merging import RECORD_COLUMNS, has_receipt, merged
from messaging.mirror.parties import Parties, Place, is_placeholder
from messaging.models import Connection, Conversation, Message, Operation
from messaging.models.conversation import summarise
from messaging.states import Direction, MessageState

logger = logging.getLogger(__name__)

# What a conversation's row repeats of its messages.
SUMMARISED = frozenset({"text", "occurred_at", "deleted_at", "direction", "conversation_id"})
# A change of these may complete a quote.
LINKING = frozenset({"reply_to_catena_id", "catena_id", "conversation_id"})
ROUNDS = 3

# So many records share a transaction: enough to make its cost small, few enough that nobody who writes to one of its
# conversations waits for long.
AT_ONCE = 300

# Connection and driver.
type TalkKey = tuple[int, int]
type Placed = tuple[types.Message, Place]
# Records, and the conversations to lock for them: the one they belong to, last, and the one they leave, if any.
type Group = tuple[tuple[int, ...], list[Placed]]


def apply_message(record: types.Message) -> Message | None:
    """The message this record describes, created or brought up to date. None when its connection is not ours yet."""
    apply_messages([record])
    return _rows([record.id]).get(record.id)


def apply_messages(records: Sequence[types.Message]) -> Counter[Change]:
    """Applies a page of records in short transactions; none for what says nothing new.

    Our own message coming back is found by its operation's `resource_id` and is not shown twice. Others become messages
    in state `mirrored`: incoming, or written on the provider's own screen. What another worker moved or inserted in the
    meantime is looked at again, at most three times; then its IntegrityError is raised.
    """
    tally: Counter[Change] = Counter()
    for turn in range(1, ROUNDS + 1):
        records = _round(records, tally, is_last=turn == ROUNDS)
        if not records:
            break
    return tally


def _round(records: Sequence[types.Message], tally: Counter[Change], *, is_last: bool) -> list[types.Message]:
    """Applies what it can; returns the records that have to be looked at again."""
    again: list[types.Message] = []
    for groups in _together(_planned(records, tally)):
        try:
            with transaction.atomic():
                again += _apply_groups(groups, tally)
        except IntegrityError:
            if is_last:
                raise
            again += [record for _, group in groups for record, _ in group]
    return again


def _together(planned: Iterable[Group]) -> Iterator[list[Group]]:
    """The groups of each transaction: about `AT_ONCE` records, and always the whole of a conversation."""
    groups: list[Group] = []
    size = 0
    for group in planned:
        groups.append(group)
        size += len(group[1])
        if size >= AT_ONCE:
            yield groups
            groups, size = [], 0
    if groups:
        yield groups


def _planned(records: Sequence[types.Message], tally: Counter[Change]) -> list[Group]:
    """The records that bring something, by the conversations to lock for them. Reads without locks."""
    parties, rows = Parties(records), _rows(record.id for record in records)
    bringing: list[tuple[Placed, Message | None, TalkKey | None]] = []
    for record in records:
        place, row = parties.place(record), rows.get(record.id)
        if place is None:
            tally[Change.SKIPPED] += 1
        elif row is None or _belongs_elsewhere(row, record, place):
            key = (place.connection.pk, parties.driver_of(record, place).pk)
            bringing.append(((record, place), row, key))
        elif merged(row, record, place):
            bringing.append(((record, place), row, None))
        else:
            tally[Change.SAME] += 1
    talks = talks_of({key for _, _, key in bringing if key is not None})
    groups: dict[tuple[int, ...], list[Placed]] = defaultdict(list)
    for placed, row, goes_to in bringing:
        leaves = () if row is None else (row.conversation_id,)
        groups[leaves if goes_to is None else (*leaves, talks[goes_to])].append(placed)
    return sorted(groups.items())


def talks_of(keys: Set[TalkKey]) -> dict[TalkKey, int]:
    """The conversation of each connection and driver, by their primary keys; those that are new are made."""
    if not keys:
        return {}
    found = _talks(keys)
    if missing := keys - found.keys():
        made = [Conversation(connection_id=connection, driver_id=driver) for connection, driver in sorted(missing)]
        Conversation.objects.bulk_create(made, ignore_conflicts=True)
        found |= _talks(missing)
    return found


def _talks(keys: Set[TalkKey]) -> dict[TalkKey, int]:
    rows = Conversation.objects.filter(driver__in={driver for _, driver in keys})
    found = {(connection, driver): pk for connection, driver, pk in rows.values_list("connection", "driver", "pk")}
    return {key: found[key] for key in keys & found.keys()}


def _belongs_elsewhere(row: Message, record: types.Message, place: Place) -> bool:
    """Whether a record at least as new as the row knows the driver whom an earlier version could only guess.

    An older version may correct only a placeholder, so that the order of arrival does not matter.
    """
    if row.state != MessageState.MIRRORED or place.driver is None or not place.is_evident:
        return False
    if place.driver.pk == row.conversation.driver_id or is_placeholder(place.driver, place.connection):
        return False
    is_newer = row.catena_updated_at is None or record.updated_at >= row.catena_updated_at
    return is_newer or is_placeholder(row.conversation.driver, place.connection)


def _rows(record_ids: Iterable[UUID], *, lock: bool = False) -> dict[UUID, Message]:
    """The message of each record that has one: our own by its operation's `resource_id`, else by the record's id."""
    ids = set(record_ids)
    rows = Message.objects.select_related("conversation__driver", "operation")
    if lock:
        rows = rows.select_for_update(of=("self",)).order_by("pk")
    mirrored = {row.catena_id: row for row in rows.filter(catena_id__in=ids) if row.catena_id}
    # Asked apart: in one statement, tables without statistics (a first import) have every message read for it.
    operations = list(Operation.objects.filter(resource_id__in=ids).values_list("pk", flat=True))
    ours = rows.filter(operation__in=operations) if operations else []
    return mirrored | {row.operation.resource_id: row for row in ours if row.operation and row.operation.resource_id}


def _apply_groups(groups: Sequence[Group], tally: Counter[Change]) -> list[types.Message]:
    wanted = {key for ids, _ in groups for key in ids}
    locked = {talk.pk: talk for talk in Conversation.objects.select_for_update().filter(pk__in=wanted).order_by("pk")}
    rows = _rows((record.id for _, group in groups for record, _ in group), lock=True)
    for ours in rows.values():
        if ours.operation is not None and ours.catena_id is None:
            adopt_record(ours, ours.operation)
    batch = _Batch(locked, rows)
    elsewhere = []
    for ids, group in groups:
        for record, place in group:
            row = rows.get(record.id)
            if row is not None and row.pk and row.conversation_id not in locked:
                elsewhere.append(record)
            else:
                batch.take(record, place, row, locked[ids[-1]])
    batch.write()
    tally.update(batch.tally)
    return elsewhere


def adopt_record(message: Message, operation: Operation) -> bool:
    """Tells our message which record of Catena's it is, once its operation knows (`resource_id`). False: nothing to do.

    The record may have come first and be mirrored as a message of its own: what it said moves over, replies to it are
    pointed here, and that row goes. Call it under the lock of the message's conversation, in a transaction.
    """
    record_id = operation.resource_id
    if record_id is None or message.catena_id == record_id:
        return False
    other = Message.objects.select_for_update().filter(catena_id=record_id).exclude(pk=message.pk).first()
    if message.catena_id is not None or (other is not None and other.state != MessageState.MIRRORED):
        logger.error("Record %s of operation %s belongs to another message", record_id, operation.catena_id)
        return False
    columns: dict[str, Any] = {"catena_id": record_id, "source_id": message.source_id or operation.source_id}
    with transaction.atomic():
        if other is not None:
            columns |= {name: value for name in RECORD_COLUMNS if (value := getattr(other, name))}
            _dissolve(other, message)
        for name, value in columns.items():
            setattr(message, name, value)
        message.save(update_fields=columns.keys())
        link_replies([message.conversation])
        if other is not None:
            for conversation in {
                message.conversation_id: message.conversation,
                other.conversation_id: other.conversation,
            }.values():
                conversation.summarise()
    return True


def _dissolve(duplicate: Message, message: Message) -> None:
    """Removes a row that turned out to be `message`, after pointing at that what pointed at it."""
    Message.objects.filter(reply_to=duplicate).update(reply_to=message)
    duplicate.delete()
    logger.info("Message %s came back as record %s", message.uuid, duplicate.catena_id)


def link_replies(conversations: Sequence[Conversation]) -> None:
    """Points replies at the messages they answer, as far as those have come. A quote never crosses conversations."""
    parents = Message.objects.filter(
        catena_id=OuterRef("reply_to_catena_id"), conversation_id=OuterRef("conversation_id")
    ).exclude(pk=OuterRef("pk"))
    open_replies = Message.objects.filter(
        conversation__in=conversations, reply_to=None, reply_to_catena_id__isnull=False
    )
    open_replies.filter(Exists(parents)).update(reply_to_id=Subquery(parents.values("pk")[:1]))


class _Batch:
    """The rows of one transaction: merged in memory, then written at once."""

    def __init__(self, locked: dict[int, Conversation], rows: dict[UUID, Message]) -> None:
        self.locked, self.rows = locked, rows
        self.made: list[Message] = []
        self.changed: dict[int, set[str]] = defaultdict(set)
        self.first_receipts: dict[int, datetime] = {}
        self.tally: Counter[Change] = Counter()

    def take(self, record: types.Message, place: Place, row: Message | None, conversation: Conversation) -> None:
        if row is None:
            row = self.rows[record.id] = Message(
                # So that a page knows what to take away when this turns out to be a message of ours (`adopt_record`).
                uuid=record.id,
                conversation=conversation,
                connection=place.connection,
                direction=place.direction,
                state=MessageState.MIRRORED,
                occurred_at=record.occurred_at,
            )
            self.made.append(row)
            self.tally[Change.NEW] += 1
            self._set(row, merged(row, record, place))
            self._see_receipt(row, place.connection)
            return
        if _belongs_elsewhere(row, record, place) and row.conversation_id != conversation.pk:
            # A quote never reaches into another conversation, so the link is sought anew in this one.
            moved = {"conversation_id": conversation.pk, "reply_to_id": None, "direction": place.direction}
            self._set(row, moved)
        changes = merged(row, record, place)
        self._set(row, changes)
        self._see_receipt(row, place.connection)
        self.tally[Change.CHANGED if changes or row.pk in self.changed else Change.SAME] += 1

    def _see_receipt(self, row: Message, connection: Connection) -> None:
        """The first receipt of a connection says that its provider reports any (contract section 16, row 21)."""
        if connection.first_receipt_at is None and row.direction == Direction.OUT and has_receipt(row):
            self.first_receipts[connection.pk] = row.delivered_at or row.read_at or row.occurred_at

    def _set(self, row: Message, changes: dict[str, Any]) -> None:
        for name, value in changes.items():
            setattr(row, name, value)
        if row.pk and changes:
            self.changed[row.pk] |= changes.keys()

    def write(self) -> None:
        insert(self.made)
        for row in self.rows.values():
            if row.pk in self.changed:
                row.save(update_fields=self.changed[row.pk])
        if self.made or any(names & LINKING for names in self.changed.values()):
            link_replies(list(self.locked.values()))
        self._note_threads()
        for connection_id, at in self.first_receipts.items():
            Connection.objects.filter(pk=connection_id, first_receipt_at=None).update(first_receipt_at=at)
        if self.made or any(names & SUMMARISED for names in self.changed.values()):
            summarise(self.locked)

    def _note_threads(self) -> None:
        """The first thread seen names a conversation, for later records that name nobody (contract 16, row 18)."""
        first: dict[int, UUID] = {}
        for row in self.rows.values():
            if row.thread_id and row.conversation_id in self.locked:
                first.setdefault(row.conversation_id, row.thread_id)
        news = {pk: thread for pk, thread in first.items() if self.locked[pk].thread_id is None}
        if news:
            named = Case(*(When(pk=pk, then=Value(thread)) for pk, thread in news.items()), output_field=UUIDField())
            Conversation.objects.filter(pk__in=news, thread_id=None).update(thread_id=named)
