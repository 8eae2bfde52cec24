"""A whole round against the simulated Catena over real HTTP: everything comes, and comes only once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from messaging import models, sync
from messaging.catena.client import CatenaClient
from messaging.simulator import Pace, SimulatorServer, World
from messaging.states import Direction, MessageState
from tests.messaging.conftest import client_of_server

pytestmark = pytest.mark.django_db


BEGAN = datetime(2026, 5, 12, 14, 3, 21, tzinfo=UTC)
NOW = BEGAN + timedelta(minutes=1)


@pytest.fixture
def catena() -> Iterator[SimulatorServer]:
    """Its clock stands still, so that nothing new happens between two rounds."""
    with SimulatorServer(World(now=lambda: BEGAN, pace=Pace.instant())) as server:
        yield server


@pytest.fixture
def client(catena: SimulatorServer) -> CatenaClient:
    return client_of_server(catena)


def test_one_round_brings_the_whole_account(catena: SimulatorServer, client: CatenaClient) -> None:
    told: list[tuple[str, int]] = []
    summary = sync.full_round(client, NOW, lambda kind, read, stage: told.append((kind, read)))
    world = catena.world
    assert (summary.stopped, summary.problems) == ("", [])
    counted = {
        "fleets": (models.Fleet, len(world.fleets)),
        "connections": (models.Connection, len(world.connections)),
        "users": (models.FleetUser, len(world.users)),
        "messages": (models.Message, len(world.messages)),
    }
    assert {kind: (model.objects.count(), summary.read(kind)) for kind, (model, _) in counted.items()} == {
        kind: (size, size) for kind, (_, size) in counted.items()
    }
    assert ("messages", len(world.messages)) in told
    theirs = {UUID(message.id): message for message in world.messages.values()}
    for message in models.Message.objects.select_related("conversation__driver"):
        record = theirs[message.catena_id]
        assert message.text == record.text
        assert (message.direction == Direction.IN) == record.sent_by_driver
        assert str(message.conversation.driver.catena_id) in {record.sender_id, *record.recipient_ids}
        assert message.state == MessageState.MIRRORED


def test_repeating_the_round_changes_nothing(client: CatenaClient) -> None:
    sync.full_round(client, NOW)

    def marks() -> list[tuple[int, int]]:
        tables = (models.Connection, models.Conversation, models.Message)
        return [row for table in tables for row in table.objects.order_by("id").values_list("id", "changed_xid")]

    before = marks()
    summary = sync.full_round(client, NOW)
    assert (summary.changed, summary.problems) == (0, [])
    assert marks() == before
