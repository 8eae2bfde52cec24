"""A simulated Catena with a history of weeks, in a process of its own: what a first import has to read.

`python -m tests.benchmarks.crowd USERS MESSAGES` prints its addresses as JSON and serves until it is ended. Its clock stands
still, so that a second reading finds what the first one found.
"""

import json
import signal
import sys
from datetime import UTC, datetime, timedelta
from random import Random

from messaging.simulator import Pace, SimulatorServer, World
from messaging.simulator.records import Message, User
from messaging.simulator.wire import stable_id

# A little less than the 45 days that can be read, so that nothing drops out while it is being read.
DAYS = 44.5
SEED = 20261126


def still_world() -> World:
    """Nothing happens in it by itself."""
    began = datetime.now(UTC)
    return World(now=lambda: began, pace=Pace.instant())


def fill(world: World, users: int, messages: int) -> None:
    """Adds drivers and what they and their offices wrote until there are so many; seeded, so always the same ones."""
    rng = Random(SEED)
    connections = list(world.connections)
    for number in range(users - len(world.users)):
        driver = _driver(world, connections[number % len(connections)], number)
        world.users[driver.id] = driver
    pairs = [
        (world.dispatchers(connection)[0], driver) for connection in connections for driver in world.drivers(connection)
    ]
    missing = messages - len(world.messages)
    for number in range(missing):
        age = timedelta(days=DAYS) * (missing - number) / missing
        message = _message(world, number, rng.choice(pairs), world.began - age, rng)
        world.messages[message.id] = message


def _driver(world: World, connection_id: str, number: int) -> User:
    joined = world.began - timedelta(days=90)
    return User(
        id=stable_id("crowd", number),
        connection_id=connection_id,
        source_id=f"drv_{700000 + number}",
        is_driver=True,
        username=f"driver{number}",
        first_name="Driver",
        last_name=f"Number {number}",
        phone_number=None,
        designation="DRIVER",
        status="ACTIVE",
        started_at=joined,
        created_at=joined,
        updated_at=joined,
    )


def _message(world: World, number: int, pair: tuple[User, User], moment: datetime, rng: Random) -> Message:
    office, driver = pair
    is_incoming = rng.random() < 0.5
    sender, recipient = (driver, office) if is_incoming else (office, driver)
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    return Message(
        id=stable_id("crowd message", number),
        resource="message",
        connection_id=driver.connection_id,
        source_id=f"crowd_{number}",
        sender_id=sender.id,
        recipient_ids=[recipient.id],
        sent_by_driver=is_incoming,
        text=f"Load LD{number:06d}, please use the south gate, dock {number % 40} is closed until 15:00 today",
        priority=None,
        occurred_at=moment,
        created_at=moment,
        updated_at=moment,
        sender_name=sender.full_name,
        recipient_name=recipient.full_name,
        status="delivered",
        delivered_at=moment,
    )


def serve(users: int, messages: int) -> None:
    world = still_world()
    fill(world, users, messages)
    with SimulatorServer(world) as server:
        names = {"api": server.url, "token": server.token_url, "id": server.client_id, "secret": server.client_secret}
        sys.stdout.write(json.dumps(names) + "\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    serve(int(sys.argv[1]), int(sys.argv[2]))
