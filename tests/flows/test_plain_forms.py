"""The main job without JavaScript: a browser that knows only links and forms, the product's web, and a simulated Catena."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import pytest
import requests
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from messaging import models, outbox, sync
from messaging.catena.client import CatenaClient
from messaging.simulator import Pace, SimulatorServer, World
from messaging.states import MessageState
from tests import factories
from tests.messaging.conftest import client_of_server, mirrored_conversation

pytestmark = pytest.mark.django_db(transaction=True)
S = MessageState


@dataclass
class Form:
    """A form as a browser without script sees it: where it goes, and what it would send."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._textarea: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(found.get("action", ""), found.get("method", "get")))
        elif tag == "input" and self.forms and "disabled" not in found and found.get("name"):
            if found.get("type") not in {"radio", "checkbox"} or "checked" in found:
                self.forms[-1].fields[found["name"]] = found.get("value", "")
        elif tag == "textarea" and self.forms:
            self._textarea = found.get("name")
            self.forms[-1].fields[found["name"]] = ""

    def handle_data(self, data: str) -> None:
        if self._textarea:
            self.forms[-1].fields[self._textarea] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._textarea = None


class PlainBrowser:
    """Follows links and sends forms; holds cookies and the page it is on."""

    def __init__(self, origin: str) -> None:
        self.http = requests.Session()
        self.origin = origin
        self.url = self.html = ""
        self.status = 0

    def open(self, address: str) -> "PlainBrowser":
        return self._took(self.http.get(urljoin(self.url or self.origin, address), timeout=30))

    def _took(self, answer: requests.Response) -> "PlainBrowser":
        self.status, self.url, self.html = answer.status_code, answer.url, answer.text
        return self

    def link(self, words: str) -> str:
        """The address behind the first link that holds these words."""
        found = re.search(rf'<a [^>]*href="([^"]*)"[^>]*>(?:(?!</a>).)*{re.escape(words)}', self.html, re.DOTALL)
        assert found is not None, f"no link {words!r} on {self.url}"
        return found[1].replace("&amp;", "&")

    def form(self, action: str) -> Form:
        parser = _Forms()
        parser.feed(self.html)
        return next(form for form in parser.forms if re.fullmatch(action, form.action))

    def send(self, action: str, **typed: str) -> "PlainBrowser":
        form = self.form(action)
        headers = {"Referer": self.url}
        address = urljoin(self.url, form.action)
        return self._took(self.http.post(address, {**form.fields, **typed}, headers=headers, timeout=30))

    def log_in(self, user: models.User, address: str = "/") -> "PlainBrowser":
        self.open(address)
        assert "/login/" in self.url
        return self.send("", username=user.username, password=factories.PASSWORD)

    def bubble(self, text: str) -> str:
        """The markup of the newest message with this text."""
        found = [item for item in re.split(r'(?=<li class="msg)', self.html) if item.startswith("<li") and text in item]
        assert found, f"no message {text!r} on {self.url}"
        return found[-1]


@pytest.fixture
def catena() -> Iterator[SimulatorServer]:
    with SimulatorServer(World(seed=7, pace=Pace.instant())) as server:
        yield server


@pytest.fixture
def client(catena: SimulatorServer) -> CatenaClient:
    return client_of_server(catena)


@pytest.fixture
def conversation(catena: SimulatorServer) -> models.Conversation:
    """With a driver of the simulated account."""
    return mirrored_conversation(catena.world)


@pytest.fixture
def driver(conversation: models.Conversation) -> models.FleetUser:
    return conversation.driver


@pytest.fixture
def manager(conversation: models.Conversation) -> models.User:
    fleet = conversation.connection.fleet
    assert fleet is not None
    return factories.UserFactory(username="mara", fleets=[fleet], undo_seconds=0)


def test_a_reply_goes_out_and_its_fate_is_seen_by_links_and_forms_alone(
    live_server: LiveServer, client: CatenaClient, manager: models.User, conversation: models.Conversation
) -> None:
    browser = PlainBrowser(live_server.url).log_in(manager, f"/c/{conversation.uuid}/")
    assert browser.url.endswith(f"/c/{conversation.uuid}/")

    text = "Dock 7 is closed,\nuse the <south> gate"
    browser.send(f"/c/{conversation.uuid}/reply/", message_text=text, priority="high")
    assert "#m-" in browser.url
    bubble = browser.bubble("use the &lt;south&gt; gate")
    assert "High" in bubble
    assert "Sending" in bubble

    assert outbox.drain_due(client) == 1
    sync.operations(client, timezone.now(), everything=True)
    browser.open(f"/c/{conversation.uuid}/")
    assert f"Accepted by {conversation.connection.provider}" in browser.bubble("use the &lt;south&gt; gate")

    message = models.Message.objects.get(text=text)
    browser.open(f"/m/{message.uuid}/")
    assert browser.status == 200
    assert str(message.operation.catena_id) in browser.html


def test_a_refused_reply_is_mended_and_sent_without_typing_it_again(
    live_server: LiveServer, manager: models.User, conversation: models.Conversation
) -> None:
    browser = PlainBrowser(live_server.url).log_in(manager, f"/c/{conversation.uuid}/")
    action = f"/c/{conversation.uuid}/reply/"
    browser.send(action, message_text="Call me", priority="sideways")
    assert browser.status == 422
    assert "Choose Low, Medium or High." in browser.html
    browser.send(action)
    assert browser.bubble("Call me")
    assert models.Message.objects.filter(text="Call me").count() == 1


def test_a_driver_is_found_and_written_to_by_forms_alone(
    live_server: LiveServer, manager: models.User, driver: models.FleetUser
) -> None:
    browser = PlainBrowser(live_server.url).log_in(manager)
    browser.open(browser.link("New message"))
    browser.open(f"/compose/?q={driver.name}")
    assert str(driver.catena_id) in browser.html
    browser.send("/compose/", recipient=str(driver.catena_id), message_text="Welcome aboard", priority="low")
    assert browser.status == 200
    assert "Low" in browser.bubble("Welcome aboard")


def test_a_held_message_is_withdrawn_and_its_text_offered_again(
    live_server: LiveServer, manager: models.User, conversation: models.Conversation
) -> None:
    models.User.objects.update(undo_seconds=20)
    browser = PlainBrowser(live_server.url).log_in(manager, f"/c/{conversation.uuid}/")
    browser.send(f"/c/{conversation.uuid}/reply/", message_text="Too early")
    browser.send("/m/.*/cancel/")
    assert "Cancelled by" in browser.bubble("Too early")
    browser.open(browser.link("Edit and send again"))
    assert browser.form(f"/c/{conversation.uuid}/reply/").fields["message_text"].strip() == "Too early"
    assert models.Message.objects.get(text="Too early").state == S.CANCELLED


def test_a_failure_is_asked_about_sent_again_and_the_next_one_closed_with_a_note(
    live_server: LiveServer, catena: SimulatorServer, client: CatenaClient,
    manager: models.User, conversation: models.Conversation,
) -> None:  # fmt: skip
    address, text = f"/c/{conversation.uuid}/", "Take the north ramp #fail-network"
    browser = PlainBrowser(live_server.url).log_in(manager, address)
    browser.send(f"{address}reply/", message_text=text)
    assert outbox.drain_due(client) == 1
    sync.operations(client, timezone.now(), everything=True)
    browser.open("/settings/")
    assert f"Your message to {conversation.driver.name}</strong>: Failed" in browser.html
    browser.open(browser.link("Your message to")).open(browser.link("Open conversation"))
    browser.send("/m/.*/resend/")
    assert "The driver may have it." in browser.html
    assert models.Message.objects.filter(text=text).count() == 1
    browser.send("/m/.*/resend/", is_sure="1")
    assert "Repeats the message of" in browser.bubble(text)
    assert "Sent again by you" in browser.html
    assert outbox.drain_due(client) == 1
    sync.operations(client, timezone.now(), everything=True)
    browser.open(address).send("/m/.*/handled/", note="Called him")
    assert "Handled by you" in browser.bubble(text)
    assert "Called him" in browser.bubble(text)
    conversation.refresh_from_db()
    assert (conversation.attention_count, models.Message.objects.filter(text=text).count()) == (0, 2)
    assert [entry.message_text for entry in catena.world.journal] == [text, text]


def test_what_a_driver_wrote_is_marked_as_read_by_a_button(
    live_server: LiveServer, manager: models.User, conversation: models.Conversation
) -> None:
    factories.IncomingFactory(conversation=conversation, text="Where to?")
    conversation.summarise()
    browser = PlainBrowser(live_server.url).log_in(manager, "/?show=unread")
    assert f"/c/{conversation.uuid}/" in browser.html
    browser.open(f"/c/{conversation.uuid}/").send(f"/c/{conversation.uuid}/read/")
    browser.open("/?show=unread")
    assert f"/c/{conversation.uuid}/" not in browser.html


def test_that_a_driver_needs_no_reply_is_said_and_taken_back_by_a_button(
    live_server: LiveServer, manager: models.User, conversation: models.Conversation
) -> None:
    factories.IncomingFactory(conversation=conversation, text="Thanks")
    conversation.summarise()
    form = f"/c/{conversation.uuid}/no-reply/"
    browser = PlainBrowser(live_server.url).log_in(manager, f"/c/{conversation.uuid}/").send(form)
    assert "No reply needed, says" in browser.html
    assert f"/c/{conversation.uuid}/" not in browser.open("/?show=reply").html
    browser.open(f"/c/{conversation.uuid}/").send(form)
    assert "Waits for a reply since" in browser.html


def test_a_session_that_ended_returns_to_the_page_of_the_form(
    live_server: LiveServer, manager: models.User, conversation: models.Conversation
) -> None:
    browser = PlainBrowser(live_server.url).log_in(manager, f"/c/{conversation.uuid}/")
    browser.http.cookies.clear_session_cookies()
    browser.http.cookies.pop("session", None)
    browser.open(f"/c/{conversation.uuid}/reply/")
    assert "/login/" in browser.url
    browser.send("", username=manager.username, password=factories.PASSWORD)
    assert browser.url.endswith(f"/c/{conversation.uuid}/")
