"""Query parameters: reading, checking, and cutting lists into pages. Contract, section 3.

What the contract marks unknown is decided here as follows. A window longer than 45 days, or one that ends before it starts,
is a 422. Names that are not offered are ignored. A cursor does not carry the filters: they have to be repeated, and a cursor
that belongs to another list or another order is a 400. Cursors never expire. Deleted records are listed, with `deleted_at` set.
"""

import base64
import binascii
import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from messaging.simulator.exchange import Refusal, Request, invalid
from messaging.simulator.wire import Json, is_uuid, read_moment, write_moment

LONGEST_WINDOW = timedelta(days=45)
MOST_VALUES = 100
SortKey = tuple[str, str]
_FALLBACK = timedelta(days=1)


def text(request: Request, name: str) -> str | None:
    """The last value given; an empty one counts as absent."""
    return (request.query.get(name) or [""])[-1] or None


def texts(request: Request, name: str) -> set[str]:
    """All values given; an empty set means no filter."""
    values = {value for value in request.query.get(name, []) if value}
    if len(values) > MOST_VALUES:
        raise invalid(f"query.{name}", len(values), f"List should have at most {MOST_VALUES} items", "too_long")
    return values


def identity(request: Request, name: str) -> str | None:
    value = text(request, name)
    if value is not None and not is_uuid(value):
        raise invalid(f"query.{name}", value, "Input should be a valid UUID", "uuid_parsing")
    return value.lower() if value else None


def identities(request: Request, name: str) -> set[str]:
    values = texts(request, name)
    for value in values:
        if not is_uuid(value):
            raise invalid(f"query.{name}", value, "Input should be a valid UUID", "uuid_parsing")
    return {value.lower() for value in values}


def flag(request: Request, name: str) -> bool | None:
    value = text(request, name)
    if value is None:
        return None
    if value.lower() not in ("true", "false", "1", "0"):
        raise invalid(f"query.{name}", value, "Input should be a valid boolean", "bool_parsing")
    return value.lower() in ("true", "1")


def choice(request: Request, name: str, words: Sequence[str]) -> str | None:
    value = text(request, name)
    if value is not None and value not in words:
        raise invalid(f"query.{name}", value, f"Input should be one of: {', '.join(words)}", "enum")
    return value


def moment(request: Request, name: str) -> datetime | None:
    value = text(request, name)
    if value is None:
        return None
    try:
        return read_moment(value)
    except ValueError:
        raise invalid(f"query.{name}", value, "Input should be a valid datetime", "datetime_parsing") from None


def window(request: Request, now: datetime) -> tuple[datetime, datetime]:
    """From, inclusive, and to, exclusive."""
    end = moment(request, "to_datetime") or now
    start = moment(request, "from_datetime") or now - _FALLBACK
    if start > end:
        raise invalid("query.from_datetime", write_moment(start), "Window ends before it starts")
    if end - start > LONGEST_WINDOW:
        raise invalid("query.from_datetime", write_moment(start), "Window may span 45 days at most")
    return start, end


@dataclass(frozen=True)
class _Cursor:
    """A place in a list: after (or, when inclusive, at) a key going forwards; before (or at) it going backwards."""

    name: str
    forwards: bool
    inclusive: bool
    key: SortKey | None

    def write(self) -> str:
        packed = json.dumps([self.name, self.forwards, self.inclusive, self.key]).encode()
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _read_cursor(given: str, name: str) -> _Cursor:
    try:
        padded = given + "=" * (-len(given) % 4)
        found, forwards, inclusive, key = json.loads(base64.b64decode(padded, "-_", validate=True))
        cursor = _Cursor(found, bool(forwards), bool(inclusive), (key[0], key[1]) if key else None)
    except (ValueError, TypeError, LookupError, binascii.Error):
        raise Refusal(400, "Cursor cannot be read") from None
    if cursor.name != name:
        raise Refusal(400, "Cursor belongs to another list or order")
    return cursor


def page[Item](
    request: Request,
    name: str,
    items: Sequence[Item],
    key: Callable[[Item], SortKey],
    render: Callable[[Item], Json],
    counted: bool,
    descending: bool = False,
) -> Json:
    """One page of `items`, which are sorted here. Each item is on exactly one page, whatever is added meanwhile.

    `key` must be unique per item. `counted` adds `total`.
    """
    name = f"{name}:{'desc' if descending else 'asc'}"
    ordered = sorted(items, key=key, reverse=descending)
    keys = [key(item) for item in ordered]
    cursor = _Cursor(name, True, True, None)
    if given := text(request, "cursor"):
        cursor = _read_cursor(given, name)
    start, end = _bounds(keys, cursor, _size(request), descending)
    answer: Json = {"items": [render(item) for item in ordered[start:end]]} | _cursors(name, keys, start, end)
    return answer | {"total": len(ordered)} if counted else answer


def _size(request: Request) -> int:
    value = text(request, "size") or "300"
    if not value.isdecimal() or not 1 <= int(value) <= 1000:
        raise invalid("query.size", value, "Input should be an integer from 1 to 1000", "int_range")
    return int(value)


def _bounds(keys: list[SortKey], cursor: _Cursor, size: int, descending: bool) -> tuple[int, int]:
    if cursor.key is None:
        return (0, min(size, len(keys))) if cursor.forwards else (max(0, len(keys) - size), len(keys))
    place = _place(keys, cursor.key, descending, past=cursor.forwards != cursor.inclusive)
    return (place, min(place + size, len(keys))) if cursor.forwards else (max(0, place - size), place)


def _place(keys: list[SortKey], key: SortKey, descending: bool, past: bool) -> int:
    """The index of the first item that comes at (or, if `past`, after) the key in the list's own order."""
    if descending:
        rising = keys[::-1]
        return len(keys) - (bisect_left(rising, key) if past else bisect_right(rising, key))
    return bisect_right(keys, key) if past else bisect_left(keys, key)


def _cursors(name: str, keys: list[SortKey], start: int, end: int) -> Json:
    first = keys[start] if start < end else None
    last = keys[end - 1] if start < end else None
    return {
        "current_page": _Cursor(name, True, True, first).write(),
        "current_page_backwards": _Cursor(name, False, True, last).write(),
        "previous_page": _Cursor(name, False, False, first).write() if first and start > 0 else None,
        "next_page": _Cursor(name, True, False, last).write() if last and end < len(keys) else None,
    }
