"""What a read that fails is called, and that nothing an answer holds can exhaust or crash the reader."""

import json
import time
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from messaging.catena.client import CatenaClient
from messaging.catena.errors import (
    BadPayload,
    CatenaError,
    NotSupported,
    RateLimited,
    Refused,
    Unauthorized,
    Unavailable,
)
from tests.catena.fake_catena import TOKEN_PATH, FakeCatena, Reply, example
from tests.catena.raw_server import Peer, RawServer, raw_server, refusing_port

ID = UUID("019de3a1-4b7c-7d10-8f52-2a6b9c0d1e31")
USER = json.dumps(example("user_get_200")).encode()
# Far beyond the limits given here, for a busy machine; what never ends takes 6 s and more.
PROMPT = 4.0


def answering(data: bytes) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.write(data)

    return script


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.fixture
def server() -> Iterator[RawServer]:
    with raw_server() as running:
        yield running


@pytest.fixture
def reader(catena: FakeCatena, server: RawServer) -> CatenaClient:
    return CatenaClient(
        catena.config(
            api_url=f"http://127.0.0.1:{server.port}",
            connect_timeout=0.4,
            read_timeout=0.4,
            read_total_timeout=0.4,
            max_read_response=200_000,
        )
    )


def failure(client: CatenaClient) -> CatenaError:
    with pytest.raises(CatenaError) as caught:
        client.get_user(ID)
    return caught.value


def expected_of(status: int) -> type[CatenaError]:
    named = {401: Unauthorized, 429: RateLimited, 501: NotSupported, 408: Unavailable, 425: Unavailable}
    return named.get(status) or (Refused if 400 <= status < 500 else Unavailable)


@pytest.mark.parametrize("first", range(300, 600, 100))
def test_the_status_decides_what_a_failed_read_is_called(reader: CatenaClient, server: RawServer, first: int) -> None:
    for status in range(first, first + 100):
        server.play(answering(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status))
        error = failure(reader)
        assert (status, type(error), error.http_status) == (status, expected_of(status), status)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        USER[:-5],
        b'{"id": NaN}',
        b"[" * 100_000,
        b'{"a":' * 90 + b"1" + b"}" * 90,
        b"\xff\xfe",
        b"1" * 6000,
    ],
)
def test_an_answer_that_is_not_the_record_is_a_bad_payload(
    reader: CatenaClient, server: RawServer, body: bytes
) -> None:
    server.play(answering(ok(body)))
    assert type(failure(reader)) is BadPayload


def test_an_answer_that_cannot_be_unpacked_is_a_bad_payload(catena: FakeCatena, client: CatenaClient) -> None:
    catena.reply("getUser", Reply(200, b"no gzip", {"Content-Encoding": "gzip"}))
    assert type(failure(client)) is BadPayload


def test_an_answer_over_the_limit_is_a_bad_payload(reader: CatenaClient, server: RawServer) -> None:
    server.play(answering(ok(USER[:-1] + b" " * 200_000 + b"}")))
    assert type(failure(reader)) is BadPayload


@pytest.mark.parametrize(
    "script",
    [
        Peer.reset,
        answering(b""),
        answering(ok(USER)[:-1]),
        answering(ok(USER)[:30]),
        Peer.hang,
        lambda peer: peer.drip(ok(USER), 0.05),
    ],
    ids=["reset", "closed", "cut in the body", "cut in the headers", "hang", "drip"],
)
def test_a_broken_exchange_is_unavailable_close_to_the_limit(
    reader: CatenaClient, server: RawServer, script: Callable[[Peer], None]
) -> None:
    server.play(script)
    started = time.monotonic()
    assert type(failure(reader)) is Unavailable
    assert time.monotonic() - started < PROMPT
    assert len(server.peers) == 1


def test_a_read_works_again_after_any_failure(reader: CatenaClient, server: RawServer) -> None:
    for broken in (
        Peer.reset,
        Peer.hang,
        answering(ok(USER)[:-9]),
        answering(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
    ):
        server.play(broken)
        failure(reader)
        server.wait_until_idle()
        server.play(answering(ok(USER)))
        assert reader.get_user(ID).source_name == example("user_get_200")["source_name"]


def test_a_kept_connection_that_the_server_closed_is_replaced(reader: CatenaClient, server: RawServer) -> None:
    server.play(answering(ok(USER)))
    for _ in range(3):
        reader.get_user(ID)
        server.wait_until_idle()
    assert len(server.requests) == 3


def test_nobody_listening_is_unavailable(catena: FakeCatena) -> None:
    assert type(failure(CatenaClient(catena.config(api_url=f"http://127.0.0.1:{refusing_port()}")))) is Unavailable


def test_refused_credentials_are_unauthorized_and_ask_once(catena: FakeCatena) -> None:
    catena.reply("requestToken", Reply(401, example("token_401")))
    error = failure(CatenaClient(catena.config()))
    assert (type(error), str(error)) == (Unauthorized, "Catena refused the client credentials")
    assert len(catena.of("requestToken")) == 1


def test_a_token_endpoint_that_is_down_is_unavailable(catena: FakeCatena) -> None:
    config = catena.config(token_url=f"http://127.0.0.1:{refusing_port()}{TOKEN_PATH}")
    assert type(failure(CatenaClient(config))) is Unavailable


def test_rate_limited_reads_tell_how_long_to_wait(catena: FakeCatena, client: CatenaClient) -> None:
    catena.reply("getUser", Reply(429, example("error_429"), {"Retry-After": "99"}))
    assert failure(client).retry_after == 12.0


def test_what_a_provider_cannot_do_is_not_supported(catena: FakeCatena, client: CatenaClient) -> None:
    catena.reply("getUser", Reply(501, example("error_501")))
    error = failure(client)
    assert (type(error), error.message) == (NotSupported, example("error_501")["message"])
