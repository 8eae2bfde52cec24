"""A driver's last word often wants no answer: somebody says so, and the conversation no longer needs a reply."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from messaging import models, outbox
from messaging.states import MessageState
from messaging.verify import verify
from tests.messaging.test_unanswered import answer, at, hear, since
from tests.messaging.test_views_live import HTMX, Browser

pytestmark = pytest.mark.django_db


def page_of(client: Any, conversation: models.Conversation) -> str:
    return str(client.get(f"/c/{conversation.uuid}/").content.decode())


def say(client: Any, conversation: models.Conversation, through: object, **headers: str) -> Any:
    fields = {} if through is None else {"heard_through": through}
    return client.post(f"/c/{conversation.uuid}/no-reply/", fields, headers=headers)


def test_who_waits_is_told_above_the_composer_and_taken_off_the_list_by_one_press(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message, client = hear(conversation, 1), client_of(mara)
    page = page_of(client, conversation)
    assert "Waits for a reply since" in page
    assert f'name="heard_through" value="{message.pk}"' in page
    answered = say(client, conversation, message.pk)
    assert (answered.status_code, answered["Location"]) == (303, f"/c/{conversation.uuid}/")
    assert since(conversation) is None
    assert str(conversation.uuid) not in client.get("/?show=reply").content.decode()
    page = page_of(client, conversation)
    assert "Waits for a reply" not in page
    assert "Marked as needing no reply" in page


def test_it_can_be_taken_back(client_of: Any, mara: models.User, conversation: models.Conversation) -> None:
    message, client = hear(conversation, 1), client_of(mara)
    say(client, conversation, message.pk)
    say(client, conversation, None)
    assert since(conversation) == at(1)
    assert "Waits for a reply since" in page_of(client, conversation)


def test_what_the_driver_writes_next_waits_again_and_an_answer_ends_the_remark(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    client = client_of(mara)
    say(client, conversation, hear(conversation, 1).pk)
    hear(conversation, 2)
    assert since(conversation) == at(2)
    answer(conversation, 3, author=mara)
    assert since(conversation) is None
    assert "needing no reply" not in page_of(client, conversation)


def test_a_line_that_was_not_on_the_page_goes_on_waiting(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    seen = hear(conversation, 1)
    hear(conversation, 2)
    say(client_of(mara), conversation, seen.pk)
    assert since(conversation) == at(2)


def test_a_line_that_arrives_later_waits_whatever_time_it_carries(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    say(client_of(mara), conversation, hear(conversation, 5).pk)
    hear(conversation, 4)
    assert since(conversation) == at(4)


@pytest.mark.parametrize("through", [2**62, "9" * 30, "-1", "x", ""])
def test_a_forged_number_reaches_no_further_than_what_is_there(
    client_of: Any, mara: models.User, conversation: models.Conversation, through: object
) -> None:
    hear(conversation, 1)
    assert say(client_of(mara), conversation, through).status_code == 303
    hear(conversation, 2)
    assert since(conversation) is not None


def test_pressed_twice_it_is_noted_once(client_of: Any, mara: models.User, conversation: models.Conversation) -> None:
    message, client = hear(conversation, 1), client_of(mara)
    for _ in range(2):
        say(client, conversation, message.pk)
    [entry] = models.AuditEntry.objects.filter(action="answer_waived")
    assert (entry.user, entry.conversation, entry.detail) == (mara, conversation, {"through": message.pk})
    assert not outbox.waive_answer(conversation.pk, mara, message.pk)


def test_a_reply_that_failed_leaves_the_driver_waiting_for_a_remark_too(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message, client = hear(conversation, 1), client_of(mara)
    answer(conversation, 2, MessageState.FAILED, author=mara)
    assert since(conversation) == at(1)
    say(client, conversation, message.pk)
    assert since(conversation) is None


def test_the_repeated_column_stays_what_the_rules_say(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    say(client_of(mara), conversation, hear(conversation, 1).pk)
    hear(conversation, 2)
    assert not [breach for breach in verify(timezone.now()).breaches if breach.rule.name == "summary_is_true"]
    models.Conversation.objects.update(no_answer_through=None)
    assert [breach for breach in verify(timezone.now()).breaches if breach.rule.name == "summary_is_true"]


def test_nobody_else_can_say_it(client_of: Any, outsider: models.User, conversation: models.Conversation) -> None:
    message = hear(conversation, 1)
    assert say(client_of(outsider), conversation, message.pk).status_code == 404
    assert since(conversation) == at(1)


@pytest.mark.django_db(transaction=True)
def test_an_open_page_hears_what_a_colleague_said(
    client_of: Any, mara: models.User, sol: models.User, conversation: models.Conversation
) -> None:
    message = hear(conversation, 1)
    page = Browser(client_of(sol), f"/c/{conversation.uuid}/")
    answered = say(client_of(mara), conversation, message.pk, **HTMX)
    assert (answered.status_code, answered["HX-Trigger"]) == (200, "live:now")
    assert "Marked as needing no reply" in answered.content.decode()
    news = page.poll()
    assert 'hx-target="#composer-waiting"' in news
    assert "Marked as needing no reply" in news
    hear(conversation, int(timedelta(hours=4) / timedelta(minutes=1)))
    assert "Waits for a reply since" in page.poll()


@pytest.mark.django_db(transaction=True)
def test_a_page_without_a_thread_is_told_nothing_of_it(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    page = Browser(client_of(mara), "/")
    hear(conversation, 1)
    news = page.poll()
    assert news
    assert "composer-waiting" not in news
