"""Messages as Catena reports them: where they go, what they add to ours, and that order and repeats do not matter."""

import uuid
from collections import Counter
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messaging import mirror, models
from messaging.mirror import Change
from messaging.states import Direction, MessageState
from tests import factories
from tests.messaging import records
from tests.messaging.records import moment

pytestmark = pytest.mark.django_db

ROW = (
    "conversation_id", "direction", "state", "text", "occurred_at", "sender_id", "recipient_id", "sender_name",
    "catena_id", "source_id", "thread_id", "source_thread_id", "reply_to_catena_id", "reply_to_id", "record_status",
    "delivered_at", "read_at", "catena_updated_at", "deleted_at", "raw",
)  # fmt: skip


def rows() -> list[dict[str, Any]]:
    return list(models.Message.objects.order_by("id").values(*ROW))


def marks() -> list[tuple[int, int]]:
    """The transaction that last touched each row that a page shows."""
    messages = models.Message.objects.order_by("id").values_list("id", "changed_xid")
    return [*messages, *models.Conversation.objects.order_by("id").values_list("id", "changed_xid")]


def own_message(conversation: models.Conversation, **columns: Any) -> models.Message:
    return factories.accepted(conversation, **columns)


def succeed(message: models.Message, record_id: uuid.UUID) -> None:
    assert mirror.apply_operation(records.operation(message, resource_id=record_id, source_id="msg_9"))


def test_a_drivers_message_becomes_an_unread_message_of_the_drivers_conversation(
    conversation: models.Conversation, mara: models.User
) -> None:
    record = records.message(conversation, status="sent", thread_id=uuid.uuid4(), source_thread_id="thr_1")
    message = mirror.apply_message(record)
    assert message is not None
    assert (message.conversation, message.direction, message.state) == (
        conversation,
        Direction.IN,
        MessageState.MIRRORED,
    )
    assert (message.text, message.occurred_at, message.sender) == ("At the gate", moment(), conversation.driver)
    assert (message.sender_name, message.record_status) == ("Luis Ortega", "sent")
    conversation.refresh_from_db()
    assert (conversation.last_message, conversation.last_text) == (message, "At the gate")
    assert conversation.thread_id == record.thread_id
    assert list(models.Conversation.objects.unread_by(mara)) == [conversation]


def test_the_first_message_of_a_driver_opens_the_conversation(connection: models.Connection) -> None:
    driver = factories.FleetUserFactory(connection=connection)
    unsaved = models.Conversation(connection=connection, driver=driver)
    message = mirror.apply_message(records.message(unsaved))
    assert message is not None
    assert (message.conversation.driver, message.conversation.connection) == (driver, connection)


def test_a_message_of_an_unknown_connection_is_left_for_a_later_sweep(conversation: models.Conversation) -> None:
    record = records.message(conversation, connection_id=uuid.uuid4())
    assert mirror.apply_messages([record]) == Counter({Change.SKIPPED: 1})
    assert mirror.apply_message(record) is None
    assert rows() == []


def test_an_office_message_that_we_did_not_send_shows_as_sent_from_the_providers_screen(
    conversation: models.Conversation,
) -> None:
    message = mirror.apply_message(records.message(conversation, by_driver=False, sender_name="  Dana   Whitfield "))
    assert message is not None
    assert (message.direction, message.state, message.author) == (Direction.OUT, MessageState.MIRRORED, None)
    assert (message.sender_name, message.recipient) == ("Dana Whitfield", conversation.driver)
    conversation.refresh_from_db()
    assert conversation.last_incoming_id is None


def test_applying_the_same_records_again_writes_nothing(conversation: models.Conversation) -> None:
    own = own_message(conversation)
    record_id = uuid.uuid4()
    succeed(own, record_id)
    page = [
        records.message(conversation, status="delivered", thread_id=uuid.uuid4()),
        records.message(conversation, by_driver=False, reply_to_message_id=record_id),
        records.message(conversation, id=record_id, by_driver=False, status="read", read_at=moment(2)),
    ]
    mirror.apply_messages(page)
    before = marks()
    with CaptureQueriesContext(database) as queries:
        assert mirror.apply_messages(page) == Counter({Change.SAME: 3})
    assert [query["sql"] for query in queries if not query["sql"].startswith("SELECT")] == []
    assert marks() == before


@pytest.mark.parametrize("is_record_first", [True, False])
def test_question_20_our_own_message_coming_back_is_shown_once_whatever_comes_first(
    conversation: models.Conversation, is_record_first: bool
) -> None:
    own = own_message(conversation, text="Dock 4 is free")
    record = records.message(
        conversation, by_driver=False, message_text="Dock 4 is free", status="delivered", delivered_at=moment(1),
        source_id="msg_9", thread_id=uuid.uuid4(), updated_at=moment(1),
    )  # fmt: skip
    answer = records.message(conversation, reply_to_message_id=record.id, at=moment(2))
    if is_record_first:
        mirror.apply_messages([record, answer])
        succeed(own, record.id)
    else:
        succeed(own, record.id)
        mirror.apply_messages([record, answer])
    own.refresh_from_db()
    assert own.state == MessageState.SUCCEEDED
    assert (own.catena_id, own.source_id, own.thread_id) == (record.id, "msg_9", record.thread_id)
    assert (own.record_status, own.delivered_at, own.catena_updated_at) == ("delivered", moment(1), moment(1))
    assert (own.text, own.direction, own.author is None) == ("Dock 4 is free", Direction.OUT, False)
    reply = models.Message.objects.get(catena_id=answer.id)
    assert reply.reply_to == own
    assert list(models.Message.objects.order_by("id")) == [own, reply]
    conversation.refresh_from_db()
    assert conversation.last_message in {own, reply}


def test_a_receipt_of_our_own_message_changes_the_message_but_not_its_conversations_summary(
    conversation: models.Conversation,
) -> None:
    own = own_message(conversation)
    record = records.message(conversation, by_driver=False, status="sent")
    succeed(own, record.id)
    conversation.refresh_from_db()
    before = conversation.changed_xid
    mirror.apply_message(records.message(conversation, id=record.id, by_driver=False, read_at=moment(3), status="read"))
    own.refresh_from_db()
    conversation.refresh_from_db()
    assert (own.read_at, own.record_status) == (moment(3), "read")
    assert conversation.changed_xid == before


def test_a_success_tells_the_message_its_record_at_once_so_that_it_can_be_answered(
    conversation: models.Conversation,
) -> None:
    own = own_message(conversation)
    record_id = uuid.uuid4()
    succeed(own, record_id)
    own.refresh_from_db()
    assert (own.catena_id, own.source_id) == (record_id, "msg_9")


def test_two_operations_that_claim_one_record_leave_it_with_the_first(conversation: models.Conversation) -> None:
    first, second = own_message(conversation), own_message(conversation)
    record_id = uuid.uuid4()
    succeed(first, record_id)
    succeed(second, record_id)
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.catena_id, second.catena_id) == (record_id, None)
    assert second.state == MessageState.SUCCEEDED


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["read", "delivered", "sent"], "read"),
        (["pending", "sent", None], "sent"),
        (["relayed_by_satellite", "sent"], "relayed_by_satellite"),
        (["relayed_by_satellite", "delivered"], "delivered"),
    ],
)
def test_question_21_a_status_word_never_goes_backwards(
    conversation: models.Conversation, words: list[str | None], shown: str
) -> None:
    record_id = uuid.uuid4()
    for minute, word in enumerate(words):
        mirror.apply_message(records.message(conversation, id=record_id, status=word, updated_at=moment(minute)))
    message = models.Message.objects.get()
    assert message.record_status == shown
    assert message.raw is not None
    assert message.raw["status"] == words[-1]


def test_the_earliest_time_of_a_receipt_stands(conversation: models.Conversation) -> None:
    record_id = uuid.uuid4()
    for delivered, read, updated in ((5, None, 5), (3, 8, 6), (None, 9, 7)):
        mirror.apply_message(
            records.message(
                conversation,
                id=record_id,
                by_driver=False,
                delivered_at=delivered and moment(delivered),
                read_at=read and moment(read),
                updated_at=moment(updated),
            )
        )
    message = models.Message.objects.get()
    assert (message.delivered_at, message.read_at) == (moment(3), moment(8))


def test_the_newest_version_of_a_text_stands_in_any_order(conversation: models.Conversation) -> None:
    record_id = uuid.uuid4()
    for text, minute in (("second", 2), ("third", 3), ("first", 1)):
        mirror.apply_message(records.message(conversation, id=record_id, message_text=text, updated_at=moment(minute)))
    assert models.Message.objects.get().text == "third"
    conversation.refresh_from_db()
    assert conversation.last_text == "third"


def test_a_record_without_thread_does_not_empty_the_thread(conversation: models.Conversation) -> None:
    record_id, thread = uuid.uuid4(), uuid.uuid4()
    mirror.apply_message(records.message(conversation, id=record_id, thread_id=thread, source_thread_id="thr_1"))
    mirror.apply_message(records.message(conversation, id=record_id, updated_at=moment(1)))
    message = models.Message.objects.get()
    assert (message.thread_id, message.source_thread_id) == (thread, "thr_1")


def test_question_25_a_deleted_record_is_hidden_and_no_longer_summarised(conversation: models.Conversation) -> None:
    kept = mirror.apply_message(records.message(conversation, message_text="Kept"))
    record_id = uuid.uuid4()
    mirror.apply_message(records.message(conversation, id=record_id, at=moment(1)))
    mirror.apply_message(
        records.message(conversation, id=record_id, at=moment(1), updated_at=moment(2), deleted_at=moment(2))
    )
    conversation.refresh_from_db()
    assert (conversation.last_message, conversation.last_text) == (kept, "Kept")


@pytest.mark.parametrize("is_parent_first", [True, False])
def test_a_reply_quotes_what_it_answers_whichever_comes_first(
    conversation: models.Conversation, is_parent_first: bool
) -> None:
    parent = records.message(conversation)
    reply = records.message(conversation, reply_to_message_id=parent.id, at=moment(1))
    for record in (parent, reply) if is_parent_first else (reply, parent):
        mirror.apply_message(record)
    assert models.Message.objects.get(catena_id=reply.id).reply_to == models.Message.objects.get(catena_id=parent.id)


def test_a_quote_never_reaches_into_another_conversation(conversation: models.Conversation) -> None:
    elsewhere = factories.ConversationFactory()
    secret = records.message(elsewhere, message_text="Only for the other fleet")
    reply = records.message(conversation, reply_to_message_id=secret.id)
    mirror.apply_messages([secret, reply])
    assert models.Message.objects.get(catena_id=reply.id).reply_to is None


def test_unknown_fields_and_words_are_stored_and_secrets_are_not(conversation: models.Conversation) -> None:
    message = mirror.apply_message(
        records.message(conversation, mood="fine", status="teleported", extras={"authorization": "Bearer x", "lane": 4})
    )
    assert message is not None
    assert message.raw is not None
    assert (message.raw["mood"], message.raw["extras"], message.record_status) == ("fine", {"lane": 4}, "teleported")
    assert "message_text" not in message.raw


def test_a_text_that_is_too_long_for_its_column_is_cut(conversation: models.Conversation) -> None:
    message = mirror.apply_message(
        records.message(conversation, source_id="s" * 900, sender_name="n" * 900, status="w" * 900)
    )
    assert message is not None
    assert (len(message.source_id), len(message.sender_name), len(message.record_status)) == (200, 300, 50)


@pytest.mark.parametrize(("is_driver", "direction"), [(True, Direction.IN), (False, Direction.OUT)])
def test_question_19_the_senders_role_decides_when_the_record_does_not_say(
    conversation: models.Conversation, is_driver: bool, direction: Direction
) -> None:
    office = models.FleetUser.objects.get(connection=conversation.connection, is_driver=False)
    sender, recipient = (conversation.driver, office) if is_driver else (office, conversation.driver)
    message = mirror.apply_message(
        records.message(conversation, sent_by_driver=None, sender_id=sender.catena_id, recipient_id=recipient.catena_id)
    )
    assert message is not None
    assert (message.direction, message.conversation) == (direction, conversation)


def test_a_driver_known_by_the_providers_id_alone_is_found(conversation: models.Conversation) -> None:
    message = mirror.apply_message(
        records.message(conversation, sender_id=None, source_sender_id=conversation.driver.source_id)
    )
    assert message is not None
    assert (message.conversation, message.sender) == (conversation, conversation.driver)


def test_question_18_a_record_that_names_nobody_is_found_by_its_thread(conversation: models.Conversation) -> None:
    thread = uuid.uuid4()
    mirror.apply_message(records.message(conversation, thread_id=thread))
    nameless = mirror.apply_message(records.message(conversation, sender_id=None, thread_id=thread))
    assert nameless is not None
    assert nameless.conversation == conversation


def test_a_stranger_gets_one_stand_in_who_cannot_be_written_to_until_the_record_comes(
    conversation: models.Conversation,
) -> None:
    for at in (moment(), moment(1)):
        mirror.apply_message(
            records.message(conversation, sender_id=None, source_sender_id="drv_new", at=at, sender_name=None)
        )
    talk = models.Conversation.objects.exclude(pk=conversation.pk).get()
    assert (talk.driver.name, talk.driver.source_id, talk.thread.count()) == ("Unknown sender", "drv_new", 2)
    assert not models.FleetUser.objects.reachable().filter(pk=talk.driver.pk).exists()
    record = records.user(conversation.connection, source_id="drv_new")
    mirror.apply_fleet_user(record, conversation.connection)
    talk.driver.refresh_from_db()
    assert (talk.driver.name, talk.driver.catena_id) == ("Luis Ortega", record.id)
    assert models.FleetUser.objects.reachable().filter(pk=talk.driver.pk).exists()


def test_a_sender_whose_user_record_is_still_to_come_keeps_the_name_of_the_message(
    conversation: models.Conversation,
) -> None:
    record = records.message(conversation, sender_id=uuid.uuid4(), source_sender_id="drv_2", sender_name="Ines Maar")
    message = mirror.apply_message(record)
    assert message is not None
    driver = message.conversation.driver
    assert (driver.catena_id, driver.name, driver.is_active) == (record.sender_id, "Ines Maar", None)
    mirror.apply_fleet_user(records.user(conversation.connection, id=record.sender_id), conversation.connection)
    driver.refresh_from_db()
    assert driver.name == "Luis Ortega"


def test_a_message_moves_to_its_driver_when_catena_has_mapped_the_sender(conversation: models.Conversation) -> None:
    record_id = uuid.uuid4()
    mirror.apply_message(records.message(conversation, id=record_id, sender_id=None))
    stray = models.Message.objects.get().conversation
    assert stray != conversation
    mirror.apply_message(records.message(conversation, id=record_id, updated_at=moment(1)))
    assert models.Message.objects.get().conversation == conversation
    stray.refresh_from_db()
    conversation.refresh_from_db()
    assert (stray.last_message, conversation.last_text) == (None, "At the gate")


def test_a_page_takes_a_number_of_queries_that_does_not_grow_with_it(conversation: models.Conversation) -> None:
    def cost(page: list[Any]) -> int:
        with CaptureQueriesContext(database) as queries:
            mirror.apply_messages(page)
        return len(queries)

    few = cost([records.message(conversation, at=moment(n)) for n in range(2)])
    many = cost([records.message(conversation, at=moment(n)) for n in range(200)])
    assert models.Message.objects.count() == 202
    assert many == few


def test_a_message_being_composed_at_the_same_time_keeps_its_place(conversation: models.Conversation) -> None:
    queued = factories.OutgoingFactory(conversation=conversation, occurred_at=timezone.now())
    mirror.apply_message(records.message(conversation))
    queued.refresh_from_db()
    assert (queued.state, queued.seq) == (MessageState.QUEUED, 1)
