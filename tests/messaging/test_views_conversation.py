"""One conversation: reading, answering, withdrawing, handling; with htmx and by plain forms."""

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messaging import models
from messaging.states import MessageState
from tests import factories

pytestmark = pytest.mark.django_db
S = MessageState
HTMX = {"HX-Request": "true"}
EVIL = '<script>alert("1")</script>\'&'


def draft(**given: Any) -> dict[str, Any]:
    return {"message_text": "Use the south gate", "priority": "high", "client_token": str(uuid.uuid4()), **given}


def send(client: Client, conversation: models.Conversation, headers: Any = None, **given: Any) -> HttpResponse:
    return client.post(f"/c/{conversation.uuid}/reply/", draft(**given), headers=headers)  # type: ignore[return-value]


def bubbles(html: str) -> list[str]:
    """The texts of the messages, in the order in which they stand."""
    return re.findall(r'class="msg-text[^>]*>([^<]*)</div>', html)


def sent(conversation: models.Conversation) -> list[str]:
    return list(models.Message.objects.filter(conversation=conversation).outgoing().values_list("text", flat=True))


def test_messages_stand_in_order_with_their_days_runs_and_words(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    noon = timezone.now().replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
    factories.IncomingFactory(conversation=conversation, text="At the gate", occurred_at=noon)
    factories.IncomingFactory(conversation=conversation, text="Still here", occurred_at=noon + timedelta(minutes=2))
    factories.accepted(
        conversation, author=mara, text="Coming", occurred_at=noon + timedelta(days=1), state=S.SUCCEEDED,
        operation_status="success", priority="high",
    )  # fmt: skip
    conversation.summarise()
    html = client_of(mara).get(f"/c/{conversation.uuid}/").content.decode()
    assert bubbles(html) == ["At the gate", "Still here", "Coming"]
    assert html.count('<li class="day"') == 2
    assert html.count("msg-first") == 2
    assert html.count('<span class="msg-author">Luis Ortega</span>') == 1
    assert "Accepted by Samsara" in html
    assert html.count('<li class="new-rule">') == 1
    assert f'<time datetime="{noon:%Y-%m-%dT%H:%M:%SZ}"' in html


def test_a_message_without_text_or_sender_says_so(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    factories.IncomingFactory(
        conversation=conversation, text=None, sender=None, sender_name="", raw={"sender_id": "7c9e6679-7425-40de"}
    )
    conversation.summarise()
    html = client_of(mara).get(f"/c/{conversation.uuid}/").content.decode()
    assert '<div class="msg-text msg-none">(no text)</div>' in html
    assert 'Unknown sender <span class="mono">7c9e6679</span>' in html


def test_a_reply_quotes_the_message_that_it_answers(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    asked = factories.IncomingFactory(conversation=conversation, text="Which\ngate?")
    client = client_of(mara)
    html = client.get(f"/c/{conversation.uuid}/?reply_to={asked.uuid}").content.decode()
    assert f'name="reply_to" value="{asked.uuid}"' in html
    send(client, conversation, reply_to=str(asked.uuid))
    answer = models.Message.objects.get(direction="out")
    assert answer.reply_to == asked
    html = client.get(f"/c/{conversation.uuid}/").content.decode()
    assert f'<a class="quote" href="#m-{asked.uuid}" dir="auto">Which gate?</a>' in html


def test_a_plain_reply_leads_back_to_its_bubble(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    client = client_of(mara)
    answer = send(client, conversation)
    message = models.Message.objects.get()
    assert (answer.status_code, answer["Location"]) == (303, f"/c/{conversation.uuid}/#m-{message.uuid}")
    assert (message.author, message.priority, message.text) == (mara, "high", "Use the south gate")
    html = client.get(f"/c/{conversation.uuid}/").content.decode()
    assert bubbles(html) == ["Use the south gate"]


def test_a_reply_by_htmx_brings_its_bubble_and_a_fresh_token(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    token = str(uuid.uuid4())
    answer = send(client_of(mara), conversation, HTMX, client_token=token)
    html = answer.content.decode()
    message = models.Message.objects.get()
    assert (answer.status_code, answer["HX-Trigger"]) == (200, "live:now")
    assert 'hx-target="#thread-items" hx-swap="beforeend"><li class="day"' in html
    assert f'id="m-{message.uuid}"' in html
    fresh = re.search(r'id="client-token" name="client_token" value="([^"]+)"', html)
    assert fresh is not None
    assert fresh[1] != token


def test_the_same_form_sent_twice_makes_one_message(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    client, token = client_of(mara), str(uuid.uuid4())
    answers = [send(client, conversation, client_token=token) for _ in range(2)]
    assert answers[0]["Location"] == answers[1]["Location"]
    assert sent(conversation) == ["Use the south gate"]


def test_a_token_that_sent_another_text_sends_nothing_and_keeps_the_new_text(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    client, token = client_of(mara), str(uuid.uuid4())
    send(client, conversation, client_token=token)
    answer = send(client, conversation, client_token=token, message_text="Something new")
    html = answer.content.decode()
    assert answer.status_code == 422
    assert "This form was sent before" in html
    assert ">Something new</textarea>" in html
    assert f'value="{token}"' not in html
    assert sent(conversation) == ["Use the south gate"]


REFUSED = {
    "blank": ({"message_text": " \n "}, "Write a message first."),
    "too long": ({"message_text": "x" * 1001}, "1 characters too long"),
    "unknown priority": ({"priority": "urgent"}, "Choose Low, Medium or High."),
    "no priority": ({"priority": ""}, "Choose a priority."),
    "bad token": ({"client_token": "1"}, "This form was damaged"),
    "no token": ({"client_token": ""}, "This form was damaged"),
    "foreign reply": ({"reply_to": str(uuid.uuid4())}, "is not in this conversation"),
    "nonsense reply": ({"reply_to": "1; DROP"}, "is not in this conversation"),
    "null byte": ({"message_text": "a\0b"}, "Null characters are not allowed."),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("headers", [None, HTMX], ids=["plain", "htmx"])
def test_a_refused_reply_says_why_and_sends_nothing(
    client_of: Any, mara: models.User, conversation: models.Conversation, name: str, headers: Any
) -> None:
    given, said = REFUSED[name]
    answer = send(client_of(mara), conversation, headers, **given)
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert not models.Message.objects.exists()


def test_a_refused_plain_reply_keeps_every_word(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    asked = factories.IncomingFactory(conversation=conversation)
    token = str(uuid.uuid4())
    text = EVIL + "\n" + "y" * 1000
    answer = send(
        client_of(mara), conversation, message_text=text, priority="low", reply_to=str(asked.uuid), client_token=token
    )
    html = answer.content.decode()
    assert f"&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&#x27;&amp;\n{'y' * 1000}</textarea>" in html
    assert 'value="low" checked' in html
    assert f'name="reply_to" value="{asked.uuid}"' in html
    assert f'name="client_token" value="{token}"' in html
    assert 'aria-invalid="true"' in html


def test_a_refused_htmx_reply_touches_only_the_error(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    html = send(client_of(mara), conversation, HTMX, message_text="").content.decode()
    assert re.findall(r'hx-target="([^"]+)"', html) == ["#composer-error", "#client-token"]
    assert "autofocus" in html
    assert "textarea" not in html


def test_what_people_wrote_stays_text_wherever_it_is_shown(
    client_of: Any, mara: models.User, connection: models.Connection
) -> None:
    driver = factories.FleetUserFactory(connection=connection, name=EVIL, username=EVIL, phone_number=EVIL, status=EVIL)
    conversation = factories.ConversationFactory(driver=driver)
    asked = factories.IncomingFactory(conversation=conversation, text=EVIL)
    factories.failed(conversation, author=mara, text=EVIL, reason=EVIL, reply_to=asked)
    html = client_of(mara).get(f"/c/{conversation.uuid}/?reply_to={asked.uuid}").content.decode()
    assert "<script>" not in html
    assert 'alert("1")' not in html
    assert html.count("&lt;script&gt;") >= 8


def test_line_ends_are_kept_and_count_once(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    text = "a\r\n" * 499 + "ab"
    assert send(client_of(mara), conversation, message_text=text).status_code == 303
    assert sent(conversation) == [text.replace("\r\n", "\n")]


OBSTACLES: dict[str, tuple[dict[str, Any], str]] = {
    "stale": ({"status": "stale"}, "The fleet must sign in again."),
    "read-only": ({"share_level": "read_only"}, "shares its messages read-only"),
    "unsupported": ({"message_support": "not_supported"}, "Catena cannot send messages through Samsara."),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_where_nothing_can_be_sent_the_composer_says_why(
    client_of: Any, mara: models.User, conversation: models.Conversation, name: str
) -> None:
    columns, said = OBSTACLES[name]
    models.Connection.objects.update(**columns)
    client = client_of(mara)
    html = client.get(f"/c/{conversation.uuid}/").content.decode()
    assert said in html
    assert 'id="id_message_text"' not in html
    refused = send(client, conversation)
    assert refused.status_code == 422
    assert "Use the south gate</textarea>" in refused.content.decode()
    assert not models.Message.objects.exists()


def test_without_an_office_user_the_composer_says_whom_to_ask(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    models.FleetUser.objects.update(is_active=False)
    models.FleetUser.objects.filter(pk=conversation.driver_id).update(is_active=True)
    html = client_of(mara).get(f"/c/{conversation.uuid}/").content.decode()
    assert 'id="id_message_text"' in html  # the driver's own account can still be a sender
    models.FleetUser.objects.update(is_active=False)
    html = client_of(mara).get(f"/c/{conversation.uuid}/").content.decode()
    assert "no longer lists Luis Ortega as active" in html


def test_support_reads_but_does_not_write_unless_a_member(
    client_of: Any, sol: models.User, conversation: models.Conversation, fleet: models.Fleet
) -> None:
    client = client_of(sol)
    assert "You may read the messages of Northern Haulage, not write them." in (
        client.get(f"/c/{conversation.uuid}/").content.decode()
    )
    assert send(client, conversation).status_code == 422
    models.FleetMembership.objects.create(user=sol, fleet=fleet)
    assert send(client, conversation).status_code == 303


def test_an_outsider_finds_nothing_at_any_address(
    client_of: Any, outsider: models.User, conversation: models.Conversation
) -> None:
    client = client_of(outsider)
    message = factories.OutgoingFactory(conversation=conversation)
    for address in ("", "reply/", "read/"):
        assert client.get(f"/c/{conversation.uuid}/{address}").status_code == 404
        assert client.post(f"/c/{conversation.uuid}/{address}", draft()).status_code in {404, 405}
    for fragment in ("", "older/?before=1.1", "quote/"):
        assert client.get(f"/_f/c/{conversation.uuid}/{fragment}", headers=HTMX).status_code == 404
    for verb in ("cancel", "handled"):
        assert client.get(f"/m/{message.uuid}/{verb}/").status_code == 404
        assert client.post(f"/m/{message.uuid}/{verb}/").status_code == 404
    assert models.Message.objects.count() == 1


def test_opening_reads_nothing_and_the_read_mark_never_goes_back(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    first, second = factories.IncomingFactory.create_batch(2, conversation=conversation)
    conversation.summarise()
    client = client_of(mara)
    html = client.get(f"/c/{conversation.uuid}/").content.decode()
    assert not models.ReadMark.objects.exists()
    assert f'name="through" value="{second.pk}"' in html
    for through in (second.pk, first.pk, second.pk + 1000, "x", ""):
        answer = client.post(f"/c/{conversation.uuid}/read/", {"through": through}, headers=HTMX)
        assert (answer.status_code, answer["HX-Trigger"]) == (204, "live:now")
        assert models.ReadMark.objects.get().read_through == second.pk
    assert 'name="through"' not in client.get(f"/c/{conversation.uuid}/").content.decode()


def test_a_mark_covers_only_what_the_page_showed(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    shown, _ = factories.IncomingFactory.create_batch(2, conversation=conversation)
    conversation.summarise()
    client_of(mara).post(f"/c/{conversation.uuid}/read/", {"through": shown.pk})
    assert models.ReadMark.objects.get().read_through == shown.pk


def test_older_messages_come_page_by_page(client_of: Any, mara: models.User, conversation: models.Conversation) -> None:
    start = timezone.now() - timedelta(hours=12)
    for number in range(120):
        factories.IncomingFactory(
            conversation=conversation, text=f"Text {number}", occurred_at=start + timedelta(minutes=number)
        )
    client = client_of(mara)
    html = client.get(f"/c/{conversation.uuid}/").content.decode()
    assert bubbles(html) == [f"Text {number}" for number in range(70, 120)]
    link = re.search(rf'href="(/c/{conversation.uuid}/\?before=[\d.]+)" hx-get="([^"]+)"', html)
    assert link is not None
    assert bubbles(client.get(link[1]).content.decode()) == [f"Text {number}" for number in range(20, 70)]
    fragment = client.get(link[2], headers=HTMX).content.decode()
    assert bubbles(fragment) == [f"Text {number}" for number in range(20, 70)]
    away = client.get(link[2])
    assert (away.status_code, away["Location"]) == (302, link[1])
    last = re.search(r'hx-get="([^"]+older/[^"]+)"', fragment)
    assert last is not None
    assert bubbles(client.get(last[1], headers=HTMX).content.decode()) == [f"Text {number}" for number in range(20)]


def test_the_place_for_problems_of_a_reply_is_empty_while_there_are_none(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    """The style hides what is empty, and a blank is not."""
    assert '<div id="composer-error"></div>' in client_of(mara).get(conversation.get_absolute_url()).content.decode()


def test_a_click_on_a_row_brings_thread_context_title_and_poller(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    factories.IncomingFactory(conversation=conversation, text="At the gate")
    conversation.summarise()
    client = client_of(mara)
    away = client.get(f"/_f/c/{conversation.uuid}/")
    assert (away.status_code, away["Location"]) == (302, f"/c/{conversation.uuid}/")
    answer = client.get(f"/_f/c/{conversation.uuid}/?q=show%3Dunread", headers=HTMX)
    html = answer.content.decode()
    assert answer["HX-Push-Url"] == f"/c/{conversation.uuid}/"
    assert bubbles(html) == ["At the gate"]
    assert re.search(r'<h2\s+id="thread-title"\s+tabindex="-1"[^>]*\sautofocus>Luis Ortega</h2>', html)
    assert re.search(r'data-title="Luis Ortega - Inbox - Backhaul"\s+data-unread="1"', html)
    assert f"v=conversation&amp;scope={conversation.pk}&amp;every=1200&amp;q=show%3Dunread" in html
    assert "<html" not in html


def test_a_missing_conversation_is_told_inside_the_pane(client_of: Any, mara: models.User) -> None:
    answer = client_of(mara).get(f"/_f/c/{uuid.uuid4()}/", headers=HTMX)
    assert answer.status_code == 404
    assert "<html" not in answer.content.decode()
    assert "This conversation is not here" in answer.content.decode()


def test_the_context_names_driver_connection_and_freshness(
    client_of: Any, mara: models.User, connection: models.Connection
) -> None:
    now = timezone.now()
    models.Connection.objects.update(
        last_successful_execution_at=now - timedelta(seconds=50),
        next_execution_at=now + timedelta(minutes=10, seconds=30),
    )
    driver = factories.FleetUserFactory(
        connection=connection, name="Mei-Ling Wu", username="mwu", phone_number="+1 555 0101", user_designation="DRIVER"
    )
    conversation = factories.ConversationFactory(driver=driver)
    html = client_of(mara).get(f"/c/{conversation.uuid}/").content.decode()
    context = html[html.index('id="context"') :]
    for words in ("Mei-Ling Wu", "mwu", "+1 555 0101", "Driver", connection.label, "Samsara", "Northern Haulage"):
        assert words in context
    assert re.search(r"Replies from Samsara synced 5\d s ago, next in 10 min", context)


def test_a_log_in_in_between_returns_to_the_conversation(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    answer = send(Client(), conversation)
    assert answer.status_code == 302
    assert f"next=/c/{conversation.uuid}/reply/" in answer["Location"]
    back = client_of(mara).get(f"/c/{conversation.uuid}/reply/")
    assert (back.status_code, back["Location"]) == (303, f"/c/{conversation.uuid}/")
    htmx = send(Client(), conversation, {**HTMX, "HX-Current-URL": f"http://testserver/c/{conversation.uuid}/"})
    assert f"next=%2Fc%2F{conversation.uuid}%2F" in htmx["HX-Redirect"]
    assert not models.Message.objects.exists()


def test_a_get_on_a_form_address_writes_nothing(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message = factories.failed(conversation, author=mara)
    client = client_of(mara)
    for address in (f"/m/{message.uuid}/cancel/", f"/m/{message.uuid}/handled/"):
        assert client.get(address)["Location"] == f"/c/{conversation.uuid}/#m-{message.uuid}"
    message.refresh_from_db()
    assert (message.state, message.handled_at) == (S.FAILED, None)


@pytest.mark.parametrize("query", ["", "?reply_to={m}", "?text_of={m}"])
def test_a_conversation_costs_the_same_number_of_queries_at_any_length(
    client_of: Any, mara: models.User, conversation: models.Conversation, query: str
) -> None:
    def count(messages: int) -> int:
        for _ in range(messages):
            factories.failed(conversation, author=mara)
            message = factories.IncomingFactory(conversation=conversation)
        client = client_of(mara)
        with CaptureQueriesContext(database) as queries:
            client.get(f"/c/{conversation.uuid}/{query.format(m=message.uuid)}")
        return len(queries)

    count(1)  # the explanations are read once for a while
    assert count(3) == count(30) <= 12


def test_a_form_from_before_another_log_in_is_refused_beside_its_text(
    mara: models.User, conversation: models.Conversation
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(mara)
    plain, htmx = send(client, conversation), send(client, conversation, HTMX)
    assert (plain.status_code, htmx.status_code) == (403, 403)
    assert "<html" in plain.content.decode()
    assert "<html" not in htmx.content.decode()
    assert 'hx-target="#composer-error, #compose-errors"' in htmx.content.decode()
    assert not models.Message.objects.exists()
