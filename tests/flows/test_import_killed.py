"""A first import that is killed in the middle: real processes, a real database, and nothing lost or there twice."""

import os
import signal
from pathlib import Path
from uuid import UUID

import pytest

from dashboard import embedded
from messaging.catena.types import GroupMessageDraft
from messaging.simulator import Fault, Pace, SimulatorServer, World
from tests.benchmarks.crowd import fill
from tests.messaging.conftest import client_of_server
from tests.stack import ROOT, Stack, new_database, wait_for

LIST = "GET /v2/telematics/messages"
USERS, MESSAGES = 120, 3000
# How many pages are answered before the one that the killed process waits for: in the second connection's fifth slice.
ANSWERED = 14


@pytest.fixture
def world() -> World:
    moment = World().now()
    made = World(now=lambda: moment, pace=Pace.instant())
    fill(made, USERS, MESSAGES)
    return made


@pytest.mark.chaos
def test_an_import_killed_in_the_middle_goes_on_with_nothing_lost_and_nothing_twice(
    world: World, tmp_path: Path
) -> None:
    admin_dsn = embedded.url_of(ROOT / "var" / "postgres")
    with new_database(admin_dsn, f"import_{os.getpid()}") as dsn, SimulatorServer(world) as simulator:
        announce(simulator)
        stack = Stack(dsn=dsn, simulator=simulator, world=world, var=tmp_path)
        world.faults.add(Fault("slow", match=LIST, times=ANSWERED, seconds=0.0))
        world.faults.add(Fault("slow", match=LIST, times=1, seconds=60.0))
        child = stack.start("sync", str(ROOT / "manage.py"), "sync")
        try:
            wait_for(lambda: world.requests_seen[LIST] > ANSWERED, 60)
            child.send_signal(signal.SIGKILL)
            child.wait(10)
        finally:
            stack.stop()
        assert child.returncode == -signal.SIGKILL
        (before,) = stack.rows("SELECT count(*) FROM messaging_message")
        assert 0 < before[0] < MESSAGES
        stack.manage("sync")
        assert "Nothing was new or different." in stack.manage("sync")
        check(stack, world)


def announce(simulator: SimulatorServer) -> None:
    """One group message to three drivers, so that the import has both kinds."""
    world = simulator.world
    connection_id = next(iter(world.connections))
    office, drivers = world.dispatchers(connection_id)[0], world.drivers(connection_id)[:3]
    draft = GroupMessageDraft(
        *map(_uuid, (connection_id, office.id)), tuple(_uuid(one.id) for one in drivers), "All stop"
    )
    operation = client_of_server(simulator).create_group_message(draft)
    wait_for(lambda: world.operations[str(operation.id)].resource_id)


def _uuid(text: str) -> UUID:
    return UUID(text)


def check(stack: Stack, world: World) -> None:
    """Every record is here once, word for word and in its driver's conversation, and each conversation repeats its last."""
    found = stack.rows(
        "SELECT m.catena_id::text, m.text, m.direction, d.catena_id::text FROM messaging_message m"
        " JOIN messaging_conversation c ON c.id = m.conversation_id JOIN messaging_fleetuser d ON d.id = c.driver_id"
        " WHERE m.group_id IS NULL"
    )
    theirs = [one for one in world.messages.values() if one.resource == "message"]
    assert sorted(found) == sorted(
        (one.id, one.text, "in" if one.sent_by_driver else "out", one.driver_id) for one in theirs
    )
    assert stack.rows("SELECT count(*) FROM messaging_message WHERE group_id IS NOT NULL") == [(3,)]
    assert stack.rows("SELECT count(*), count(DISTINCT catena_id) FROM messaging_fleetuser") == [(USERS, USERS)]
    stale = stack.rows(
        "SELECT c.id FROM messaging_conversation c WHERE (c.last_at, c.last_message_id) IS DISTINCT FROM"
        " (SELECT (m.occurred_at, m.id) FROM messaging_message m WHERE m.conversation_id = c.id"
        "  ORDER BY m.occurred_at DESC, m.id DESC LIMIT 1)"
    )
    assert stale == []
