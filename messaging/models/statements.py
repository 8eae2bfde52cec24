"""A cursor for statements written by hand and repeated often, by every page or for every message: planned once."""

from typing import Any

from django.conf import settings
from django.db import connection
from django.db.backends.postgresql.base import ServerBindingCursor
from django.db.backends.utils import CursorWrapper


class PreparedCursor(ServerBindingCursor):
    """Asks PostgreSQL to keep each statement, so that asking again costs neither text to build nor a plan to find."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        return super().execute(query, params, **{**options, "prepare": True})  # type: ignore[misc]


def prepared_cursor() -> CursorWrapper:
    """Like `connection.cursor()`, for the few statements that are repeated all the time with other values.

    Counted and logged like any other cursor of Django. Falls back to the ordinary one when PREPARED_STATEMENTS is off,
    which a connection pooler that cannot keep statements needs.
    """
    if not settings.PREPARED_STATEMENTS:
        return connection.cursor()
    connection.ensure_connection()
    # What `connection.cursor()` does with a cursor of its own choosing; Django's stubs do not know it.
    prepared: CursorWrapper = connection._prepare_cursor(PreparedCursor(connection.connection))  # type: ignore[attr-defined, call-arg]
    return prepared
