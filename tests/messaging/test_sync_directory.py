"""The directory sweep against the simulated Catena: what comes, what goes, and what a failure may not do."""

from collections import Counter

import pytest

from messaging import models, sync
from messaging.catena.client import CatenaClient
from messaging.simulator import Fault, SimulatorServer

pytestmark = pytest.mark.django_db

USERS = "GET /v2/telematics/users"
CONNECTIONS = "GET /v2/integrations/connections"


def test_the_directory_comes_with_everything_that_decides_about_sending(
    catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    summary = sync.directory(catena_client)
    assert (summary.stopped, summary.problems) == ("", [])
    rows = models.Connection.objects.select_related("fleet")
    assert Counter((row.fleet.name if row.fleet else "", row.provider) for row in rows) == {
        ("Ridgeline Freight", "Samsara"): 1,
        ("Ridgeline Freight", "Motive"): 1,
        ("Bluewater Logistics", "Geotab"): 1,
        ("Bluewater Logistics", "Samsara"): 1,
        ("Prairie Line Transport", "Platform Science"): 1,
        ("Prairie Line Transport", "Motive"): 1,
    }
    assert Counter(row.sending_obstacle for row in rows) == {
        None: 4,
        "The provider refuses the stored credentials. The fleet must sign in again.": 1,
        "The fleet shares its messages read-only. Ask it to grant read and write.": 1,
    }
    assert {row.message_support for row in rows} == {"implemented"}
    assert all(row.last_successful_execution_at for row in rows if row.status == "active")
    assert models.FleetUser.objects.filter(name="").count() == 0


def test_it_asks_once_per_kind_and_once_per_connection_for_users(
    catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    sync.directory(catena_client)
    seen = {path: n for path, n in catena.world.requests_seen.items() if path.startswith("GET ")}
    assert seen.pop(USERS) == 6
    assert list(seen.values()) == [1, 1, 1, 1]


def test_a_connection_that_catena_no_longer_lists_is_withdrawn_and_returns(
    catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    sync.directory(catena_client)
    identity, gone = next(iter(catena.world.connections.items()))
    with catena.world.lock:
        del catena.world.connections[identity]
    sync.directory(catena_client)
    row = models.Connection.objects.get(catena_id=identity)
    assert row.withdrawn_at is not None
    assert row.fleet_users.exists()
    with catena.world.lock:
        catena.world.connections[identity] = gone
    sync.directory(catena_client)
    row.refresh_from_db()
    assert row.withdrawn_at is None


@pytest.mark.parametrize("fault", ["truncated_json", "server_error"])
def test_a_listing_that_failed_withdraws_nothing(
    catena: SimulatorServer, catena_client: CatenaClient, fault: str
) -> None:
    sync.directory(catena_client)
    catena.world.faults.add(Fault(fault, match=CONNECTIONS, times=1))
    summary = sync.directory(catena_client)
    assert len(summary.problems) == 1
    assert not models.Connection.objects.exclude(withdrawn_at=None).exists()


def test_a_connection_that_cannot_be_read_is_not_taken_for_gone(
    catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    sync.directory(catena_client)
    with catena.world.lock:
        next(iter(catena.world.connections.values())).status = None  # type: ignore[assignment]
    summary = sync.directory(catena_client)
    assert (summary.stopped, summary.read("connections")) == ("", 5)
    assert not models.Connection.objects.exclude(withdrawn_at=None).exists()


def test_users_of_one_connection_that_cannot_be_read_do_not_keep_out_the_others(
    catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("server_error", match=USERS, times=1))
    summary = sync.directory(catena_client)
    assert (len(summary.problems), summary.stopped) == (1, "")
    assert models.FleetUser.objects.values("connection").distinct().count() == 5
    failed = models.SyncCursor.objects.exclude(last_error="").get()
    assert (failed.name, "HTTP 500" in failed.last_error) == ("users", True)


def test_a_catena_that_does_not_answer_three_times_running_ends_the_round(
    catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("server_error", times=100))
    summary = sync.directory(catena_client)
    assert "CATENA_API_URL" in summary.stopped
    assert len(summary.problems) == 2
