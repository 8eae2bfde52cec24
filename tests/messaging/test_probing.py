"""Closed gates are tried by reads, never by a message; over real HTTP to the simulator."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from messaging import gates, models, outbox, sync
from messaging.catena.client import CatenaClient
from messaging.gates import first_pause
from messaging.simulator import Fault, SimulatorServer
from messaging.states import AttemptOutcome, GateCause, GateState, MessageState
from tests import factories
from tests.messaging.conftest import client_of_server

pytestmark = pytest.mark.django_db
C = GateCause
S = MessageState
NOW = timezone.now()
WRITE, READ = "POST /v2/telematics/messages", "GET /v2/"


def at(seconds: float) -> Callable[[], datetime]:
    return lambda: NOW + timedelta(seconds=seconds)


def gate() -> models.Gate:
    return models.Gate.objects.get(state=GateState.CLOSED)


def is_open() -> bool:
    return not models.Gate.objects.closed(NOW).exists()


def queue(talk: models.Conversation, author: models.User, times: int, catena: SimulatorServer) -> list[models.Message]:
    """Heads of as many conversations with drivers of the same connection."""
    talks = [talk]
    for theirs in catena.world.drivers(str(talk.connection.catena_id))[1:times]:
        driver = factories.FleetUserFactory(connection=talk.connection, catena_id=UUID(theirs.id))
        talks.append(factories.ConversationFactory(driver=driver))
    assert len(talks) == times
    return [factories.OutgoingFactory(conversation=one, author=author, occurred_at=NOW) for one in talks]


def drain(message: models.Message, client: CatenaClient, seconds: float = 0) -> int:
    return outbox.drain(message.conversation_id, client, at(seconds), jitter=lambda low, high: high)


@pytest.mark.parametrize("kind", ["reset_after_accept", "server_error", "not_json", "truncated_json"])
def test_five_lost_answers_stop_the_connection_and_a_read_lets_it_go_on(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient, kind: str
) -> None:
    broken = catena.world.faults.add(Fault(kind, WRITE))
    heads = queue(talk, mara, 7, catena)
    assert [drain(head, catena_client) for head in heads] == [1, 1, 1, 1, 1, 0, 0]
    assert (gate().connection, gate().cause, gate().until) == (talk.connection, C.AMBIGUITY, None)
    posts = catena.world.posts_seen
    assert outbox.probe(catena_client, at(14)) == 0
    assert outbox.probe(catena_client, at(16)) == 1
    assert is_open()
    assert catena.world.posts_seen == posts == 5
    broken.times = 0
    assert drain(heads[5], catena_client, 17) == 1
    assert outbox.reap(at(18)()) == 0
    assert is_open()


def test_a_probe_that_fails_doubles_the_pause_and_asks_no_sooner(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("server_error", READ, times=2, status=503))
    outbox.close_gate(talk.connection_id, C.AMBIGUITY, NOW)
    assert outbox.probe(catena_client, at(15)) == 0
    assert (gate().probe_at, gate().pause_seconds) == (at(15 + 30)(), 30)
    assert outbox.probe(catena_client, at(44)) == 0
    assert gate().pause_seconds == 30
    assert outbox.probe(catena_client, at(45)) == 0
    assert gate().probe_at == at(45 + 60)()
    assert outbox.probe(catena_client, at(105)) == 1
    assert is_open()


def test_a_pause_between_probes_ends_at_a_quarter_of_an_hour(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("server_error", READ, status=500))
    outbox.close_gate(talk.connection_id, C.AMBIGUITY, NOW)
    models.Gate.objects.update(pause_seconds=700)
    outbox.probe(catena_client, at(60))
    assert gate().probe_at == at(60 + 900)()


def test_the_credential_is_tried_with_a_new_token(catena: SimulatorServer, catena_client: CatenaClient) -> None:
    list(catena_client.list_fleets())
    outbox.close_gate(None, C.LOGIN, NOW)
    catena.world.faults.add(Fault("token_refused", times=1))
    assert outbox.probe(catena_client, at(15)) == 0
    assert outbox.probe(catena_client, at(45)) == 1
    assert is_open()


def test_a_token_endpoint_that_stays_down_pauses_everything_until_it_is_back(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    down = catena.world.faults.add(Fault("token_down"))
    (message,) = queue(talk, mara, 1, catena)
    assert drain(message, catena_client) == 0
    assert is_open()
    assert drain(message, catena_client, 5) == 0
    assert (gate().connection, gate().cause, gate().reason) == (None, C.LOGIN, "Catena gives us no access token")
    assert outbox.probe(catena_client, at(21)) == 0
    down.times = 0
    assert outbox.probe(catena_client, at(60)) == 1
    assert drain(message, catena_client, 61) == 1
    assert catena.world.posts_seen == 1
    assert list(message.send_attempts.values_list("outcome", flat=True)) == [AttemptOutcome.ACCEPTED]


def test_a_429_to_a_probe_stops_sending_and_reading_and_the_next_probe_waits_for_it(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("rate_limited", READ, times=1, retry_after_seconds=120))
    outbox.close_gate(talk.connection_id, C.AMBIGUITY, NOW)
    assert outbox.probe(catena_client, at(15)) == 0
    whole = models.Gate.objects.get(connection=None)
    assert (whole.cause, whole.until) == (C.RATE_LIMIT, at(135)())
    assert gates.reading_paused_until(at(134)()) == at(135)()
    asked = len(catena.world.journal)
    assert outbox.probe(catena_client, at(50)) == 0
    assert models.Gate.objects.get(connection=talk.connection).probe_at == at(45)()
    assert outbox.probe(catena_client, at(136)) == 1
    assert len(catena.world.journal) == asked


def test_gates_of_time_of_people_and_of_restores_are_never_probed(
    catena_client: CatenaClient, sol: models.User
) -> None:
    make = models.Gate.objects.create
    make(connection=factories.ConnectionFactory(), state="closed", cause=C.RATE_LIMIT, until=at(600)())
    make(connection=factories.ConnectionFactory(), state="locked", cause=C.RESTORE)
    gates.close_by_hand(None, sol, "Maintenance", NOW)
    assert outbox.probe(catena_client, at(500)) == 0
    assert models.Gate.objects.closed(at(500)()).count() == 3


def test_a_gate_that_a_person_closes_during_the_probe_stays_closed(catena: SimulatorServer, sol: models.User) -> None:
    outbox.close_gate(None, C.LOGIN, NOW)
    client = client_of_server(catena)

    class Meanwhile:
        """A client during whose answer a person acts."""

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def list_fleets(self, **options: Any) -> Any:
            gates.close_by_hand(None, sol, "Wait", NOW)
            return client.list_fleets(**options)

    assert outbox.probe(Meanwhile(), at(16)) == 0
    assert gate().cause == C.OPERATOR


def test_one_gate_that_does_not_open_keeps_no_other_from_it(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    unheard_of = factories.ConnectionFactory()
    catena.world.faults.add(Fault("server_error", str(unheard_of.catena_id), status=500))
    for one in (unheard_of, talk.connection):
        outbox.close_gate(one.pk, C.AMBIGUITY, NOW)
    outbox.probe(catena_client, at(15))
    assert models.Gate.objects.get(connection=talk.connection).state == GateState.OPEN


def test_the_sweeps_and_the_sends_of_all_workers_heed_one_429(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    (message,) = queue(talk, mara, 1, catena)
    catena.world.faults.add(Fault("rate_limited", READ, times=1, retry_after_seconds=30))
    assert "slow down" in sync.directory(catena_client, timezone.now()).stopped
    since = (timezone.now() - NOW).total_seconds()  # a long run may have come here late
    assert drain(message, catena_client, since) == 0
    assert drain(message, catena_client, since + 120) == 1
    catena.world.faults.add(Fault("rate_limited", WRITE, times=1, retry_after_seconds=200))
    again = factories.OutgoingFactory(conversation=talk, author=mara, occurred_at=NOW)
    assert drain(again, catena_client, since + 130) == 1
    assert "slow down" in sync.messages_all(catena_client, at(since + 300)()).stopped
    assert first_pause() == timedelta(seconds=15)
