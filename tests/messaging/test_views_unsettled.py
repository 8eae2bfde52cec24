"""What a conversation and a message page say while nobody knows whether a message was sent, and when it comes out."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from messaging import mirror, models, outbox
from messaging.states import AttemptOutcome, MessageState
from tests import factories
from tests.messaging import records
from tests.messaging.test_views_live import Browser

pytestmark = pytest.mark.django_db
S = MessageState
ASKED = {"state": S.NEEDS_DECISION}
CHECKED = {"state": S.UNKNOWN, "unknown_since": timezone.now()}


def unsettled(conversation: models.Conversation, **columns: Any) -> models.Message:
    message: models.Message = factories.OutgoingFactory(conversation=conversation, fence=1, **columns)
    factories.SendAttemptFactory(message=message, outcome=AttemptOutcome.AMBIGUOUS, http_status=None)
    conversation.summarise()
    return message


def page(client: Client, row: models.Conversation | models.Message) -> str:
    answer = client.get(row.get_absolute_url())
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def bubble(html: str, message: models.Message) -> str:
    return html.split(f'id="m-{message.uuid}"')[1].split("</li>")[0]


@pytest.mark.parametrize(
    ("columns", "own", "behind", "note", "word"),
    [
        (ASKED, "It may have been sent; needs your decision", "which needs a decision", "needs a decision", "Decide"),
        (CHECKED, "It may have been sent; checking", "which may have been sent and is being looked for",
         "may have been sent and is being looked for", "What is known"),
    ],
)  # fmt: skip
def test_a_conversation_says_what_it_waits_for_and_shows_the_way_there(
    client_of: Any, mara: models.User, conversation: models.Conversation, columns: dict[str, Any], own: str, behind: str,
    note: str, word: str,
) -> None:  # fmt: skip
    head = unsettled(conversation, **columns)
    waiting = factories.OutgoingFactory(conversation=conversation, state=S.WAITING)
    html = page(client_of(mara), conversation)
    way = f'href="/m/{head.uuid}/decide/">'
    assert own in bubble(html, head)
    assert f"{way}{word}</a>" in bubble(html, head)
    assert f"Waits for the message before it, {behind}" in bubble(html, waiting)
    assert f"{way}{word}" in bubble(html, waiting)
    composer = html.split('id="composer-waits"')[1].split("</form>")[0]
    assert f"What you send now waits: an earlier message {note}. <a {way}{word}</a>" in composer


def test_nothing_is_said_to_wait_where_the_next_one_was_let_past(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    unsettled(conversation, **ASKED, detached=True)
    factories.OutgoingFactory(conversation=conversation)
    waiting = factories.OutgoingFactory(conversation=conversation, state=S.WAITING)
    html = page(client_of(mara), conversation)
    assert "What you send now waits" not in html
    assert "Waiting for the message before it" in bubble(html, waiting)


def test_an_urgent_message_that_is_looked_for_keeps_its_way_to_what_is_known(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    head = unsettled(conversation, **CHECKED, priority="high", escalated_at=timezone.now() + timedelta(minutes=2))
    html = bubble(page(client_of(mara), conversation), head)
    assert "Not accepted in" in html
    assert f"/m/{head.uuid}/decide/" in html


@pytest.mark.django_db(transaction=True)
def test_an_open_conversation_follows_what_the_waiting_ones_wait_for(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    head = unsettled(conversation, **CHECKED)
    first, second = (factories.OutgoingFactory(conversation=conversation, state=S.WAITING) for _ in range(2))
    browser = Browser(client_of(mara), conversation.get_absolute_url())
    models.Message.objects.filter(pk=head.pk).update(state=S.NEEDS_DECISION, question="absent")
    html = browser.poll()
    for message in (first, second):
        assert "which needs a decision" in bubble(html, message)
    assert "What you send now waits: an earlier message needs a decision" in html
    models.Message.objects.filter(pk=head.pk).update(state=S.CLOSED_SENT, question="", settled_by=mara)
    models.Message.objects.filter(pk=first.pk).update(state=S.QUEUED)
    html = browser.poll()
    assert "Waiting for the message before it" in bubble(html, second)
    assert "What you send now waits" not in html
    assert 'hx-target="#composer-waits"' in html, "the note is taken away"


def test_the_page_of_a_waiting_message_leads_to_the_one_it_waits_for(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    head = unsettled(conversation, **ASKED)
    waiting = factories.OutgoingFactory(conversation=conversation, state=S.WAITING)
    html = page(client_of(mara), waiting)
    assert "Waits for the message before it, which needs a decision." in html
    assert f'href="/m/{head.uuid}/decide/"' in html


def test_the_history_gathers_the_looks_in_one_step(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message = unsettled(conversation, **CHECKED)
    attempt = message.send_attempts.get()
    at = attempt.posting_at
    for minutes in (1, 2, 5):
        models.Look.objects.create(
            attempt=attempt, at=at + timedelta(minutes=minutes), window_from=at, window_to=at, is_complete=True
        )
    models.SendAttempt.objects.filter(pk=attempt.pk).update(looks=3, next_look_at=at + timedelta(minutes=10))
    html = page(client_of(mara), message)
    assert html.count("Looked for it at Catena 3 times") == 1
    assert "The next look is at" in html


def test_the_history_does_not_count_a_listing_that_failed(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message = unsettled(conversation, **CHECKED)
    attempt = message.send_attempts.get()
    at = attempt.posting_at
    models.Look.objects.create(attempt=attempt, at=at, window_from=at, window_to=at, is_complete=False, problem="503")
    html = page(client_of(mara), message)
    assert "Looked for it, but Catena&#x27;s list could not be read" in html
    assert "Looked for it at Catena" not in html


def test_a_message_that_was_sent_after_all_says_so_and_can_be_handled(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    now = timezone.now()
    message = factories.accepted(
        conversation, author=mara, state=S.SUCCEEDED, operation_status="success", corrected_at=now, settled_at=now
    )
    models.Decision.objects.create(message=message, user=mara, kind="leave_unsent", reason="He has not got it")
    conversation.summarise()
    client = client_of(mara)
    for shown in (page(client, message), bubble(page(client, conversation), message)):
        assert "Sent after all" in shown
        assert "Mark as handled" in shown
    assert "He has not got it" in page(client, message)
    for address in ("/?show=attention", "/ops/"):
        assert "Sent after all" in client.get(address).content.decode(), address
    assert client.post(f"/m/{message.uuid}/handled/", {"note": "Told the driver"}).status_code == 303
    html = page(client, message)
    assert "Mark as handled" not in html
    assert "Sent after all" in html, "what happened stays"
    conversation.refresh_from_db()
    assert conversation.attention_count == 0


def test_a_message_that_was_sent_twice_says_so(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message = factories.accepted(
        conversation, author=mara, state=S.SUCCEEDED, operation_status="success", is_sent_twice=True
    )
    factories.SendAttemptFactory(message=message, outcome=AttemptOutcome.ACCEPTED, operation=message.operation)
    other = factories.OperationFactory(connection=conversation.connection)
    decision = models.Decision.objects.create(message=message, user=mara, kind="send_again", reason="No answer")
    factories.SendAttemptFactory(
        message=message,
        fence=2,
        authority="human",
        decision=decision,
        outcome=AttemptOutcome.AMBIGUOUS,
        operation=other,
    )
    client = client_of(mara)
    assert "the driver may have got it twice" in bubble(page(client, conversation), message)
    html = page(client, message)
    assert "Found at Catena as well" in html
    assert "Sent twice" in html


@pytest.mark.parametrize(("hours", "goes_on"), [(1, True), (30, False)])
def test_the_page_of_a_closed_message_waits_a_day_for_a_fact_that_contradicts(
    client_of: Any, mara: models.User, conversation: models.Conversation, hours: int, goes_on: bool
) -> None:
    at = timezone.now() - timedelta(hours=hours)
    message = factories.OutgoingFactory(
        conversation=conversation, state=S.CLOSED_NOT_SENT, settled_by=mara, settled_at=at, occurred_at=at
    )
    assert ("v=message" in page(client_of(mara), message)) is goes_on


@pytest.mark.django_db(transaction=True)
def test_the_providers_record_of_a_lost_send_leaves_the_page_when_the_send_is_found(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    """It stands there as a message of its own until Catena says which operation made it."""
    record = records.message(conversation, message_text="Dock 4 is free", by_driver=False)
    mirror.apply_message(record)
    message = unsettled(conversation, **CHECKED, text="Dock 4 is free")
    path = conversation.get_absolute_url()
    browser = Browser(client_of(mara), path)
    assert f'id="m-{record.id}"' in client_of(mara).get(path).content.decode()
    operation = factories.OperationFactory(connection=conversation.connection, resource_id=record.id)
    assert outbox.settle(message.send_attempts.get(), operation, timezone.now())
    html = browser.poll()
    assert f'<hx-partial hx-target="#m-{record.id}" hx-swap="delete">' in html
    assert f'id="m-{message.uuid}"' in html
    assert f'id="m-{record.id}"' not in client_of(mara).get(path).content.decode()


@pytest.mark.django_db(transaction=True)
def test_a_message_that_the_provider_deleted_leaves_an_open_page(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    heard = factories.IncomingFactory(conversation=conversation, text="Wrong window")
    conversation.summarise()
    browser = Browser(client_of(mara), conversation.get_absolute_url())
    models.Message.objects.filter(pk=heard.pk).update(deleted_at=timezone.now())
    conversation.summarise()
    html = browser.poll()
    assert f'<hx-partial hx-target="#m-{heard.uuid}" hx-swap="delete">' in html
    assert "Wrong window" not in html
