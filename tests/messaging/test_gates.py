"""Gates: when they close, which cause wins, how they open again, and that pages learn of it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.utils import timezone

from messaging import gates, models, outbox
from messaging.gates import first_pause, longest_pause
from messaging.outbox import breaker
from messaging.states import AttemptOutcome, GateCause, GateState, MessageState
from tests import factories

pytestmark = pytest.mark.django_db
S = MessageState
C = GateCause
NOW = timezone.now()
PAST, FUTURE = NOW - timedelta(seconds=1), NOW + timedelta(seconds=60)


def closed(**columns: Any) -> models.Gate:
    return models.Gate.objects.create(**{"state": GateState.CLOSED, "reason": "429", "changed_at": NOW, **columns})


def the_gate() -> models.Gate:
    return models.Gate.objects.get()


def test_a_gate_whose_time_has_come_is_opened_by_the_sweep(conversation: models.Conversation) -> None:
    due, later, locked = (
        closed(until=PAST),
        closed(connection=conversation.connection, until=FUTURE),
        closed(connection=factories.ConnectionFactory(), state=GateState.LOCKED),
    )
    assert outbox.open_due_gates(NOW) == 1
    states = dict(models.Gate.objects.values_list("pk", "state"))
    assert states == {due.pk: GateState.OPEN, later.pk: GateState.CLOSED, locked.pk: GateState.LOCKED}
    assert outbox.open_due_gates(NOW) == 0


@pytest.mark.parametrize("columns", [{"cause": C.OPERATOR}, {"cause": C.LOGIN, "probe_at": PAST}])
def test_a_gate_without_a_time_is_not_opened_by_time(columns: dict[str, Any]) -> None:
    closed(until=None, **columns)
    assert outbox.open_due_gates(NOW + timedelta(days=9)) == 0


@pytest.mark.parametrize(
    ("gate", "extends"),
    [
        ({"until": NOW + timedelta(seconds=10)}, True),
        ({"until": NOW + timedelta(seconds=90)}, False),
        ({"until": None}, False),
        ({"until": None, "cause": C.OPERATOR}, False),
        ({"state": GateState.LOCKED}, False),
        ({"state": GateState.OPEN}, True),
    ],
)
def test_a_pause_is_lengthened_but_never_shortened_and_a_lock_stays(gate: dict[str, Any], extends: bool) -> None:
    made = closed(**gate)
    until = outbox.close_gate(None, C.RATE_LIMIT, NOW, timedelta(seconds=60))
    now_is = the_gate()
    if extends:
        assert (now_is.state, now_is.until, now_is.reason) == (GateState.CLOSED, FUTURE, C.RATE_LIMIT.label)
        assert until == FUTURE
    else:
        assert (now_is.state, now_is.until, now_is.reason) == (made.state, made.until, "429")


def test_pauses_in_a_row_double_up_to_a_quarter_of_an_hour() -> None:
    now, lengths = NOW, []
    for _ in range(8):
        until = outbox.close_gate(None, C.RATE_LIMIT, now)
        lengths.append(until - now)
        now = until + timedelta(seconds=1)
    assert lengths[:4] == [first_pause(), 2 * first_pause(), 4 * first_pause(), 8 * first_pause()]
    assert lengths[-1] == longest_pause() == timedelta(minutes=15)
    assert outbox.close_gate(None, C.RATE_LIMIT, now + timedelta(hours=2)) == now + timedelta(hours=2) + first_pause()


def test_answers_that_were_on_their_way_when_the_gate_closed_do_not_lengthen_the_pause() -> None:
    until = outbox.close_gate(None, C.RATE_LIMIT, NOW)
    for late in range(1, 9):
        assert outbox.close_gate(None, C.RATE_LIMIT, NOW + timedelta(milliseconds=late)) == until
    assert the_gate().until == until


@pytest.mark.parametrize("cause", sorted(gates.PROBED_CAUSES))
def test_a_gate_that_only_a_read_may_open_has_no_time_but_a_probe(cause: GateCause) -> None:
    again = outbox.close_gate(None, cause, NOW)
    gate = the_gate()
    assert (gate.until, gate.probe_at, gate.pause_seconds) == (None, NOW + first_pause(), 15)
    assert (again, gate.reason, gate.cause) == (gate.probe_at, cause.label, cause)


def test_an_unclear_connection_stays_shut_when_its_429_is_over_and_is_not_asked_before() -> None:
    outbox.close_gate(None, C.RATE_LIMIT, NOW, timedelta(seconds=90))
    outbox.close_gate(None, C.AMBIGUITY, NOW)
    gate = the_gate()
    assert (gate.cause, gate.until, gate.probe_at) == (C.AMBIGUITY, None, NOW + timedelta(seconds=90))


def test_a_429_puts_off_the_probe_of_a_gate_but_does_not_give_it_a_time() -> None:
    outbox.close_gate(None, C.LOGIN, NOW)
    assert outbox.close_gate(None, C.RATE_LIMIT, NOW, timedelta(seconds=60)) == FUTURE
    gate = the_gate()
    assert (gate.cause, gate.until, gate.probe_at) == (C.LOGIN, None, FUTURE)
    assert outbox.close_gate(None, C.AMBIGUITY, NOW) == FUTURE
    assert the_gate().cause == C.LOGIN


def test_a_429_stops_sending_and_reading_until_the_same_moment() -> None:
    until = gates.slow_down(NOW, 40)
    assert until == NOW + timedelta(seconds=40) == the_gate().until == gates.reading_paused_until(NOW)
    assert gates.slow_down(NOW, 5) == until
    assert gates.reading_paused_until(NOW) == until
    assert gates.reading_paused_until(until) is None


# The breaker


def unclear(conversation: models.Conversation, times: int, at: datetime = NOW, **columns: Any) -> None:
    for _ in range(times):
        message = factories.OutgoingFactory(conversation=conversation, state=S.CLOSED_SENT, fence=1)
        values = {"outcome": AttemptOutcome.AMBIGUOUS, "posting_at": at, "finished_at": at, **columns}
        factories.SendAttemptFactory(message=message, **values)


def elsewhere() -> models.Conversation:
    return factories.ConversationFactory()


def closed_for() -> dict[int | None, str]:
    return dict(models.Gate.objects.closed(NOW).values_list("connection_id", "cause"))


def test_five_unclear_sends_within_five_minutes_pause_their_connection(conversation: models.Conversation) -> None:
    unclear(conversation, 2, outcome=AttemptOutcome.LOST)
    unclear(conversation, 2, at=NOW - timedelta(seconds=299))
    unclear(conversation, 1, at=NOW - timedelta(seconds=301))
    unclear(elsewhere(), 4)
    assert breaker.trip(NOW) == 0
    unclear(conversation, 1)
    assert breaker.trip(NOW) == 1
    assert closed_for() == {conversation.connection_id: C.AMBIGUITY}
    entry = models.AuditEntry.objects.get()
    assert (entry.action, entry.connection_id, entry.user) == ("gate_closed", conversation.connection_id, None)
    assert breaker.trip(NOW) == 0


def test_twenty_unclear_sends_anywhere_pause_the_credential() -> None:
    for times in (4, 4, 4, 4, 3):
        unclear(elsewhere(), times)
    assert breaker.trip(NOW) == 0
    unclear(elsewhere(), 1)
    assert breaker.trip(NOW) == 1
    assert closed_for() == {None: C.AMBIGUITY}


@pytest.mark.parametrize("outcome", [AttemptOutcome.ACCEPTED, AttemptOutcome.UNSENT, AttemptOutcome.REFUSED])
def test_sends_with_a_clear_end_pause_nothing(conversation: models.Conversation, outcome: AttemptOutcome) -> None:
    unclear(conversation, 6, outcome=outcome)
    assert breaker.trip(NOW) == 0


def test_what_closed_a_gate_does_not_close_it_again_but_news_closes_it_for_longer(
    conversation: models.Conversation,
) -> None:
    unclear(conversation, 5)
    breaker.trip(NOW)
    opened = NOW + timedelta(seconds=20)
    assert gates.open_probed(the_gate(), opened)
    assert breaker.trip(opened) == 0
    unclear(conversation, 4, at=opened + timedelta(seconds=1))
    assert breaker.trip(opened + timedelta(seconds=2)) == 0
    unclear(conversation, 1, at=opened + timedelta(seconds=3))
    assert breaker.trip(opened + timedelta(seconds=4)) == 1
    assert the_gate().probe_at == opened + timedelta(seconds=4) + 2 * first_pause()


def test_the_numbers_are_the_installations_and_zero_turns_a_breaker_off(
    conversation: models.Conversation, settings: LazySettings
) -> None:
    unclear(conversation, 3)
    settings.BREAKER_CONNECTION_UNKNOWNS, settings.BREAKER_CREDENTIAL_UNKNOWNS = 0, 0
    assert breaker.trip(NOW) == 0
    settings.BREAKER_CREDENTIAL_UNKNOWNS = 3
    assert breaker.trip(NOW) == 1
    assert closed_for() == {None: C.AMBIGUITY}


def test_the_count_is_one_query_while_all_is_well(
    conversation: models.Conversation, django_assert_num_queries: Any
) -> None:
    unclear(conversation, 4)
    with django_assert_num_queries(1):
        breaker.trip(NOW)


def test_workers_that_vanish_while_sending_close_the_gate(conversation: models.Conversation) -> None:
    for _ in range(5):
        talk = factories.ConversationFactory(driver=factories.FleetUserFactory(connection=conversation.connection))
        message = factories.OutgoingFactory(conversation=talk, state=S.POSTING, fence=1, lease_until=PAST)
        factories.SendAttemptFactory(message=message, outcome=None, finished_at=None)
    assert outbox.reap(NOW) == 5
    assert closed_for() == {conversation.connection_id: C.AMBIGUITY}


# By hand


@pytest.mark.parametrize(
    "columns", [{"until": FUTURE, "cause": C.RATE_LIMIT}, {"cause": C.LOGIN, "probe_at": FUTURE}, {"cause": C.OPERATOR}]
)
def test_a_person_opens_whatever_time_or_catena_had_closed(sol: models.User, columns: dict[str, Any]) -> None:
    closed(**columns)
    assert gates.open_by_hand(None, sol, "Samsara is back", NOW)
    gate = the_gate()
    assert (gate.state, gate.changed_by, gate.until, gate.probe_at) == (GateState.OPEN, sol, None, None)
    entry = models.AuditEntry.objects.get()
    assert (entry.action, entry.user) == ("gate_opened", sol)
    assert entry.detail == {"cause": columns["cause"], "reason": "Samsara is back"}
    assert not gates.open_by_hand(None, sol, "Again", NOW)
    assert models.AuditEntry.objects.count() == 1


def test_what_a_person_closed_only_a_person_opens(conversation: models.Conversation, sol: models.User) -> None:
    key = conversation.connection_id
    message = factories.OutgoingFactory(conversation=conversation, occurred_at=PAST)
    assert gates.close_by_hand(key, sol, "Maintenance until noon", NOW)
    assert not gates.close_by_hand(key, sol, "Maintenance until noon", NOW)
    gate = the_gate()
    assert (gate.cause, gate.changed_by, gate.until, gate.probe_at) == (C.OPERATOR, sol, None, None)
    unclear(conversation, 9)
    breaker.trip(NOW)
    outbox.close_gate(key, C.RATE_LIMIT, NOW, timedelta(seconds=1))
    assert outbox.open_due_gates(NOW + timedelta(days=1)) == 0
    assert (the_gate().cause, the_gate().reason) == (C.OPERATOR, "Maintenance until noon")
    assert outbox.due_conversations(NOW, 9) == []
    assert gates.open_by_hand(key, sol, "Done", NOW)
    assert outbox.due_conversations(NOW, 9) == [message.conversation_id]


def test_a_locked_gate_is_neither_opened_nor_closed_by_hand(sol: models.User) -> None:
    closed(state=GateState.LOCKED, cause=C.RESTORE)
    assert not gates.open_by_hand(None, sol, "Please", NOW)
    assert not gates.close_by_hand(None, sol, "Please", NOW)
    assert (the_gate().state, the_gate().cause) == (GateState.LOCKED, C.RESTORE)
    assert not models.AuditEntry.objects.exists()


def test_a_person_may_close_what_waits_for_its_time_and_nothing_but_a_person_opens_it(sol: models.User) -> None:
    closed(cause=C.RATE_LIMIT, until=FUTURE)
    read = the_gate()
    assert gates.close_by_hand(None, sol, "Wait for the provider", NOW)
    assert not gates.open_probed(read, NOW)
    assert outbox.open_due_gates(FUTURE) == 0
    assert the_gate().state == GateState.CLOSED


# News for pages


def xid_of(message: models.Message) -> int:
    return models.Message.objects.values_list("changed_xid", flat=True).get(pk=message.pk)


def shut_everything() -> Any:
    return outbox.close_gate(None, C.RATE_LIMIT, NOW, timedelta(seconds=60))


def open_everything() -> Any:
    closed(until=PAST)
    return outbox.open_due_gates(NOW)


def probe_in_vain() -> Any:
    return gates.postpone_probe(closed(cause=C.LOGIN, probe_at=PAST), NOW)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("act", [shut_everything, open_everything, probe_in_vain])
def test_pages_see_every_queued_message_again_when_a_gate_moves(act: Callable[[], Any]) -> None:
    queued = factories.OutgoingFactory()
    waiting = factories.OutgoingFactory(conversation=queued.conversation, state=S.WAITING)
    before = xid_of(queued), xid_of(waiting)
    act()
    assert xid_of(queued) > before[0]
    assert xid_of(waiting) == before[1]


@pytest.mark.django_db(transaction=True)
def test_a_gate_of_one_connection_touches_no_other() -> None:
    mine, other = factories.OutgoingFactory(), factories.OutgoingFactory()
    before = xid_of(mine), xid_of(other)
    outbox.close_gate(mine.connection_id, C.AMBIGUITY, NOW)
    assert xid_of(mine) > before[0]
    assert xid_of(other) == before[1]
