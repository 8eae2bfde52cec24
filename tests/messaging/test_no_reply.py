"""A driver's last word often wants no answer: somebody says so, and the conversation no longer needs a reply."""

from typing import Any

import pytest
from django.utils import timezone

from messaging import models, outbox, threads
from messaging.states import MessageState
from messaging.verify import verify
from tests.messaging.test_unanswered import answer, at, hear, since
from tests.messaging.test_views_live import HTMX, Browser

pytestmark = pytest.mark.django_db
WAITS, WAIVED = "Waits for a reply since", "No reply needed, says"


def page_of(client: Any, conversation: models.Conversation, query: str = "") -> str:
    return str(client.get(f"/c/{conversation.uuid}/{query}").content.decode())


def say(client: Any, conversation: models.Conversation, **fields: object) -> Any:
    return client.post(f"/c/{conversation.uuid}/no-reply/", fields)


def test_who_waits_is_told_above_the_composer_and_taken_off_the_list_by_one_press(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message, client = hear(conversation, 1), client_of(mara)
    page = page_of(client, conversation)
    assert WAITS in page
    assert f'name="waive" value="{message.pk}"' in page
    answered = say(client, conversation, waive=message.pk)
    assert (answered.status_code, answered["Location"]) == (303, f"/c/{conversation.uuid}/")
    assert since(conversation) is None
    assert str(conversation.uuid) not in client.get("/?show=reply").content.decode()
    page = page_of(client, conversation)
    assert WAITS not in page
    assert f"{WAIVED} {mara.label}" in page


def test_undo_brings_back_what_the_last_press_took_away_and_no_more(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    first, client = hear(conversation, 1), client_of(mara)
    say(client, conversation, waive=first.pk)
    second = hear(conversation, 2)
    say(client, conversation, waive=second.pk)
    assert f'name="undo" value="{second.pk}"' in page_of(client, conversation)
    for _ in range(2):
        say(client, conversation, undo=second.pk)
        assert since(conversation) == at(2)
    say(client, conversation, waive=second.pk)
    say(client, conversation, undo=first.pk)
    assert since(conversation) is None


def test_a_stale_page_takes_nothing_back_of_what_a_colleague_said(
    client_of: Any, mara: models.User, sol: models.User, conversation: models.Conversation
) -> None:
    first, second = hear(conversation, 1), hear(conversation, 2)
    say(client_of(sol), conversation, waive=second.pk)
    say(client_of(mara), conversation, waive=first.pk)
    assert since(conversation) is None
    assert f"{WAIVED} {sol.label}" in page_of(client_of(mara), conversation)


def test_what_the_driver_writes_next_waits_again_and_an_answer_ends_the_remark(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    client = client_of(mara)
    say(client, conversation, waive=hear(conversation, 1).pk)
    hear(conversation, 2)
    assert since(conversation) == at(2)
    answer(conversation, 3, author=mara)
    assert since(conversation) is None
    assert WAIVED not in page_of(client, conversation)


def test_a_line_that_was_not_on_the_page_goes_on_waiting(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    seen = hear(conversation, 1)
    hear(conversation, 2)
    say(client_of(mara), conversation, waive=seen.pk)
    assert since(conversation) == at(2)


def test_a_page_of_older_messages_does_not_speak_of_the_newest(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    hear(conversation, 1)
    client = client_of(mara)
    assert WAITS in page_of(client, conversation)
    assert WAITS not in page_of(client, conversation, f"?before={int(at(2).timestamp() * 1_000_000)}.1")


def test_a_line_that_arrives_later_waits_whatever_time_it_carries_and_is_waived_like_others(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    client = client_of(mara)
    say(client, conversation, waive=hear(conversation, 5).pk)
    late = hear(conversation, 4)
    assert since(conversation) == at(4)
    say(client, conversation, waive=late.pk)
    assert WAIVED in page_of(client, conversation)


@pytest.mark.parametrize("field", ["waive", "undo"])
@pytest.mark.parametrize("word", ["9" * 30, "-1", "x", ""])
def test_a_number_that_cannot_be_read_changes_nothing(
    client_of: Any, mara: models.User, conversation: models.Conversation, field: str, word: str
) -> None:
    first, client = hear(conversation, 1), client_of(mara)
    say(client, conversation, waive=first.pk)
    hear(conversation, 2)
    assert say(client, conversation, **{field: word}).status_code == 303
    assert since(conversation) == at(2)


def test_a_forged_number_reaches_no_further_than_what_is_there(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message = hear(conversation, 1)
    say(client_of(mara), conversation, waive=10**17)
    conversation.refresh_from_db()
    assert conversation.no_answer_through == message.pk
    hear(conversation, 2)
    assert since(conversation) == at(2)


def test_pressed_twice_it_is_noted_once(client_of: Any, mara: models.User, conversation: models.Conversation) -> None:
    message, client = hear(conversation, 1), client_of(mara)
    for _ in range(2):
        say(client, conversation, waive=message.pk)
    [entry] = models.AuditEntry.objects.filter(action="answer_waived")
    assert (entry.user, entry.conversation, entry.detail) == (mara, conversation, {"through": message.pk})
    assert not outbox.waive_answer(conversation.pk, mara, message.pk)
    assert outbox.want_answer(conversation.pk, mara, message.pk)
    assert not outbox.want_answer(conversation.pk, mara, message.pk)


def test_beneath_a_reply_that_failed_the_remark_stands_too(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message, client = hear(conversation, 1), client_of(mara)
    answer(conversation, 2, MessageState.FAILED, author=mara)
    assert since(conversation) == at(1)
    say(client, conversation, waive=message.pk)
    assert since(conversation) is None
    assert WAIVED in page_of(client, conversation)


def test_the_repeated_column_stays_what_the_rules_say(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    say(client_of(mara), conversation, waive=hear(conversation, 1).pk)
    hear(conversation, 2)
    assert not [breach for breach in verify(timezone.now()).breaches if breach.rule.name == "summary_is_true"]
    models.Conversation.objects.update(no_answer_through=None)
    assert [breach for breach in verify(timezone.now()).breaches if breach.rule.name == "summary_is_true"]


def test_nobody_else_can_say_it(client_of: Any, outsider: models.User, conversation: models.Conversation) -> None:
    message = hear(conversation, 1)
    assert say(client_of(outsider), conversation, waive=message.pk).status_code == 404
    assert since(conversation) == at(1)


@pytest.mark.django_db(transaction=True)
def test_an_open_page_hears_what_a_colleague_said(
    client_of: Any, mara: models.User, sol: models.User, conversation: models.Conversation
) -> None:
    message = hear(conversation, 1)
    page = Browser(client_of(sol), f"/c/{conversation.uuid}/")
    answered = client_of(mara).post(page.path + "no-reply/", {"waive": message.pk}, headers=HTMX)
    assert (answered.status_code, answered["HX-Trigger"]) == (204, "live:now")
    news = page.poll()
    assert '<hx-partial hx-target="#composer-waiting" hx-swap="innerMorph">' in news
    assert f"{WAIVED} {mara.label}" in news
    assert f'action="{page.path}no-reply/"' in news
    hear(conversation, 240)
    assert WAITS in page.poll()


@pytest.mark.django_db(transaction=True)
def test_what_changes_while_a_page_is_made_comes_with_its_first_look(
    client_of: Any,
    mara: models.User,
    sol: models.User,
    conversation: models.Conversation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message, found = hear(conversation, 1), threads.head

    def head_and_then(user: models.User, uuid: Any) -> threads.Head | None:
        head = found(user, uuid)
        outbox.waive_answer(conversation.pk, sol, message.pk)
        return head

    with monkeypatch.context() as patch:
        patch.setattr("messaging.views.desk.head", head_and_then)
        page = Browser(client_of(mara), f"/c/{conversation.uuid}/")
    assert f"{WAIVED} {sol.label}" in page.poll()


@pytest.mark.django_db(transaction=True)
def test_a_page_without_a_thread_is_told_nothing_of_it(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    page = Browser(client_of(mara), "/")
    hear(conversation, 1)
    news = page.poll()
    assert news
    assert "composer-waiting" not in news
