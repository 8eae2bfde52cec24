"""The poll: silent when nothing changed, and never more than what did."""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messaging import live, models, outbox
from messaging.states import MessageState
from messaging.templatetags import polling
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
S = MessageState
HTMX = {"HX-Request": "true"}


def inputs(html: str) -> str:
    """What the page's poll carries besides its address."""
    found = re.findall(r'<input type="hidden" name="(newest|pinned|oldest)" value="([^"]*)">', html)
    return "".join(f"&{name}={quote(value)}" for name, value in found)


def address_of(html: str) -> str:
    found = re.search(r'id="live" hidden hx-get="([^"]+)"', html)
    assert found is not None
    return found[1].replace("&amp;", "&")


class Browser:
    """A signed-in page that polls as its markup says."""

    def __init__(self, client: Client, path: str) -> None:
        self.client, self.path = client, path
        html = client.get(path).content.decode()
        self.address, self.inputs = address_of(html), inputs(html)

    def poll(self) -> str:
        """The answer's body; empty for 204."""
        headers = {**HTMX, "HX-Current-URL": f"http://testserver{self.path}"}
        answer = self.client.get(self.address + self.inputs, headers=headers)
        html = str(answer.content.decode())
        assert (answer.status_code, bool(html)) in {(200, True), (204, False)}
        if html and 'id="live"' in html:
            self.address = address_of(html)
        return html


@pytest.fixture
def talk(conversation: models.Conversation) -> models.Conversation:
    """A conversation with one message of the driver, an hour ago."""
    an_hour_ago = timezone.now() - timedelta(hours=1)
    factories.IncomingFactory(conversation=conversation, text="At the gate", occurred_at=an_hour_ago)
    conversation.summarise()
    conversation.refresh_from_db()
    return conversation


def hear(conversation: models.Conversation, text: str, **columns: Any) -> models.Message:
    message = factories.IncomingFactory(conversation=conversation, text=text, **columns)
    conversation.summarise()
    return message


def targets(html: str) -> list[str]:
    return re.findall(r'<hx-partial hx-target="([^"]+)"', html)


@pytest.mark.parametrize("path", ["/", "/c/{c}/", "/compose/", "/settings/", "/help/keys/"])
def test_nothing_changed_is_an_empty_answer_by_one_query(
    client_of: Any, mara: models.User, talk: models.Conversation, path: str
) -> None:
    page = Browser(client_of(mara), path.format(c=talk.uuid))
    with CaptureQueriesContext(database) as queries:
        assert page.poll() == ""
    assert len(queries) == 3  # session, person, look


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/", 3),  # session, person, look with its rows
        ("/c/{c}/", 4),  # session, person, look, rows
    ],
)
def test_a_change_costs_at_most_two_queries_whatever_changed(
    client_of: Any, mara: models.User, talk: models.Conversation, path: str, most: int
) -> None:
    page = Browser(client_of(mara), path.format(c=talk.uuid))
    for changes in (1, 20):
        for _ in range(changes):
            hear(talk, "News")
            hear(factories.ConversationFactory(connection=talk.connection), "Other news")
        with CaptureQueriesContext(database) as queries:
            assert page.poll() != ""
        assert len(queries) == most


def test_a_poll_leaves_the_session_alone(client_of: Any, mara: models.User, talk: models.Conversation) -> None:
    page = Browser(client_of(mara), "/")
    hear(talk, "News")
    with CaptureQueriesContext(database) as queries:
        page.poll()
    assert not [query["sql"] for query in queries if re.match(r"\s*(INSERT|UPDATE|DELETE)", query["sql"])]


def test_a_new_message_is_offered_in_the_list_and_repaints_its_row(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    page = Browser(client_of(mara), "/")
    hear(talk, "I am at the dock")
    html = page.poll()
    assert f"#c-{talk.uuid}" in targets(html)
    assert "I am at the dock" in html
    assert "1 new message</a>" in html
    assert "data-auto-refresh" in html
    assert 'data-unread="1"' in html
    assert 'data-polite="1 new message from Luis Ortega"' in html
    assert page.poll() == ""


def test_beyond_the_first_page_nothing_refreshes_by_itself(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    page = Browser(client_of(mara), "/?before=9999999999999999.1")
    hear(talk, "News")
    html = page.poll()
    assert "1 new message</a>" in html
    assert "data-auto-refresh" not in html


def test_news_that_the_filter_hides_are_not_offered(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    page = Browser(client_of(mara), "/?priority=high")
    hear(talk, "News", priority="low")
    assert "#inbox-news" not in targets(page.poll())


def test_a_failure_offers_to_read_the_list_again(client_of: Any, mara: models.User, talk: models.Conversation) -> None:
    page = Browser(client_of(mara), "/")
    factories.failed(talk, author=mara, occurred_at=timezone.now() - timedelta(days=1))
    html = page.poll()
    assert "What needs attention has changed" in html
    assert "data-attention" in html
    assert '<hx-partial hx-target="#nav-operations" hx-swap="innerHTML">1' in html


def test_a_new_message_takes_its_place_at_the_end_of_the_open_thread(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    page = Browser(client_of(mara), f"/c/{talk.uuid}/")
    message = hear(talk, "Where do I park?")
    html = page.poll()
    day = r'(<li class="day".*?</li>)?'
    place = rf'hx-target="#thread-items" hx-swap="beforeend">{day}<li class="msg msg-in[^>]*id="m-{message.uuid}"'
    assert re.search(place, html)
    assert f'name="through" value="{message.pk}"' in html
    assert 'aria-current="true"' in html
    assert 'data-polite="1 new message from Luis Ortega"' in html


def test_a_late_message_takes_its_place_between_others(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    newest = hear(talk, "Leaving now")
    page = Browser(client_of(mara), f"/c/{talk.uuid}/")
    late = hear(talk, "Loaded", occurred_at=timezone.now() - timedelta(minutes=20))
    html = page.poll()
    assert re.search(rf'hx-target="#m-{newest.uuid}" hx-swap="beforebegin">.*?id="m-{late.uuid}"', html)


def test_messages_that_came_together_come_in_one_piece_before_what_stands_after_them(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    newest = hear(talk, "The newest")
    page, now = Browser(client_of(mara), f"/c/{talk.uuid}/"), timezone.now()
    late = [hear(talk, f"Late {n}", occurred_at=now - timedelta(minutes=30 - n)) for n in range(3)]
    last = [hear(talk, f"Last {n}", occurred_at=now + timedelta(minutes=n)) for n in range(2)]
    pieces = [piece for piece in page.poll().split("<hx-partial ") if 'class="bubble"' in piece]
    assert [re.match(r'hx-target="([^"]+)" hx-swap="(\w+)"', piece).groups() for piece in pieces] == [  # type: ignore[union-attr]
        (f"#m-{newest.uuid}", "beforebegin"), ("#thread-items", "beforeend"),
    ]  # fmt: skip
    assert [re.findall(r'id="m-([^"]+)"', piece) for piece in pieces] == [
        [str(message.uuid) for message in found] for found in (late, last)
    ]


def test_a_change_above_what_is_shown_stays_away(client_of: Any, mara: models.User, talk: models.Conversation) -> None:
    page = Browser(client_of(mara), f"/c/{talk.uuid}/")
    hidden = factories.IncomingFactory(conversation=talk, occurred_at=timezone.now() - timedelta(days=9))
    assert str(hidden.uuid) not in page.poll()


def test_a_repainted_message_keeps_its_place_in_the_run(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    first = factories.accepted(talk, author=mara, text="One")
    second = factories.accepted(talk, author=mara, text="Two")
    page = Browser(client_of(mara), f"/c/{talk.uuid}/")
    for message in (first, second):
        models.Message.objects.filter(pk=message.pk).update(state=S.SUCCEEDED, operation_status="success")
    html = page.poll()
    assert re.search(rf'class="msg msg-out msg-first" id="m-{first.uuid}"', html)
    assert re.search(rf'class="msg msg-out" id="m-{second.uuid}"', html)
    assert html.count('class="msg-author"') == 1


def test_a_running_countdown_is_repainted_until_it_ends(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    until = timezone.now() + timedelta(minutes=2)
    message = factories.OutgoingFactory(conversation=talk, author=mara, not_before=until)
    page = Browser(client_of(mara), f"/c/{talk.uuid}/")
    assert beat(page) == live.PENDING_POLL_MS
    page.poll()
    html = page.poll()
    assert re.search(r"Sends in \d+ s", html)
    assert f'hx-target="#c-{talk.uuid}"' in html, "its row in the list says so too"
    assert outbox.cancel(message, mara, timezone.now())
    assert "Cancelled by" in page.poll()
    assert page.poll() == ""


ENDINGS = [
    ({"state": S.SUCCEEDED, "operation_status": "success"}, "1 message sent", ""),
    ({"state": S.FAILED, "operation_status": "failed", "reason": "No line"}, "", "Your message to Luis Ortega: Failed: No line"),
    (
        {"state": S.FAILED, "operation_status": "failed", "priority": "high"}, "",
        "High priority message to Luis Ortega: Failed",
    ),
    ({"state": S.EXPIRED}, "", "Your message to Luis Ortega: Expired, not sent"),
    (
        {"state": S.NEEDS_DECISION, "question": "absent"}, "",
        "Your message to Luis Ortega: It may have been sent; needs your decision",
    ),
    ({"failed_attempts": 1}, "", ""),
    ({"state": S.CLOSED_NOT_SENT}, "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("change", "polite", "alert"), ENDINGS)
@pytest.mark.parametrize("path", ["/", "/c/{c}/"])
def test_only_the_end_of_a_persons_own_message_is_spoken(
    client_of: Any, mara: models.User, fleet: models.Fleet, talk: models.Conversation,
    path: str, change: dict[str, Any], polite: str, alert: str,
) -> None:  # fmt: skip
    message = factories.accepted(talk, author=mara)
    talk.summarise()
    colleague = factories.UserFactory(fleets=[fleet])
    own, other = (Browser(client_of(user), path.format(c=talk.uuid)) for user in (mara, colleague))
    settled = {"settled_at": timezone.now()} if "state" in change else {}
    models.Message.objects.filter(pk=message.pk).update(**change, **settled)
    html = own.poll()
    assert re.findall(r'data-polite="([^"]*)"', html) == ([polite] if polite else [])
    assert told(html) == alert
    elsewhere = other.poll()
    assert "live-announce" not in elsewhere
    assert told(elsewhere) == ""


def told(html: str) -> str:
    """What stands in the region that speaks up at once, on a page or in a poll's answer."""
    found = re.search(
        r'(?:hx-target="#own" hx-swap="innerMorph"|id="own" role="alert")>(.*?)</(?:hx-partial|div>\s*<div)',
        html,
        re.DOTALL,
    )
    assert found is not None
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", found[1])).strip()


EVERY_PAGE = ["/", "/c/{c}/", "/compose/", "/settings/", "/settings/password/", "/help/keys/", "/ops/", "/connections/",
              "/connections/{n}/", "/m/{m}/", "/m/{m}/resend/"]  # fmt: skip


@pytest.mark.parametrize("path", EVERY_PAGE)
def test_a_failure_of_ones_own_is_told_on_every_page_until_it_is_handled(
    client_of: Any, mara: models.User, talk: models.Conversation, path: str
) -> None:
    done = factories.failed(talk, author=mara, handled_at=timezone.now(), handled_by=mara)
    path = path.format(c=talk.uuid, m=done.uuid, n=talk.connection.catena_id)
    page = Browser(client_of(mara), path)
    messages = [factories.accepted(talk, author=mara) for _ in range(2)]
    talk.summarise()
    page.poll()
    for message in messages:
        models.Message.objects.filter(pk=message.pk).update(
            state=S.FAILED, operation_status="failed", reason="Samsara answered 503 (unavailable)"
        )
    html = page.poll()
    words = "Your message to Luis Ortega: Failed: Samsara answered 503 (unavailable)"
    assert told(html) == f"{words}and 1 more"
    assert f'href="/m/{messages[1].uuid}/"' in html
    assert told(client_of(mara).get(path).content.decode()) == f"{words}and 1 more"
    for message in messages:
        outbox.handled(message, mara, timezone.now(), "Called him")
    assert told(page.poll()) == ""
    assert told(client_of(mara).get(path).content.decode()) == ""


def test_a_late_urgent_message_is_told_to_its_author(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    three_minutes_ago = timezone.now() - timedelta(minutes=3)
    factories.OutgoingFactory(conversation=talk, author=mara, priority="high", occurred_at=three_minutes_ago)
    page = Browser(client_of(mara), "/settings/")
    outbox.escalate(three_minutes_ago + timedelta(seconds=121))
    assert told(page.poll()) == "High priority message to Luis Ortega: Not accepted in 2 min"


def test_nobody_is_told_of_a_fleet_that_they_no_longer_look_after(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    factories.failed(talk, author=mara)
    models.FleetMembership.objects.filter(user=mara).delete()
    assert told(client_of(mara).get("/settings/").content.decode()) == ""


def test_the_slowest_beat_still_tells_within_five_seconds() -> None:
    slowest = live.IDLE_POLL_MS * (100 + polling.SPREAD_PERCENT) / 100
    assert slowest <= 4000


def test_a_poll_tells_nothing_of_other_fleets(
    client_of: Any, mara: models.User, outsider: models.User, talk: models.Conversation
) -> None:
    page = Browser(client_of(outsider), "/")
    page.path = f"/c/{talk.uuid}/"
    page.address = page.address.replace("?v=inbox&", f"?v=conversation&scope={talk.pk}&")
    assert f"scope={talk.pk}" in page.address
    hear(talk, "Secret")
    models.Conversation.objects.update(attention_count=4)
    factories.IncomingFactory(conversation=factories.ConversationFactory())
    html = page.poll()
    assert "Secret" not in html
    assert str(talk.uuid) not in html


@pytest.mark.parametrize("since", ["", "x", "1.2:3:", "0.1:1:", "1795398266.9:3:", "1795398266.1:5:7", "é.1:1:"])
def test_an_unusable_cursor_asks_to_read_the_page_again(
    client_of: Any, mara: models.User, talk: models.Conversation, since: str
) -> None:
    answer = client_of(mara).get(
        f"/_f/live/?v=conversation&scope={talk.pk}&every=3800&q=&since={quote(since)}", headers=HTMX
    )
    html = answer.content.decode()
    assert answer.status_code == 200
    assert "The list has changed. Refresh" in html
    assert f"v=conversation&amp;scope={talk.pk}" in html


def test_a_flood_asks_to_read_the_page_again(client_of: Any, mara: models.User, talk: models.Conversation) -> None:
    page = Browser(client_of(mara), f"/c/{talk.uuid}/")
    for _ in range(live.MOST_CHANGES + 1):
        hear(talk, "News")
    html = page.poll()
    assert "The list has changed. Refresh" in html
    assert "News" not in html
    assert page.poll() == ""


def test_a_flood_of_the_list_is_read_anew_by_itself_and_the_thread_goes_on(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    pages = [Browser(client_of(mara), path) for path in ("/", f"/c/{talk.uuid}/")]
    hear(talk, "News")
    for _ in range(live.MOST_CHANGES + 1):
        hear(factories.ConversationFactory(connection=talk.connection), "Other news")
    alone, beside = (page.poll() for page in pages)
    for html in (alone, beside):
        assert "The list has changed</a>" in html
        assert "data-auto-refresh" in html
        assert "Other news" not in html
    assert "News</div>" in beside


def test_a_page_that_slept_for_hours_catches_up_from_its_cursor(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    page = Browser(client_of(mara), f"/c/{talk.uuid}/")
    hear(talk, "News")
    (taken,) = re.findall(r"since=(\d+)", page.address)
    fresh = page.address
    page.address = fresh.replace(f"since={taken}.", f"since={int(taken) - live.STALE_AFTER_SECONDS + 60}.")
    assert "News</div>" in page.poll()
    page.address = fresh.replace(f"since={taken}.", f"since={int(taken) - live.STALE_AFTER_SECONDS - 60}.")
    assert "The list has changed. Refresh" in page.poll()


def beat(page: Browser) -> int:
    (found,) = re.findall(r"every=(\d+)", page.address)
    return int(found)


def test_a_page_looks_often_for_a_minute_after_anything_changed_and_then_no_more(
    client_of: Any, mara: models.User, talk: models.Conversation
) -> None:
    page = Browser(client_of(mara), "/")
    assert beat(page) == live.IDLE_POLL_MS
    hear(talk, "News")
    assert page.poll() != ""
    assert beat(page) == live.PENDING_POLL_MS
    assert page.poll() == ""
    assert beat(page) == live.PENDING_POLL_MS
    page.address = re.sub(
        r"since=(\d+)", lambda found: f"since={int(found[1]) - live.RENEW_AFTER_SECONDS}", page.address
    )
    assert "hx-partial" in page.poll()
    assert beat(page) == live.IDLE_POLL_MS
    assert page.poll() == ""


def test_the_poll_by_hand_leads_to_its_page(
    client_of: Any, mara: models.User, outsider: models.User, talk: models.Conversation
) -> None:
    message = hear(talk, "News")
    led = {
        f"v=conversation&scope={talk.pk}": f"/c/{talk.uuid}/",
        f"v=message&scope={message.pk}": f"/m/{message.uuid}/",
        "v=ops": "/ops/",
        "v=nothing": "/",
        "v=conversation&scope=x": "/",
        "": "/",
    }
    client = client_of(mara)
    assert {query: client.get(f"/_f/live/?{query}")["Location"] for query in led} == led
    assert client_of(outsider).get(f"/_f/live/?v=conversation&scope={talk.pk}")["Location"] == "/"


def test_an_unknown_view_is_not_found(client_of: Any, mara: models.User) -> None:
    assert client_of(mara).get("/_f/live/?v=nothing&since=1.1:1:", headers=HTMX).status_code == 404


def test_a_signed_out_poll_leads_to_the_log_in_and_back(talk: models.Conversation) -> None:
    headers = {**HTMX, "HX-Current-URL": f"http://testserver/c/{talk.uuid}/"}
    answer = Client().get("/_f/live/?v=inbox", headers=headers)
    assert f"next=%2Fc%2F{talk.uuid}%2F&why=expired" in answer["HX-Redirect"]


def test_the_beat_of_two_people_differs_within_the_spread(
    client_of: Any, mara: models.User, fleet: models.Fleet
) -> None:
    people = [mara, *(factories.UserFactory(fleets=[fleet]) for _ in range(6))]
    beats = set()
    for person in people:
        html = client_of(person).get("/").content.decode()
        beats |= {int(found) for found in re.findall(r"every (\d+)ms", html)}
    assert len(beats) == len(people)
    assert all(3600 <= beat <= 4000 for beat in beats)
