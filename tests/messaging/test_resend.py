"""A failure that is sent again: as a new message, once, whoever asks; and never unasked when it may have arrived."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from messaging import access, models, outbox
from messaging.catena.client import CatenaClient
from messaging.recovery.verdicts import judge
from messaging.simulator import SimulatorServer
from messaging.states import RESENDABLE_STATES, AttemptOutcome, MessageState
from tests import factories
from tests.messaging.test_outbox_races import at_once, with_commits

pytestmark = pytest.mark.django_db
S = MessageState
REFUSED = {"error_type": "validation", "response_status_code": 422, "reason": "Samsara did not accept the content"}


def refused(conversation: models.Conversation, author: models.User, **columns: Any) -> models.Message:
    """A failure that the driver certainly did not get."""
    return factories.failed(conversation, author=author, **{**REFUSED, **columns})


def again(message: models.Message, user: models.User, *, is_sure: bool = False) -> outbox.Resend:
    return outbox.resend(message, user, timezone.now(), is_sure=is_sure)


def ended(message: models.Message, state: S) -> models.Message:
    models.Message.objects.filter(pk=message.pk).update(state=state)
    message.conversation.summarise()
    message.refresh_from_db()
    return message


def attention(conversation: models.Conversation) -> int:
    conversation.refresh_from_db()
    return conversation.attention_count


def test_a_resend_repeats_the_words_and_leaves_the_failure_as_it_is(
    conversation: models.Conversation, mara: models.User, fleet: models.Fleet
) -> None:
    question = factories.IncomingFactory(conversation=conversation)
    message = refused(conversation, mara, text="Use gate 4", priority="high", reply_to=question)
    colleague = factories.UserFactory(fleets=[fleet], undo_seconds=0)
    made = again(message, colleague).message
    message.refresh_from_db()
    assert (made.text, made.priority, made.reply_to, made.recipient) == (
        "Use gate 4",
        "high",
        question,
        message.recipient,
    )
    assert (made.retry_of, made.author, made.state) == (message, colleague, S.QUEUED)
    assert (message.state, message.reason) == (S.FAILED, "Samsara did not accept the content")
    assert (message.handled_by, message.handled_at) == (colleague, made.occurred_at)
    assert attention(conversation) == 0
    entry = models.AuditEntry.objects.get(action="resend")
    assert (entry.user, entry.message, entry.detail["retry_of"]) == (colleague, made, str(message.uuid))


@pytest.mark.parametrize("state", sorted(set(S) - RESENDABLE_STATES - {S.POSTING, S.CLAIMED, S.MIRRORED}))
def test_only_a_failure_can_be_sent_again(conversation: models.Conversation, mara: models.User, state: S) -> None:
    message = refused(conversation, mara, unknown_since=timezone.now(), question="absent")
    ended(message, state)
    with pytest.raises(outbox.NotResendable, match="has not failed, or no longer"):
        again(message, mara, is_sure=True)
    assert models.Message.objects.count() == 1


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"error_type": "network", "response_status_code": None}, "The line to Samsara broke"),
        ({"error_type": "network", "response_status_code": 400}, "The line to Samsara broke"),
        ({"error_type": "tsp", "response_status_code": 503}, "Samsara answered 503"),
        ({"error_type": "tsp", "response_status_code": 599}, "Samsara answered 599"),
        ({"error_type": "tsp", "response_status_code": None}, "Samsara gave no answer"),
        ({"error_type": "", "response_status_code": None}, "Samsara gave no answer"),
    ],
)
def test_what_may_have_arrived_is_sent_again_only_by_somebody_who_is_sure(
    conversation: models.Conversation, mara: models.User, columns: dict[str, Any], words: str
) -> None:
    message = factories.failed(conversation, author=mara, **columns)
    with pytest.raises(outbox.MayHaveArrived, match=words):
        again(message, mara)
    message.refresh_from_db()
    assert (message.handled_at, models.Message.objects.count()) == (None, 1)
    assert again(message, mara, is_sure=True).is_new


@pytest.mark.parametrize(
    ("error_type", "code"), [("network", None), ("tsp", 503), ("tsp", None), ("tsp", 408), ("tsp", 302)]
)
def test_one_try_of_several_that_may_have_arrived_is_enough_to_ask(
    conversation: models.Conversation, mara: models.User, error_type: str, code: int | None
) -> None:
    message = factories.failed(conversation, author=mara, error_type="validation", response_status_code=422)
    assert outbox.doubt_about(message) == ""
    factories.OperationLogFactory(operation=message.operation, error_type=error_type, response_status_code=code)

    with pytest.raises(outbox.MayHaveArrived, match="An earlier try"):
        again(message, mara)
    assert judge([message.pk], timezone.now()) == {message.pk: "may_have_arrived"}


def test_the_end_of_one_of_two_operations_says_nothing_of_the_other(
    conversation: models.Conversation, mara: models.User
) -> None:
    message = factories.failed(
        conversation, author=mara, error_type="validation", response_status_code=422, is_sent_twice=True
    )

    with pytest.raises(outbox.MayHaveArrived, match="two operations"):
        again(message, mara)
    assert judge([message.pk], timezone.now()) == {message.pk: "may_have_arrived"}


@pytest.mark.parametrize("code", [200, 302, 408])
def test_a_code_that_is_no_refusal_is_asked_about(
    conversation: models.Conversation, mara: models.User, code: int
) -> None:
    message = factories.failed(conversation, author=mara, error_type="tsp", response_status_code=code)

    with pytest.raises(outbox.MayHaveArrived, match=f"answered {code}, which does not say"):
        again(message, mara)
    assert judge([message.pk], timezone.now()) == {message.pk: "may_have_arrived"}


@pytest.mark.parametrize("code", [400, 401, 404, 422, 429])
def test_what_the_provider_refused_is_sent_again_without_a_question(
    conversation: models.Conversation, mara: models.User, code: int
) -> None:
    message = factories.failed(conversation, author=mara, error_type="tsp", response_status_code=code)
    assert again(message, mara).is_new


def test_a_refusal_after_a_try_without_an_answer_is_no_proof(
    conversation: models.Conversation, mara: models.User
) -> None:
    message = factories.OutgoingFactory(conversation=conversation, author=mara, state=S.REJECTED)
    assert outbox.doubt_about(message) == ""
    factories.SendAttemptFactory(message=message, outcome=AttemptOutcome.AMBIGUOUS, http_status=None)
    with pytest.raises(outbox.MayHaveArrived, match="never answered"):
        again(message, mara)


@pytest.mark.parametrize(
    ("state", "columns", "words"),
    [
        (S.FAILED, {"error_type": "network"}, "It repeats an earlier message. The line to Samsara broke"),
        (S.SUCCEEDED, {"operation_status": "success"}, "In the end Samsara took that one after all"),
    ],
)
def test_a_refused_resend_of_what_may_have_arrived_is_asked_about_too(
    conversation: models.Conversation, mara: models.User, state: S, columns: dict[str, Any], words: str
) -> None:
    first = factories.failed(conversation, author=mara)
    second = ended(again(first, mara, is_sure=True).message, S.REJECTED)
    third = ended(again(second, mara, is_sure=True).message, S.REJECTED)
    models.Message.objects.filter(pk=first.pk).update(state=state, **columns)
    with pytest.raises(outbox.MayHaveArrived, match=words):
        again(models.Message.objects.get(pk=third.pk), mara)


def test_the_second_person_is_given_what_the_first_one_sent(
    conversation: models.Conversation, mara: models.User, sol: models.User
) -> None:
    message = refused(conversation, mara)
    first, second = again(message, sol), again(message, mara)
    assert (first.is_new, second.is_new) == (True, False)
    assert second.message == first.message
    assert second.message.author == sol


@with_commits
def test_of_several_at_once_one_sends(conversation: models.Conversation, mara: models.User, sol: models.User) -> None:
    for _ in range(5):
        message = refused(conversation, mara)
        found = at_once(*[lambda user=user, message=message: again(message, user) for user in (mara, sol, mara, sol)])
        assert sorted(one.is_new for one in found) == [False, False, False, True]
        assert {one.message.pk for one in found} == {models.Message.objects.get(retry_of=message).pk}
    assert models.AuditEntry.objects.filter(action="resend").count() == 5


def test_the_database_itself_refuses_a_second_resend(conversation: models.Conversation, mara: models.User) -> None:
    message = refused(conversation, mara)
    again(message, mara)
    with pytest.raises(IntegrityError, match="message_resent_once"), transaction.atomic():
        factories.OutgoingFactory(conversation=conversation, author=mara, retry_of=message, state=S.WAITING)


def test_a_failed_resend_can_itself_be_sent_again_and_the_first_one_cannot(
    conversation: models.Conversation, mara: models.User
) -> None:
    first = refused(conversation, mara)
    second = again(first, mara).message
    for state in sorted(RESENDABLE_STATES - {S.FAILED}):
        ended(second, state)
        assert again(first, mara).message == second
        assert attention(conversation) == 1
    third = again(second, mara).message
    assert (third.retry_of, third.state) == (second, S.QUEUED)
    assert attention(conversation) == 0
    assert models.Message.objects.count() == 3


def test_a_resend_that_is_withdrawn_leaves_the_failure_open_again(
    conversation: models.Conversation, mara: models.User
) -> None:
    message = refused(conversation, mara)
    made = again(message, mara).message
    assert outbox.cancel(made, mara, timezone.now())
    message.refresh_from_db()
    assert (message.handled_at, message.handled_by, attention(conversation)) == (None, None, 1)
    assert again(message, mara).is_new


def test_withdrawing_a_resend_does_not_undo_what_a_person_had_noted_before(
    conversation: models.Conversation, mara: models.User
) -> None:
    message = refused(conversation, mara)
    assert outbox.handled(message, mara, timezone.now() - timedelta(minutes=1), "Called the driver")
    made = again(message, mara).message
    outbox.cancel(made, mara, timezone.now())
    message.refresh_from_db()
    assert (message.handled_note, message.handled_by) == ("Called the driver", mara)


def test_a_resend_marks_nothing_as_read(conversation: models.Conversation, mara: models.User) -> None:
    message = refused(conversation, mara)
    factories.IncomingFactory(conversation=conversation)
    conversation.summarise()
    again(message, mara)
    assert not models.ReadMark.objects.exists()


def test_support_and_the_fleets_people_may_send_again_and_nobody_else(
    connection: models.Connection, mara: models.User, sol: models.User, ada: models.User, outsider: models.User
) -> None:
    may = [access.can_resend(user, connection) for user in (mara, sol, ada, outsider)]
    assert may == [True, True, True, False]


def test_what_support_sends_again_goes_out(
    talk: models.Conversation, mara: models.User, sol: models.User,
    catena: SimulatorServer, catena_client: CatenaClient,
) -> None:  # fmt: skip
    models.User.objects.update(undo_seconds=0)
    sol.refresh_from_db()
    message = refused(talk, mara, text="Use gate 4")
    made = again(message, sol).message
    assert outbox.drain(talk.pk, catena_client) == 1
    made.refresh_from_db()
    assert made.state == S.ACCEPTED
    assert [entry.message_text for entry in catena.world.journal] == ["Use gate 4"]


def test_support_may_not_write_anew(
    talk: models.Conversation, sol: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = factories.OutgoingFactory(conversation=talk, author=sol)
    outbox.drain(talk.pk, catena_client)
    message.refresh_from_db()
    assert (message.state, catena.world.posts_seen) == (S.REJECTED, 0)
