"""What no page of ours sends: damaged parameters and headers. Nothing may break, whatever an address says."""

import time
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.test import Client

from messaging import models
from tests import factories

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}
WORDS = (
    "", "\x00", "a\x00b", "9" * 5000, "-1", "1e9", "\u0661", "\u202eabc", "%", "'", "<b>", "[]", "9.9", f"{'9' * 17}.1",
    f"{'9' * 18}.{'9' * 18}", f"{int(time.time())}.\u0661:\u0661:",
)  # fmt: skip
NAMES = (
    "show", "fleet", "priority", "before", "after", "q", "page", "status", "connection", "error", "code", "range",
    "reply_to", "text_of", "recipient", "message_text", "scope", "newest", "oldest", "pinned", "every", "since", "why",
    "next",
)  # fmt: skip
VIEWS = ("page", "inbox", "conversation", "message", "decision", "ops", "connections")


@pytest.fixture
def client(mara: models.User, client_of: Any) -> Client:
    signed_in: Client = client_of(mara)
    signed_in.raise_request_exception = False
    return signed_in


@pytest.fixture
def message(conversation: models.Conversation, mara: models.User) -> models.Message:
    return factories.OutgoingFactory(conversation=conversation, author=mara)


def addresses(message: models.Message) -> list[str]:
    thread = f"c/{message.conversation.uuid}/"
    return [
        "/", "/_f/inbox/rows/", f"/{thread}", f"/_f/{thread}", f"/_f/{thread}older/", f"/_f/{thread}quote/",
        f"/m/{message.uuid}/", f"/m/{message.uuid}/decide/", "/ops/",
        "/_f/ops/rows/", "/connections/", f"/connections/{message.connection.catena_id}/",
        "/compose/", "/_f/recipients/", "/settings/", "/help/keys/",
    ]  # fmt: skip


def broken(client: Client, paths: list[str], headers: dict[str, str] | None = None) -> list[str]:
    return [path[:300] for path in paths if client.get(path, headers=headers).status_code >= 500]


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "fragment"])
@pytest.mark.parametrize("word", WORDS, ids=range(len(WORDS)))
def test_no_page_breaks_over_a_damaged_parameter(
    client: Client, message: models.Message, word: str, headers: dict[str, str]
) -> None:
    query = urlencode(dict.fromkeys(NAMES, word))
    assert broken(client, [f"{address}?{query}" for address in addresses(message)], headers) == []


@pytest.mark.parametrize("word", WORDS, ids=range(len(WORDS)))
def test_no_poll_breaks_over_a_damaged_parameter(client: Client, message: models.Message, word: str) -> None:
    rest = urlencode({name: word for name in NAMES if name != "since"})
    long_ago = f"{int(time.time())}.1:1:"
    polls = [f"/_f/live/?v={view}&{rest}&since={long_ago}" for view in VIEWS]
    narrowed = [f"/_f/live/?v=inbox&since={long_ago}&{urlencode({'q': f'fleet={word}&before={word}'})}"]
    assert broken(client, [*polls, *narrowed, f"/_f/live/?{urlencode({'v': 'inbox', 'since': word})}"], HTMX) == []


@pytest.mark.parametrize(
    "address", ["http://[", "http://testserver/c/abc/", "//", "http://testserver/c/\u0661/", "/c/"]
)
def test_no_fragment_breaks_over_a_damaged_current_address(
    client: Client, message: models.Message, address: str
) -> None:
    headers = {**HTMX, "HX-Current-URL": address}
    poll = f"/_f/live/?v=conversation&scope={message.conversation_id}&since={int(time.time())}.1:1:"
    assert broken(client, ["/_f/inbox/rows/", poll], headers) == []
    client.logout()
    assert broken(client, ["/_f/inbox/rows/"], headers) == []


FIELDS = (
    "message_text", "priority", "client_token", "recipient", "connection", "is_confirmed", "reply_to", "through", "back",
    "time_zone", "theme", "undo_seconds", "has_shortcuts", "username", "password", "old_password", "new_password1",
    "new_password2", "next", "q", "action", "reason", "kind", "seen", "is_sure", "note", "waive",
    "undo",
)  # fmt: skip


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "fragment"])
@pytest.mark.parametrize("word", WORDS, ids=range(len(WORDS)))
def test_no_form_breaks_over_a_damaged_field(
    client: Client, message: models.Message, word: str, headers: dict[str, str]
) -> None:
    thread = f"/c/{message.conversation.uuid}/"
    valid = {"message_text": "Dock 4", "priority": "low", "client_token": str(uuid4())}
    forms: list[tuple[str, dict[str, str]]] = [
        (f"{thread}reply/", {}), (f"{thread}reply/", {**valid, "reply_to": word}), (f"{thread}read/", {}),
        (f"{thread}no-reply/", {}),
        ("/compose/", {}), ("/compose/", {**valid, "recipient": str(message.recipient and message.recipient.catena_id)}),
        (f"/m/{message.uuid}/cancel/", {}), (f"/m/{message.uuid}/handled/", {}), ("/settings/", {}),
        (f"/m/{message.uuid}/decide/", {}), (f"/m/{message.uuid}/decide/", {"kind": "was_sent", "reason": "He has it"}),
        (f"/m/{message.uuid}/decide/", {"kind": "was_sent", "seen": "queued.0.0.0"}),
        ("/settings/password/", {}), (f"/login/?{urlencode({'next': word, 'why': word})}", {}),
    ]  # fmt: skip
    broken_forms = []
    for address, fields in forms:
        if address.startswith("/login/"):
            client.logout()
        answer = client.post(address, {**dict.fromkeys(FIELDS, word), **fields}, headers=headers)
        broken_forms += [address] if answer.status_code >= 500 else []
    assert broken_forms == []


@pytest.mark.parametrize(
    "target", ["//evil.example/", "https://evil.example/", "javascript:alert(1)", "/\r\nX-Evil: 1"]
)
def test_logging_in_leads_nowhere_else(mara: models.User, target: str) -> None:
    form = {"username": "mara", "password": factories.PASSWORD, "next": target}
    answer = Client().post("/login/", form)
    assert answer.status_code == 302
    assert answer["Location"] == "/" if "evil" in target or "script" in target else answer["Location"].startswith("/")
    assert "X-Evil" not in answer.headers


@pytest.mark.parametrize("model", ["message", "operation", "connection", "user", "synccursor", "auditentry"])
def test_no_list_of_the_panel_breaks_over_a_damaged_filter(
    client_of: Any, ada: models.User, message: models.Message, model: str
) -> None:
    client = client_of(ada)
    client.raise_request_exception = False
    names = ("q", "p", "o", "state__exact", "status", "role__exact", "name", "action", "user__id__exact")
    lists = [f"/admin/messaging/{model}/?{urlencode({name: word})}" for name in names for word in WORDS[1:4]]
    assert broken(client, lists) == []
