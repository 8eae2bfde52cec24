"""What a record changes in a message row: pure, and the same whatever the order of the record's versions.

Three kinds of columns. Receipts only move forward. Links (ids, threads, participants) are filled and never emptied.
Content follows the newest `updated_at`; of two with the same time the fuller body is kept.
"""

from dataclasses import fields
from typing import Any

from messaging.catena import types
from messaging.mirror.changes import cut, differing
from messaging.mirror.parties import Place
from messaging.mirror.redaction import is_telling, keepable, storable_text, verbatim
from messaging.models import GroupMessage, Message
from messaging.states import MessageState

# What a message takes from Catena's record of it, whoever wrote it.
RECORD_COLUMNS = (
    "source_id", "thread_id", "source_thread_id", "record_status", "delivered_at", "read_at", "catena_updated_at",
    "deleted_at", "raw",
)  # fmt: skip
# Fields that the contract describes: ids, times, words and names.
KNOWN = frozenset(column.name for kind in (types.Message, types.GroupMessage) for column in fields(kind))
# Words that we do not know stand after `sent`, so that they are seen, and before those that a receipt rests on.
RANKS = {"pending": 1, "sent": 2, "delivered": 4, "read": 5}
UNKNOWN_RANK = 3


def merged(row: Message, record: types.Message, place: Place) -> dict[str, Any]:
    """The columns that change. Our own message keeps what we wrote; only its record columns are touched."""
    columns = _links(row, record) | _receipts(row, record) | _version(row, record)
    if row.state == MessageState.MIRRORED:
        columns |= _content(row, record, place)
    return differing(row, columns)


def furthest(before: str, after: str) -> str:
    """The further of two status words; between two unknown ones the choice is arbitrary, but independent of order."""
    return max(before, after, key=lambda word: (RANKS.get(word, UNKNOWN_RANK) if word else 0, word))


def has_receipt(row: Message) -> bool:
    """Whether the provider said that the message arrived or was read. That it said nothing means nothing."""
    return bool(row.delivered_at or row.read_at) or row.record_status in {"delivered", "read"}


def is_newer(row: Message | GroupMessage, record: types.Message | types.GroupMessage) -> bool:
    return row.catena_updated_at is None or record.updated_at > row.catena_updated_at


def _links(row: Message, record: types.Message) -> dict[str, Any]:
    said = {
        "catena_id": record.id,
        "source_id": cut(Message, "source_id", record.source_id),
        "thread_id": record.thread_id,
        "source_thread_id": cut(Message, "source_thread_id", record.source_thread_id),
    }
    return _filled(row, record, said)


def _filled(row: Message, record: types.Message, said: dict[str, Any]) -> dict[str, Any]:
    newer = is_newer(row, record)
    return {name: value for name, value in said.items() if value and (newer or not getattr(row, name))}


def _receipts(row: Message, record: types.Message) -> dict[str, Any]:
    return {
        "record_status": furthest(row.record_status, cut(Message, "record_status", record.status)),
        "delivered_at": min(filter(None, (row.delivered_at, record.delivered_at)), default=None),
        "read_at": min(filter(None, (row.read_at, record.read_at)), default=None),
    }


def _version(row: Message, record: types.Message) -> dict[str, Any]:
    if is_newer(row, record):
        return {"catena_updated_at": record.updated_at, "deleted_at": record.deleted_at, "raw": raw_of(record)}
    is_fuller = record.updated_at == row.catena_updated_at and len(kept_of(record)) > len(row.raw or ())
    return {"raw": raw_of(record)} if is_fuller else {}


def kept_of(record: types.Message | types.GroupMessage) -> list[str]:
    """The fields of the body that may be stored; the text has its own column."""
    return [name for name in record.raw if name != "message_text" and not is_telling(name)]


def raw_of(record: types.Message | types.GroupMessage) -> dict[str, Any]:
    """The body as it came; what we do not know by name is searched for secrets first."""
    return {
        name: verbatim(record.raw[name]) if name in KNOWN else keepable(record.raw[name]) for name in kept_of(record)
    }


def _content(row: Message, record: types.Message, place: Place) -> dict[str, Any]:
    said = {
        "sender_id": place.sender.pk if place.sender else None,
        "recipient_id": place.recipient.pk if place.recipient else None,
        "reply_to_catena_id": record.reply_to_message_id,
    }
    columns = _filled(row, record, said)
    if not is_newer(row, record):
        return columns
    name = record.sender_name or (place.sender.name if place.sender else "")
    columns |= {
        "text": None if record.message_text is None else storable_text(record.message_text),
        "occurred_at": record.occurred_at,
        "sender_name": cut(Message, "sender_name", " ".join(name.split())),
    }
    return columns | ({"direction": place.direction} if place.is_evident else {})
