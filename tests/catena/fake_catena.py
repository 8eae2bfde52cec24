"""A stdlib HTTP server that plays the contract's example bodies and judges every request of our client by it."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from messaging.catena.client import CatenaConfig
from tests.contract.validator import EXAMPLES, Contract, ContractViolation

CONTRACT = Contract.load()
REALM = "/realms/catena"
TOKEN_PATH = f"{REALM}/protocol/openid-connect/token"

# What each operation answers when a test says nothing else.
DEFAULTS: dict[str, tuple[int, str | None]] = {
    "requestToken": (200, "token_200"),
    "createMessage": (202, "message_create_202"),
    "createGroupMessage": (202, "group_message_create_202"),
    "listMessages": (200, "messages_list_200"),
    "listGroupMessages": (200, "group_messages_list_200"),
    "listUsers": (200, "users_list_200"),
    "getUser": (200, "user_get_200"),
    "listConnections": (200, "connections_list_200"),
    "getConnection": (200, "connection_get_200"),
    "getDataFreshness": (200, "data_freshness_200"),
    "listResourceOperations": (200, "resource_operations_list_200"),
    "getResourceOperation": (200, "resource_operation_get_200_success"),
    "listTspIntegrations": (200, "tsps_list_200"),
    "listFleets": (200, "fleets_list_200"),
    "listWebhooks": (200, "webhooks_list_200"),
    "createWebhook": (200, "webhook_create_200"),
    "getWebhook": (200, "webhook_get_200"),
    "updateWebhook": (200, "webhook_update_200"),
    "deleteWebhook": (204, None),
    "activateWebhook": (200, "webhook_activate_200"),
    "pauseWebhook": (200, "webhook_pause_200"),
    "replayWebhookDeadLetters": (202, "webhook_replay_202"),
    "getWebhookMetrics": (200, "webhook_metrics_200"),
    "listWebhookLogs": (200, "webhook_logs_200"),
}


def example(name: str) -> Any:
    return json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))


def _last_page(body: Any) -> Any:
    return {**body, "next_page": None} if isinstance(body, dict) and "next_page" in body else body


@dataclass(frozen=True)
class Seen:
    """One request as it arrived; `query` maps a name to all its values."""

    operation: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.url).query, keep_blank_values=True)


@dataclass
class Reply:
    """An answer to play; a body that is not bytes is sent as JSON."""

    status: int = 200
    body: object = b""
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class FakeCatena:
    """`replies` queues answers per operationId ahead of the default; `seen` and `violations` are in order of arrival."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen: list[Seen] = []
        self.violations: list[str] = []
        self.connections = 0
        self.replies: dict[str, list[Reply]] = {}
        self._lock = threading.Lock()

    def config(self, **changes: Any) -> CatenaConfig:
        settings: dict[str, Any] = {
            "api_url": f"http://127.0.0.1:{self.port}",
            "token_url": f"http://127.0.0.1:{self.port}{TOKEN_PATH}",
            "client_id": "backhaul-test",
            "client_secret": "secret of the test & more",
        }
        return CatenaConfig(**(settings | changes))

    def reply(self, operation: str, *replies: Reply) -> None:
        self.replies.setdefault(operation, []).extend(replies)

    def of(self, operation: str) -> list[Seen]:
        return [request for request in self.seen if request.operation == operation]

    def answer(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        with self._lock:
            try:
                operation = CONTRACT.check_request(method, url, headers, body)
            except ContractViolation as violation:
                self.violations.append(str(violation))
                return Reply(400, {"message": str(violation)})
            self.seen.append(Seen(operation, method, url, headers, body))
            if self.replies.get(operation):
                return self.replies[operation].pop(0)
        status, name = DEFAULTS[operation]
        return Reply(status) if name is None else Reply(status, _last_page(example(name)))


@contextmanager
def fake_catena() -> Iterator[FakeCatena]:
    """Serves on a free port of loopback until the block ends, which fails if a request broke the contract."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            catena.connections += 1

        def log_message(self, *_: Any) -> None:
            """Tests read `seen`."""

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            reply = catena.answer(self.command, self.path, dict(self.headers.items()), body)
            content = reply.encoded()
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            if reply.status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = respond  # noqa: N815 - the names http.server looks for

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    catena = FakeCatena(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield catena
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
    assert catena.violations == []
