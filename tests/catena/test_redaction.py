"""Canaries: neither secret nor token in any log record, exception, traceback or repr, even with everything at DEBUG."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from messaging.catena.client import CatenaClient
from messaging.catena.errors import CatenaError
from messaging.catena.session import Token
from messaging.catena.types import MessageDraft
from tests.catena.fake_catena import TOKEN_PATH, FakeCatena, Reply, example
from tests.catena.raw_server import Peer, raw_server, refusing_port

ID = UUID("019de3a1-4b7c-7d10-8f52-2a6b9c0d1e31")
SECRET = "canary-secret-7f3a"
TOKEN = "canary-token-91bc"
TEXT = "canary text of a message"
LIBRARIES = ("", "requests_oauthlib", "requests_oauthlib.oauth2_session", "oauthlib", "urllib3", "requests")


@contextmanager
def everything_at_debug(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in LIBRARIES}
    try:
        for name in LIBRARIES:
            logging.getLogger(name).setLevel(logging.DEBUG)
        with caplog.at_level(logging.DEBUG):
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def assert_no_canary(words: str) -> None:
    for canary in (SECRET, TOKEN, TEXT):
        assert canary not in words


def spoken(client: CatenaClient, draft: MessageDraft) -> str:
    """Everything a log or a person could get to see of a send and a read."""
    words = [repr(client), str(client), repr(draft)]
    for call in (lambda: client.create_message(draft), lambda: client.get_user(ID), lambda: client.pause_webhook(ID)):
        try:
            words.append(repr(call()))
        except CatenaError as error:
            words += [str(error), repr(error), "".join(traceback.format_exception(error)), repr(error.cause)]
    return "\n".join(words)


@pytest.fixture
def draft() -> MessageDraft:
    body = example("message_create_request")
    return MessageDraft(UUID(body["connection_id"]), UUID(body["sender_id"]), UUID(body["recipient_id"]), TEXT)


def tokens(*replies: Reply) -> list[Reply]:
    return list(replies) or [Reply(200, {**example("token_200"), "access_token": TOKEN})] * 9


ECHO = f'{{"error": "invalid_client", "error_description": "{SECRET} {TOKEN}"}}'.encode()


@pytest.mark.parametrize(
    "token_replies",
    [
        tokens(),
        tokens(Reply(401, ECHO), Reply(401, ECHO), Reply(401, ECHO)),
        tokens(Reply(400, ECHO), Reply(500, ECHO), Reply(429, ECHO)),
        tokens(Reply(200, ECHO), Reply(200, ECHO[:-1]), Reply(200, f"<{SECRET}>{TOKEN}".encode())),
        tokens(*[Reply(200, {**example("token_200"), "access_token": f"{TOKEN}\r\nX: {SECRET}"})] * 3),
        tokens(*[Reply(307, ECHO, {"Location": f"{TOKEN_PATH}?s={SECRET}"})] * 3),
    ],
    ids=["issued", "401", "other failures", "echo under 200", "unsendable token", "redirect"],
)
@pytest.mark.parametrize("api", [(200, b""), (401, ECHO), (422, ECHO), (500, ECHO), (202, ECHO)])
def test_no_canary_is_spoken_whatever_is_answered(
    catena: FakeCatena,
    draft: MessageDraft,
    caplog: pytest.LogCaptureFixture,
    token_replies: list[Reply],
    api: tuple[int, bytes],
) -> None:
    catena.reply("requestToken", *token_replies)
    for operation in ("createMessage", "getUser", "pauseWebhook"):
        catena.reply(operation, *[Reply(*api)] * 2 if api[1] else [])
    with everything_at_debug(caplog):
        assert_no_canary(spoken(CatenaClient(catena.config(client_secret=SECRET)), draft))
    assert_no_canary(logged(caplog))


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """Text, arguments and tracebacks of every record, as any handler could write them."""
    return caplog.text + "".join(f"{record.getMessage()} {record.__dict__!r}" for record in caplog.records)


def test_no_canary_is_spoken_when_connections_break(
    catena: FakeCatena, draft: MessageDraft, caplog: pytest.LogCaptureFixture
) -> None:
    catena.reply("requestToken", *tokens())

    def broken(peer: Peer) -> None:
        peer.read_request()
        peer.write(b"HTTP/1.1 200 OK\r\nBad header\r\nContent-Length: 9\r\n\r\n")
        peer.reset()

    with raw_server(broken) as server, everything_at_debug(caplog):
        for url in (f"http://127.0.0.1:{server.port}", f"http://127.0.0.1:{refusing_port()}"):
            assert_no_canary(spoken(CatenaClient(catena.config(client_secret=SECRET, api_url=url)), draft))
            lost = CatenaClient(catena.config(client_secret=SECRET, token_url=f"{url}/token"))
            assert_no_canary(spoken(lost, draft))
    assert_no_canary(logged(caplog))


def test_the_canary_would_have_been_heard(
    catena: FakeCatena, draft: MessageDraft, caplog: pytest.LogCaptureFixture
) -> None:
    with everything_at_debug(caplog):
        logging.getLogger("requests_oauthlib.of_another_module").debug("Obtained token %s", TOKEN)
    assert TOKEN in logged(caplog)


def test_configuration_and_token_hide_their_secrets(catena: FakeCatena) -> None:
    config = catena.config(client_secret=SECRET)
    assert_no_canary(f"{config!r} {config!s} {Token(TOKEN, 1.0)!r}")
