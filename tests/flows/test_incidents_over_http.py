"""An outage in the simulated Catena, over real HTTP: its causes become incidents within a minute, and only its causes."""

import os
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from messaging import incidents, models, outbox, sync
from messaging.catena.client import CatenaClient
from messaging.simulator import Fault, SimulatorServer
from messaging.states import MessageState
from tests.messaging.conftest import catena, catena_client

__all__ = ["catena", "catena_client"]

# In one long transaction every update would make the next read slower.
pytestmark = pytest.mark.django_db(transaction=True)
FAILURES = int(os.environ.get("OUTAGE_FAILURES", "90"))
CAUSES = (
    {"error_type": "tsp", "status": 503, "details": "Upstream unavailable, incident 8fa21c"},
    {"error_type": "auth", "status": 401, "details": "Token expired"},
    {"error_type": "network", "details": "Connection reset by peer"},
)


def drivers_of(connection: models.Connection) -> list[models.FleetUser]:
    return list(models.FleetUser.objects.filter(connection=connection, is_driver=True, is_active=True)[:9])


def write(author: models.User, driver: models.FleetUser, text: str) -> models.Conversation:
    found = outbox.open_conversation(driver)
    outbox.compose(author, found, text, "medium", None, uuid4(), timezone.now())
    return found


def send_all(client: CatenaClient) -> None:
    """Until Catena has said of everything how it ended."""
    for _ in range(60):
        outbox.drain_due(client)
        sync.operations(client, timezone.now(), everything=True)
        if not models.Message.objects.exclude(state__in=["failed", "succeeded", "mirrored", "rejected"]).exists():
            return
    pytest.fail("something is still on its way")


def script(server: SimulatorServer, connection: models.Connection, cause: dict[str, Any], word: str) -> None:
    match = {"connection_id": str(connection.catena_id), "text": word}
    server.world.faults.add(Fault("attempt_failure", match=match, **cause))


@pytest.fixture
def places(catena: SimulatorServer, catena_client: CatenaClient) -> list[models.Connection]:
    """Two connections at two providers, read from Catena."""
    sync.full_round(catena_client, timezone.now())
    active = models.Connection.objects.filter(status="active", share_level="read_write")
    return [active.get(source_name=name) for name in ("samsara", "motive")]


def test_an_outage_of_three_causes_opens_exactly_its_incidents_and_warns_who_writes(
    catena: SimulatorServer, catena_client: CatenaClient, places: list[models.Connection], client_of: Any
) -> None:
    ada = models.User.objects.create_superuser("ada", password=str(uuid4()), undo_seconds=0)
    plan = [(places[0], CAUSES[0]), (places[0], CAUSES[1]), (places[1], CAUSES[2])]
    for number, (place, cause) in enumerate(plan):
        script(catena, place, cause, f"load {number}")
    for turn in range(FAILURES):
        place, _ = plan[turn % 3]
        drivers = drivers_of(place)
        write(ada, drivers[turn // 3 % len(drivers)], f"load {turn % 3} of trailer {turn}")
    send_all(catena_client)
    began = outbox.database_clock()

    for seconds in (0, 15, 30, 45):
        incidents.watch(began + timedelta(seconds=seconds))

    first, second, third = (len(range(number, FAILURES, 3)) for number in range(3))
    assert {
        (one.source_name, one.error_type, one.response_status_code, one.failures)
        for one in models.Incident.objects.open().exclude(connection=None)
    } == {("samsara", "tsp", 503, first), ("samsara", "auth", 401, second), ("motive", "network", None, third)}
    assert models.Incident.objects.count() == 3
    assert max(one.opened_at for one in models.Incident.objects.all()) - began < timedelta(seconds=60)
    client, talk = client_of(ada), models.Conversation.objects.filter(connection=places[1]).first()
    assert talk is not None
    page = client.get(talk.get_absolute_url()).content.decode()
    assert f"Motive, {places[1].fleet}: provider not reached." in page
    assert "sign-in rejected" not in page


def test_an_outage_that_ends_proposes_to_close_and_one_that_returns_withdraws_it(
    catena: SimulatorServer, catena_client: CatenaClient, places: list[models.Connection]
) -> None:
    ada = models.User.objects.create_superuser("ada", password=str(uuid4()), undo_seconds=0)
    drivers = drivers_of(places[0])
    script(catena, places[0], CAUSES[0], "load")

    def send(number: int) -> datetime:
        for turn in range(number):
            write(ada, drivers[turn % len(drivers)], f"load {uuid4()}")
        send_all(catena_client)
        return outbox.database_clock()

    incidents.watch(send(6))
    one = models.Incident.objects.get()
    catena.world.faults.clear()
    mended = send(3)
    assert models.Message.objects.filter(state=MessageState.SUCCEEDED).count() == 3
    incidents.watch(mended + timedelta(minutes=5))
    one.refresh_from_db()
    assert one.closing_proposed_at == mended + timedelta(minutes=5)
    models.Incident.objects.update(closing_proposed_at=mended)  # as if these five minutes had passed
    script(catena, places[0], CAUSES[0], "load")
    incidents.watch(send(1))
    one.refresh_from_db()
    assert (one.closing_proposed_at, one.failures) == (None, 7)
    kinds = list(one.entries.order_by("id").values_list("kind", flat=True))
    assert kinds == ["opened", "recovering", "relapsed"]
