"""A webhook receiver for these tests: stores every delivery, and answers as it is told."""

import gzip
import json
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, Self

from tests.contract.validator import Contract


@dataclass(frozen=True)
class Delivered:
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> bytes:
        return gzip.decompress(self.raw)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def name(self) -> str:
        return self.headers["X-Event-Type"]

    def check(self, contract: Contract) -> None:
        contract.check_event(self.name, self.headers, self.body)


class Receiver:
    """`statuses` are used up one by one; after them every answer is 202. While `stuck` is clear, it answers nothing."""

    def __init__(self) -> None:
        self.deliveries: list[Delivered] = []
        self.statuses: list[int] = []
        self.flowing = Event()
        self.flowing.set()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                owner.deliveries.append(Delivered(dict(self.headers.items()), raw))
                owner.flowing.wait(2)
                self.send_response(owner.statuses.pop(0) if owner.statuses else 202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *args: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hooks/catena/"

    def named(self, name: str) -> list[Delivered]:
        return [one for one in list(self.deliveries) if one.name == name]

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.flowing.set()
        self._server.shutdown()
        self._server.server_close()
