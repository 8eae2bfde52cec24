"""Changes that come from outside of the API: a fleet or a provider did something. Each emits the event of contract, section 13.

Hold the world's lock. Raises KeyError for what does not exist.
"""

from datetime import timedelta

from messaging.simulator import render
from messaging.simulator.records import Connection, Message, Schedule, User
from messaging.simulator.wire import Json, fresh_id, stable_id, write_moment
from messaging.simulator.world import World


def set_connection_status(world: World, connection_id: str, status: str) -> Connection:
    """Only becoming stale has an event; a connection that recovers has to be polled (contract, section 13)."""
    connection = world.connections[connection_id]
    connection.status, connection.updated_at = status, world.now()
    for schedule in connection.schedules:
        schedule.status = "active" if status == "active" else "stale" if status == "stale" else "paused"
    world.remember("connection", connection)
    if status == "stale":
        world.emit("connection.staled", render.connection_event(world, connection), connection_id)
    return connection


def set_share_level(world: World, connection_id: str, share_level: str) -> None:
    """What the fleet lets us do with its messages there: `read` or `read_write`."""
    connection = world.connections[connection_id]
    for resource in ("message", "group_message"):
        connection.schedule(resource).share_level = share_level
    connection.updated_at = world.now()
    world.remember("connection", connection)
    world.emit("share_agreement.updated", _agreement(world, connection), connection_id)


def deactivate_schedule(world: World, connection_id: str, resource: str) -> None:
    """Catena stopped fetching a resource after too many errors in a row."""
    connection = world.connections[connection_id]
    schedule = connection.schedule(resource)
    schedule.status = "inactive"
    world.remember("connection", connection)
    record: Json = {
        "id": schedule.id,
        "connection_id": connection.id,
        "resource": resource,
        "execution_interval_seconds": 600,
        "status": "inactive",
        "consecutive_error_threshold": 15,
        "max_concurrent_executions": 1,
    }
    world.emit("schedule.deactivated", record, connection_id)


def add_connection(world: World, fleet_id: str, slug: str, description: str | None) -> Connection:
    """A fleet connected another account. It begins without users."""
    now = world.now()
    schedules = [
        Schedule(fresh_id(), one.resource, one.share_level, "active")
        for one in next(iter(world.connections.values())).schedules
    ]
    connection = Connection(
        id=fresh_id(),
        fleet_id=world.fleets[fleet_id].id,
        slug=world.providers[slug].slug,
        status="active",
        description=description,
        credentials={"access_token": "*****"},
        schedules=schedules,
        created_at=now,
        updated_at=now,
    )
    world.connections[connection.id] = connection
    world.remember("connection", connection)
    world.emit("connection.created", render.connection_event(world, connection), connection.id)
    link: Json = {"id": fresh_id(), "fleet_id": fleet_id, "connection_id": connection.id}
    world.emit("fleet_connection.created", link, connection.id)
    return connection


def add_driver(world: World, connection_id: str, first_name: str, last_name: str) -> User:
    now = world.now()
    identity = fresh_id()
    user = User(
        id=stable_id("hired", identity),
        connection_id=world.connections[connection_id].id,
        source_id=f"drv_{int(identity[-6:], 16)}",
        is_driver=True,
        username=f"{first_name[:1]}{last_name}".lower(),
        first_name=first_name,
        last_name=last_name,
        phone_number=None,
        designation="DRIVER",
        status="ACTIVE",
        started_at=now - timedelta(days=1),
        created_at=now,
        updated_at=now,
    )
    world.users[user.id] = user
    world.remember("user", user)
    world.emit("user.added", render.user_event(world, user), connection_id)
    return user


def change_user(world: World, user_id: str, status: str) -> User:
    """`ACTIVE`, `INACTIVE` or any other label."""
    user = world.users[user_id]
    user.status, user.updated_at = status, world.now()
    world.remember("user", user)
    world.emit("user.modified", render.user_event(world, user), user.connection_id)
    return user


def remove_user(world: World, user_id: str) -> User:
    """Logically: the record stays readable with `deleted_at`."""
    user = world.users[user_id]
    user.deleted_at = user.updated_at = world.now()
    world.remember("user", user)
    world.emit("user.removed", render.user_removed_event(world, user), user.connection_id)
    return user


def write_to_group(world: World, connection_id: str, text: str, recipients: int = 3) -> Message:
    """An office person writes to the first drivers of the connection on the provider's own screen."""
    office, now = world.dispatchers(connection_id)[0], world.now()
    identity = stable_id("group-message", fresh_id())
    provider = world.provider_of(connection_id)
    message = Message(
        id=identity,
        resource="group_message",
        connection_id=connection_id,
        source_id=f"{provider.prefix}_{int(identity[:8], 16)}",
        sender_id=office.id,
        recipient_ids=[driver.id for driver in world.drivers(connection_id)[:recipients]],
        sent_by_driver=False,
        text=text,
        priority=None,
        occurred_at=now,
        created_at=now,
        updated_at=now,
        sender_name=office.full_name,
    )
    world.messages[message.id] = message
    world.remember("message", message)
    world.emit("group_message.added", render.message_event(world, message), connection_id, text)
    return message


def withdraw_message(world: World, message_id: str) -> Message:
    """Logically: lists show it with `deleted_at`. There is no event for that (contract, section 13)."""
    message = world.messages[message_id]
    message.deleted_at = message.updated_at = world.now()
    world.remember("message", message)
    return message


def _agreement(world: World, connection: Connection) -> Json:
    fleet = world.fleets[connection.fleet_id]
    return {
        "id": stable_id("agreement", fleet.id),
        "fleet_id": fleet.id,
        "partner_id": world.partner_id,
        "fleet_ref": fleet.fleet_ref,
        "status": "active",
        "effective_date": write_moment(fleet.created_at),
        "expiration_date": None,
        "scopes": {one.resource: one.share_level for one in connection.schedules if one.share_level},
    }
