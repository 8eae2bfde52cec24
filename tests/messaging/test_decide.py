"""What people decide about sends that may have arrived: once, on what they saw, and at most one POST each."""

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from messaging import models, outbox, reconcile
from messaging.states import AttemptOutcome, DecisionKind, MessageState, Question
from tests import factories
from tests.messaging.test_outbox_races import at_once, with_commits

pytestmark = pytest.mark.django_db
S = MessageState
K = DecisionKind
NOW = timezone.now()
LATER = NOW + timedelta(minutes=30)


def asked(conversation: models.Conversation, **columns: Any) -> models.Message:
    """A message without an answer, posted at NOW, of which nothing more will be found."""
    message: models.Message = factories.OutgoingFactory(
        conversation=conversation, state=S.NEEDS_DECISION, fence=1, unknown_since=NOW, occurred_at=NOW, **columns
    )
    factories.SendAttemptFactory(
        message=message, outcome=AttemptOutcome.AMBIGUOUS, http_status=None, posting_at=NOW, fingerprint="a" * 64
    )
    return message


def decide(
    message: models.Message, user: models.User, kind: K, at: datetime = LATER, seen: str = ""
) -> models.Decision:
    return reconcile.decide(message, user, kind, "I called him", seen=seen or reconcile.stamp(message), now=at)


def fresh(message: models.Message) -> models.Message:
    message.refresh_from_db()
    return message


def waiting(conversation: models.Conversation) -> models.Message:
    message: models.Message = factories.OutgoingFactory(conversation=conversation, state=S.WAITING)
    return message


@pytest.mark.parametrize(("kind", "state"), [(K.WAS_SENT, S.CLOSED_SENT), (K.LEAVE_UNSENT, S.CLOSED_NOT_SENT)])
def test_a_verdict_closes_the_message_and_lets_the_next_one_go(
    conversation: models.Conversation, mara: models.User, kind: K, state: S
) -> None:
    message, behind = asked(conversation), waiting(conversation)
    decision = decide(message, mara, kind)
    closed = fresh(message)
    assert (closed.state, closed.settled_by, closed.settled_at, closed.question) == (state, mara, LATER, "")
    assert fresh(behind).state == S.QUEUED
    assert (decision.user, decision.reason, decision.kind) == (mara, "I called him", kind)
    assert decision.evidence["tries"][0]["outcome"] == "ambiguous"
    assert models.AuditEntry.objects.get(action="decide").detail == {"decision": decision.pk, "kind": kind}


def test_sending_again_puts_the_message_back_with_a_life_of_its_own(
    conversation: models.Conversation, mara: models.User
) -> None:
    message = asked(conversation, expires_at=NOW + timedelta(minutes=1))
    decision = decide(message, mara, K.SEND_AGAIN)
    again = fresh(message)
    assert (again.state, again.not_before, again.expires_at) == (S.QUEUED, LATER, LATER + timedelta(hours=24))
    claimed = outbox.claim(conversation.pk, outbox.Sender(None, lambda: LATER))
    assert claimed is not None
    attempt = outbox.begin_post(claimed, outbox.draft_of(message), "test", LATER)
    assert (attempt.authority, attempt.decision) == ("human", decision)


def test_one_decision_buys_one_post_even_if_the_code_is_wrong(
    conversation: models.Conversation, mara: models.User
) -> None:
    message = asked(conversation)
    decision = decide(message, mara, K.SEND_AGAIN)
    factories.SendAttemptFactory(message=message, fence=2, authority="human", decision=decision)
    with pytest.raises(IntegrityError), transaction.atomic():
        factories.SendAttemptFactory(message=message, fence=3, authority="human", decision=decision)


@pytest.mark.parametrize("kind", [K.WAS_SENT, K.LEAVE_UNSENT, K.SEND_NEXT])
def test_only_a_decision_to_send_again_entitles_to_a_post(
    conversation: models.Conversation, mara: models.User, kind: K
) -> None:
    message = asked(conversation)
    waiting(conversation)
    decision = decide(message, mara, kind)
    with pytest.raises(IntegrityError, match="does not send message"), transaction.atomic():
        factories.SendAttemptFactory(message=message, fence=2, authority="human", decision=decision)


def test_the_decision_about_one_message_sends_no_other(conversation: models.Conversation, mara: models.User) -> None:
    decision = decide(asked(conversation), mara, K.SEND_AGAIN)
    other = asked(factories.ConversationFactory(connection=conversation.connection))
    with pytest.raises(IntegrityError, match="does not send message"), transaction.atomic():
        factories.SendAttemptFactory(message=other, fence=2, authority="human", decision=decision)


def test_a_dialog_that_shows_an_older_state_decides_nothing(
    conversation: models.Conversation, mara: models.User
) -> None:
    message = asked(conversation)
    seen = reconcile.stamp(message)
    models.Message.objects.filter(pk=message.pk).update(fence=2)
    with pytest.raises(reconcile.NotDecidable, match="has changed meanwhile"):
        decide(message, mara, K.WAS_SENT, seen=seen)
    assert not models.Decision.objects.exists()


def test_the_second_person_is_told_who_decided(
    conversation: models.Conversation, mara: models.User, sol: models.User
) -> None:
    message = asked(conversation)
    seen = reconcile.stamp(message)
    first = decide(message, mara, K.WAS_SENT, seen=seen)
    with pytest.raises(reconcile.AlreadyDecided) as told:
        decide(message, sol, K.SEND_AGAIN, seen=seen)
    assert told.value.decision == first
    assert str(told.value) == f"{mara.label} has decided already: it was sent."
    assert fresh(message).state == S.CLOSED_SENT


@with_commits
def test_of_two_people_at_once_one_decides(
    conversation: models.Conversation, mara: models.User, sol: models.User
) -> None:
    for _ in range(6):
        message = asked(conversation)
        seen = reconcile.stamp(message)

        def attempt(user: models.User, message: models.Message = message, seen: str = seen) -> Any:
            try:
                return decide(message, user, K.SEND_AGAIN, seen=seen)
            except reconcile.AlreadyDecided as told:
                return str(told)

        answers = at_once(lambda: attempt(mara), lambda: attempt(sol))
        assert sorted(type(answer).__name__ for answer in answers) == ["Decision", "str"]
        assert models.Decision.objects.filter(message=message).count() == 1
        assert fresh(message).state == S.QUEUED
        outbox.cancel(message, mara, LATER)


def test_a_post_of_a_frozen_worker_cannot_be_repeated_too_early(
    conversation: models.Conversation, mara: models.User
) -> None:
    message = asked(conversation)
    with pytest.raises(reconcile.NotDecidable, match="too early"):
        decide(message, mara, K.SEND_AGAIN, at=NOW + timedelta(seconds=149))
    decide(message, mara, K.SEND_AGAIN, at=NOW + timedelta(seconds=150))


def test_what_never_left_may_go_at_once_and_was_not_sent(conversation: models.Conversation, mara: models.User) -> None:
    message = factories.OutgoingFactory(
        conversation=conversation, state=S.NEEDS_DECISION, question=Question.POISON, fence=6
    )
    assert [one.kind for one in reconcile.options(message, reconcile.evidence(message), NOW)] == [
        K.SEND_AGAIN,
        K.LEAVE_UNSENT,
    ]
    decide(message, mara, K.SEND_AGAIN, at=NOW)
    claimed = outbox.claim(conversation.pk, outbox.Sender(None, lambda: LATER))
    assert claimed is not None
    outbox.begin_post(claimed, outbox.draft_of(message), "test", LATER)
    models.SendAttempt.objects.filter(message=message).update(outcome=AttemptOutcome.LOST, finished_at=LATER)
    models.Message.objects.filter(pk=message.pk).update(state=S.QUEUED, lease_until=None)
    again = outbox.claim(conversation.pk, outbox.Sender(None, lambda: LATER))
    assert again is not None
    with pytest.raises(outbox.ClaimLost):
        outbox.begin_post(again, outbox.draft_of(message), "test", LATER)


@pytest.mark.parametrize("state", [S.UNKNOWN, S.NEEDS_DECISION])
def test_the_next_one_may_be_let_past_an_unsettled_message(
    conversation: models.Conversation, mara: models.User, state: S
) -> None:
    message, behind = asked(conversation), waiting(conversation)
    models.Message.objects.filter(pk=message.pk).update(state=state)
    decide(fresh(message), mara, K.SEND_NEXT)
    assert (fresh(message).state, message.detached, fresh(behind).state) == (state, True, S.QUEUED)
    assert K.SEND_NEXT not in [one.kind for one in reconcile.options(message, reconcile.evidence(message), LATER)]


def test_a_message_that_was_passed_and_is_sent_again_waits_for_its_turn(
    conversation: models.Conversation, mara: models.User
) -> None:
    message, behind = asked(conversation), waiting(conversation)
    third = waiting(conversation)
    decide(message, mara, K.SEND_NEXT)
    decide(fresh(message), mara, K.SEND_AGAIN)
    assert (fresh(message).state, message.detached, fresh(behind).state) == (S.WAITING, False, S.QUEUED)
    outbox.cancel(behind, mara, LATER)
    assert (fresh(message).state, fresh(third).state) == (S.QUEUED, S.WAITING)


@pytest.mark.parametrize("state", sorted(set(S) - {S.NEEDS_DECISION, S.MIRRORED}))
def test_nothing_else_can_be_decided_about(conversation: models.Conversation, mara: models.User, state: S) -> None:
    message = asked(conversation)
    operation = factories.OperationFactory(connection=conversation.connection)
    models.Message.objects.filter(pk=message.pk).update(
        state=state, lease_until=LATER if state in {S.CLAIMED, S.POSTING} else None, operation=operation
    )
    for kind in K:
        with pytest.raises(reconcile.NotDecidable):
            decide(fresh(message), mara, kind)
    assert not models.Decision.objects.exists()


def test_a_match_that_is_already_here_counts_before_any_verdict(
    conversation: models.Conversation, mara: models.User
) -> None:
    message = asked(conversation)
    operation = factories.OperationFactory(
        connection=conversation.connection, fingerprint="a" * 64, catena_created_at=NOW, catena_id=uuid.uuid4()
    )
    with pytest.raises(reconcile.NotDecidable, match="has changed meanwhile"):
        decide(message, mara, K.SEND_AGAIN)
    assert (fresh(message).state, message.operation) == (S.ACCEPTED, operation)


def test_the_evidence_tells_what_the_driver_and_the_provider_show(conversation: models.Conversation) -> None:
    message = asked(conversation, text="Use the south gate")
    waiting(conversation)
    factories.IncomingFactory(conversation=conversation, text="Which gate?", occurred_at=NOW + timedelta(minutes=1))
    factories.IncomingFactory(
        conversation=conversation, text="Use the south gate", direction="out", occurred_at=NOW + timedelta(minutes=2)
    )
    factories.IncomingFactory(conversation=conversation, text="Hello", occurred_at=NOW - timedelta(minutes=1))
    found = reconcile.evidence(message)
    assert [one.text for one in found.driver_said] == ["Which gate?"]
    assert [one.text for one in found.echoes] == ["Use the south gate"]
    assert (found.waiting, len(found.tries)) == (1, 1)
    assert "Use the south gate" not in str(found.as_json())


def test_what_catena_has_had_for_a_day_may_be_closed_and_not_before(
    conversation: models.Conversation, mara: models.User
) -> None:
    message = factories.accepted(conversation, accepted_at=NOW)
    with pytest.raises(reconcile.NotDecidable):
        decide(message, mara, K.WAS_SENT, at=NOW + timedelta(hours=23))
    decide(message, mara, K.WAS_SENT, at=NOW + timedelta(hours=25))
    assert fresh(message).state == S.CLOSED_SENT


def test_an_operation_of_the_same_words_and_another_time_is_close_and_no_candidate(
    conversation: models.Conversation, mara: models.User
) -> None:
    message = asked(conversation)
    for minutes in (1, 45):
        factories.OperationFactory(
            connection=conversation.connection, fingerprint="a" * 64, catena_created_at=NOW + timedelta(minutes=minutes)
        )
    found = reconcile.evidence(message)
    assert [one.created_at for one in found.candidates] == [(NOW + timedelta(minutes=1)).isoformat()]
    assert [tuple(one.differs) for one in found.nearest] == [("created_at",)]
