"""A cursor for statements written by hand and repeated often, by every page or for every message: planned once."""

import re
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.backends.utils import CursorWrapper
from psycopg import Connection, RawCursor
from psycopg.adapt import AdaptersMap
from psycopg.types.datetime import TimestamptzLoader

PLACEHOLDER = re.compile(r"%(?:%|s|\((\w+)\)s)")


class PreparedCursor(RawCursor[Any]):
    """Asks PostgreSQL to keep each statement, so that asking again costs neither text to build nor a plan to find.

    Its one plan must serve all values (the settings say so): no statement for here whose best plan hangs on them.

    Takes placeholders as Django writes them, `%s` or `%(name)s`. They are numbered here and not by the driver, which looks
    for them anew at each execution of a statement as long as a page's. Moments come in UTC, as the driver reads them: Django's
    own reader, which puts the same zone into each a second time, took a quarter of the time of a page of rows.

    Closing it makes room for the next statement: making a cursor costs a fifth of what a small statement does.
    """

    is_taken = False

    @property
    def adapters(self) -> AdaptersMap:
        return _adapters(self._conn)

    def close(self) -> None:
        self.is_taken = False

    def execute(self, query: str, params: Any = None, **options: Any) -> Any:  # type: ignore[override]
        if params is None:
            return super().execute(query, prepare=True)
        text, names = numbered(query)
        values: Sequence[Any] = [params[name] for name in names] if isinstance(params, Mapping) else params
        return super().execute(text, values, prepare=True)


_shared: list[AdaptersMap] = []


def _adapters(connection: Connection[Any]) -> AdaptersMap:
    """What the first connection of this process converts values with; all of them are Django's and convert alike."""
    if not _shared:
        adapters = AdaptersMap(connection.adapters)
        adapters.register_loader("timestamptz", TimestamptzLoader)
        _shared.append(adapters)
    return _shared[0]


class _Kept(threading.local):
    """The thread's cursor; it belongs to one connection, and goes with it."""

    cursor: PreparedCursor | None = None


_kept = _Kept()


def _take_cursor(connection: Connection[Any]) -> PreparedCursor:
    cursor = _kept.cursor
    if cursor is None or cursor.connection is not connection:
        cursor = _kept.cursor = PreparedCursor(connection)
    elif cursor.is_taken:  # its rows may still be wanted
        return PreparedCursor(connection)
    cursor.is_taken = True
    return cursor


@lru_cache(maxsize=256)
def numbered(query: str) -> tuple[bytes, tuple[str, ...]]:
    """The statement with PostgreSQL's `$1` and so on for its placeholders, and their names in that order.

    A name that comes twice is one value; a placeholder without a name is one value each.
    """
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        return f"${numbers.setdefault(found[1] or f'%{len(numbers)}', len(numbers) + 1)}"

    return PLACEHOLDER.sub(number, query).encode(), tuple(numbers)


def prepared_cursor() -> CursorWrapper:
    """Like `connection.cursor()`, for the few statements that are repeated all the time with other values.

    Counted and logged like any other cursor of Django. Falls back to the ordinary one when PREPARED_STATEMENTS is off,
    which a connection pooler that cannot keep statements needs.
    """
    if not settings.PREPARED_STATEMENTS:
        return connection.cursor()
    # `connection` without its proxy, which would look it up at each mention
    database = connections[DEFAULT_DB_ALIAS]
    database.ensure_connection()
    # What `connection.cursor()` does with a cursor of its own choosing; Django's stubs do not know it.
    prepared: CursorWrapper = database._prepare_cursor(_take_cursor(database.connection))  # type: ignore[attr-defined]
    return prepared
