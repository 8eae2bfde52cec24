"""Sending a failure again from the conversation and from the message's page, with script and without."""

import re
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext

from messaging import models, outbox
from messaging.states import MessageState
from tests import factories

pytestmark = pytest.mark.django_db
S = MessageState
HTMX = {"HX-Request": "true"}


@pytest.fixture
def refused(conversation: models.Conversation, mara: models.User) -> models.Message:
    """A failure that the driver certainly did not get."""
    return factories.failed(
        conversation, author=mara, text="Use gate 4", error_type="validation", response_status_code=422,
        reason="Samsara did not accept the content",
    )  # fmt: skip


@pytest.fixture
def doubtful(conversation: models.Conversation, mara: models.User) -> models.Message:
    return factories.failed(conversation, author=mara, text="Use gate 5", error_type="network")


def repeat_of(message: models.Message) -> models.Message:
    return models.Message.objects.get(retry_of=message)


def bubble(html: str, message: models.Message) -> str:
    found = re.search(rf'<li class="msg[^>]*id="m-{message.uuid}".*?</li>', html, re.DOTALL)
    assert found is not None
    return found[0]


def test_a_failure_offers_to_be_sent_again_and_becomes_two_linked_messages(
    client_of: Any, mara: models.User, conversation: models.Conversation, refused: models.Message
) -> None:
    client: Client = client_of(mara)
    address = f"/c/{conversation.uuid}/"
    assert f'action="/m/{refused.uuid}/resend/"' in bubble(client.get(address).content.decode(), refused)
    answer = client.post(f"/m/{refused.uuid}/resend/")
    made = repeat_of(refused)
    assert (answer.status_code, answer["Location"]) == (303, f"{address}#m-{made.uuid}")
    html = client.get(address).content.decode()
    old, new = bubble(html, refused), bubble(html, made)
    assert "Failed: Samsara did not accept the content" in old
    assert re.search(rf'<a href="/m/{made.uuid}/">Sent again by you \d\d:\d\d</a>', old)
    assert "resend/" not in old
    assert "Mark as handled" not in old
    assert re.search(rf'<a href="/m/{refused.uuid}/">Repeats the message of \d\d:\d\d</a>', new)


def test_with_script_both_bubbles_are_painted_at_once(
    client_of: Any, mara: models.User, refused: models.Message
) -> None:
    answer = client_of(mara).post(f"/m/{refused.uuid}/resend/", headers=HTMX)
    html = answer.content.decode()
    assert "Sent again by you" in bubble(html, refused)
    assert "Use gate 4" in bubble(html, repeat_of(refused))
    assert answer["HX-Trigger"] == "live:now"


@pytest.mark.parametrize("back", ["", "message"])
def test_what_may_have_arrived_is_asked_about_on_a_page_and_needs_a_second_tick(
    client_of: Any, mara: models.User, doubtful: models.Message, back: str
) -> None:
    client: Client = client_of(mara)
    address = f"/m/{doubtful.uuid}/resend/"
    answer = client.post(address, {"back": back})
    assert answer["Location"] == address + ("?back=message" if back else "")
    html = client.get(answer["Location"]).content.decode()
    assert "The line to Samsara broke" in html
    assert "The driver may have it." in html
    assert re.search(r'type="checkbox"\s+id="id_is_sure"\s+name="is_sure"\s+value="1"\s+required', html)
    refused = client.post(address, {"back": back, "asked": "1"})
    assert (refused.status_code, models.Message.objects.count()) == (422, 1)
    assert "Tick the box if you mean it. Nothing was sent." in refused.content.decode()
    sent = client.post(address, {"back": back, "asked": "1", "is_sure": "1"})
    made = repeat_of(doubtful)
    assert sent["Location"] == (f"/m/{made.uuid}/" if back else f"/c/{made.conversation.uuid}/#m-{made.uuid}")


def test_with_script_the_question_unfolds_beneath_the_bubble_and_goes_when_it_is_answered(
    client_of: Any, mara: models.User, doubtful: models.Message
) -> None:
    client: Client = client_of(mara)
    address = f"/m/{doubtful.uuid}/resend/"
    asked = client.post(address, headers=HTMX).content.decode()
    assert f'hx-target="#m-{doubtful.uuid}" hx-swap="afterend"><li class="msg-do" id="ask-{doubtful.uuid}"' in asked
    assert "The line to Samsara broke" in asked
    assert 'name="is_sure" value="1" required' in asked
    assert "Tick the box" not in asked
    assert "Tick the box if you mean it." in client.post(address, {"asked": "1"}, headers=HTMX).content.decode()
    assert models.Message.objects.count() == 1
    sent = client.post(address, {"asked": "1", "is_sure": "1"}, headers=HTMX).content.decode()
    for question_or_note in ("ask", "said"):
        assert f'hx-target="#{question_or_note}-{doubtful.uuid}" hx-swap="delete"' in sent
    assert repeat_of(doubtful).text == "Use gate 5"


def test_the_second_person_is_told_who_was_first_and_shown_what_was_sent(
    client_of: Any, mara: models.User, sol: models.User, refused: models.Message
) -> None:
    client_of(sol).post(f"/m/{refused.uuid}/resend/")
    made = repeat_of(refused)
    client: Client = client_of(mara)
    late = client.post(f"/m/{refused.uuid}/resend/", follow=True)
    assert late.redirect_chain[0][0].endswith(f"#m-{made.uuid}")
    assert re.search(rf"{sol.label} sent it again at \d\d:\d\d. It is not sent twice.", late.content.decode())
    painted = client.post(f"/m/{refused.uuid}/resend/", headers=HTMX).content.decode()
    assert f'hx-target="#m-{refused.uuid}" hx-swap="afterend"><li class="msg-do" id="said-{refused.uuid}"' in painted
    assert "It is not sent twice." in painted
    assert "It is not sent twice." not in bubble(painted, refused), "the next poll repaints the bubble"
    assert bubble(painted, made)
    asked = client.get(f"/m/{refused.uuid}/resend/").content.decode()
    assert f"{sol.label} sent it again at" in asked
    assert ">Send again</button>" not in asked
    assert models.Message.objects.filter(retry_of=refused).count() == 1


def test_the_pages_of_both_messages_name_each_other(
    client_of: Any, mara: models.User, sol: models.User, refused: models.Message
) -> None:
    client: Client = client_of(mara)
    html = client.get(f"/m/{refused.uuid}/").content.decode()
    assert f'action="/m/{refused.uuid}/resend/"' in html
    client_of(sol).post(f"/m/{refused.uuid}/resend/", {"back": "message"})
    made = repeat_of(refused)
    html = client.get(f"/m/{refused.uuid}/").content.decode()
    assert f'<a href="/m/{made.uuid}/">Sent again by {sol.label}</a>' in html
    assert "<h3>Sent again by" in html
    assert f'action="/m/{refused.uuid}/resend/"' not in html
    assert "Failed after 1 attempt." in html
    assert f'Repeats <a href="/m/{refused.uuid}/">' in client.get(f"/m/{made.uuid}/").content.decode()


def test_a_message_that_did_not_fail_says_so_instead(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message = factories.accepted(conversation, author=mara, state=S.SUCCEEDED, operation_status="success")
    client: Client = client_of(mara)
    for answer in (client.get(f"/m/{message.uuid}/resend/"), client.post(f"/m/{message.uuid}/resend/")):
        assert "has not failed, or no longer" in answer.content.decode()
        assert ">Send again</button>" not in answer.content.decode()
    painted = client.post(f"/m/{message.uuid}/resend/", headers=HTMX).content.decode()
    assert "has not failed, or no longer" in painted
    assert models.Message.objects.count() == 1


def test_a_connection_that_cannot_send_gives_the_reason_and_sends_nothing(
    client_of: Any, mara: models.User, refused: models.Message
) -> None:
    models.Connection.objects.update(share_level="read")
    obstacle = models.Connection.objects.get(pk=refused.connection_id).sending_obstacle
    assert obstacle
    client: Client = client_of(mara)
    answer = client.post(f"/m/{refused.uuid}/resend/", {"is_sure": "1"})
    assert answer.status_code == 422
    assert obstacle in answer.content.decode()
    assert obstacle in client.post(f"/m/{refused.uuid}/resend/", headers=HTMX).content.decode()
    assert models.Message.objects.count() == 1


def test_support_sends_again_what_they_may_not_write_themselves(
    client_of: Any, sol: models.User, refused: models.Message
) -> None:
    assert client_of(sol).post(f"/m/{refused.uuid}/resend/").status_code == 303
    assert repeat_of(refused).author == sol


def test_somebody_of_another_fleet_finds_nothing_to_send_again(
    client_of: Any, refused: models.Message, outsider: models.User
) -> None:
    assert client_of(outsider).post(f"/m/{refused.uuid}/resend/").status_code == 404
    assert models.Message.objects.count() == 1


def test_what_a_driver_wrote_cannot_be_sent_again(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    incoming = factories.IncomingFactory(conversation=conversation)
    assert client_of(mara).post(f"/m/{incoming.uuid}/resend/").status_code == 404


@pytest.mark.parametrize("state", [S.REJECTED, S.EXPIRED])
def test_what_never_left_can_be_sent_again_as_it_is_or_changed(
    client_of: Any, mara: models.User, conversation: models.Conversation, state: S
) -> None:
    message = factories.OutgoingFactory(conversation=conversation, author=mara, state=state)
    conversation.summarise()
    html = bubble(client_of(mara).get(f"/c/{conversation.uuid}/").content.decode(), message)
    assert "Edit and send again" in html
    client_of(mara).post(f"/m/{message.uuid}/resend/")
    assert repeat_of(message).state == S.QUEUED


def test_the_question_costs_few_queries(client_of: Any, mara: models.User, doubtful: models.Message) -> None:
    client: Client = client_of(mara)
    with CaptureQueriesContext(database) as queries:
        client.get(f"/m/{doubtful.uuid}/resend/")
    assert len(queries) <= 12


def test_a_note_says_what_was_done_and_stands_on_the_bubble_and_in_the_timeline(
    client_of: Any, mara: models.User, conversation: models.Conversation, refused: models.Message
) -> None:
    client: Client = client_of(mara)
    client.post(f"/m/{refused.uuid}/handled/", {"note": "  Called the <b>driver</b>  "})
    old = bubble(client.get(f"/c/{conversation.uuid}/").content.decode(), refused)
    assert re.search(r"Handled by you \d\d:\d\d: <span dir=\"auto\">Called the &lt;b&gt;driver&lt;/b&gt;</span>", old)
    assert "Mark as handled" not in old
    assert "Failed: Samsara did not accept the content" in old
    html = client.get(f"/m/{refused.uuid}/").content.decode()
    assert f"Marked as handled by {mara.label}" in html
    assert html.count("Called the &lt;b&gt;driver&lt;/b&gt;") == 2


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "fragment"])
def test_a_note_that_is_too_long_marks_nothing_and_says_why(
    client_of: Any, mara: models.User, refused: models.Message, headers: dict[str, str]
) -> None:
    answer = client_of(mara).post(
        f"/m/{refused.uuid}/handled/", {"note": "x" * 501}, headers=headers, follow=not headers
    )
    assert "The note is too long. Shorten it to 500 characters." in answer.content.decode()
    refused.refresh_from_db()
    assert refused.handled_at is None


def test_a_note_that_comes_second_is_told_so(
    client_of: Any, mara: models.User, sol: models.User, refused: models.Message
) -> None:
    client_of(sol).post(f"/m/{refused.uuid}/handled/", {"note": "Called him"})
    html = client_of(mara).post(f"/m/{refused.uuid}/handled/", {"note": "Me too"}, headers=HTMX).content.decode()
    assert "This needs no attention any more" in html
    assert f"Handled by {sol.label}" in html
    assert "Me too" not in html


def test_a_withdrawn_resend_lets_the_failure_be_sent_again(
    client_of: Any, mara: models.User, conversation: models.Conversation, refused: models.Message
) -> None:
    client: Client = client_of(mara)
    client.post(f"/m/{refused.uuid}/resend/")
    assert outbox.cancel(repeat_of(refused), mara, refused.occurred_at)
    old = bubble(client.get(f"/c/{conversation.uuid}/").content.decode(), refused)
    assert "Sent again by" not in old
    assert f'action="/m/{refused.uuid}/resend/"' in old
    assert "Mark as handled" in old


def test_a_late_urgent_message_says_so_in_the_list_and_in_its_bubble(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message = factories.OutgoingFactory(
        conversation=conversation, author=mara, priority="high", state=S.WAITING,
        escalated_at=factories.timezone.now() + factories.timedelta(seconds=125),
    )  # fmt: skip
    conversation.summarise()
    html = client_of(mara).get(f"/c/{conversation.uuid}/").content.decode()
    assert "Not accepted in 2 min. Waiting for the message before it" in bubble(html, message)
    assert "Mark as handled" in bubble(html, message)
    row = re.search(r'<ul id="pinned".*?</ul>', html, re.DOTALL)
    assert row is not None
    assert "Not accepted in 2 min" in row[0]
    assert "need attention" not in row[0]
