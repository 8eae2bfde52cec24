"""Every row of the outcome table (reliability plan 2.6), over real HTTP to the simulator."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from messaging import models, outbox
from messaging.catena.client import CatenaClient, CatenaConfig
from messaging.gates import first_pause
from messaging.simulator import Fault, SimulatorServer
from messaging.states import AttemptOutcome, Authority, GateCause, GateState, MessageState
from tests import factories
from tests.messaging.conftest import client_of_server

pytestmark = pytest.mark.django_db
S = MessageState
O = AttemptOutcome  # noqa: E741
NOW = timezone.now()
WRITE = "POST /v2/telematics/messages"


def at(seconds: float) -> Callable[[], Any]:
    return lambda: NOW + timedelta(seconds=seconds)


def most(_: float, high: float) -> float:
    """Chance, without the chance: always the longest wait."""
    return high


def drain(talk: models.Conversation, client: CatenaClient, seconds: float = 0) -> int:
    return outbox.drain(talk.pk, client, at(seconds), worker="test", jitter=most)


def queued(talk: models.Conversation, author: models.User, **columns: Any) -> models.Message:
    return factories.OutgoingFactory(conversation=talk, author=author, occurred_at=NOW, **columns)


def fresh(message: models.Message) -> models.Message:
    return models.Message.objects.select_related("operation").get(pk=message.pk)


def outcomes(message: models.Message) -> list[str | None]:
    return list(message.send_attempts.order_by("id").values_list("outcome", flat=True))


def test_a_due_message_is_posted_once_and_accepted(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = queued(talk, mara, text="Dock 4 is free", priority="high")
    assert drain(talk, catena_client) == 1
    assert drain(talk, catena_client) == 0
    sent = fresh(message)
    assert (sent.state, sent.operation_status, sent.lease_until) == (S.ACCEPTED, "pending", None)
    assert sent.accepted_at == NOW
    assert sent.next_poll_at == NOW + timedelta(seconds=1)
    (entry,) = catena.world.journal
    assert sent.operation is not None
    assert (entry.operation_id, entry.message_text, entry.priority) == (
        str(sent.operation.catena_id), "Dock 4 is free", "high",
    )  # fmt: skip
    attempt = message.send_attempts.get()
    assert (attempt.authority, attempt.outcome, attempt.fence, attempt.worker) == (
        Authority.COMPOSE,
        O.ACCEPTED,
        1,
        "test",
    )
    assert attempt.http_status == 202
    assert attempt.posting_at == attempt.finished_at == NOW


def test_the_echo_of_catena_has_the_fingerprint_of_what_was_posted(
    talk: models.Conversation, mara: models.User, catena_client: CatenaClient
) -> None:
    message = queued(talk, mara, text="  Gate B,\r\nplease ", priority="low")
    drain(talk, catena_client)
    sent = fresh(message)
    assert sent.operation is not None
    assert outbox.fingerprint(sent.operation.payload) == sent.fingerprint


def test_a_whole_conversation_leaves_in_order_in_one_drain(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    texts = [f"Number {number}" for number in range(6)]
    for number, text in enumerate(texts):
        queued(talk, mara, text=text, state=S.WAITING if number else S.QUEUED)
    assert drain(talk, catena_client) == 6
    assert [entry.message_text for entry in catena.world.journal] == texts


def test_a_held_message_stays_until_its_time(
    talk: models.Conversation, mara: models.User, catena_client: CatenaClient
) -> None:
    message = queued(talk, mara, not_before=NOW + timedelta(seconds=5))
    assert drain(talk, catena_client, 4.9) == 0
    assert fresh(message).state == S.QUEUED
    assert drain(talk, catena_client, 5) == 1


def test_a_message_past_its_expiry_is_not_sent(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    queued(talk, mara, expires_at=NOW + timedelta(seconds=5))
    assert drain(talk, catena_client, 5) == 0
    assert catena.world.posts_seen == 0


def refused_connection(catena: SimulatorServer) -> CatenaClient:
    """Its token is in hand, but nobody listens at the address of the API."""
    config = CatenaConfig(catena.url, catena.token_url, catena.client_id, catena.client_secret)
    return CatenaClient(CatenaConfig("http://127.0.0.1:9", config.token_url, config.client_id, config.client_secret))


def test_a_refused_connection_is_provably_unsent_and_backs_off(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer
) -> None:
    message = queued(talk, mara)
    client = refused_connection(catena)
    waits = []
    for _ in range(4):
        due = fresh(message).not_before
        assert due is not None
        assert outbox.drain(talk.pk, client, lambda due=due: due, jitter=most) == 0
        again = fresh(message)
        assert again.not_before is not None
        waits.append((again.not_before - due).total_seconds())
        assert (again.state, again.reason) == (S.QUEUED, "Catena cannot be reached")
    assert waits == [2, 4, 8, 16]
    assert outcomes(message) == []
    assert not models.Gate.objects.exists()


def test_an_outage_never_looks_like_poison(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = queued(talk, mara)
    for hour in range(8):
        outbox.drain(talk.pk, refused_connection(catena), at(hour * 3600), jitter=most)
    assert fresh(message).claim_count == 1
    assert drain(talk, catena_client, 9 * 3600) == 1
    assert fresh(message).state == S.ACCEPTED


def test_a_failing_token_endpoint_sends_nothing_and_backs_off(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("token_down", times=1))
    message = queued(talk, mara)
    assert drain(talk, catena_client) == 0
    assert (fresh(message).state, outcomes(message)) == (S.QUEUED, [])
    assert catena.world.posts_seen == 0
    assert drain(talk, catena_client, 10) == 1


def test_refused_client_credentials_pause_everything(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("token_refused", times=1))
    message = queued(talk, mara)
    assert drain(talk, catena_client) == 0
    gate = models.Gate.objects.get()
    assert (gate.connection, gate.state, gate.cause) == (None, GateState.CLOSED, GateCause.LOGIN)
    assert (gate.until, gate.probe_at) == (None, NOW + first_pause())
    assert "credentials" in gate.reason
    assert drain(talk, catena_client, 9999) == 0
    assert (fresh(message).state, fresh(message).not_before) == (S.QUEUED, NOW)


def test_one_401_is_answered_by_one_more_post_with_a_new_token(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("unauthorized", WRITE, times=1))
    message = queued(talk, mara)
    assert drain(talk, catena_client) == 2
    assert fresh(message).state == S.ACCEPTED
    first, second = message.send_attempts.order_by("id")
    assert (first.outcome, first.http_status, first.authority) == (O.UNAUTHORIZED, 401, Authority.COMPOSE)
    assert (second.outcome, second.authority, second.prior_attempt) == (O.ACCEPTED, Authority.PROOF_NOT_SENT, first)
    assert not models.Gate.objects.exists()
    assert len(catena.world.journal) == 1


def test_two_401_in_a_row_close_the_gate_of_the_credential(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    fault = catena.world.faults.add(Fault("unauthorized", WRITE))
    message = queued(talk, mara)
    assert drain(talk, catena_client) == 2
    assert (fresh(message).state, outcomes(message)) == (S.QUEUED, [O.UNAUTHORIZED, O.UNAUTHORIZED])
    gate = models.Gate.objects.get()
    assert (gate.cause, gate.until, gate.probe_at) == (GateCause.LOGIN, None, NOW + first_pause())
    assert drain(talk, catena_client, 9999) == 0
    fault.times = 0
    assert outbox.probe(catena_client, at(16)) == 1
    assert drain(talk, catena_client, 17) == 1
    assert fresh(message).state == S.ACCEPTED


def test_a_429_pauses_every_conversation_until_the_time_it_names(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("rate_limited", WRITE, times=1, retry_after_seconds=40))
    message = queued(talk, mara)
    other = factories.OutgoingFactory(author=factories.UserFactory(is_superuser=True), occurred_at=NOW)
    assert drain(talk, catena_client) == 1
    gate = models.Gate.objects.get()
    assert (gate.state, gate.until) == (GateState.CLOSED, NOW + timedelta(seconds=40))
    assert fresh(message).state == S.QUEUED
    assert fresh(message).not_before == NOW + timedelta(seconds=41)
    assert outbox.drain(other.conversation_id, catena_client, at(39)) == 0
    assert fresh(other).claim_count == 0
    assert drain(talk, catena_client, 42) == 1
    assert outcomes(message) == [O.RATE_LIMITED, O.ACCEPTED]
    assert message.send_attempts.order_by("id").last().authority == Authority.PROOF_NOT_SENT


def test_a_429_without_a_time_pauses_for_the_usual_first_while(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("rate_limited", WRITE, times=1, retry_after_seconds=None))
    queued(talk, mara)
    drain(talk, catena_client)
    assert models.Gate.objects.get().until == NOW + first_pause()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "Catena did not accept it"),
        (403, "Catena does not allow it. The fleet must share"),
        (404, "Catena no longer knows this driver or connection"),
        (409, "Catena reports a conflict"),
        (413, "The message is too long for Catena"),
        (415, "Catena did not accept it"),
        (422, "Catena did not accept it"),
    ],
)
def test_a_refusal_is_final_and_makes_room_for_the_next(
    talk: models.Conversation,
    mara: models.User,
    catena: SimulatorServer,
    catena_client: CatenaClient,
    status: int,
    words: str,
) -> None:
    catena.world.faults.add(Fault("refused", WRITE, times=1, status=status, details="No such gate"))
    message = queued(talk, mara)
    behind = queued(talk, mara, state=S.WAITING)
    assert drain(talk, catena_client) == 2
    rejected = fresh(message)
    assert (rejected.state, rejected.settled_at, rejected.lease_until) == (S.REJECTED, NOW, None)
    assert rejected.reason.startswith(words)
    assert outcomes(message) == [O.REFUSED]
    assert fresh(behind).state == S.ACCEPTED
    talk.refresh_from_db()
    assert talk.attention_count == 1


def test_a_refusal_names_the_fields_it_is_about(
    talk: models.Conversation, mara: models.User, catena_client: CatenaClient
) -> None:
    models.FleetUser.objects.filter(pk=talk.driver_id).update(catena_id=talk.connection.catena_id)
    message = queued(talk, mara)
    drain(talk, catena_client)
    assert fresh(message).state == S.REJECTED
    assert "recipient_id" in fresh(message).reason


AMBIGUOUS = [
    Fault("server_error", WRITE, times=1, status=500),
    Fault("server_error", WRITE, times=1, status=503, after=True),
    Fault("server_error", WRITE, times=1, status=501, html=True),
    Fault("refused", WRITE, times=1, status=405),
    Fault("refused", WRITE, times=1, status=408),
    Fault("refused", WRITE, times=1, status=418),
    Fault("reset_before_accept", WRITE, times=1),
    Fault("reset_after_accept", WRITE, times=1),
    Fault("hang_before_accept", WRITE, times=1, seconds=20),
    Fault("hang_after_accept", WRITE, times=1, seconds=20),
    Fault("truncated_json", WRITE, times=1),
    Fault("not_json", WRITE, times=1),
]


@pytest.mark.parametrize("fault", AMBIGUOUS, ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.after}")
def test_anything_else_is_unknown_and_never_sent_again(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, fault: Fault
) -> None:
    catena.world.faults.add(Fault(**{name: getattr(fault, name) for name in ("kind", "match", "times", "status", "seconds", "html", "after")}))  # fmt: skip  # noqa: E501
    client = client_of_server(catena, read_timeout=0.3, total_timeout=0.6)
    message = queued(talk, mara)
    behind = queued(talk, mara, state=S.WAITING)
    assert drain(talk, client) == 1
    unknown = fresh(message)
    assert (unknown.state, unknown.unknown_since, unknown.lease_until) == (S.UNKNOWN, NOW, None)
    assert unknown.send_attempts.get().next_look_at == NOW + timedelta(seconds=5)
    assert outcomes(message) == [O.AMBIGUOUS]
    for hours in (0.01, 1, 20):
        moment = NOW + timedelta(hours=hours)
        assert outbox.reap(moment) == 0
        assert outbox.promote_stranded() == 0
        assert outbox.due_conversations(moment, 10) == []
        assert drain(talk, client, hours * 3600) == 0
    assert catena.world.posts_seen == 1
    assert (fresh(message).state, fresh(behind).state) == (S.UNKNOWN, S.WAITING)


def test_a_redirect_is_not_followed_and_is_ambiguous(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("refused", WRITE, times=1, status=307))
    message = queued(talk, mara)
    assert drain(talk, catena_client) == 1
    assert fresh(message).state == S.UNKNOWN


def test_an_author_who_may_no_longer_write_is_stopped_at_the_last_moment(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = queued(talk, mara)
    models.FleetMembership.objects.all().delete()
    assert drain(talk, catena_client) == 0
    stopped = fresh(message)
    assert (stopped.state, stopped.reason) == (S.REJECTED, "The author may no longer write to this fleet")
    assert catena.world.posts_seen == 0


def test_a_disabled_author_sends_nothing(
    talk: models.Conversation, mara: models.User, catena_client: CatenaClient
) -> None:
    message = queued(talk, mara)
    models.User.objects.update(is_active=False)
    drain(talk, catena_client)
    assert (fresh(message).state, outcomes(message)) == (S.REJECTED, [])


def test_a_connection_that_cannot_send_rejects_with_its_cure(
    talk: models.Conversation, mara: models.User, catena_client: CatenaClient
) -> None:
    message = queued(talk, mara)
    models.Connection.objects.update(status="stale")
    assert drain(talk, catena_client) == 0
    assert fresh(message).state == S.REJECTED
    assert "sign in again" in fresh(message).reason
    talk.refresh_from_db()
    assert talk.attention_count == 1


def test_a_reply_names_the_message_it_answers_only_if_catena_knows_it(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    theirs = next(one for one in catena.world.messages.values() if one.connection_id == str(talk.connection.catena_id))
    known = factories.IncomingFactory(conversation=talk, catena_id=theirs.id)
    ours = factories.OutgoingFactory(conversation=talk, state=S.CANCELLED)
    queued(talk, mara, reply_to=known)
    queued(talk, mara, reply_to=ours, state=S.WAITING)
    assert drain(talk, catena_client) == 2
    assert [entry.reply_to_message_id for entry in catena.world.journal] == [theirs.id, None]


def test_a_stopping_worker_claims_nothing(
    talk: models.Conversation, mara: models.User, catena_client: CatenaClient
) -> None:
    message = queued(talk, mara)
    assert outbox.drain(talk.pk, catena_client, at(0), is_stopping=lambda: True) == 0
    assert fresh(message).fence == 0


def test_due_heads_are_found_the_most_urgent_first_and_none_behind_a_gate(mara: models.User) -> None:
    late, urgent, held, old, gated = (
        factories.OutgoingFactory(occurred_at=NOW, **columns)
        for columns in (
            {"send_by": NOW + timedelta(minutes=5)},
            {"send_by": NOW},
            {"not_before": NOW + timedelta(seconds=9)},
            {"expires_at": NOW},
            {},
        )
    )
    models.Gate.objects.create(connection=gated.connection, state=GateState.LOCKED)
    assert outbox.due_conversations(NOW, 10) == [urgent.conversation_id, late.conversation_id]
    assert outbox.due_conversations(NOW, 1) == [urgent.conversation_id]
    assert {held.conversation_id, old.conversation_id}.isdisjoint(outbox.due_conversations(NOW, 10))


def test_a_message_costs_few_statements(
    talk: models.Conversation,
    mara: models.User,
    catena_client: CatenaClient,
    django_assert_max_num_queries: Any,
) -> None:
    for number in range(5):
        queued(talk, mara, state=S.WAITING if number else S.QUEUED)
    next(catena_client.list_fleets())
    per_message, at_the_end = 16, 2
    with django_assert_max_num_queries(5 * per_message + at_the_end):
        assert drain(talk, catena_client) == 5
