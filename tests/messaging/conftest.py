"""A simulated Catena over real HTTP, and our rows for one of its drivers."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from messaging import models
from messaging.catena.client import CatenaClient, CatenaConfig
from messaging.simulator import Pace, SimulatorServer, World
from messaging.sync import subscriptions
from tests import factories
from tests.messaging.hooked import hooked
from tests.simulator.receiver import Receiver


def client_of_server(server: SimulatorServer, **bounds: float) -> CatenaClient:
    """A client of this simulator; its bounds are short, so that a hanging answer costs a test little."""
    values = {"connect_timeout": 2.0, "read_timeout": 2.0, "total_timeout": 4.0, **bounds}
    return CatenaClient(CatenaConfig(server.url, server.token_url, server.client_id, server.client_secret, **values))


@pytest.fixture
def catena() -> Iterator[SimulatorServer]:
    """Running, with an empty journal; everything in it happens at once."""
    with SimulatorServer(World(pace=Pace.instant())) as server:
        yield server


@pytest.fixture
def catena_client(catena: SimulatorServer) -> CatenaClient:
    return client_of_server(catena)


def mirrored_conversation(world: World, number: int = 0) -> models.Conversation:
    """Our rows for the nth connection of the world that takes messages: connection, its first driver, its dispatcher."""
    active = [one for one in world.connections.values() if one.status == "active"]
    writable = [one for one in active if one.schedule("message").share_level == "read_write"]
    theirs = writable[number]
    fleet = models.Fleet.objects.first() or factories.FleetFactory()
    connection = factories.ConnectionFactory(catena_id=UUID(theirs.id), fleet=fleet)
    office, driver = world.dispatchers(theirs.id)[0], world.drivers(theirs.id)[0]
    factories.FleetUserFactory(connection=connection, catena_id=UUID(office.id), is_driver=False, name="Dana Whitfield")
    return factories.ConversationFactory(
        driver=factories.FleetUserFactory(connection=connection, catena_id=UUID(driver.id), name="Luis Ortega")
    )


@pytest.fixture
def talk(fleet: models.Fleet, catena: SimulatorServer) -> models.Conversation:
    """A conversation whose driver exists in the simulated Catena."""
    return mirrored_conversation(catena.world)


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    """What answers at PUBLIC_URL instead of us."""
    with hooked(settings) as running:
        yield running


@pytest.fixture
def subscribed(catena: SimulatorServer, catena_client: CatenaClient, receiver: Receiver) -> Receiver:
    """The receiver, subscribed to every event; the circuit breaker judges at once."""
    catena.world.pace.breaker_grace = 0.0
    assert subscriptions.ensure(catena_client, timezone.now()).is_good
    return receiver
