"""A reply to a conversation that moved on is held back once, with what was said meanwhile before the author's eyes."""

import re
import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from messaging import live, models, outbox
from messaging.states import MessageState
from tests import factories

pytestmark = pytest.mark.django_db
S = MessageState
HTMX = {"HX-Request": "true"}
SEEN = re.compile(r'<input type="hidden" id="seen" name="seen" value="(\d+)" autocomplete="off">')


@pytest.fixture
def talk(conversation: models.Conversation) -> models.Conversation:
    hear(conversation, "At the gate", occurred_at=timezone.now() - timedelta(hours=1))
    return conversation


def hear(conversation: models.Conversation, text: str, **columns: Any) -> models.Message:
    message = factories.IncomingFactory(conversation=conversation, text=text, **columns)
    conversation.summarise()
    return message


def seen_on(client: Client, conversation: models.Conversation) -> str:
    (found,) = SEEN.findall(client.get(f"/c/{conversation.uuid}/").content.decode())
    return str(found)


def send(client: Client, conversation: models.Conversation, seen: str, headers: Any = None, **given: Any) -> Any:
    draft = {"message_text": "Use the south gate", "priority": "medium", "client_token": str(uuid.uuid4()), **given}
    answer: HttpResponse = client.post(f"/c/{conversation.uuid}/reply/", {**draft, "seen": seen}, headers=headers)  # type: ignore[assignment]
    return answer


def sent(conversation: models.Conversation) -> list[str | None]:
    ours = models.Message.objects.filter(conversation=conversation).outgoing()
    return list(ours.values_list("text", flat=True))


@pytest.mark.parametrize("headers", [None, HTMX], ids=["plain", "htmx"])
def test_a_line_of_the_driver_that_was_not_seen_holds_the_reply_back_once(
    client_of: Any, mara: models.User, talk: models.Conversation, headers: Any
) -> None:
    client, token = client_of(mara), str(uuid.uuid4())
    seen = seen_on(client, talk)
    hear(talk, "The south gate is <b>closed</b>")
    answer = send(client, talk, seen, headers, client_token=token)
    html = answer.content.decode()
    assert (answer.status_code, sent(talk)) == (409, [])
    assert "Not sent yet: Luis Ortega wrote meanwhile." in html
    assert "The south gate is &lt;b&gt;closed&lt;/b&gt;</span></p>" in html
    (now_seen,) = SEEN.findall(html)
    again = send(client, talk, now_seen, headers, client_token=token)
    assert (again.status_code, sent(talk)) == (200 if headers else 303, ["Use the south gate"])


def test_a_reply_that_is_held_back_keeps_every_word(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    client, token = client_of(mara), str(uuid.uuid4())
    asked, seen = hear(talk, "Which gate?"), seen_on(client, talk)
    hear(talk, "Never mind")
    answer = send(client, talk, seen, priority="high", reply_to=str(asked.uuid), client_token=token)
    html = answer.content.decode()
    assert ">Use the south gate</textarea>" in html
    assert 'value="high" checked' in html
    assert f'name="reply_to" value="{asked.uuid}"' in html
    assert f'name="client_token" value="{token}"' in html


def test_by_htmx_the_text_stays_where_it_is_and_the_thread_is_brought_up_to_date(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    client = client_of(mara)
    seen = seen_on(client, talk)
    hear(talk, "News")
    answer = send(client, talk, seen, HTMX)
    html = answer.content.decode()
    assert re.findall(r'hx-target="([^"]+)"', html) == ["#composer-error", "#seen"]
    assert answer["HX-Trigger"] == "live:now"
    assert "textarea" not in html


def test_a_colleagues_reply_holds_back_and_ones_own_does_not(
    client_of: Any, mara: models.User, talk: models.Conversation, ada: models.User
) -> None:
    hers, his = client_of(mara), client_of(ada)
    seen_by_her, seen_by_him = seen_on(hers, talk), seen_on(his, talk)
    assert send(hers, talk, seen_by_her).status_code == 303
    assert send(hers, talk, seen_by_her, message_text="And hurry").status_code == 303
    answer = send(his, talk, seen_by_him, message_text="Use the north gate")
    assert answer.status_code == 409
    assert f"Not sent yet: {mara.label} wrote meanwhile." in answer.content.decode()
    assert sent(talk) == ["Use the south gate", "And hurry"]


@pytest.mark.parametrize(
    "columns", [{"state": S.CANCELLED}, {"deleted_at": timezone.now()}], ids=["withdrawn", "deleted"]
)
def test_what_was_taken_back_holds_nothing_back(
    client_of: Any, mara: models.User, talk: models.Conversation, columns: dict[str, Any]
) -> None:
    client = client_of(mara)
    seen = seen_on(client, talk)
    factories.OutgoingFactory(conversation=talk, **columns)
    assert send(client, talk, seen).status_code == 303


def test_ones_own_message_coming_back_before_its_operation_is_no_news(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    client = client_of(mara)
    factories.accepted(talk, author=mara, text="On its way")
    seen = seen_on(client, talk)
    record = {"direction": "out", "sender": None, "sender_name": "Dana Whitfield"}
    hear(talk, "On its way", **record)
    assert send(client, talk, seen).status_code == 303
    hear(talk, "Written at the provider's own screen", **record)
    assert "Dana Whitfield wrote meanwhile" in send(client, talk, seen).content.decode()


def test_a_late_line_with_an_old_time_is_news_all_the_same(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    client = client_of(mara)
    seen = seen_on(client, talk)
    hear(talk, "Written before, told late", occurred_at=timezone.now() - timedelta(hours=5))
    assert "Written before, told late" in send(client, talk, seen).content.decode()


def test_of_many_lines_the_newest_are_shown_and_the_others_counted(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    client = client_of(mara)
    seen = seen_on(client, talk)
    for number in range(7):
        hear(talk, f"Line {number}" + " and so on" * 40, occurred_at=timezone.now() + timedelta(seconds=number))
    html = send(client, talk, seen, HTMX).content.decode()
    assert re.findall(r"Line \d", html) == ["Line 3", "Line 4", "Line 5", "Line 6"]
    assert "3 more above" in html
    assert html.count("…</span>") == 4


@pytest.mark.parametrize("seen", ["", "x", "-1", "1" * 30])
def test_a_form_that_does_not_say_what_was_seen_sends(
    client_of: Any, mara: models.User, talk: models.Conversation, seen: str
) -> None:
    assert send(client_of(mara), talk, seen).status_code == 303


def test_the_same_form_sent_twice_is_not_held_back_by_what_came_in_between(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    client, token = client_of(mara), str(uuid.uuid4())
    seen = seen_on(client, talk)
    send(client, talk, seen, client_token=token)
    hear(talk, "News")
    assert send(client, talk, seen, client_token=token).status_code == 303
    assert sent(talk) == ["Use the south gate"]


@pytest.mark.django_db(transaction=True)
def test_only_what_the_poll_painted_counts_as_seen(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    client = client_of(mara)
    asked = {
        "v": "conversation",
        "scope": talk.pk,
        "since": str(live.glance(mara).cursor),
        "seen": seen_on(client, talk),
    }
    line = hear(talk, "I am at the dock")
    painted = client.get("/_f/live/", asked, headers=HTMX).content.decode()
    assert (f'id="m-{line.uuid}"' in painted, SEEN.findall(painted)) == (True, [str(line.pk)])
    elsewhere = client.get("/_f/live/", {**asked, "v": "inbox", "scope": ""}, headers=HTMX).content.decode()
    assert SEEN.findall(elsewhere) == []
    without_composer = client.get("/_f/live/", {**asked, "seen": ""}, headers=HTMX).content.decode()
    assert SEEN.findall(without_composer) == []
    # A repainted older bubble takes nothing back.
    ahead = client.get("/_f/live/", {**asked, "seen": str(line.pk + 5)}, headers=HTMX).content.decode()
    assert SEEN.findall(ahead) == []
    assert send(client, talk, str(line.pk)).status_code == 303


@pytest.mark.django_db(transaction=True)
def test_of_two_people_who_press_send_at_once_one_is_shown_the_others_line(
    mara: models.User, ada: models.User, talk: models.Conversation
) -> None:
    newest = models.Message.objects.latest("id").pk
    start, outcomes = threading.Barrier(2), []

    def press(author: models.User) -> None:
        try:
            start.wait(10)
            outbox.compose(author, talk, author.username, "medium", None, uuid.uuid4(), timezone.now(), newest)
            outcomes.append("sent")
        except outbox.MovedOn:
            outcomes.append("held back")
        finally:
            database.close()

    threads = [threading.Thread(target=press, args=[author]) for author in (mara, ada)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outcomes) == ["held back", "sent"]
    assert len(sent(talk)) == 1
