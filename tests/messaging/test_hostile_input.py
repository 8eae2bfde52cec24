"""What no page of ours sends: damaged parameters and headers. Nothing may break, whatever an address says."""

import time
from typing import Any
from urllib.parse import urlencode

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
VIEWS = ("page", "inbox", "conversation", "message", "ops", "connections")


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
        f"/m/{message.uuid}/", "/ops/", "/_f/ops/rows/", "/connections/", f"/connections/{message.connection.catena_id}/",
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
