"""Failures before the first byte: provably unsent, with not one byte of a request on the wire; and the line itself."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from messaging.catena.client import CatenaClient
from messaging.catena.errors import Ambiguous, CatenaError, ProvenUnsent, RateLimited, Unauthorized
from messaging.catena.transport import Deadline, TimedSocket, Transport
from messaging.catena.types import MessageDraft, Operation
from tests.catena.fake_catena import TOKEN_PATH, FakeCatena, Reply, example
from tests.catena.raw_server import CERTIFICATE, Peer, RawServer, raw_server, refusing_port, unanswering_port

RECEIPT = json.dumps(example("message_create_202")).encode()
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\n\r\n%b" % (len(RECEIPT), RECEIPT)
QUICK = {"connect_timeout": 0.3, "read_timeout": 0.3, "total_timeout": 0.6}
# Far beyond the limits given here, for a busy machine.
PROMPT = 4.0


def accepting(peer: Peer) -> None:
    peer.read_request()
    peer.write(ACCEPTED)


@pytest.fixture
def server() -> Iterator[RawServer]:
    with raw_server(accepting) as running:
        yield running


@pytest.fixture
def tls_server() -> Iterator[RawServer]:
    with raw_server(accepting, has_tls=True) as running:
        yield running


def failure(client: CatenaClient, draft: MessageDraft, hook: Callable[[], None] | None = None) -> CatenaError:
    with pytest.raises(CatenaError) as caught:
        client.create_message(draft, before_first_byte=hook)
    return caught.value


def test_a_refused_connection_is_proven_unsent(catena: FakeCatena, draft: MessageDraft) -> None:
    hooked: list[int] = []
    client = CatenaClient(catena.config(api_url=f"http://127.0.0.1:{refusing_port()}"))
    error = failure(client, draft, lambda: hooked.append(1))
    assert type(error) is ProvenUnsent
    assert isinstance(error.cause, ConnectionRefusedError)
    assert hooked == []


def test_a_connection_that_gets_no_answer_is_proven_unsent_in_time(catena: FakeCatena, draft: MessageDraft) -> None:
    with unanswering_port() as port:
        client = CatenaClient(catena.config(api_url=f"http://127.0.0.1:{port}", **QUICK))
        started = time.monotonic()
        error = failure(client, draft)
    assert type(error) is ProvenUnsent
    assert isinstance(error.cause, TimeoutError)
    assert time.monotonic() - started < PROMPT


def test_a_name_that_cannot_be_resolved_is_proven_unsent(catena: FakeCatena, draft: MessageDraft) -> None:
    client = CatenaClient(catena.config(api_url=f"https://{'a' * 64}.invalid"))
    assert type(failure(client, draft)) is ProvenUnsent


def test_a_self_signed_server_is_refused_with_nothing_sent(
    catena: FakeCatena, tls_server: RawServer, draft: MessageDraft
) -> None:
    error = failure(CatenaClient(catena.config(api_url=f"https://127.0.0.1:{tls_server.port}")), draft)
    assert (type(error), type(error.cause).__name__) == (ProvenUnsent, "SSLCertVerificationError")
    assert tls_server.requests == []


def test_a_certificate_for_another_host_is_refused_with_nothing_sent(catena: FakeCatena, draft: MessageDraft) -> None:
    with raw_server(accepting, has_tls=True, host="127.0.0.2") as elsewhere:
        config = catena.config(api_url=f"https://127.0.0.2:{elsewhere.port}", verify=str(CERTIFICATE))
        error = failure(CatenaClient(config), draft)
        assert (type(error), type(error.cause).__name__) == (ProvenUnsent, "SSLCertVerificationError")
        assert elsewhere.requests == []


def test_a_trusted_certificate_lets_the_message_through(
    catena: FakeCatena, tls_server: RawServer, draft: MessageDraft
) -> None:
    config = catena.config(api_url=f"https://localhost:{tls_server.port}", verify=str(CERTIFICATE))
    assert isinstance(CatenaClient(config).create_message(draft), Operation)
    assert len(tls_server.requests) == 1


def test_verification_is_given_up_only_on_demand(catena: FakeCatena, draft: MessageDraft) -> None:
    with raw_server(accepting, has_tls=True, host="127.0.0.2") as elsewhere:
        config = catena.config(api_url=f"https://127.0.0.2:{elsewhere.port}", verify=False)
        assert isinstance(CatenaClient(config).create_message(draft), Operation)


def test_a_reset_behind_the_tls_handshake_is_ambiguous(
    catena: FakeCatena, tls_server: RawServer, draft: MessageDraft
) -> None:
    config = catena.config(api_url=f"https://localhost:{tls_server.port}", verify=str(CERTIFICATE))
    client = CatenaClient(config)
    for count in (1, 100, 400):

        def script(peer: Peer, count: int = count) -> None:
            peer.read(count)
            peer.reset()

        tls_server.play(script)
        assert type(failure(client, draft)) is Ambiguous
        assert len(tls_server.requests) == 1


@pytest.mark.parametrize("speaks", [True, False], ids=["not TLS", "silent"])
def test_a_handshake_that_does_not_succeed_is_proven_unsent_in_time(
    catena: FakeCatena, server: RawServer, draft: MessageDraft, speaks: bool
) -> None:
    server.play(lambda peer: peer.write(ACCEPTED) if speaks else peer.hang())
    client = CatenaClient(catena.config(api_url=f"https://127.0.0.1:{server.port}", **QUICK))
    started = time.monotonic()
    assert type(failure(client, draft)) is ProvenUnsent
    assert time.monotonic() - started < PROMPT
    assert not any(b"POST" in received for received in server.requests)


TOKEN_FAILURES: dict[str, tuple[Reply, str]] = {
    "refused credentials": (Reply(401, example("token_401")), "client credentials"),
    "refused in Keycloak's other way": (Reply(400, {"error": "unauthorized_client"}), "client credentials"),
    "a fault": (Reply(500, {"message": "Internal Server Error"}), "HTTP 500"),
    "a rate limit": (Reply(429, b"", {"Retry-After": "7"}), "HTTP 429"),
    "HTML": (Reply(200, b"<html>maintenance</html>"), "not a JSON object"),
    "an empty body": (Reply(200), "not a JSON object"),
    "a list": (Reply(200, []), "not a JSON object"),
    "no token": (Reply(200, {"expires_in": 60, "token_type": "Bearer"}), "MissingTokenError"),
    "a token that no header can carry": (Reply(200, {**example("token_200"), "access_token": "a\r\nb"}), "can be sent"),
    "an OAuth error under status 200": (Reply(200, {"error": "invalid_client"}), "InvalidClientError"),
    "a redirect": (Reply(307, b"", {"Location": TOKEN_PATH}), "TooManyRedirects"),
}


@pytest.mark.parametrize(("reply", "words"), TOKEN_FAILURES.values(), ids=TOKEN_FAILURES.keys())
def test_without_a_token_nothing_is_sent_and_the_cause_is_told(
    catena: FakeCatena, server: RawServer, draft: MessageDraft, reply: Reply, words: str
) -> None:
    catena.reply("requestToken", reply)
    error = failure(CatenaClient(catena.config(api_url=f"http://127.0.0.1:{server.port}")), draft)
    assert type(error) is ProvenUnsent
    assert words in str(error)
    assert isinstance(error.cause, CatenaError)
    assert len(catena.seen) == 1
    assert server.peers == []


def test_refused_credentials_can_be_told_from_a_token_endpoint_that_is_down(
    catena: FakeCatena, draft: MessageDraft
) -> None:
    catena.reply("requestToken", Reply(401, example("token_401")), Reply(429, b"", {"Retry-After": "7"}))
    client = CatenaClient(catena.config())
    assert isinstance(failure(client, draft).cause, Unauthorized)
    limited = failure(client, draft)
    assert not isinstance(limited.cause, Unauthorized | RateLimited)
    assert limited.retry_after == 7.0


def test_a_token_endpoint_that_is_down_is_proven_unsent(catena: FakeCatena, draft: MessageDraft) -> None:
    config = catena.config(token_url=f"http://127.0.0.1:{refusing_port()}{TOKEN_PATH}")
    assert type(failure(CatenaClient(config), draft)) is ProvenUnsent
    assert catena.seen == []


def test_a_token_endpoint_that_drips_cannot_outlive_the_deadline(
    catena: FakeCatena, server: RawServer, draft: MessageDraft
) -> None:
    server.play(lambda peer: peer.drip(b"HTTP/1.1 200 OK\r\n" * 50, 0.05))
    config = catena.config(token_url=f"http://127.0.0.1:{server.port}/token", **QUICK)
    started = time.monotonic()
    assert type(failure(CatenaClient(config), draft)) is ProvenUnsent
    assert time.monotonic() - started < PROMPT
    assert catena.seen == []


class NotNow(Exception):
    """What a hook raises when its claim on the message is gone."""


@pytest.mark.parametrize("raised", [NotNow("claim lost"), ConnectionResetError(104, "not ours"), KeyboardInterrupt()])
def test_what_the_hook_raises_comes_through_unchanged_and_nothing_is_sent(
    catena: FakeCatena, server: RawServer, draft: MessageDraft, raised: BaseException
) -> None:
    def hook() -> None:
        raise raised

    server.play(Peer.hang)
    client = CatenaClient(catena.config(api_url=f"http://127.0.0.1:{server.port}"))
    with pytest.raises(type(raised)) as caught:
        client.create_message(draft, before_first_byte=hook)
    assert caught.value is raised
    server.wait_for_connections(1)
    assert [peer.received for peer in server.peers] == [b""]


def test_a_deadline_that_passes_in_the_hook_is_proven_unsent(
    catena: FakeCatena, server: RawServer, draft: MessageDraft
) -> None:
    now = [100.0]

    def pause() -> None:
        now[0] += 25.0

    server.play(Peer.hang)
    client = CatenaClient(catena.config(api_url=f"http://127.0.0.1:{server.port}"), clock=lambda: now[0])
    error = failure(client, draft, pause)
    assert (type(error), type(error.cause)) == (ProvenUnsent, TimeoutError)
    server.wait_for_connections(1)
    assert [peer.received for peer in server.peers] == [b""]


def test_the_connection_is_ready_when_the_hook_runs(catena: FakeCatena, server: RawServer, draft: MessageDraft) -> None:
    received: list[bytes] = []

    def hook() -> None:
        server.wait_until_connected()
        received.extend(peer.received for peer in server.peers)

    client = CatenaClient(catena.config(api_url=f"http://127.0.0.1:{server.port}"))
    assert isinstance(client.create_message(draft, before_first_byte=hook), Operation)
    assert received == [b""]


class RecordingSocket:
    """A socket as far as writing goes."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.timeout: float | None = None

    def settimeout(self, seconds: float | None) -> None:
        self.timeout = seconds

    def sendall(self, data: bytes) -> None:
        assert self.timeout is not None
        assert 0 < self.timeout <= 2.0
        self.writes.append(data)


def test_a_small_request_leaves_in_one_write_that_was_noted_before() -> None:
    transport = Transport("http://127.0.0.1:9", connect_timeout=1.0, read_timeout=2.0, verify=True)
    wire, recorder = transport.wire(), RecordingSocket()
    wire.deadline = Deadline.after(5.0)
    wire.sock = cast(socket.socket, TimedSocket(cast(socket.socket, recorder), lambda: wire.deadline.left(2.0)))
    wire.load("POST", "/v2/telematics/messages", {"Content-Type": "application/json"}, b'{"a": 1}')
    assert (recorder.writes, wire.first_byte_started) == ([], False)
    wire.transmit()
    (written,) = recorder.writes
    assert wire.first_byte_started
    assert written.startswith(b"POST /v2/telematics/messages HTTP/1.1\r\n")
    assert written.endswith(b'\r\n\r\n{"a": 1}')
