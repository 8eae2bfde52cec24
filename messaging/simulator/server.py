"""The HTTP side of the simulator: sockets, threads, and faults on the wire. What an answer says is decided elsewhere.

Order of checks of one request: known path and method (404, 405), token (401), faults, then the handler. The world's lock
is held for the handler only, never while a socket is used or the journal is flushed.
"""

import contextlib
import json
import logging
import re
import socket
import struct
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event as Flag
from threading import Lock, Thread
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from messaging.simulator import control, drivers, operations, routes, tokens
from messaging.simulator.exchange import Answer, Handler, Refusal, Request
from messaging.simulator.faults import MAGIC_WIRE, WIRE_KINDS, Circumstances, Fault, conjured
from messaging.simulator.journal import JournalFile, StateFile
from messaging.simulator.webhooks import PostOffice
from messaging.simulator.wire import dump
from messaging.simulator.world import World

logger = logging.getLogger(__name__)

_LARGEST_BODY = 4 * 1024 * 1024
_LONGEST_NAP = 0.1
_HTML = b"<html><head><title>Bad gateway</title></head><body><h1>It did not work</h1></body></html>"
_IDENTIFIER = re.compile(r"(?<=/)[0-9a-fA-F-]{36}(?=/|$)")
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on with no time: closing then sends a TCP reset."""


class SimulatorServer:
    """Serves one world. The port is bound at once; answers come between `start` and `stop`, or inside `with`.

    Raises OSError when the port is in use. With a `state` file a fresh world continues from it. A world that was served before
    can be served again, by a new server on the same port: what was due goes on.
    """

    def __init__(
        self,
        world: World,
        host: str = "127.0.0.1",
        port: int = 0,
        journal: Path | None = None,
        state: Path | None = None,
        client_id: str = "backhaul-demo",
        client_secret: str = "simulated-client-secret",  # noqa: S107 - opens nothing but this simulator
    ) -> None:
        self.world, self.client_id, self.client_secret = world, client_id, client_secret
        self.desk = tokens.TokenDesk(world, client_id, client_secret)
        self.stopping = Flag()
        self._http = _HttpServer((host, port), self)
        self._post_office = PostOffice(world)
        self._journal, self._state = journal, state
        self._threads = [
            Thread(target=self._http.serve_forever, args=(0.02,), name="simulator-http", daemon=True),
            Thread(target=self._live, name="simulator-world", daemon=True),
        ]

    @property
    def url(self) -> str:
        host, port = self._http.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def token_url(self) -> str:
        return f"{self.url}{tokens.PREFIX}/token"

    def start(self) -> Self:
        world = self.world
        journal = JournalFile(self._journal) if self._journal else None
        state = StateFile(self._state) if self._state else None
        self._post_office.open()
        with world.lock:
            if world.open_files(journal, state):
                operations.resume(world)
                drivers.resume(world)
            drivers.start_chatter(world)
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """Ends every open connection, also one that hangs by a fault. Can be called twice."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        self.world.agenda.wake()
        is_started = self._threads[0].is_alive()
        if is_started:
            self._http.shutdown()
        self._http.server_close()
        if not is_started:
            return
        self._http.drop_all()
        for thread in self._threads:
            thread.join(1.0)
        self._post_office.close()
        self.world.close_files()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _live(self) -> None:
        while not self.stopping.is_set():
            try:
                if self.world.tick():
                    self.world.settle()
            except Exception:
                logger.exception("something due in the simulated world failed")
            self.world.agenda.wait(self.world.now(), _LONGEST_NAP)


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], simulator: SimulatorServer) -> None:
        self.simulator = simulator
        self._open: set[socket.socket] = set()
        self._open_lock = Lock()
        super().__init__(address, _Exchange)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        assert isinstance(request, socket.socket)
        with self._open_lock:
            self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._open_lock:
                self._open.discard(request)

    def drop_all(self) -> None:
        with self._open_lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        logger.debug("client %s went away", client_address)


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "CatenaSimulator"
    sys_version = ""
    disable_nagle_algorithm = True
    server: _HttpServer

    def _any(self) -> None:
        simulator = self.server.simulator
        path = urlsplit(self.path).path
        is_write = self.command == "POST" and path.rstrip("/") in routes.WRITE_PATHS
        if not path.startswith(control.PREFIX):
            with simulator.world.lock:
                simulator.world.requests_seen[f"{self.command} {_IDENTIFIER.sub('{id}', path)}"] += 1
                simulator.world.posts_seen += is_write
        request = self._request(path)
        if request is None:
            self._send(Refusal(400, "Body has no usable length").answer(), closing=True)
        elif path.startswith(control.PREFIX):
            self._send(controlled(simulator.world, request))
        elif path.startswith(tokens.PREFIX):
            self._send(_token_answer(simulator, request))
        else:
            self._api(simulator, request)

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = do_OPTIONS = _any  # noqa: N815 - the names are the standard library's

    def _request(self, path: str) -> Request | None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > _LARGEST_BODY:
            return None
        body = self.rfile.read(int(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = urlsplit(self.path).query
        return Request(self.command, path, query, body, headers, str(self.client_address[0]))

    def _api(self, simulator: SimulatorServer, request: Request) -> None:
        try:
            handler, ids = routes.find(routes.ROUTES, request.method, request.path)
            with simulator.world.lock:
                simulator.desk.check(request)
        except Refusal as refusal:
            self._send(refusal.answer())
            return
        fault = _wire_fault(simulator.world, request, ids)
        if fault and self._stops_before(simulator, fault):
            return
        answer = _handled(simulator.world, handler, request, ids)
        simulator.world.settle(answer.journal_ticket)
        if fault:
            self._send_spoiled(simulator, fault, answer)
        else:
            self._send(answer)

    def _stops_before(self, simulator: SimulatorServer, fault: Fault) -> bool:
        """Carries out what a fault does before anything is accepted. True when the request ends with it."""
        if fault.kind == "slow":
            simulator.stopping.wait(fault.seconds)
            return False
        if fault.kind == "hang_before_accept":
            simulator.stopping.wait(fault.seconds)
            self.close_connection = True
        elif fault.kind == "reset_before_accept":
            self._reset()
        elif fault.kind == "rate_limited":
            self._send(Refusal(429, retry_after_seconds=fault.retry_after_seconds).answer())
        elif fault.kind == "unauthorized":
            self._send(Refusal(401, "Token is missing, expired or refused").answer())
        elif fault.kind == "refused":
            self._send(Refusal(fault.status or 422, fault.details).answer())
        elif fault.kind == "server_error" and not fault.after:
            self._send_server_error(fault)
        else:
            return False
        return True

    def _send_spoiled(self, simulator: SimulatorServer, fault: Fault, answer: Answer) -> None:
        """Carries out what a fault does to an answer that is ready."""
        if fault.kind == "hang_after_accept":
            simulator.stopping.wait(fault.seconds)
            self._send(answer)
        elif fault.kind == "reset_after_accept":
            self._reset()
        elif fault.kind == "truncated_json":
            self._send(answer, cut_short=True)
        elif fault.kind == "not_json":
            self._write(answer.status, "text/html; charset=utf-8", _HTML)
        elif fault.kind == "server_error":
            self._send_server_error(fault)
        else:
            self._send(answer)

    def _send_server_error(self, fault: Fault) -> None:
        status = fault.status or 500
        if fault.html:
            self._write(status, "text/html; charset=utf-8", _HTML)
        else:
            self._send(Refusal(status, fault.details).answer())

    def _send(self, answer: Answer, closing: bool = False, cut_short: bool = False) -> None:
        body = dump(answer.payload) if answer.has_body else b""
        kind = "application/json" if answer.has_body else None
        self._write(answer.status, kind, body, answer.headers, closing, cut_short)

    def _write(
        self,
        status: int,
        kind: str | None,
        body: bytes,
        headers: dict[str, str] | None = None,
        closing: bool = False,
        cut_short: bool = False,
    ) -> None:
        """Headers and body leave in one piece: two would wait for each other's acknowledgement."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if kind:
            self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        if closing or cut_short:
            self.send_header("Connection", "close")
        self.end_headers_with(body[: len(body) // 2] if cut_short else body)

    def end_headers_with(self, body: bytes) -> None:
        self._headers_buffer.extend((b"\r\n", body))  # type: ignore[attr-defined]
        self.flush_headers()

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.connection.close()

    def log_message(
        self,
        format: str,  # noqa: A002 - the name is the standard library's
        *args: object,
    ) -> None:
        logger.debug("%s " + format, self.client_address[0], *args)


def _handled(world: World, handler: Handler, request: Request, ids: dict[str, str]) -> Answer:
    try:
        with world.lock:
            return handler(world, request, ids)
    except Refusal as refusal:
        return refusal.answer()
    except Exception:
        logger.exception("%s %s failed inside the simulator", request.method, request.path)
        return Refusal(500).answer()


def _token_answer(simulator: SimulatorServer, request: Request) -> Answer:
    calls = {f"{tokens.PREFIX}/token": simulator.desk.issue, f"{tokens.PREFIX}/revoke": simulator.desk.revoke}
    if request.path not in calls:
        return Refusal(404).answer()
    if request.method != "POST":
        return Refusal(405).answer()
    with simulator.world.lock:
        return calls[request.path](request)


def controlled(world: World, request: Request) -> Answer:
    if not request.client_host.startswith("127."):
        return Refusal(403, "The control plane answers this machine only").answer()
    try:
        handler, ids = routes.find(control.CONTROL_ROUTES, request.method, request.path)
    except Refusal as refusal:
        return refusal.answer()
    return _handled(world, handler, request, ids)


def _wire_fault(world: World, request: Request, ids: dict[str, str]) -> Fault | None:
    connection_id, text = ids.get("connection_id"), None
    if request.body:
        with contextlib.suppress(ValueError):
            body = json.loads(request.body)
            if isinstance(body, dict):
                connection_id, text = body.get("connection_id") or connection_id, body.get("message_text")
    text = text if isinstance(text, str) else None
    here = Circumstances(connection_id, text, request.method, request.path)
    fault = world.faults.take(WIRE_KINDS, here)
    if fault is None and text and world.magic_words and request.path in routes.WRITE_PATHS:
        fault = conjured(MAGIC_WIRE, text)
    return fault
