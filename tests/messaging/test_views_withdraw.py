"""Withdrawing a message in time, taking its text again, and handling a failure."""

import re
import uuid
from typing import Any

import pytest
from django.utils import timezone

from messaging import models
from messaging.states import REPEATABLE_STATES, MessageState
from tests import factories

pytestmark = pytest.mark.django_db
S = MessageState
HTMX = {"HX-Request": "true"}


def test_an_undo_in_time_withdraws_for_certain_and_offers_the_text_again(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    client = client_of(mara)
    models.User.objects.update(undo_seconds=8)
    words = {"message_text": "Use the south gate", "priority": "low", "client_token": str(uuid.uuid4())}
    client.post(f"/c/{conversation.uuid}/reply/", words)
    message = models.Message.objects.get()
    html = client.get(f"/c/{conversation.uuid}/").content.decode()
    assert re.search(r"Sends in \d s", html)
    assert ">Undo</button>" in html
    answer = client.post(f"/m/{message.uuid}/cancel/", headers=HTMX)
    assert "Cancelled by" in answer.content.decode()
    message.refresh_from_db()
    assert (message.state, message.settled_by) == (S.CANCELLED, mara)
    again = re.search(r'href="([^"]+)">Edit and send again', answer.content.decode())
    assert again is not None
    html = client.get(again[1]).content.decode()
    assert ">Use the south gate</textarea>" in html
    assert 'value="low" checked' in html


@pytest.mark.parametrize("state", sorted(REPEATABLE_STATES))
def test_an_own_text_that_certainly_did_not_arrive_is_offered_again(
    client_of: Any, mara: models.User, conversation: models.Conversation, state: S
) -> None:
    message = factories.failed(conversation, author=mara, text="Use the south gate")
    models.Message.objects.filter(pk=message.pk).update(state=state)
    html = client_of(mara).get(f"/c/{conversation.uuid}/").content.decode()
    again = re.search(r'href="([^"]+)">Edit and send again', html)
    assert again is not None
    assert ">Use the south gate</textarea>" in client_of(mara).get(again[1]).content.decode()


@pytest.mark.parametrize("state", sorted({S.ACCEPTED, S.SUCCEEDED, S.FAILED, S.UNKNOWN, S.NEEDS_DECISION}))
def test_a_text_that_may_have_arrived_is_not_offered_again(
    client_of: Any, mara: models.User, conversation: models.Conversation, state: S
) -> None:
    message = factories.failed(conversation, author=mara, text="Use the south gate")
    since = timezone.now() if state == S.UNKNOWN else None
    models.Message.objects.filter(pk=message.pk).update(
        state=state, unknown_since=since, question="absent" if state == S.NEEDS_DECISION else ""
    )
    client = client_of(mara)
    assert "Edit and send again" not in client.get(f"/c/{conversation.uuid}/").content.decode()
    html = client.get(f"/c/{conversation.uuid}/?text_of={message.uuid}").content.decode()
    assert ">Use the south gate</textarea>" not in html


def test_an_undo_that_comes_too_late_says_so_and_shows_the_status(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message = factories.accepted(conversation, author=mara)
    client = client_of(mara)
    html = client.post(f"/m/{message.uuid}/cancel/", headers=HTMX).content.decode()
    assert "Too late to withdraw: it may already be with the provider." in html
    assert "Handed to Catena" in html
    assert client.post(f"/m/{message.uuid}/cancel/", follow=True).content.decode().count("Too late to withdraw") == 1
    message.refresh_from_db()
    assert message.state == S.ACCEPTED


def test_a_second_press_of_undo_is_no_complaint(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message = factories.OutgoingFactory(conversation=conversation, author=mara)
    client = client_of(mara)
    answers = [client.post(f"/m/{message.uuid}/cancel/", headers=HTMX).content.decode() for _ in range(2)]
    assert all("Cancelled by" in html and "Too late" not in html for html in answers)


def test_only_the_author_support_and_administrators_may_withdraw(
    client_of: Any, mara: models.User, sol: models.User, fleet: models.Fleet, conversation: models.Conversation
) -> None:
    colleague = factories.UserFactory(fleets=[fleet])
    message = factories.OutgoingFactory(conversation=conversation, author=mara)
    client = client_of(colleague)
    assert ">Cancel</button>" not in client.get(f"/c/{conversation.uuid}/").content.decode()
    assert client.post(f"/m/{message.uuid}/cancel/").status_code == 403
    assert client_of(sol).post(f"/m/{message.uuid}/cancel/").status_code == 303
    message.refresh_from_db()
    assert message.state == S.CANCELLED


def test_a_handled_failure_needs_no_attention_any_more(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message = factories.failed(conversation, author=mara)
    client = client_of(mara)
    assert "Mark as handled" in client.get(f"/c/{conversation.uuid}/").content.decode()
    html = client.post(f"/m/{message.uuid}/handled/", headers=HTMX).content.decode()
    assert "Mark as handled" not in html
    conversation.refresh_from_db()
    assert conversation.attention_count == 0
