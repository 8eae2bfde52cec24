"""Group messages: one record and one state, shown in the conversation of each recipient (contract sections 8 and 16, row 22).

A direct message has a receipt, a group message never says who got it: the rows in the conversations repeat its words and its
one state. Where it is shown follows from the record and from the users we know, so applying it again changes nothing. Lock
order: the group message, conversations by id, messages.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from messaging.catena import types
from messaging.mirror.changes import Change, cut, differing
from messaging.mirror.copying import insert
from messaging.mirror.merging import furthest, is_newer, raw_of
from messaging.mirror.messages import talks_of
from messaging.mirror.redaction import storable_text
from messaging.models import Connection, Conversation, FleetUser, GroupMessage, Message
from messaging.models.conversation import summarise
from messaging.states import Direction, MessageState

# What a column of the size can hold; the contract names no limit of recipients.
LARGEST = 30_000


def apply_group_messages(records: Sequence[types.GroupMessage]) -> Counter[Change]:
    """Applies a page of records; one short transaction for each that says something new. Idempotent.

    The outcome does not depend on the order in which versions of a record arrive. A recipient of whom we know nothing is
    added by `complete_groups`.
    """
    found = Connection.objects.filter(catena_id__in={record.connection_id for record in records})
    connections = {row.catena_id: row for row in found}
    senders = _Senders(records, connections.values())
    rows = {row.catena_id: row for row in GroupMessage.objects.filter(catena_id__in=[record.id for record in records])}
    tally: Counter[Change] = Counter()
    for record in records:
        connection, row = connections.get(record.connection_id), rows.get(record.id)
        if connection is None:
            tally[Change.SKIPPED] += 1
        elif row is not None and not row.unplaced and not _merged(row, record, senders):
            tally[Change.SAME] += 1
        else:
            rows[record.id], change = _apply(record, connection, senders)
            tally[change] += 1
    return tally


def complete_groups(connection: Connection) -> int:
    """Shows group messages to recipients who have become known since; returns how many messages that concerned.

    Call it after users were applied. Two queries when nobody new is among those who were missing.
    """
    waiting = list(GroupMessage.objects.waiting_for_recipients().filter(connection=connection))
    if not waiting:
        return 0
    recipients = _Recipients(waiting)
    completed = 0
    for row in waiting:
        if recipients.unplaced(row) < row.unplaced:
            with transaction.atomic():
                completed += _place(GroupMessage.objects.select_for_update().get(pk=row.pk))
    return completed


def _apply(record: types.GroupMessage, connection: Connection, senders: "_Senders") -> tuple[GroupMessage, Change]:
    with transaction.atomic():
        columns = {**_identity(record, connection), **_content(record, senders)}
        row, is_new = GroupMessage.objects.select_for_update().get_or_create(catena_id=record.id, defaults=columns)
        changes = _merged(row, record, senders)
        if changes:
            for name, value in changes.items():
                setattr(row, name, value)
            row.save(update_fields=changes.keys())
        is_moved = _place(row)
    return row, Change.NEW if is_new else Change.CHANGED if changes or is_moved else Change.SAME


def _identity(record: types.GroupMessage, connection: Connection) -> dict[str, Any]:
    return {"connection": connection, "catena_updated_at": record.updated_at, "record_status": "", "raw": {}}


def _merged(row: GroupMessage, record: types.GroupMessage, senders: "_Senders") -> dict[str, Any]:
    """The columns that change: the state only moves forward, links are filled, everything else follows the newest version."""
    newer = is_newer(row, record)
    columns: dict[str, Any] = {
        "record_status": furthest(row.record_status, cut(GroupMessage, "record_status", record.status)),
        "delivered_at": min(filter(None, (row.delivered_at, record.delivered_at)), default=None),
    }
    sender = senders.of(record)
    links = {
        "sender_id": sender.pk if sender else None,
        "source_id": cut(GroupMessage, "source_id", record.source_id),
        "group_id": record.group_id,
        "source_group_id": cut(GroupMessage, "source_group_id", record.source_group_id),
        "thread_id": record.thread_id,
    }
    columns |= {name: value for name, value in links.items() if value and (newer or not getattr(row, name))}
    if newer:
        columns |= _content(record, senders) | {"raw": raw_of(record), "catena_updated_at": record.updated_at}
    elif record.updated_at == row.catena_updated_at and len(raw_of(record)) > len(row.raw):
        columns |= _content(record, senders) | {"raw": raw_of(record)}
    return differing(row, columns)


def _content(record: types.GroupMessage, senders: "_Senders") -> dict[str, Any]:
    sender = senders.of(record)
    name = record.sender_name or (sender.name if sender else "")
    by_driver = record.sent_by_driver if record.sent_by_driver is not None else bool(sender and sender.is_driver)
    return {
        "direction": Direction.IN if by_driver else Direction.OUT,
        "sender_name": cut(GroupMessage, "sender_name", " ".join(name.split())),
        "text": None if record.message_text is None else storable_text(record.message_text),
        "occurred_at": record.occurred_at,
        "recipient_ids": [str(identity) for identity in dict.fromkeys(record.recipient_ids)],
        "source_recipient_ids": [storable_text(one) for one in dict.fromkeys(record.source_recipient_ids) if one],
        "deleted_at": record.deleted_at,
    }


def _place(row: GroupMessage) -> bool:
    """Brings the rows in the conversations in line with the group message, whose lock the caller holds; True if any changed.

    Whoever is no longer a recipient no longer sees it.
    """
    recipients = _Recipients([row])
    counted = {"size": recipients.size(row), "unplaced": recipients.unplaced(row)}
    if differing(row, counted):
        GroupMessage.objects.filter(pk=row.pk).update(**counted)
        row.size, row.unplaced = counted["size"], counted["unplaced"]
    shown_to = recipients.shown_to(row) if row.deleted_at is None else []
    talks = talks_of({(row.connection_id, driver.pk) for driver in shown_to})
    targets = {talks[row.connection_id, driver.pk]: driver for driver in shown_to}
    before = set(Message.objects.filter(group=row).values_list("conversation_id", flat=True))
    locked = list(Conversation.objects.select_for_update().filter(pk__in=before | targets.keys()).order_by("pk"))
    there = {one.conversation_id: one for one in Message.objects.select_for_update().filter(group=row).order_by("pk")}
    said = _said(row)
    made = [
        _appearance(row, said, talk, targets[talk.pk]) for talk in locked if talk.pk in targets.keys() - there.keys()
    ]
    insert(made)
    touched = [_repeat(one, said, row, is_shown=pk in targets) for pk, one in there.items()]
    if made or any(touched):
        summarise(talk.pk for talk in locked)
    return bool(made) or any(touched)


def _said(row: GroupMessage) -> dict[str, Any]:
    """What each conversation repeats. No receipt: the database refuses one."""
    names = ("direction", "sender_id", "sender_name", "text", "occurred_at", "record_status")
    return {name: getattr(row, name) for name in names} | {"group_size": row.size}


def _appearance(row: GroupMessage, said: dict[str, Any], talk: Conversation, driver: FleetUser) -> Message:
    recipient = driver.pk if row.direction == Direction.OUT else None
    return Message(
        conversation=talk,
        connection_id=row.connection_id,
        state=MessageState.MIRRORED,
        group=row,
        recipient_id=recipient,
        **said,
    )


def _repeat(one: Message, said: dict[str, Any], row: GroupMessage, *, is_shown: bool) -> bool:
    gone_at = None if is_shown else row.deleted_at or one.deleted_at or row.catena_updated_at
    changes = differing(one, {**said, "deleted_at": gone_at})
    for name, value in changes.items():
        setattr(one, name, value)
    if changes:
        one.save(update_fields=changes.keys())
    return bool(changes)


class _Senders:
    """Who wrote the group messages of a page, as far as we know them; read in one query."""

    def __init__(self, records: Sequence[types.GroupMessage], connections: Iterable[Connection]) -> None:
        self._connections = {connection.catena_id: connection.pk for connection in connections}
        ids = {record.sender_id for record in records if record.sender_id}
        sources = {storable_text(record.source_sender_id) for record in records if record.source_sender_id}
        self._by_id, self._by_source = _known(self._connections.values(), ids, sources)

    def of(self, record: types.GroupMessage) -> FleetUser | None:
        source = (self._connections.get(record.connection_id, 0), storable_text(record.source_sender_id or ""))
        return self._by_id.get(str(record.sender_id)) or self._by_source.get(source)


def _known(
    connections: Iterable[int], ids: Iterable[UUID | str], sources: Iterable[str]
) -> tuple[dict[str, FleetUser], dict[tuple[int, str], FleetUser]]:
    """Users of these connections by Catena's id and by the provider's."""
    wanted, given = set(map(str, ids)), set(sources)
    named = Q(catena_id__in=wanted) | Q(source_id__in=given)
    users = list(FleetUser.objects.filter(named, connection__in=list(connections)).order_by("-id"))
    by_id = {str(user.catena_id): user for user in users}
    return by_id, {(user.connection_id, user.source_id): user for user in users if user.source_id in given}


class _Recipients:
    """Whom group messages name, as far as we know them; read in one query."""

    def __init__(self, rows: Sequence[GroupMessage]) -> None:
        self._by_id, self._by_source = _known(
            {row.connection_id for row in rows},
            {one for row in rows for one in row.recipient_ids},
            {one for row in rows for one in row.source_recipient_ids},
        )

    def known(self, row: GroupMessage) -> list[FleetUser]:
        """The provider's ids count only when Catena has not mapped all of them (contract section 8)."""
        found = {user.pk: user for one in row.recipient_ids if (user := self._by_id.get(one))}
        if len(row.source_recipient_ids) > len(row.recipient_ids):
            keys = ((row.connection_id, source) for source in row.source_recipient_ids)
            found |= {user.pk: user for key in keys if (user := self._by_source.get(key))}
        return [user for user in found.values() if user.connection_id == row.connection_id]

    def size(self, row: GroupMessage) -> int:
        office = sum(user.is_driver is False for user in self.known(row))
        return min(LARGEST, max(1, _named(row) - office))

    def unplaced(self, row: GroupMessage) -> int:
        return min(LARGEST, max(0, _named(row) - len(self.known(row))))

    def shown_to(self, row: GroupMessage) -> list[FleetUser]:
        """The drivers in whose conversations it stands: those who got it, or the one who wrote it."""
        if row.direction == Direction.IN:
            sender = row.sender
            return [sender] if sender is not None else []
        return [user for user in self.known(row) if user.is_driver is not False]


def _named(row: GroupMessage) -> int:
    return max(len(row.recipient_ids), len(row.source_recipient_ids))
