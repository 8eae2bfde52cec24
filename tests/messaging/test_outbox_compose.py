"""From a person's words to a row in the queue."""

import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from messaging import models, outbox
from messaging.states import MessageState
from tests import factories

pytestmark = pytest.mark.django_db
S = MessageState
NOW = timezone.now()


def compose(author: models.User, conversation: models.Conversation, **given: Any) -> models.Message:
    values = {
        "text": "Dock 7 is closed.",
        "priority": "medium",
        "reply_to": None,
        "client_token": uuid.uuid4(),
        "now": NOW,
        **given,
    }
    return outbox.compose(author, conversation, **values)


def rings() -> list[tuple[int, Any]]:
    jobs = ProcrastinateJob.objects.filter(task_name="messaging.drain").order_by("id")
    return [(job.args["conversation_id"], job.scheduled_at) for job in jobs]


def test_the_first_message_is_queued_with_everything_that_sending_needs(
    mara: models.User, conversation: models.Conversation
) -> None:
    message = compose(mara, conversation, priority="low")
    message.refresh_from_db()
    assert (message.state, message.seq, message.direction) == (S.QUEUED, 1, "out")
    assert (message.author, message.sender.name, message.sender_name) == (mara, "Dana Whitfield", "Dana Whitfield")
    assert message.recipient == conversation.driver
    assert (message.occurred_at, message.not_before) == (NOW, NOW)
    assert message.send_by == NOW + timedelta(minutes=15)
    assert message.expires_at == NOW + timedelta(hours=24)
    assert len(message.fingerprint) == 64
    assert rings() == [(conversation.pk, NOW)]
    entry = models.AuditEntry.objects.get()
    assert (entry.action, entry.user, entry.message) == ("compose", mara, message)
    assert message.text not in str(entry.detail)


def test_the_conversation_shows_the_new_message_as_its_last(
    mara: models.User, conversation: models.Conversation
) -> None:
    message = compose(mara, conversation, text="  Two\nlines  ")
    conversation.refresh_from_db()
    assert (conversation.last_message, conversation.last_text) == (message, "Two lines")
    assert (conversation.last_at, conversation.next_seq) == (NOW, 2)


def test_later_messages_wait_in_order_and_ring_no_one(mara: models.User, conversation: models.Conversation) -> None:
    composed = [compose(mara, conversation) for _ in range(3)]
    assert [(m.seq, m.state) for m in composed] == [(1, S.QUEUED), (2, S.WAITING), (3, S.WAITING)]
    assert len(rings()) == 1


def test_a_message_waits_behind_others_that_wait_even_without_a_head(
    mara: models.User, conversation: models.Conversation
) -> None:
    factories.OutgoingFactory(conversation=conversation, state=S.WAITING)
    assert compose(mara, conversation).state == S.WAITING


def test_a_detached_head_holds_nobody_up(mara: models.User, conversation: models.Conversation) -> None:
    factories.OutgoingFactory(conversation=conversation, state=S.UNKNOWN, unknown_since=NOW, detached=True)
    assert compose(mara, conversation).state == S.QUEUED


@pytest.mark.parametrize(
    ("undo", "priority", "seconds"),
    [(0, "high", 0), (0, "low", 0), (8, "medium", 10), (20, "low", 22), (8, "high", 5), (20, "high", 5)],
)
def test_the_hold_is_the_undo_time_and_a_margin(
    mara: models.User, conversation: models.Conversation, undo: int, priority: str, seconds: int
) -> None:
    mara.undo_seconds = undo
    message = compose(mara, conversation, priority=priority)
    assert message.not_before == NOW + timedelta(seconds=seconds)
    assert rings() == [(conversation.pk, message.not_before)]


@pytest.mark.parametrize(("priority", "hours"), [("high", 2), ("medium", 9), ("low", 9)])
def test_a_message_expires_after_the_hours_of_its_fleet(
    mara: models.User, conversation: models.Conversation, fleet: models.Fleet, priority: str, hours: int
) -> None:
    models.Fleet.objects.filter(pk=fleet.pk).update(expires_high_hours=2, expires_other_hours=9)
    assert compose(mara, conversation, priority=priority).expires_at == NOW + timedelta(hours=hours)


def test_a_connection_without_a_fleet_uses_the_usual_hours(ada: models.User, conversation: models.Conversation) -> None:
    models.Connection.objects.update(fleet=None)
    assert compose(ada, conversation, priority="high").expires_at == NOW + timedelta(hours=4)
    assert compose(ada, conversation).expires_at == NOW + timedelta(hours=24)


def test_a_pinned_sender_is_preferred(mara: models.User, conversation: models.Conversation) -> None:
    pinned = factories.FleetUserFactory(connection=conversation.connection, is_driver=False)
    models.Connection.objects.filter(pk=conversation.connection_id).update(pinned_sender=pinned)
    assert compose(mara, conversation).sender == pinned


def test_without_anyone_to_send_from_nothing_is_composed(mara: models.User, conversation: models.Conversation) -> None:
    models.FleetUser.objects.update(is_active=False)
    with pytest.raises(outbox.NoSender, match="no user to send from"):
        compose(mara, conversation)
    assert not models.Message.objects.exists()
    conversation.refresh_from_db()
    assert conversation.next_seq == 1


def test_a_repeated_token_returns_the_message_that_it_made(
    mara: models.User, conversation: models.Conversation
) -> None:
    token = uuid.uuid4()
    first = compose(mara, conversation, client_token=token)
    again = compose(mara, conversation, client_token=token, text="Something else")
    assert again == first
    assert models.Message.objects.get().text == "Dock 7 is closed."
    assert models.AuditEntry.objects.count() == 1


def test_another_authors_token_is_their_own(
    mara: models.User, ada: models.User, conversation: models.Conversation
) -> None:
    token = uuid.uuid4()
    assert compose(mara, conversation, client_token=token) != compose(ada, conversation, client_token=token)


def test_replying_means_reading(mara: models.User, conversation: models.Conversation) -> None:
    incoming = factories.IncomingFactory(conversation=conversation)
    conversation.summarise()
    compose(mara, conversation, reply_to=incoming)
    assert models.ReadMark.objects.get(user=mara).read_through == incoming.pk
    models.ReadMark.objects.update(read_through=incoming.pk + 5)
    compose(mara, conversation)
    assert models.ReadMark.objects.get(user=mara).read_through == incoming.pk + 5


def test_a_fingerprint_survives_the_echo_of_catena() -> None:
    ids = {"connection_id": "c", "sender_id": "s", "recipient_id": "r"}
    ours = {**ids, "message_text": " Caf\u0065\u0301\r\nnow ", "priority": "low"}
    echo = {**ours, "message_text": "Caf\u00e9\nnow", "reply_to_message_id": None, "source_sender_id": "usr_1"}
    assert outbox.fingerprint(ours) == outbox.fingerprint(echo)
    for name, other in (("message_text", "Cafe"), ("priority", None), ("reply_to_message_id", "m")):
        assert outbox.fingerprint({**ours, name: other}) != outbox.fingerprint(ours)


def test_a_conversation_is_opened_once_per_driver(conversation: models.Conversation) -> None:
    assert outbox.open_conversation(conversation.driver) == conversation
    driver = factories.FleetUserFactory(connection=conversation.connection)
    opened = outbox.open_conversation(driver)
    assert (opened.driver, opened.connection) == (driver, conversation.connection)


@pytest.mark.django_db(transaction=True)
def test_the_same_token_from_many_clicks_at_once_makes_one_message(
    mara: models.User, conversation: models.Conversation
) -> None:
    token, barrier, made = uuid.uuid4(), threading.Barrier(6), []

    def click() -> None:
        barrier.wait(timeout=10)
        made.append(compose(mara, conversation, client_token=token).pk)
        database.close()

    threads = [threading.Thread(target=click) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(made) == 6
    assert len(set(made)) == 1
    assert models.Message.objects.count() == 1
    assert len(rings()) == 1


@pytest.mark.django_db(transaction=True)
def test_messages_composed_at_once_have_one_order_and_one_head(
    mara: models.User, conversation: models.Conversation
) -> None:
    barrier = threading.Barrier(8)

    def write() -> None:
        barrier.wait(timeout=10)
        compose(mara, conversation)
        database.close()

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    rows = list(models.Message.objects.order_by("seq").values_list("seq", "state"))
    assert rows == [(1, S.QUEUED), *[(n, S.WAITING) for n in range(2, 9)]]
