"""One simulator per test that writes, so that nothing has to be cleaned; one for all tests that only read."""

from collections.abc import Iterator

import pytest

from messaging.simulator import Pace, SimulatorServer, World
from tests.simulator.caller import Caller
from tests.simulator.receiver import Receiver


@pytest.fixture
def world() -> World:
    return World(seed=7, pace=Pace.instant())


@pytest.fixture
def server(world: World) -> Iterator[SimulatorServer]:
    with SimulatorServer(world) as running:
        yield running


@pytest.fixture
def caller(server: SimulatorServer) -> Caller:
    return Caller(server).sign_in()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture(scope="session")
def reader() -> Iterator[Caller]:
    """Signed in to a simulator that nobody writes to."""
    with SimulatorServer(World(seed=7, pace=Pace.instant())) as running:
        yield Caller(running).sign_in()
