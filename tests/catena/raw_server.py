"""A TCP server on loopback that plays one script per connection, byte by byte, and keeps what it received."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CERTIFICATE = Path(__file__).parent / "certificate" / "certificate.pem"
KEY = CERTIFICATE.with_name("key.pem")

type Script = Callable[["Peer"], None]


class Peer:
    """The server's end of one connection; `received` is everything the client has written to it so far."""

    def __init__(self, sock: socket.socket, stopping: threading.Event) -> None:
        self._sock = sock
        self._stopping = stopping
        self.received = b""

    def read(self, count: int) -> None:
        """Reads until `count` bytes have come, or the client is gone."""
        while len(self.received) < count:
            piece = self._sock.recv(count - len(self.received))
            if not piece:
                return
            self.received += piece

    def read_some(self) -> None:
        """Reads what one receive gives."""
        piece = self._sock.recv(65536)
        if not piece:
            raise ConnectionError("the client is gone")
        self.received += piece

    def await_bytes(self) -> None:
        """Returns when something can be read, without reading it."""
        self._sock.recv(1, socket.MSG_PEEK)

    def read_request(self) -> None:
        """Reads one request with its body."""
        while b"\r\n\r\n" not in self.received:
            self.read_some()
        head, _, body = self.received.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        missing = int(lengths[0].split(b":")[1]) - len(body) if lengths else 0
        self.read(len(self.received) + missing)

    def write(self, data: bytes) -> None:
        self._sock.sendall(data)

    def drip(self, data: bytes, gap: float) -> None:
        """One byte at a time; ends early when the client or the test gives up."""
        for byte in data:
            self.write(bytes([byte]))
            if self._stopping.wait(gap):
                return

    def hang(self) -> None:
        """Says nothing until the client goes away."""
        while piece := self._sock.recv(4096):
            self.received += piece

    def stop_reading(self) -> None:
        """Leaves the rest unread for longer than any limit in these tests, and so lets the client's writes stall."""
        self._stopping.wait(0.6)

    def reset(self) -> None:
        """Closes with RST instead of FIN."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


class RawServer:
    """`script` serves each next connection; `peers` lists the connections so far, `requests` what they received."""

    def __init__(self, script: Script | None = None, *, has_tls: bool = False, host: str = "127.0.0.1") -> None:
        self.script: Script = script or (lambda _: None)
        self.peers: list[Peer] = []
        self._stopping = threading.Event()
        self._idle = threading.Condition()
        self._open = 0
        self._context = _server_context() if has_tls else None
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def play(self, script: Script) -> None:
        """Forgets earlier connections and serves the next ones by `script`."""
        self.script = script
        self.peers = []

    def wait_until_idle(self) -> None:
        """Returns when every connection has been served to its end, sooner than a silent client is given up on."""
        with self._idle:
            assert self._idle.wait_for(lambda: self._open == 0, timeout=4)

    def wait_until_connected(self) -> None:
        """Returns when a connection has been made, finished or not."""
        with self._idle:
            assert self._idle.wait_for(lambda: bool(self.peers), timeout=5)

    def wait_for_connections(self, count: int) -> None:
        """Returns when that many connections have been made and served to their end."""
        with self._idle:
            assert self._idle.wait_for(lambda: len(self.peers) >= count and self._open == 0, timeout=5)

    @property
    def requests(self) -> list[bytes]:
        """The bytes of each connection on which the client wrote any."""
        self.wait_until_idle()
        return [peer.received for peer in self.peers if peer.received]

    def stop(self) -> None:
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._idle:
                self._open += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            sock.settimeout(5)
            with sock if self._context is None else self._context.wrap_socket(sock, server_side=True) as plain:
                peer = Peer(plain, self._stopping)
                with self._idle:
                    self.peers.append(peer)
                    self._idle.notify_all()
                with suppress(OSError):
                    self.script(peer)
        except OSError:
            sock.close()
        finally:
            with self._idle:
                self._open -= 1
                self._idle.notify_all()


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    return context


@contextmanager
def raw_server(script: Script | None = None, *, has_tls: bool = False, host: str = "127.0.0.1") -> Iterator[RawServer]:
    server = RawServer(script, has_tls=has_tls, host=host)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def unanswering_port() -> Iterator[int]:
    """A port whose queue of connections is full, so that a further connect gets no answer at all."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = [socket.socket() for _ in range(3)]
    try:
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
    finally:
        for filler in [*fillers, listener]:
            filler.close()


def refusing_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
