"""Intent is committed before the first byte: without it nothing leaves, and each POST has its authority."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from messaging import models, outbox
from messaging.catena.client import CatenaClient
from messaging.simulator import Fault, SimulatorServer
from messaging.states import AttemptOutcome, GateState, MessageState
from tests import factories
from tests.messaging.test_outbox_sending import NOW, WRITE, at, drain, fresh, most, outcomes, queued

pytestmark = pytest.mark.django_db
S = MessageState
O = AttemptOutcome  # noqa: E741


class _Meddling:
    """A client that lets something happen at the last moment before the first byte."""

    def __init__(self, client: CatenaClient, meddle: Callable[[], Any]) -> None:
        self.client, self.meddle = client, meddle

    def create_message(self, draft: Any, *, before_first_byte: Any = None) -> Any:
        def hook() -> None:
            self.meddle()
            before_first_byte()

        return self.client.create_message(draft, before_first_byte=hook)


@pytest.mark.parametrize(
    "meddle",
    [
        lambda: models.Message.objects.update(lease_until=NOW - timedelta(seconds=1)),
        lambda: models.Message.objects.update(state=S.QUEUED, lease_until=None),
        lambda: models.Message.objects.update(state=S.QUEUED, lease_until=None, fence=7),
        lambda: models.Gate.objects.create(state=GateState.LOCKED, reason="After a restore"),
        lambda: models.Gate.objects.create(connection=models.Connection.objects.get(), state=GateState.CLOSED),
    ],
    ids=["lease over", "returned", "fenced", "locked", "connection closed"],
)
def test_nothing_is_sent_when_intent_is_refused(
    talk: models.Conversation,
    mara: models.User,
    catena: SimulatorServer,
    catena_client: CatenaClient,
    meddle: Callable[[], Any],
) -> None:
    message = queued(talk, mara)
    sender = outbox.Sender(_Meddling(catena_client, meddle), at(0))
    claimed = outbox.claim(talk.pk, sender)
    assert claimed is not None
    assert outbox.send(claimed, sender) == 0
    assert catena.world.posts_seen == 0
    assert outcomes(message) == []
    assert (fresh(message).state, fresh(message).lease_until) == (S.QUEUED, None)


def test_a_message_that_may_have_been_sent_needs_a_decision_for_another_post(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = queued(talk, mara)
    factories.SendAttemptFactory(message=message, outcome=O.AMBIGUOUS)
    models.Message.objects.update(fence=1)
    assert drain(talk, catena_client) == 0
    assert fresh(message).state == S.NEEDS_DECISION
    assert catena.world.posts_seen == 0


def test_a_persons_decision_buys_exactly_one_post(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = queued(talk, mara)
    factories.SendAttemptFactory(message=message, outcome=O.LOST)
    models.Message.objects.update(fence=1)
    decision = models.Decision.objects.create(message=message, user=mara, kind="send_again", reason="He has nothing")
    catena.world.faults.add(Fault("reset_before_accept", WRITE, times=1))
    assert drain(talk, catena_client) == 1
    assert message.send_attempts.get(fence=2).decision == decision
    models.Message.objects.update(state=S.QUEUED)
    assert drain(talk, catena_client) == 0
    assert fresh(message).state == S.NEEDS_DECISION
    assert catena.world.posts_seen == 1


def test_an_unforeseen_error_after_intent_is_ambiguous(
    talk: models.Conversation, mara: models.User, catena_client: CatenaClient
) -> None:
    class Broken:
        def create_message(self, draft: Any, *, before_first_byte: Any = None) -> Any:
            before_first_byte()
            raise RuntimeError("bearer abc.def")

    message = queued(talk, mara)
    assert outbox.drain(talk.pk, Broken(), at(0)) == 1
    assert (fresh(message).state, outcomes(message)) == (S.UNKNOWN, [O.AMBIGUOUS])
    assert "bearer" not in message.send_attempts.get().error_text + fresh(message).reason


def test_an_unforeseen_error_before_intent_sends_nothing_and_backs_off(
    talk: models.Conversation, mara: models.User
) -> None:
    class Broken:
        def create_message(self, draft: Any, *, before_first_byte: Any = None) -> Any:
            raise RuntimeError("cannot encode")

    message = queued(talk, mara)
    assert outbox.drain(talk.pk, Broken(), at(0), jitter=most) == 0
    assert (fresh(message).state, fresh(message).not_before) == (S.QUEUED, NOW + timedelta(seconds=2))
    assert outcomes(message) == []


def test_a_worker_that_stops_while_connecting_gives_its_claim_back(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    stopping = threading.Event()
    message = queued(talk, mara)
    meddling = _Meddling(catena_client, stopping.set)
    assert outbox.drain(talk.pk, meddling, at(0), is_stopping=stopping.is_set) == 0
    assert (fresh(message).state, fresh(message).lease_until) == (S.QUEUED, None)
    assert catena.world.posts_seen == 0
