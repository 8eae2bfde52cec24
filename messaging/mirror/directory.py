"""Fleets, connections, what they can do, and their users, as Catena lists them (contract sections 5 and 6).

Every function is idempotent: a second call writes nothing. Words that we do not know are stored as they are.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

from messaging.catena import types
from messaging.mirror.changes import Change, cut, differing, overwrite, upsert
from messaging.mirror.redaction import keepable
from messaging.models import Connection, Fleet, FleetUser

# The `catena_updated_at` of a row that only stands in for a record: any real record is newer.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
# The resources whose sharing matters to us.
SHARED = frozenset({"message", "group_message"})
# Personal data beyond these is not shown to anybody, so it is not stored (contract section 6).
SHOWN_OF_USER = (
    "id", "connection_id", "fleet_id", "fleet_ref", "source_id", "source_name", "tsp_id", "tsp_slug", "first_name",
    "last_name", "username", "is_driver", "user_designation", "is_active", "status", "phone_number", "created_at",
    "updated_at", "deleted_at",
)  # fmt: skip


def apply_fleet(record: types.Fleet) -> Change:
    columns = {
        "name": cut(Fleet, "name", record.display_name or record.name) or str(record.id),
        "fleet_ref": cut(Fleet, "fleet_ref", record.fleet_ref) or None,
        "catena_created_at": record.created_at,
        "catena_updated_at": record.updated_at,
        "raw": keepable(record.raw),
    }
    return upsert(Fleet, record.id, columns)


def apply_connection(record: types.Connection) -> Change:
    """Never stores credentials, masked or not, at any depth. A fleet that we have not been shown leaves the link empty."""
    fleet = Fleet.objects.filter(catena_id=record.fleet_id).first() if record.fleet_id else None
    columns = {
        "fleet_id": fleet.pk if fleet else None,
        "tsp_id": record.tsp_id,
        "source_name": cut(Connection, "source_name", record.source_name),
        "description": cut(Connection, "description", record.description),
        "status": cut(Connection, "status", record.status),
        "catena_created_at": record.created_at,
        "catena_updated_at": record.updated_at,
        "raw": keepable(record.raw),
    }
    return upsert(Connection, record.id, columns)


def apply_freshness(record: types.Freshness) -> Change:
    """What the fleet shares of its messages and group messages, and how ingestion of messages runs. Other resources change
    nothing here.

    The listing has no `updated_at`: the last one read stands.
    """
    if record.resource not in SHARED:
        return Change.SAME
    connection = Connection.objects.filter(catena_id=record.connection_id).first()
    if connection is None:
        return Change.SKIPPED
    if record.resource == "group_message":
        return note(connection, {"group_share_level": cut(Connection, "group_share_level", record.share_level)})
    columns: dict[str, Any] = {
        "share_level": cut(Connection, "share_level", record.share_level) or None,
        "schedule_status": cut(Connection, "schedule_status", record.schedule_status) or None,
        "last_successful_execution_at": record.last_successful_execution_at,
        "next_execution_at": record.next_execution_at,
    }
    if not connection.tsp_slug:  # the provider list has the last word, so that the two never overwrite each other
        columns["tsp_slug"] = cut(Connection, "tsp_slug", record.tsp_slug)
    return note(connection, columns)


def apply_tsp(record: types.TspIntegrations) -> Counter[Change]:
    """Whether Catena implements messages for this provider, noted on each of its connections; null when not said."""
    columns: dict[str, Any] = {
        name: cut(Connection, name, record.integrations.get(resource)) or None
        for name, resource in (("message_support", "message"), ("group_support", "group_message"))
    }
    if record.slug:
        columns["tsp_slug"] = cut(Connection, "tsp_slug", record.slug)
    return Counter(note(connection, columns) for connection in Connection.objects.filter(tsp_id=record.tsp_id))


def note(connection: Connection, columns: dict[str, Any]) -> Change:
    """Writes what differs of columns that no record's time covers."""
    changes = differing(connection, columns)
    if not changes:
        return Change.SAME
    Connection.objects.filter(pk=connection.pk).update(**changes)
    return Change.CHANGED


def withdraw_unlisted(model: type[Fleet] | type[Connection], listed: Iterable[UUID], now: datetime) -> int:
    """Marks what a whole, successful listing no longer contains, and clears the mark of what is back.

    Returns the number of rows that changed. Never call it after a listing that failed or skipped an item.
    """
    ids = list(listed)
    back = model.objects.filter(catena_id__in=ids, withdrawn_at__isnull=False).update(withdrawn_at=None)
    gone = model.objects.filter(withdrawn_at=None).exclude(catena_id__in=ids).update(withdrawn_at=now)
    return back + gone


def apply_fleet_user(record: types.User, connection: Connection) -> Change:
    return Change(next(iter(apply_fleet_users([record], connection))))


def apply_fleet_users(records: Sequence[types.User], connection: Connection) -> Counter[Change]:
    """One look-up for the whole page. A user who stood in as a placeholder (see `placeholder_id`) becomes real here."""
    stand_ins = {record.id: placeholder_id(connection, record.source_id) for record in records}
    known = _known_users({*stand_ins, *stand_ins.values()})
    fresh = {one.id: one for one in records if one.id not in known and stand_ins[one.id] not in known}
    made = [FleetUser(catena_id=key, connection=connection, **_user_columns(one)) for key, one in fresh.items()]
    FleetUser.objects.bulk_create(made, ignore_conflicts=True)
    if fresh:
        # Another worker may have been first, with an older version: what is there is compared like any other row.
        known |= _known_users(fresh)
    changes: Counter[Change] = Counter()
    for record in records:
        change = _write_user(record, connection, known.get(record.id), known.get(stand_ins[record.id]))
        is_made = fresh.get(record.id) is record and change == Change.SAME
        changes[Change.NEW if is_made else change] += 1
    return changes


def _known_users(ids: Iterable[UUID]) -> dict[UUID, FleetUser]:
    return {row.catena_id: row for row in FleetUser.objects.filter(catena_id__in=ids)}


def _write_user(
    record: types.User, connection: Connection, known: FleetUser | None, stand_in: FleetUser | None
) -> Change:
    columns = _user_columns(record)
    if known is None and stand_in is not None:
        return overwrite(stand_in, {"catena_id": record.id, **columns})
    if known is not None:
        return overwrite(known, columns)
    return upsert(FleetUser, record.id, {"connection_id": connection.pk, **columns})


def _user_columns(record: types.User) -> dict[str, Any]:
    return {
        "source_id": cut(FleetUser, "source_id", record.source_id),
        "name": shown_name(record),
        "username": cut(FleetUser, "username", record.username),
        "phone_number": cut(FleetUser, "phone_number", record.phone_number),
        "is_driver": record.is_driver,
        "user_designation": cut(FleetUser, "user_designation", record.user_designation),
        "is_active": record.is_active,
        "status": cut(FleetUser, "status", record.status),
        "catena_created_at": record.created_at,
        "catena_updated_at": record.updated_at,
        "deleted_at": record.deleted_at,
        "raw": {name: record.raw[name] for name in SHOWN_OF_USER if name in record.raw},
    }


def shown_name(record: types.User) -> str:
    """First and last name, else the user name, else a word with the end of the provider's id. Never empty."""
    full = " ".join(f"{record.first_name or ''} {record.last_name or ''}".split())
    name = full or " ".join((record.username or "").split())
    return cut(FleetUser, "name", name) or unnamed(record.source_id or str(record.id), record.is_driver)


def unnamed(source_id: str, is_driver: bool | None) -> str:
    return f"{'User' if is_driver is False else 'Driver'} {source_id[-8:]}"


def placeholder_id(connection: Connection, key: str) -> UUID:
    """The id of a stand-in for somebody whom Catena could not map: always the same for one key on one connection."""
    return uuid5(connection.catena_id, key)
