"""Who waits for an answer follows from who wrote last, whoever looked."""

from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

import pytest
from django.db import connection as database
from django.utils import timezone

from messaging import models, outbox
from messaging.models.conversation import unanswered_since_sql
from messaging.rows import read
from messaging.states import UNANSWERING_STATES, MessageState
from tests import factories

pytestmark = pytest.mark.django_db
S = MessageState
NOON = timezone.now().replace(microsecond=0) - timedelta(hours=5)


def at(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


def hear(conversation: models.Conversation, minutes: int, **columns: Any) -> models.Message:
    message = factories.IncomingFactory(conversation=conversation, occurred_at=at(minutes), **columns)
    conversation.summarise()
    return message


def answer(conversation: models.Conversation, minutes: int, state: MessageState = S.SUCCEEDED, **columns: Any) -> Any:
    make = factories.accepted if state in {S.SUCCEEDED, S.FAILED, S.ACCEPTED} else _unsent
    message = make(conversation, occurred_at=at(minutes), state=state, **columns)
    conversation.summarise()
    return message


def _unsent(conversation: models.Conversation, **columns: Any) -> models.Message:
    return factories.OutgoingFactory(conversation=conversation, **columns)


def since(conversation: models.Conversation) -> datetime | None:
    """The column, which must be what the statement for checks finds."""
    conversation.refresh_from_db()
    (found,) = read(
        f"SELECT {unanswered_since_sql('c')} AS since FROM messaging_conversation c WHERE c.id = %(id)s",
        {"id": conversation.pk},
    )
    assert found["since"] == conversation.unanswered_since
    return conversation.unanswered_since


def test_a_driver_waits_from_the_first_line_that_nobody_answered(conversation: models.Conversation) -> None:
    assert since(conversation) is None
    hear(conversation, 1)
    answer(conversation, 2)
    assert since(conversation) is None
    hear(conversation, 3)
    hear(conversation, 4)
    assert since(conversation) == at(3)
    answer(conversation, 5, S.QUEUED)
    assert since(conversation) is None


@pytest.mark.parametrize("state", sorted(UNANSWERING_STATES))
def test_what_certainly_did_not_go_out_answers_nothing_until_somebody_took_care_of_it(
    conversation: models.Conversation, mara: models.User, state: MessageState
) -> None:
    hear(conversation, 1)
    message = answer(conversation, 2, state, author=mara)
    assert since(conversation) == at(1)
    if outbox.handled(message, mara, timezone.now(), "Called him"):
        assert since(conversation) is None


def test_a_withdrawn_reply_leaves_the_driver_waiting(conversation: models.Conversation, mara: models.User) -> None:
    hear(conversation, 1)
    message = answer(conversation, 2, S.QUEUED, author=mara)
    assert outbox.cancel(message, mara, timezone.now())
    assert since(conversation) == at(1)


def test_a_line_that_came_late_is_answered_by_what_was_written_after_it(conversation: models.Conversation) -> None:
    answer(conversation, 5)
    hear(conversation, 4)
    assert since(conversation) is None


def test_a_message_from_the_providers_own_screen_is_an_answer_too(conversation: models.Conversation) -> None:
    hear(conversation, 1)
    factories.IncomingFactory(conversation=conversation, direction="out", occurred_at=at(2))
    conversation.summarise()
    assert since(conversation) is None


def test_a_deleted_line_waits_for_nothing(conversation: models.Conversation) -> None:
    message = hear(conversation, 1)
    models.Message.objects.filter(pk=message.pk).update(deleted_at=timezone.now())
    conversation.summarise()
    assert since(conversation) is None


def test_the_inbox_says_who_needs_a_reply_and_lists_them_alone_on_demand(
    client_of: Any, mara: models.User, connection: models.Connection
) -> None:
    waiting, answered = (
        factories.ConversationFactory(driver=factories.FleetUserFactory(connection=connection, name=name))
        for name in ("Luis Ortega", "Mei-Ling Wu")
    )
    for talk in (waiting, answered):
        hear(talk, 1)
    answer(answered, 2, author=mara)
    client = client_of(mara)
    client.post(f"/c/{waiting.uuid}/read/")
    everything, narrow = (client.get(address).content.decode() for address in ("/", "/?show=reply"))
    assert everything.count("<span>Needs reply</span>") == 1
    assert (str(waiting.uuid) in narrow, str(answered.uuid) in narrow) == (True, False)
    answer(waiting, 3, author=mara)
    assert "No driver waits for a reply" in client.get("/?show=reply").content.decode()


def test_the_migration_fills_in_what_the_rows_at_hand_say(conversation: models.Conversation, mara: models.User) -> None:
    hear(conversation, 1)
    answer(conversation, 2, S.FAILED, author=mara)
    answered = factories.ConversationFactory()
    hear(answered, 1)
    receipt = answer(answered, 2, delivered_at=at(3))
    models.Conversation.objects.update(unanswered_since=None)
    migration = import_module("messaging.migrations.0012_answers")
    with database.cursor() as cursor:
        cursor.execute(migration.UNANSWERED + migration.RECEIPTS)
    assert (since(conversation), since(answered)) == (at(1), None)
    reporting = models.Connection.objects.exclude(first_receipt_at=None)
    assert [(row.pk, row.first_receipt_at) for row in reporting] == [(receipt.connection_id, at(3))]


def test_what_was_written_to_a_group_answers_nobody(conversation: models.Conversation) -> None:
    hear(conversation, 1)
    factories.GroupAppearanceFactory(conversation=conversation, occurred_at=at(2))
    conversation.summarise()
    assert since(conversation) == at(1)
