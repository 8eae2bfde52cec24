"""The page of one message: who may open it, what it says, and how it keeps itself up to date."""

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from messaging import live, models, outbox
from messaging.states import Direction, MessageState
from tests import factories

S = MessageState
HTMX = {"HX-Request": "true"}
pytestmark = pytest.mark.django_db


def page_of(client: Any, message: models.Message) -> str:
    answer = client.get(reverse("message", args=[message.uuid]))
    assert answer.status_code == 200
    return str(answer.content.decode())


def poll(client: Any, user: models.User, message: models.Message, since: live.Cursor) -> Any:
    asked = {"v": "message", "scope": message.pk, "since": str(since), "every": live.IDLE_POLL_MS}
    return client.get("/_f/live/", asked, headers=HTMX)


@pytest.fixture
def failed(conversation: models.Conversation, mara: models.User) -> models.Message:
    return factories.failed(conversation, author=mara, text="Use the <b>south</b> gate", accepted_at=timezone.now())


def test_the_page_tells_the_failure_its_reason_and_its_ids(
    failed: models.Message, mara: models.User, client_of: Any
) -> None:
    page = page_of(client_of(mara), failed)
    assert "Message to Luis Ortega" in page
    assert "Failed after 1 attempt. Samsara answered 503 (unavailable)." in page
    assert "Use the &lt;b&gt;south&lt;/b&gt; gate" in page
    assert "Recipient device offline" in page
    assert failed.operation is not None
    for known in (failed.uuid, failed.operation.catena_id, failed.connection.catena_id):
        assert str(known) in page
    assert reverse("conversation", args=[failed.conversation.uuid]) in page
    assert reverse("handled", args=[failed.uuid]) in page
    assert reverse("cancel", args=[failed.uuid]) not in page


@pytest.mark.parametrize(("person", "sees"), [("mara", False), ("sol", True), ("ada", True)])
def test_response_headers_are_for_support_and_administrators(
    failed: models.Message, person: str, sees: bool, client_of: Any, request: pytest.FixtureRequest
) -> None:
    page = page_of(client_of(request.getfixturevalue(person)), failed)
    assert ("req-7c55" in page) is sees
    assert ("Response headers (1)" in page) is sees
    assert "503" in page


def test_a_header_that_slipped_into_the_table_is_not_shown(
    failed: models.Message, sol: models.User, client_of: Any
) -> None:
    models.OperationLog.objects.update(response_headers={"Set-Cookie": "sid=secret", "X-Request-Id": "req-1"})
    page = page_of(client_of(sol), failed)
    assert "req-1" in page
    assert "secret" not in page


def test_people_of_other_fleets_find_nothing(failed: models.Message, outsider: models.User, client_of: Any) -> None:
    assert client_of(outsider).get(reverse("message", args=[failed.uuid])).status_code == 404


def test_unknown_and_deleted_messages_are_not_found(failed: models.Message, sol: models.User, client_of: Any) -> None:
    client = client_of(sol)
    assert client.get(reverse("message", args=[uuid.uuid4()])).status_code == 404
    models.Message.objects.update(deleted_at=timezone.now())
    assert client.get(reverse("message", args=[failed.uuid])).status_code == 404


def test_the_page_can_only_be_read(failed: models.Message, sol: models.User, client_of: Any) -> None:
    assert client_of(sol).post(reverse("message", args=[failed.uuid])).status_code == 405


def test_a_handled_failure_offers_nothing_more(failed: models.Message, mara: models.User, client_of: Any) -> None:
    client = client_of(mara)
    answer = client.post(reverse("handled", args=[failed.uuid]), {"back": "message"})
    assert (answer.status_code, answer["Location"]) == (303, reverse("message", args=[failed.uuid]))
    page = page_of(client, failed)
    assert reverse("handled", args=[failed.uuid]) not in page
    assert f"Marked as handled by {mara.label}" in page


def test_a_held_message_can_be_undone_from_its_page(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    held = factories.OutgoingFactory(
        conversation=conversation, author=mara, not_before=timezone.now() + timedelta(seconds=20)
    )
    client = client_of(mara)
    assert reverse("cancel", args=[held.uuid]) in page_of(client, held)
    answer = client.post(reverse("cancel", args=[held.uuid]), {"back": "message"})
    assert answer["Location"] == reverse("message", args=[held.uuid])
    page = page_of(client, held)
    assert f"Cancelled by {mara.label}. Nothing was sent." in page
    assert reverse("cancel", args=[held.uuid]) not in page


@pytest.mark.parametrize(("state", "hold", "word"), [(S.QUEUED, 20, "Undo"), (S.WAITING, -20, "Cancel")])
def test_the_button_is_called_as_in_the_conversation(
    conversation: models.Conversation, mara: models.User, client_of: Any, state: S, hold: int, word: str
) -> None:
    start = timezone.now() + timedelta(seconds=hold)
    message = factories.OutgoingFactory(conversation=conversation, author=mara, state=state, not_before=start)
    client = client_of(mara)
    assert f"</svg>{word}</button>" in page_of(client, message)
    thread = client.get(reverse("conversation", args=[conversation.uuid])).content.decode()
    assert f'data-key="z">{word}</button>' in thread


def test_a_claimed_message_offers_no_undo(conversation: models.Conversation, mara: models.User, client_of: Any) -> None:
    claimed = factories.OutgoingFactory(
        conversation=conversation, author=mara, state=S.CLAIMED, lease_until=timezone.now(), claim_count=1
    )
    assert reverse("cancel", args=[claimed.uuid]) not in page_of(client_of(mara), claimed)


@pytest.mark.parametrize("direction", [Direction.IN, Direction.OUT])
def test_a_mirrored_message_without_text_has_a_page_too(
    conversation: models.Conversation, mara: models.User, client_of: Any, direction: Direction
) -> None:
    message = factories.IncomingFactory(conversation=conversation, direction=direction, text=None, sender_name="")
    page = page_of(client_of(mara), message)
    assert "(no text)" in page
    assert ("Message from Luis Ortega" in page) is (direction == Direction.IN)


def test_the_page_costs_the_same_with_three_attempts_and_with_sixty(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    message, client, costs = factories.accepted(conversation), client_of(mara), []
    page_of(client, message)
    for attempts in (3, 57):
        factories.OperationLogFactory.create_batch(attempts, operation=message.operation)
        with CaptureQueriesContext(database) as queries:
            page_of(client, message)
        costs.append(len(queries))
    assert costs[0] == costs[1] <= 12


@pytest.mark.django_db(transaction=True)
def test_a_poll_repaints_a_new_attempt_and_keeps_the_page_looking(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    message, client = factories.accepted(conversation), client_of(mara)
    since = live.glance(mara).cursor
    log = factories.OperationLogFactory(operation=message.operation)
    models.Message.objects.filter(pk=message.pk).update(
        failed_attempts=1, attempt_count=1, reason="Samsara answered 503"
    )
    with CaptureQueriesContext(database) as queries:
        answer = poll(client, mara, message, since).content.decode()
    assert f'id="attempt-{log.catena_id}"' in answer
    assert "Retrying" in answer
    assert 'hx-trigger="every' in answer
    assert len(queries) <= 4  # session, person, look, story


@pytest.mark.django_db(transaction=True)
def test_a_page_whose_message_is_at_its_end_goes_on_asking_for_the_persons_own_news(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    message, client = factories.accepted(conversation, author=mara), client_of(mara)
    assert 'hx-get="/_f/live/' in page_of(client, message)
    since = live.glance(mara).cursor
    models.Message.objects.filter(pk=message.pk).update(
        state=S.FAILED, operation_status="failed", reason="Not allowed", settled_at=timezone.now()
    )
    answer = poll(client, mara, message, since).content.decode()
    assert "Failed. The provider returned no log." in answer
    assert 'data-polite="' not in answer  # told at once instead
    assert "Your message to Luis Ortega</strong>: Failed: Not allowed" in answer
    assert "v=message&amp;" in answer  # somebody may still send it again
    outbox.handled(message, mara, timezone.now(), "Called him")
    answer = poll(client, mara, message, since).content.decode()
    assert "Called him" in answer
    assert "v=page&amp;" in answer
    assert "v=page&amp;" in page_of(client, message)


@pytest.mark.django_db(transaction=True)
def test_a_poll_for_a_message_of_another_fleet_shows_nothing_of_it(
    failed: models.Message, outsider: models.User, client_of: Any
) -> None:
    client = client_of(outsider)
    since = live.glance(outsider).cursor
    models.ReadMark.objects.create(user=outsider, conversation=failed.conversation, read_through=1)
    answer = poll(client, outsider, failed, since).content.decode()
    assert "Luis" not in answer
    assert not re.search(r"attempt-|south", answer)
