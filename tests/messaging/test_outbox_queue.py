"""The queue's moves that need no network: which are made, which are refused (reliability plan 3.2)."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from messaging import models, outbox
from messaging.outbox.queue import POISON_CLAIMS
from messaging.states import AttemptOutcome, MessageState
from tests import factories

pytestmark = pytest.mark.django_db
S = MessageState
NOW = timezone.now()
PAST, FUTURE = NOW - timedelta(seconds=1), NOW + timedelta(seconds=60)


def in_state(conversation: models.Conversation, state: MessageState, **columns: Any) -> models.Message:
    """A message in this state, with what the database wants for it."""
    if state in {S.CLAIMED, S.POSTING}:
        columns = {"lease_until": FUTURE, "fence": 1, **columns}
    if state == S.UNKNOWN:
        columns = {"unknown_since": NOW, "fence": 1, **columns}
    if state in {S.ACCEPTED, S.SUCCEEDED, S.FAILED}:
        return factories.accepted(conversation, state=state, **columns)
    return factories.OutgoingFactory(conversation=conversation, state=state, **columns)


def state_of(message: models.Message) -> str:
    message.refresh_from_db()
    return message.state


CANCELLABLE = [S.WAITING, S.QUEUED]
NOT_CANCELLABLE = [state for state in S if state not in CANCELLABLE and state != S.MIRRORED]


@pytest.mark.parametrize("state", CANCELLABLE)
def test_a_message_is_cancelled_for_certain_before_anybody_has_it(
    conversation: models.Conversation, mara: models.User, state: MessageState
) -> None:
    message = in_state(conversation, state)
    assert outbox.cancel(message, mara, NOW)
    assert state_of(message) == S.CANCELLED
    assert (message.settled_by, message.settled_at) == (mara, NOW)
    entry = models.AuditEntry.objects.get()
    assert (entry.action, entry.user, entry.message) == ("cancel", mara, message)


@pytest.mark.parametrize("state", NOT_CANCELLABLE)
def test_a_cancel_that_comes_too_late_changes_nothing(
    conversation: models.Conversation, mara: models.User, state: MessageState
) -> None:
    message = in_state(conversation, state)
    assert not outbox.cancel(message, mara, NOW)
    assert state_of(message) == state
    assert not models.AuditEntry.objects.exists()


def test_cancelling_a_head_makes_room_for_the_next(conversation: models.Conversation, mara: models.User) -> None:
    head = in_state(conversation, S.QUEUED)
    second, third = in_state(conversation, S.WAITING), in_state(conversation, S.WAITING)
    outbox.cancel(head, mara, NOW)
    assert (state_of(second), state_of(third)) == (S.QUEUED, S.WAITING)
    assert [job.args for job in ProcrastinateJob.objects.all()] == [{"conversation_id": conversation.pk}]


def test_cancelling_one_that_waits_leaves_the_head_alone(conversation: models.Conversation, mara: models.User) -> None:
    head, waiting = in_state(conversation, S.QUEUED), in_state(conversation, S.WAITING)
    outbox.cancel(waiting, mara, NOW)
    assert (state_of(head), state_of(waiting)) == (S.QUEUED, S.CANCELLED)


@pytest.mark.parametrize("state", [S.QUEUED, S.CLAIMED, S.POSTING, S.UNKNOWN, S.NEEDS_DECISION])
def test_nobody_is_promoted_past_a_head(conversation: models.Conversation, state: MessageState) -> None:
    in_state(conversation, state)
    waiting = in_state(conversation, S.WAITING)
    assert outbox.promote(conversation) is None
    assert state_of(waiting) == S.WAITING


def test_the_lowest_number_is_promoted_first(conversation: models.Conversation) -> None:
    later = in_state(conversation, S.WAITING, seq=8, occurred_at=NOW - timedelta(hours=1))
    first = in_state(conversation, S.WAITING, seq=3)
    assert outbox.promote(conversation) == first.pk
    assert (state_of(first), state_of(later)) == (S.QUEUED, S.WAITING)


def test_a_detached_head_lets_the_next_one_go(conversation: models.Conversation) -> None:
    in_state(conversation, S.NEEDS_DECISION, detached=True)
    waiting = in_state(conversation, S.WAITING)
    assert outbox.promote(conversation) == waiting.pk


def test_the_sweep_finds_messages_that_wait_behind_nobody(conversation: models.Conversation) -> None:
    stranded = in_state(conversation, S.WAITING)
    fine = factories.ConversationFactory()
    in_state(fine, S.UNKNOWN)
    behind = in_state(fine, S.WAITING)
    assert outbox.promote_stranded() == 1
    assert (state_of(stranded), state_of(behind)) == (S.QUEUED, S.WAITING)
    assert outbox.promote_stranded() == 0


def test_a_claim_whose_lease_is_over_goes_back_to_the_queue(conversation: models.Conversation) -> None:
    message = in_state(conversation, S.CLAIMED, lease_until=PAST, claim_count=1)
    assert outbox.reap(NOW) == 1
    assert (state_of(message), message.lease_until, message.fence) == (S.QUEUED, None, 1)
    assert outbox.reap(NOW) == 0


def test_a_post_whose_lease_is_over_is_unknown_and_never_queued(conversation: models.Conversation) -> None:
    message = in_state(conversation, S.POSTING, lease_until=PAST)
    attempt = factories.SendAttemptFactory(message=message, outcome=None, finished_at=None)
    assert outbox.reap(NOW) == 1
    assert (state_of(message), message.unknown_since, message.lease_until) == (S.UNKNOWN, NOW, None)
    attempt.refresh_from_db()
    assert attempt.next_look_at == NOW + timedelta(seconds=5)
    assert (attempt.outcome, attempt.finished_at) == (AttemptOutcome.LOST, NOW)
    assert outbox.reap(FUTURE) == 0


@pytest.mark.parametrize("state", [S.CLAIMED, S.POSTING])
def test_a_living_lease_is_left_alone(conversation: models.Conversation, state: MessageState) -> None:
    message = in_state(conversation, state)
    assert outbox.reap(NOW) == 0
    assert state_of(message) == state


def test_a_message_that_ends_its_workers_is_handed_to_a_person(conversation: models.Conversation) -> None:
    message = in_state(conversation, S.CLAIMED, lease_until=PAST, claim_count=POISON_CLAIMS + 1)
    assert outbox.reap(NOW) == 1
    assert state_of(message) == S.NEEDS_DECISION
    assert "Nothing was sent" in message.reason
    conversation.refresh_from_db()
    assert conversation.attention_count == 1


@pytest.mark.parametrize("state", CANCELLABLE)
def test_what_is_too_old_expires_with_notice(conversation: models.Conversation, state: MessageState) -> None:
    message = in_state(conversation, state, expires_at=NOW)
    assert outbox.expire(NOW) == 1
    assert (state_of(message), message.settled_at) == (S.EXPIRED, NOW)
    conversation.refresh_from_db()
    assert conversation.attention_count == 1


@pytest.mark.parametrize("state", NOT_CANCELLABLE)
def test_only_what_nobody_has_tried_expires(conversation: models.Conversation, state: MessageState) -> None:
    message = in_state(conversation, state, expires_at=PAST)
    assert outbox.expire(NOW) == 0
    assert state_of(message) == state


def test_an_expired_head_makes_room_for_the_next(conversation: models.Conversation) -> None:
    in_state(conversation, S.QUEUED, expires_at=PAST)
    waiting = in_state(conversation, S.WAITING)
    outbox.expire(NOW)
    assert state_of(waiting) == S.QUEUED


@pytest.mark.parametrize("state", [S.FAILED, S.REJECTED, S.EXPIRED])
def test_a_failure_is_handled_once(
    conversation: models.Conversation, mara: models.User, sol: models.User, state: MessageState
) -> None:
    message = in_state(conversation, state)
    conversation.summarise()
    assert outbox.handled(message, mara, NOW)
    assert not outbox.handled(message, sol, NOW)
    message.refresh_from_db()
    assert (message.handled_by, message.handled_at, message.state) == (mara, NOW, state)
    conversation.refresh_from_db()
    assert conversation.attention_count == 0


def test_only_a_failure_can_be_handled(conversation: models.Conversation, mara: models.User) -> None:
    assert not outbox.handled(in_state(conversation, S.SUCCEEDED), mara, NOW)
