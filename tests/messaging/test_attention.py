"""What asks for a person stays until somebody took care of it, and urgent messages speak up by themselves."""

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.utils import timezone

from messaging import live, mirror, models, outbox
from messaging.catena.client import CatenaClient
from messaging.models.conversation import NEEDS_ATTENTION_SQL, needs_attention_q
from messaging.outbox import verdict
from messaging.states import ATTENTION_STATES, LIVELY_STATES, Direction, MessageState, Question
from messaging.tasks import rounds
from tests import factories
from tests.messaging import records
from tests.messaging.test_outbox_races import at_once, begin, sender, with_commits

pytestmark = pytest.mark.django_db
S = MessageState
NOW = timezone.now()
LIMIT = timedelta(seconds=120)


def urgent(conversation: models.Conversation, author: models.User, **columns: Any) -> models.Message:
    """A high-priority message without a hold, composed exactly the limit ago."""
    at = columns.pop("occurred_at", NOW - LIMIT)
    message: models.Message = factories.OutgoingFactory(
        conversation=conversation, author=author, **{"priority": "high", "occurred_at": at, **columns}
    )
    return message


def fresh(message: models.Message) -> models.Message:
    message.refresh_from_db()
    message.conversation.refresh_from_db()
    return message


def count(conversation: models.Conversation) -> int:
    conversation.refresh_from_db()
    return conversation.attention_count


def columns_of(state: S, conversation: models.Conversation) -> dict[str, Any]:
    """What a message of this state needs to be possible."""
    operation = factories.OperationFactory(connection=conversation.connection) if state == S.ACCEPTED else None
    lease = NOW + timedelta(minutes=1) if state in {S.CLAIMED, S.POSTING} else None
    return {"state": state, "operation": operation, "lease_until": lease, "unknown_since": NOW}


@pytest.mark.parametrize("state", sorted(LIVELY_STATES))
def test_an_urgent_message_that_is_not_accepted_in_its_time_escalates_once(
    conversation: models.Conversation, mara: models.User, state: S
) -> None:
    message = urgent(conversation, mara, **columns_of(state, conversation))
    assert outbox.escalate(NOW - timedelta(seconds=1)) == 0
    assert outbox.escalate(NOW) == 1
    assert outbox.escalate(NOW + timedelta(minutes=5)) == 0
    assert (fresh(message).escalated_at, message.state) == (NOW, state)
    assert count(conversation) == 1
    entry = models.AuditEntry.objects.get(action="escalated")
    assert (entry.user, entry.message) == (None, message)


@pytest.mark.parametrize(
    "columns",
    [
        {"priority": "medium"}, {"priority": "low"}, {"state": S.CANCELLED}, {"state": S.REJECTED}, {"state": S.EXPIRED},
        {"state": S.CLOSED_SENT}, {"state": S.NEEDS_DECISION},
    ],
)  # fmt: skip
def test_what_is_not_urgent_or_not_under_way_does_not_escalate(
    conversation: models.Conversation, mara: models.User, columns: dict[str, Any]
) -> None:
    urgent(conversation, mara, **columns)
    factories.accepted(conversation, author=mara, state=S.SUCCEEDED, priority="high", occurred_at=NOW - LIMIT)
    assert outbox.escalate(NOW) == 0


def test_the_time_counts_from_the_end_of_the_hold_and_a_back_off_gives_no_more(
    conversation: models.Conversation, mara: models.User
) -> None:
    hold = timedelta(seconds=5)
    message = urgent(conversation, mara, not_before=NOW - LIMIT + hold)
    assert outbox.escalate(NOW) == 0
    models.Message.objects.filter(pk=message.pk).update(not_before=NOW + timedelta(minutes=1))
    assert outbox.escalate(NOW + timedelta(seconds=4)) == 0
    assert outbox.escalate(NOW + hold) == 1


def test_the_limit_is_a_setting(conversation: models.Conversation, mara: models.User, settings: Any) -> None:
    settings.ESCALATE_HIGH_SECONDS = 600
    urgent(conversation, mara)
    assert outbox.escalate(NOW) == 0
    assert outbox.escalate(NOW + timedelta(seconds=480)) == 1


def test_it_leaves_the_list_by_itself_only_when_the_provider_accepts_it(
    conversation: models.Conversation, mara: models.User
) -> None:
    message = urgent(conversation, mara, **columns_of(S.ACCEPTED, conversation), accepted_at=NOW)
    outbox.escalate(NOW)
    mirror.apply_operation(records.operation(message, status="pending", logs=[]))
    assert count(conversation) == 1
    mirror.apply_operation(records.operation(message, status="success", resource_id=uuid.uuid4()))
    assert (fresh(message).state, count(conversation)) == (S.SUCCEEDED, 0)


def test_being_handed_to_catena_is_not_yet_being_accepted(
    talk: models.Conversation, mara: models.User, catena_client: CatenaClient
) -> None:
    message = urgent(talk, mara, occurred_at=timezone.now() - LIMIT)
    outbox.escalate(timezone.now())
    outbox.drain(talk.pk, catena_client)
    assert fresh(message).state == S.ACCEPTED
    assert count(talk) == 1


def test_an_answer_that_is_final_at_once_takes_a_late_message_off_the_list(
    talk: models.Conversation, mara: models.User
) -> None:
    message = urgent(talk, mara, occurred_at=timezone.now() - LIMIT)
    outbox.escalate(timezone.now())
    claimed = outbox.claim(talk.pk, sender())
    assert claimed is not None
    begin(claimed)
    said = records.operation(message, status="success", resource_id=uuid.uuid4())
    assert outbox.finish(claimed, verdict.accepted(said), timezone.now())
    assert (fresh(message).state, count(talk)) == (S.SUCCEEDED, 0)


def test_handling_a_late_message_quiets_it_until_it_fails(conversation: models.Conversation, mara: models.User) -> None:
    message = urgent(conversation, mara, **columns_of(S.ACCEPTED, conversation), accepted_at=NOW)
    outbox.escalate(NOW)
    assert outbox.handled(fresh(message), mara, NOW, "Called the driver")
    assert count(conversation) == 0
    assert outbox.escalate(NOW + timedelta(minutes=1)) == 0
    mirror.apply_operation(records.operation(message, status="failed", resource_id=None))
    assert (fresh(message).state, message.handled_at, message.handled_note) == (S.FAILED, None, "")
    assert count(conversation) == 1
    assert models.AuditEntry.objects.filter(action="handled", user=mara).exists()


def test_a_failure_is_handled_with_a_note_by_one_person(
    conversation: models.Conversation, mara: models.User, sol: models.User
) -> None:
    message = factories.failed(conversation, author=mara)
    assert outbox.handled(message, mara, NOW, "Called the driver")
    assert not outbox.handled(message, sol, NOW, "Me too")
    assert (fresh(message).handled_note, message.handled_by) == ("Called the driver", mara)
    assert count(conversation) == 0


@pytest.mark.parametrize("columns", [{"corrected_at": NOW}, {"is_sent_twice": True}])
def test_a_surprise_asks_for_somebody_until_it_is_handled(
    conversation: models.Conversation, mara: models.User, columns: dict[str, Any]
) -> None:
    message = factories.accepted(conversation, author=mara, state=S.SUCCEEDED, operation_status="success", **columns)
    conversation.summarise()
    assert count(conversation) == 1
    told = live.glance(mara).own
    assert told is not None
    assert told.badge.key == ("sent_after_all" if "corrected_at" in columns else "sent_twice")
    assert outbox.handled(message, mara, NOW, "Told the driver to ignore it")
    assert (count(conversation), live.glance(mara).own) == (0, None)


def test_a_note_is_no_decision(conversation: models.Conversation, mara: models.User) -> None:
    message = factories.OutgoingFactory(conversation=conversation, author=mara, state=S.NEEDS_DECISION)
    conversation.summarise()
    assert not outbox.handled(message, mara, NOW, "Called the driver")
    assert count(conversation) == 1


def test_neither_an_answer_of_the_driver_nor_another_send_clears_a_failure(
    conversation: models.Conversation, mara: models.User
) -> None:
    message = factories.failed(conversation, author=mara)
    mirror.apply_message(records.message(conversation, message_text="Never mind"))
    outbox.compose(mara, conversation, "Another one", "medium", None, uuid.uuid4(), timezone.now())
    assert (fresh(message).handled_at, count(conversation)) == (None, 1)


@pytest.mark.parametrize("state", sorted(ATTENTION_STATES))
def test_no_failure_is_handled_before_it_happens(
    conversation: models.Conversation, mara: models.User, state: S
) -> None:
    message = urgent(conversation, mara, state=S.QUEUED, handled_at=NOW, handled_by=mara, escalated_at=NOW)
    columns: dict[str, Any] = {"state": state}
    if state == S.FAILED:
        columns["operation"] = factories.OperationFactory(connection=conversation.connection)
    models.Message.objects.filter(pk=message.pk).update(**columns, question=Question.ABSENT)
    assert (fresh(message).handled_at, message.handled_by) == (None, None)


def test_the_keepers_round_escalates(conversation: models.Conversation, mara: models.User) -> None:
    message = urgent(conversation, mara, occurred_at=timezone.now() - LIMIT - timedelta(seconds=5))
    rounds.keep()
    assert fresh(message).escalated_at is not None


@with_commits
def test_two_keepers_at_once_escalate_a_message_once(conversation: models.Conversation, mara: models.User) -> None:
    for _ in range(5):
        message = urgent(conversation, mara)
        assert sorted(at_once(*[lambda: outbox.escalate(NOW)] * 3)) == [0, 0, 1]
        models.Message.objects.filter(pk=message.pk).update(state=S.CANCELLED)
    assert models.AuditEntry.objects.filter(action="escalated").count() == 5


def late(at: datetime | None, state: S, conversation: models.Conversation, author: models.User) -> None:
    columns = columns_of(state, conversation)
    if state in {S.SUCCEEDED, S.FAILED}:
        columns["operation"] = factories.OperationFactory(connection=conversation.connection)
    for handled_at in (None, NOW):
        other = factories.ConversationFactory(connection=conversation.connection)
        urgent(other, author, **columns, escalated_at=at, handled_at=handled_at)
        columns["operation"] = columns["operation"] and factories.OperationFactory(connection=conversation.connection)


def surprising(conversation: models.Conversation, author: models.User) -> None:
    """Sent after all and sent twice, each once open and once handled."""
    for columns in ({"corrected_at": NOW}, {"is_sent_twice": True}):
        for handled_at in (None, NOW):
            other = factories.ConversationFactory(connection=conversation.connection)
            factories.accepted(other, author=author, state=S.SUCCEEDED, handled_at=handled_at, **columns)


def test_the_handwritten_condition_means_the_same_as_the_query(
    conversation: models.Conversation, mara: models.User
) -> None:
    for state in set(S) - {S.MIRRORED}:
        for at in (None, NOW):
            late(at, state, conversation, mara)
    surprising(conversation, mara)
    with database.cursor() as cursor:
        cursor.execute(f"SELECT m.id FROM messaging_message m WHERE {NEEDS_ATTENTION_SQL}")
        by_hand = {pk for (pk,) in cursor.fetchall()}
    by_query = set(models.Message.objects.filter(needs_attention_q()).values_list("pk", flat=True))
    assert by_hand == by_query
    assert len(by_query) == len(ATTENTION_STATES) * 2 + len(LIVELY_STATES) + 2
    assert Direction.OUT in set(models.Message.objects.values_list("direction", flat=True))
