"""Catena as fast as it gets: a process of its own that answers tokens and messages at once and keeps what it was sent.

`python -m tests.benchmarks.upstream` prints its port. `GET /figures` tells, as JSON, each text in the order of arrival
and the moments (monotonic) of the first and the last one.
"""

import json
import selectors
import socket
import sys
import time
import uuid
from datetime import UTC, datetime

TOKEN = json.dumps({"access_token": "bench.bench.bench", "expires_in": 3600, "token_type": "Bearer"})
PARTNER = str(uuid.uuid4())


class Catena:
    """What has arrived so far."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.moments: list[float] = []

    def answer(self, head: bytes, body: bytes) -> tuple[int, str]:
        if head.startswith(b"POST /v2/telematics/messages"):
            return 202, self.take(json.loads(body))
        if head.startswith(b"POST /token"):
            return 200, TOKEN
        if head.startswith(b"GET /figures"):
            span = [self.moments[0], self.moments[-1]] if self.moments else [0.0, 0.0]
            return 200, json.dumps({"texts": self.texts, "span": span})
        return 404, "{}"

    def take(self, payload: dict[str, str]) -> str:
        """The operation as the contract answers it (section 7): pending, with what was sent."""
        self.moments.append(time.monotonic())
        self.texts.append(payload["message_text"])
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        operation = {
            "id": str(uuid.uuid4()), "created_at": now, "updated_at": now, "deleted_at": None, "partner_id": PARTNER,
            "connection_id": payload["connection_id"], "resource": "message", "operation_type": "create",
            "resource_id": None, "source_id": None, "status": "pending", "payload": payload, "logs": [],
        }  # fmt: skip
        return json.dumps(operation)


def length_of(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.find(b"content-length:")
    return int(lowered[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0


def serve() -> None:
    """One thread, no library: a whole exchange costs it some 80 microseconds."""
    catena, ready = Catena(), selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    ready.register(listener, selectors.EVENT_READ)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        for key, _ in ready.select():
            if key.fileobj is listener:
                arrived, _ = listener.accept()
                ready.register(arrived, selectors.EVENT_READ, bytearray())
            elif receive(key.fileobj, key.data, catena):
                ready.unregister(key.fileobj)
                key.fileobj.close()


def receive(line: socket.socket, received: bytearray, catena: Catena) -> bool:
    """Reads what is there and answers once the request is whole. True when the connection is done with."""
    data = line.recv(65536)
    received += data
    head, end, body = bytes(received).partition(b"\r\n\r\n")
    if not end or len(body) < length_of(head):
        return not data
    status, text = catena.answer(head, body)
    packed = text.encode()
    line.sendall(
        b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
        % (status, len(packed), packed)
    )
    return True


if __name__ == "__main__":
    serve()
