"""What events tell in passing, without the whole record: applied at once, and soon corrected by the listing.

None of these has a time of its own that could be compared, so whoever applies one asks for the sweep that knows better.
"""

from collections.abc import Mapping
from uuid import UUID

from messaging.mirror.changes import Change, cut
from messaging.mirror.directory import note
from messaging.models import Connection

MESSAGE = "message"


def apply_connection_status(connection_id: UUID, status: str) -> Change:
    """A connection was made, or its credentials died (`connection.created`, `connection.staled`)."""
    connection = Connection.objects.filter(catena_id=connection_id).first()
    if connection is None:
        return Change.SKIPPED
    return note(connection, {"status": cut(Connection, "status", status)})


def apply_share_agreement(fleet_id: UUID, scopes: Mapping[str, str]) -> Change:
    """What a fleet lets us do with its messages, on all its connections (`share_agreement.*`); no scope, no access."""
    level = cut(Connection, "share_level", scopes.get(MESSAGE)) or None
    changes = {note(one, {"share_level": level}) for one in Connection.objects.filter(fleet__catena_id=fleet_id)}
    return Change.CHANGED if Change.CHANGED in changes else Change.SAME if changes else Change.SKIPPED


def apply_schedule_status(connection_id: UUID, resource: str, status: str) -> Change:
    """Catena gave up fetching a resource (`schedule.deactivated`); only messages concern us."""
    connection = Connection.objects.filter(catena_id=connection_id).first()
    if connection is None:
        return Change.SKIPPED
    if resource != MESSAGE:
        return Change.SAME
    return note(connection, {"schedule_status": cut(Connection, "schedule_status", status) or None})
