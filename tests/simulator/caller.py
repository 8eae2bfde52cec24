"""A client of the simulator for these tests alone: plain `http.client`, every exchange checked against the contract."""

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlencode, urlsplit

from messaging.simulator import SimulatorServer
from tests.contract.validator import Contract

MESSAGES = "/v2/telematics/messages"
GROUPS = "/v2/telematics/group-messages"
USERS = "/v2/telematics/users"
CONNECTIONS = "/v2/integrations/connections"
OPERATIONS = "/v2/integrations/connections/resource-operations"
WEBHOOKS = "/v2/notifications/webhooks"
# A list ends before the millisecond in which it is asked for.
MOMENT = 0.002


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """Talks to one simulator. `checked=False` is for what the contract does not describe, such as a broken answer."""

    def __init__(self, server: SimulatorServer) -> None:
        self.server = server
        self.contract = Contract.load()
        self.token = ""

    def sign_in(self) -> "Caller":
        reply = self.ask_token()
        assert reply.status == 200
        self.token = reply.json["access_token"]
        return self

    def ask_token(self, checked: bool = True, **changes: str) -> Reply:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.server.client_id,
            "client_secret": self.server.client_secret,
            "scope": "organization",
        }
        path = urlsplit(self.server.token_url).path
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode(form | changes).encode()
        reply = self.raw("POST", path, headers, body)
        if checked:
            self.contract.check_response("POST", path, reply.status, reply.headers, reply.body)
        return reply

    def get(self, path: str, checked: bool = True, **query: object) -> Reply:
        target = f"{path}?{urlencode(query, doseq=True)}" if query else path
        return self.call("GET", target, checked=checked)

    def call(self, method: str, target: str, body: object = None, checked: bool = True) -> Reply:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
        reply = self.raw(method, target, headers, data)
        if checked:
            self.contract.check_response(method, target, reply.status, reply.headers, reply.body)
        return reply

    def raw(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> Reply:
        address = urlsplit(self.server.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=5)
        try:
            connection.request(method, target, body, headers or {})
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def letter(self, text: str = "Dock 4 is free.", connection: int = 0, **changes: object) -> dict[str, object]:
        """A body for a message from the office to the first driver of a connection of the seeded world."""
        world = self.server.world
        found = list(world.connections.values())[connection]
        return {
            "connection_id": found.id,
            "sender_id": world.dispatchers(found.id)[0].id,
            "recipient_id": world.drivers(found.id)[0].id,
            "message_text": text,
            **changes,
        }

    def send(self, text: str = "Dock 4 is free.", checked: bool = True, **changes: Any) -> Reply:
        reply = self.call("POST", MESSAGES, self.letter(text, **changes), checked)
        sleep(MOMENT)
        return reply

    def operation(self, receipt: dict[str, Any], checked: bool = True) -> dict[str, Any]:
        path = f"{CONNECTIONS}/{receipt['connection_id']}/resource-operations/{receipt['id']}"
        return dict(self.get(path, checked).json)

    def ended(self, receipt: dict[str, Any], checked: bool = True) -> dict[str, Any]:
        """The operation once it is no longer pending."""
        eventually(lambda: self.operation(receipt, checked)["status"] != "pending")
        sleep(MOMENT)
        return self.operation(receipt, checked)

    def pages(self, path: str, **query: object) -> list[dict[str, Any]]:
        """All pages, by `next_page`."""
        answers = [self.get(path, **query).json]
        while cursor := answers[-1]["next_page"]:
            answers.append(self.get(path, cursor=cursor, **query).json)
        return answers


def eventually(holds: Callable[[], object], within: float = 4.0) -> None:
    """Fails unless the condition holds before so many seconds are over."""
    deadline, pause = monotonic() + within, Event()
    while not holds():
        assert monotonic() < deadline, "it never came true"
        pause.wait(0.005)
