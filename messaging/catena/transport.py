"""One HTTP exchange on one connection: bounded in time and size, and sure of whether its first byte was written.

Knows HTTP and sockets, not Catena: no retries, redirects, proxies or environment. Failures leave as whatever the socket
or the parser raised; `Wire.first_byte_started` tells the caller what they mean.
"""

import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, cast
from urllib.parse import urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ProtocolError

from .errors import TooLarge
from .payload import STEP, bounded_inflate

type Clock = Callable[[], float]

# What status line, headers and chunk framing may add to the body before an answer counts as too large.
HEAD_ALLOWANCE = 256 * 1024
SEND_STEP = 16 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; `headers` ignores case, `body` is unpacked."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Deadline:
    """A moment on a monotonic clock after which nothing may start or go on."""

    def __init__(self, ends_at: float, clock: Clock = time.monotonic) -> None:
        self._ends_at = ends_at
        self._clock = clock

    @classmethod
    def after(cls, seconds: float, clock: Clock = time.monotonic) -> Self:
        return cls(clock() + seconds, clock)

    def within(self, seconds: float) -> "Deadline":
        """The earlier of this deadline and that many seconds from now."""
        return Deadline(min(self._ends_at, self._clock() + seconds), self._clock)

    def left(self, at_most: float | None = None) -> float:
        """Seconds left, never zero; raises `TimeoutError` when there are none."""
        left = self._ends_at - self._clock()
        if left <= 0:
            raise TimeoutError("the time for this call is over")
        return left if at_most is None else min(left, at_most)


class TimedSocket:
    """A connected socket on which every single wait ends by `budget()`, so that a slow drip cannot outlive the call.

    `allowance` bytes may still be received; `has_ended` says that the peer closed its side.
    """

    def __init__(self, sock: socket.socket, budget: Callable[[], float]) -> None:
        self._sock = sock
        self._budget = budget
        self.allowance = 0
        self.has_ended = False

    def sendall(self, data: bytes) -> None:
        """One write when small; a large request is cut so that each part gets a fresh look at the deadline."""
        for start in range(0, len(data), SEND_STEP):
            self._sock.settimeout(self._budget())
            self._sock.sendall(data[start : start + SEND_STEP])

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self, self._sock.makefile("rb", buffering=0)))

    def await_bytes(self) -> None:
        self._sock.settimeout(self._budget())

    def count(self, received: int) -> None:
        self.allowance -= received
        self.has_ended = self.has_ended or received == 0
        if self.allowance < 0:
            raise TooLarge("the answer is larger than allowed")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _TimedReader(io.RawIOBase):
    def __init__(self, timed: TimedSocket, raw: io.RawIOBase) -> None:
        self._timed = timed
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._timed.await_bytes()
        received = cast(int, self._raw.readinto(buffer))
        self._timed.count(received)
        return received

    def close(self) -> None:
        self._raw.close()
        super().close()


class Wire(HTTPConnection):
    """A connection that writes nothing before `transmit`, which first notes that it is about to write."""

    first_byte_started = False
    deadline: Deadline
    connect_timeout: float
    read_timeout: float

    def connect(self) -> None:
        super().connect()
        self.sock = cast(socket.socket, TimedSocket(cast(socket.socket, self.sock), self._budget))

    def load(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> None:
        """Builds the request's bytes; none of them leaves."""
        self._outgoing = bytearray()
        self.first_byte_started = False
        self.request(method, target, body=body, headers=headers, preload_content=False, decode_content=False)

    def send(self, data: Any) -> None:
        self._outgoing += data

    def transmit(self) -> None:
        """Raises `TimeoutError` before the first byte if the deadline has passed."""
        timed = self._timed()
        self.deadline.left()
        self.first_byte_started = True
        timed.sendall(bytes(self._outgoing))

    def receive(self, limit: int) -> Answer:
        """The whole answer; raises `TooLarge` over `limit` bytes of body, packed or unpacked."""
        timed = self._timed()
        timed.allowance = 2 * limit + HEAD_ALLOWANCE
        response = self.getresponse()
        if timed.has_ended:
            # The parser takes an end of stream for the end of the headers; a status cut off there proves nothing.
            raise ProtocolError("the answer ended within its headers")
        raw = bytearray()
        for piece in response.stream(STEP, decode_content=False):
            raw += piece
        encoding = response.headers.get("Content-Encoding") if raw else None
        return Answer(response.status, response.headers, bounded_inflate(bytes(raw), encoding, limit))

    def _timed(self) -> TimedSocket:
        if self.sock is None:
            raise ConnectionError("not connected")
        return cast(TimedSocket, self.sock)

    def _budget(self) -> float:
        return self.deadline.left(self.read_timeout)

    def _new_conn(self) -> socket.socket:
        return _dial(self._dns_host, self.port, self.deadline.within(self.connect_timeout))


class TlsWire(Wire, HTTPSConnection):
    """The same over TLS; the handshake ends by the connect time-out as well."""


def _dial(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Connects to the first address that answers; the deadline covers all of them together, and the TLS handshake.

    Each address gets its share of the time, so that one that swallows packets does not keep us from the next. Only the
    resolver's own time is outside our control; it is counted afterwards.
    """
    failure: OSError = OSError("the name has no address")
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(deadline.left() / (len(addresses) - tried))
            sock.connect(address)
            sock.settimeout(deadline.left())
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


class Transport:
    """Makes connections to one origin. Thread-safe; each `Wire` belongs to one thread."""

    def __init__(self, url: str, *, connect_timeout: float, read_timeout: float, verify: bool | str) -> None:
        parts = urlsplit(url)
        self.path = parts.path.rstrip("/")
        self._host = parts.hostname or ""
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._tls = _tls_context(verify) if parts.scheme == "https" else None
        self._port = parts.port

    def wire(self) -> Wire:
        """A connection that is not connected yet."""
        wire = Wire(self._host, self._port) if self._tls is None else self._tls_wire(self._tls)
        wire.connect_timeout = self._connect_timeout
        wire.read_timeout = self._read_timeout
        return wire

    def open(self, deadline: Deadline) -> Wire:
        """A new connection, TLS included; raises whatever made that impossible, with nothing of a request written."""
        wire = self.wire()
        wire.deadline = deadline
        try:
            wire.connect()
            deadline.left()
        except BaseException:
            wire.close()
            raise
        return wire

    def _tls_wire(self, context: ssl.SSLContext) -> Wire:
        return TlsWire(self._host, self._port, ssl_context=context)


def _tls_context(verify: bool | str) -> ssl.SSLContext:
    """Built once per origin: reading the CA bundle costs more than a whole exchange."""
    context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else DEFAULT_CA_BUNDLE_PATH)
    context.set_alpn_protocols(["http/1.1"])
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
