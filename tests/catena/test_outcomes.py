"""Every way a POST can end, cut at the socket: the class against the table, and never more than one request on the wire.

The table is the one of `messaging/catena/errors.py`, written down here a second time on purpose.
"""

import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NoReturn

import pytest

from messaging.catena.calls import operation_of
from messaging.catena.client import CatenaClient
from messaging.catena.errors import Ambiguous, CatenaError, RateLimited, Refused, Unauthorized
from messaging.catena.transport import Answer
from messaging.catena.types import MessageDraft, Operation
from tests.catena.fake_catena import FakeCatena, example, fake_catena
from tests.catena.raw_server import Peer, RawServer, Script, raw_server

RECEIPT = json.dumps(example("message_create_202")).encode()
QUICK = {"connect_timeout": 0.3, "read_timeout": 0.3, "total_timeout": 0.3}
# Far beyond the deadline of 0.3 s, for a busy machine; what drips takes 6 s and more.
PROMPT = 4.0


def response(status: int, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} Some Reason", "Content-Type: application/json", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


ACCEPTED = response(202, RECEIPT)


def answering(data: bytes) -> Script:
    """Reads the request, writes `data`, closes."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.write(data)

    return script


@pytest.fixture(scope="module")
def tokens() -> Iterator[FakeCatena]:
    with fake_catena() as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[RawServer]:
    with raw_server() as running:
        yield running


@pytest.fixture(scope="module")
def sender(tokens: FakeCatena, server: RawServer) -> CatenaClient:
    return CatenaClient(tokens.config(api_url=f"http://127.0.0.1:{server.port}"))


def outcome(client: CatenaClient, draft: MessageDraft, **options: Any) -> type[object]:
    try:
        return type(client.create_message(draft, **options))
    except CatenaError as error:
        return type(error)


def assert_one_request(server: RawServer) -> None:
    (received,) = server.requests
    assert received.count(b"POST ") == 1
    assert len(server.peers) == 1


def expected_of(status: int) -> type[object]:
    if status in (200, 201, 202):
        return Operation
    if status in (400, 403, 404, 409, 413, 415, 422):
        return Refused
    return {401: Unauthorized, 429: RateLimited}.get(status, Ambiguous)


@pytest.mark.parametrize("hundred", range(1, 6))
def test_the_status_alone_decides_the_class_of_a_complete_answer(
    sender: CatenaClient, server: RawServer, draft: MessageDraft, hundred: int
) -> None:
    for status in range(hundred * 100, hundred * 100 + 100):
        server.play(answering(response(status, RECEIPT)))
        assert (status, outcome(sender, draft)) == (status, expected_of(status))
        assert_one_request(server)


@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"{", b"[1]", b'{"detail": [7], "code": "x"}'])
def test_a_refusal_keeps_its_class_whatever_its_body_looks_like(
    sender: CatenaClient, server: RawServer, draft: MessageDraft, body: bytes
) -> None:
    for status in (400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 503):
        server.play(answering(response(status, body)))
        assert (status, outcome(sender, draft)) == (status, expected_of(status))
        assert_one_request(server)


def request_bytes(sender: CatenaClient, server: RawServer, draft: MessageDraft) -> bytes:
    server.play(answering(ACCEPTED))
    assert outcome(sender, draft) is Operation
    return server.requests[0]


def test_a_reset_after_any_byte_of_the_request_is_ambiguous(
    sender: CatenaClient, server: RawServer, draft: MessageDraft
) -> None:
    whole = request_bytes(sender, server, draft)
    for count in range(len(whole)):

        def script(peer: Peer, count: int = count) -> None:
            peer.await_bytes()
            peer.read(count)
            peer.reset()

        server.play(script)
        assert (count, outcome(sender, draft)) == (count, Ambiguous)
        server.wait_for_connections(1)
        assert [peer.received for peer in server.peers] == [whole[:count]]


@pytest.mark.parametrize("ending", [Peer.reset, Peer.stop_reading], ids=["reset", "stops reading"])
def test_a_request_that_is_written_only_in_part_is_ambiguous(
    tokens: FakeCatena, server: RawServer, draft: MessageDraft, ending: Script
) -> None:
    def script(peer: Peer) -> None:
        peer.read(1000)
        ending(peer)

    client = CatenaClient(tokens.config(api_url=f"http://127.0.0.1:{server.port}", read_timeout=0.3))
    large = replace(draft, message_text="x" * 20_000_000)
    server.play(script)
    assert outcome(client, large) is Ambiguous
    assert_one_request(server)


def cut(count: int, ending: Callable[[Peer], None]) -> Script:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.write(ACCEPTED[:count])
        ending(peer)

    return script


@pytest.mark.parametrize("ending", [Peer.reset, lambda _: None], ids=["reset", "close"])
def test_an_answer_cut_off_after_any_byte_is_ambiguous(
    sender: CatenaClient, server: RawServer, draft: MessageDraft, ending: Callable[[Peer], None]
) -> None:
    for count in range(len(ACCEPTED)):
        server.play(cut(count, ending))
        assert (count, outcome(sender, draft)) == (count, Ambiguous)
        assert_one_request(server)


def test_a_refusal_cut_off_within_its_headers_proves_nothing(
    sender: CatenaClient, server: RawServer, draft: MessageDraft
) -> None:
    whole = response(429, b"{}")
    for count in range(len(whole) - len(b"{}") - 1):
        server.play(answering(whole[:count]))
        assert (count, outcome(sender, draft)) == (count, Ambiguous)
        assert_one_request(server)


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in example("message_create_202").items() if key != name}).encode()


def replaced(**changes: object) -> bytes:
    return json.dumps({**example("message_create_202"), **changes}).encode()


def chunked(*chunks: bytes, ending: bytes = b"0\r\n\r\n") -> bytes:
    head = b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + ending


def packed(body: bytes, coding: str = "gzip") -> bytes:
    return response(202, body, f"Content-Encoding: {coding}")


UNREADABLE: dict[str, bytes] = {
    "no body": response(202),
    "truncated JSON": response(202, RECEIPT[:-20]),
    "not JSON": response(202, b"<html>ok</html>"),
    "not UTF-8": response(202, b'{"id": "\xff"}'),
    "a list": response(202, b"[]"),
    "nested too deep": response(202, b"[" * 50_000 + b"]" * 50_000),
    "a number without end": response(202, b'{"id": 1e999}'),
    "no id": response(202, without("id")),
    "an id that is no UUID": response(202, replaced(id="op-1")),
    "no connection": response(202, without("connection_id")),
    "another connection": response(202, replaced(connection_id="019de3a1-4b7c-7d10-8f52-000000000000")),
    "length too long": response(202, RECEIPT, length=len(RECEIPT) + 1),
    "length too short": response(202, RECEIPT, length=len(RECEIPT) - 1),
    "two lengths": response(202, RECEIPT, f"Content-Length: {len(RECEIPT) + 5}"),
    "chunk size that is no number": chunked(RECEIPT, ending=b"zz\r\nmore"),
    "chunk longer than its data": chunked(ending=b"ffff\r\n" + RECEIPT),
    "chunks without an end": chunked(RECEIPT, ending=b""),
    "gzip garbage": packed(b"\x1f\x8b garbage"),
    "gzip cut short": packed(gzip.compress(RECEIPT)[:-9]),
    "gzip with a wrong checksum": packed(gzip.compress(RECEIPT)[:-8] + bytes(8)),
    "gzip with something behind it": packed(gzip.compress(RECEIPT) + b"x"),
    "an unknown coding": packed(zlib.compress(RECEIPT), "br"),
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "HTTP of another kind": b"HTTP/2.0 202 Accepted\r\n\r\n" + RECEIPT,
    "an endless status line": b"HTTP/1.1 202 " + b"a" * 100_000,
    "too many headers": response(202, RECEIPT, *(f"X-{number}: y" for number in range(300))),
    "interim answers and then nothing": b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
    "a redirect": response(307, b"", "Location: /v2/telematics/messages"),
    "a redirect elsewhere": response(302, b"", "Location: http://127.0.0.1:1/"),
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_acceptance_that_cannot_be_read_is_ambiguous(
    sender: CatenaClient, server: RawServer, draft: MessageDraft, data: bytes
) -> None:
    server.play(answering(data))
    assert outcome(sender, draft) is Ambiguous
    assert_one_request(server)


READABLE: dict[str, bytes] = {
    "gzip": packed(gzip.compress(RECEIPT)),
    "chunked": chunked(RECEIPT[:100], RECEIPT[100:]),
    "no length": ACCEPTED.replace(b"Content-Length", b"X-Length"),
    "an interim answer first": b"HTTP/1.1 100 Continue\r\n\r\n" + ACCEPTED,
    "fields we could do without missing": response(
        202, json.dumps({name: example("message_create_202")[name] for name in ("id", "connection_id")}).encode()
    ),
    "an unknown status word": response(202, replaced(status="parked")),
}


@pytest.mark.parametrize("data", READABLE.values(), ids=READABLE.keys())
def test_an_acceptance_in_unusual_form_is_still_accepted(
    sender: CatenaClient, server: RawServer, draft: MessageDraft, data: bytes
) -> None:
    server.play(answering(data))
    operation = sender.create_message(draft)
    assert (operation.connection_id, operation.resource) == (draft.connection_id, "message")
    assert_one_request(server)


class Exploding(dict[str, str]):
    """Headers that raise what nobody thought of."""

    def items(self) -> NoReturn:
        raise ZeroDivisionError


@pytest.mark.parametrize("status", [401, 422, 429, 500])
def test_an_exception_that_nobody_listed_is_ambiguous(draft: MessageDraft, status: int) -> None:
    with pytest.raises(Ambiguous) as caught:
        operation_of(Answer(status, Exploding(), b""), "message", draft.connection_id, is_sync=False)
    assert isinstance(caught.value.cause, ZeroDivisionError)


@pytest.mark.parametrize("status", ["pending", "success", None, 7])
def test_a_synchronous_502_that_is_no_failed_operation_is_ambiguous(
    sender: CatenaClient, server: RawServer, draft: MessageDraft, status: object
) -> None:
    server.play(answering(response(502, json.dumps({**example("message_create_502_sync"), "status": status}).encode())))
    assert outcome(sender, draft, is_sync=True) is Ambiguous
    assert_one_request(server)


def test_an_asynchronous_502_is_ambiguous_even_with_a_failed_operation(
    sender: CatenaClient, server: RawServer, draft: MessageDraft
) -> None:
    server.play(answering(response(502, json.dumps(example("message_create_502_sync")).encode())))
    assert outcome(sender, draft) is Ambiguous


def after_request(*steps: Script) -> Script:
    def script(peer: Peer) -> None:
        peer.read_request()
        for step in steps:
            step(peer)

    return script


def writing(data: bytes) -> Script:
    return lambda peer: peer.write(data)


def dripping(data: bytes, gap: float = 0.01) -> Script:
    return lambda peer: peer.drip(data, gap)


SILENCES: dict[str, Script] = {
    "hangs before reading": Peer.hang,
    "hangs after reading": after_request(Peer.hang),
    "hangs within the headers": after_request(writing(ACCEPTED[:40]), Peer.hang),
    "hangs within the body": after_request(writing(ACCEPTED[:-9]), Peer.hang),
    "drips its headers": after_request(dripping(ACCEPTED, 0.05)),
    "drips its body": after_request(writing(ACCEPTED[: -len(RECEIPT)]), dripping(RECEIPT, 0.05)),
    "drips interim answers": after_request(dripping(b"HTTP/1.1 100 Continue\r\n\r\n" * 99)),
    "drips chunks": after_request(writing(chunked(ending=b"")), dripping(b"1\r\n \r\n" * 99)),
}


@pytest.mark.parametrize("script", SILENCES.values(), ids=SILENCES.keys())
def test_an_answer_that_does_not_come_in_time_is_ambiguous_close_to_the_limit(
    tokens: FakeCatena, server: RawServer, draft: MessageDraft, script: Script
) -> None:
    client = CatenaClient(tokens.config(api_url=f"http://127.0.0.1:{server.port}", **QUICK))
    server.play(script)
    started = time.monotonic()
    assert outcome(client, draft) is Ambiguous
    assert time.monotonic() - started < PROMPT
    assert_one_request(server)


@pytest.mark.parametrize(
    "data",
    [
        response(202, b" " * 5000 + RECEIPT),
        packed(gzip.compress(b" " * 500_000 + RECEIPT)),
        chunked(*[b" " * 100] * 60, RECEIPT),
        chunked(RECEIPT, ending=b"0\r\n" + b"X-Trailer: y\r\n" * 50_000 + b"\r\n"),
    ],
    ids=["plain", "gzip bomb", "chunked", "trailers"],
)
def test_an_answer_over_its_limit_is_ambiguous(
    tokens: FakeCatena, server: RawServer, draft: MessageDraft, data: bytes
) -> None:
    client = CatenaClient(tokens.config(api_url=f"http://127.0.0.1:{server.port}", max_write_response=4000))
    server.play(answering(data))
    assert outcome(client, draft) is Ambiguous
    assert_one_request(server)
