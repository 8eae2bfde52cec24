"""A lean Catena for the chaos runs: the contract's token, POST, operation list and read; lists of anything else are empty.

Faster and ruder than the demo's simulator. The journal holds one fsynced line for each POST that came whole, before it is
answered; it is what the verdict believes. Runs as a process of its own and imports nothing of the product.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import struct
import sys
import time
import uuid
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]

# What may go wrong with a POST, by weight. `late` is accepted only after its sender has given up.
FAULTS: dict[str, float] = {
    "reset_before": 2.5, "reset_after": 3.0, "hang_before": 1.5, "hang_after": 2.5, "error_before": 2.5,
    "error_after": 2.5, "truncated": 2.5, "html": 1.2, "late": 1.0, "limited": 0.1, "unauthorized": 0.6, "refused": 0.2,
}  # fmt: skip
NEVER_ACCEPTED = frozenset({"reset_before", "hang_before", "error_before", "limited", "unauthorized", "refused"})
REASONS = {200: "OK", 202: "Accepted", 401: "Unauthorized", 404: "Not Found", 422: "Unprocessable", 429: "Too Many"}
PAGE = 300


@dataclass
class Rules:
    """How this Catena behaves now; `POST /_control` changes any of it. Times in seconds."""

    fault_share: float = 0.0
    faults: dict[str, float] = field(default_factory=lambda: dict(FAULTS))
    # Text of a message to the fault of its next POST, before any dice.
    script: dict[str, str] = field(default_factory=dict)
    hang: float = 2.5
    late_by: float = 3.0
    retry_after: int = 1
    settles: float = 0.3
    fails: float = 0.05
    list_delay: float = 0.2
    late_list_share: float = 0.0
    late_list_delay: float = 0.0
    answers_after: float = 0.0
    token_down: bool = False
    limited: bool = False


@dataclass(slots=True)
class Operation:
    id: str
    connection: str
    body: Json
    created: float
    listed: float
    settled: float
    status: str
    text: bytes = b""

    def json(self, now: float) -> bytes:
        """As Catena would show it now; a finished one is rendered once."""
        if self.text:
            return self.text
        is_done = now >= self.settled
        rendered = json.dumps(self._as_dict(is_done)).encode()
        if is_done:
            self.text = rendered
        return rendered

    def _as_dict(self, is_done: bool) -> Json:
        status = self.status if is_done else "pending"
        moment = iso(self.settled if is_done else self.created)
        logs = [] if status != "failed" else [self._log(moment)]
        return {
            "id": self.id, "created_at": iso(self.created), "updated_at": moment, "deleted_at": None,
            "partner_id": str(uuid.UUID(int=7)), "connection_id": self.connection, "resource": "message",
            "operation_type": "create", "resource_id": None, "source_id": None, "status": status, "payload": self.body,
            "logs": logs, "fleet_ref": None, "source_name": "samsara",
        }  # fmt: skip

    def _log(self, moment: str) -> Json:
        return {
            "id": str(uuid.uuid5(uuid.UUID(self.id), "log")), "resource_operation_id": self.id, "created_at": moment,
            "updated_at": moment, "status": "failed", "error_type": "tsp", "error_details": "Device offline",
            "response_status_code": 503, "response_headers": None,
        }  # fmt: skip


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")


@dataclass(slots=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    def one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[-1]


@dataclass(slots=True)
class Answer:
    status: int
    body: bytes
    # Bytes of the body that are really sent; None sends all of it.
    cut: int | None = None
    resets: bool = False


def said(status: int, **values: Any) -> Answer:
    return Answer(status, json.dumps(values).encode())


def problem(status: int, message: str, detail: Any = None) -> Answer:
    return said(status, code=status, message=message, detail=detail)


RESET = Answer(0, b"", resets=True)


class Upstream:
    """The state of this Catena. One event loop, so no locks."""

    def __init__(self, journal: Path, seed: int) -> None:
        self.rules = Rules()
        self.rng = random.Random(seed)
        self.journal = FileIO(str(journal), "ab")
        self.tokens: set[str] = set()
        self.operations: dict[str, Operation] = {}
        self.by_connection: dict[str, list[Operation]] = {}
        self.counts: Counter[str] = Counter()

    async def answer(self, request: Request) -> Answer:
        if request.path == "/_control":
            return self._control(request)
        if request.path == "/token":
            return self._token()
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return self._unknown_token(request)
        if request.method == "POST" and request.path == "/v2/telematics/messages":
            return await self._post(request)
        if self.rules.limited:
            self.counts["reads limited"] += 1
            return self._limit()
        return self._read(request)

    def _control(self, request: Request) -> Answer:
        rules = json.loads(request.body or b"{}")
        self.rules.script |= rules.pop("add_script", {})
        for name, value in rules.items():
            if not hasattr(self.rules, name):
                return problem(422, f"no rule {name}")
            setattr(self.rules, name, value)
        return said(200, counts=self.counts, operations=len(self.operations))

    def _token(self) -> Answer:
        self.counts["tokens"] += 1
        if self.rules.token_down:
            return problem(503, "The token service rests")
        token = uuid.uuid4().hex
        self.tokens.add(token)
        return said(200, access_token=token, expires_in=3600, token_type="Bearer", scope="organization")

    def _unknown_token(self, request: Request) -> Answer:
        if request.method == "POST":
            self._note(json.loads(request.body), "unauthorized", None)
        return problem(401, "The token is not known")

    def _limit(self) -> Answer:
        seconds = self.rules.retry_after
        return problem(429, "Slow down", {"retry_after_seconds": seconds, "message": f"Wait {seconds} s"})

    def _read(self, request: Request) -> Answer:
        parts = request.path.strip("/").split("/")
        if request.path == "/v2/integrations/connections/resource-operations":
            return self._list(request)
        if len(parts) == 6 and parts[4] == "resource-operations":
            found = self.operations.get(parts[5])
            self.counts["single reads"] += 1
            return Answer(200, found.json(time.time())) if found else problem(404, "No such operation")
        if request.path.endswith("data-freshness"):
            return Answer(200, b"[]")
        return said(200, items=[], total=0, next_page=None)

    def _list(self, request: Request) -> Answer:
        """One page of a connection's operations by creation, those that lists show by now."""
        self.counts["lists"] += 1
        now = time.time()
        since, until = (moment_of(request.one(name)) for name in ("from_datetime", "to_datetime"))
        stored = self.by_connection.get(request.one("connection_id"), [])
        start = bisect_left(stored, since, key=lambda one: one.created)
        shown = [
            one for one in stored[start : bisect_left(stored, until, key=lambda one: one.created)] if one.listed <= now
        ]
        first, size = int(request.one("cursor", "0")), int(request.one("size", str(PAGE)))
        page = shown[first : first + size]
        following = json.dumps(str(first + size) if first + size < len(shown) else None).encode()
        items = b",".join(one.json(now) for one in page)
        self.counts["listed"] += len(page)
        return Answer(200, b'{"items":[' + items + b'],"next_page":' + following + b"}")

    async def _post(self, request: Request) -> Answer:
        body = json.loads(request.body)
        fault = self._fault(str(body.get("message_text")))
        self.counts[f"post {fault}"] += 1
        if fault in NEVER_ACCEPTED or fault == "late":
            self._note(body, fault, None)
            return await self._refusal(request, body, fault)
        operation = self._accept(body)
        self._note(body, fault, operation)
        if self.rules.answers_after:
            await asyncio.sleep(self.rules.answers_after)
        return await self._acceptance(operation, fault)

    def _fault(self, text: str) -> str:
        if self.rules.limited:
            return "limited"
        if text in self.rules.script:
            return self.rules.script.pop(text)
        if self.rng.random() >= self.rules.fault_share:
            return ""
        names = list(self.rules.faults)
        return self.rng.choices(names, [self.rules.faults[name] for name in names])[0]

    async def _refusal(self, request: Request, body: Json, fault: str) -> Answer:
        match fault:
            case "limited":
                return self._limit()
            case "unauthorized":
                self.tokens.discard(request.headers["authorization"].removeprefix("Bearer "))
                return problem(401, "The token is no longer valid")
            case "refused":
                return problem(422, "Refused", [])
            case "error_before":
                return problem(503, "Try again")
            case "late":
                asyncio.get_running_loop().call_later(self.rules.late_by, self._accept_late, body)
        if fault in {"hang_before", "late"}:
            await asyncio.sleep(self.rules.hang)
        return RESET

    async def _acceptance(self, operation: Operation, fault: str) -> Answer:
        full = Answer(202, operation.json(operation.created))
        match fault:
            case "slow":
                await asyncio.sleep(self.rules.hang)
            case "reset_after":
                return RESET
            case "hang_after":
                await asyncio.sleep(self.rules.hang)
                return RESET
            case "error_after":
                return problem(500, "Something broke")
            case "html":
                return Answer(502, b"<html>Bad gateway</html>")
            case "truncated":
                return Answer(202, full.body, cut=len(full.body) // 2)
        return full

    def _accept_late(self, body: Json) -> None:
        self._note(body, "late", self._accept(body), is_late=True)

    def _accept(self, body: Json) -> Operation:
        now, rules = time.time(), self.rules
        delay = rules.late_list_delay if self.rng.random() < rules.late_list_share else rules.list_delay
        status = "failed" if self.rng.random() < rules.fails else "success"
        made = Operation(
            str(uuid.uuid4()), str(body["connection_id"]), body, now, now + delay * self.rng.random() if delay else now,
            now + rules.settles, status,
        )  # fmt: skip
        if delay == rules.late_list_delay and delay:
            made.listed = now + delay * (0.5 + self.rng.random() / 2)
        self.operations[made.id] = made
        self.by_connection.setdefault(made.connection, []).append(made)
        return made

    def _note(self, body: Json, fault: str, operation: Operation | None, *, is_late: bool = False) -> None:
        """The line that the verdict believes, on the disk before any answer."""
        line = {
            "at": time.time(), "text": body.get("message_text"), "recipient": body.get("recipient_id"), "fault": fault,
            "operation": operation.id if operation else None, "is_late": is_late,
        }  # fmt: skip
        self.journal.write(json.dumps(line).encode() + b"\n")
        os.fsync(self.journal.fileno())


def moment_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next whole request; None when the peer has gone, in the middle of one too."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        pairs = (line.split(":", 1) for line in head[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        return None
    url = urlsplit(target)
    return Request(method, url.path, parse_qs(url.query), headers, body)


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection by RST, as a crashed peer does."""
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def handler(
    answer: Callable[[Request], Awaitable[Answer]],
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await read_request(reader)) is not None:
            given = await answer(request)
            if given.resets:
                reset(writer)
                return
            head = f"HTTP/1.1 {given.status} {REASONS.get(given.status, 'Other')}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(given.body)}\r\n\r\n".encode() + given.body[: given.cut])
            try:
                await writer.drain()
            except ConnectionError:
                break
            if given.cut is not None or request.headers.get("connection", "").lower() == "close":
                break
        writer.close()

    return handle


async def serve(journal: Path, seed: int) -> None:
    """Prints its port once it listens; ends when its standard input does, and so with whoever started it."""
    upstream = Upstream(journal, seed)
    server = await asyncio.start_server(handler(upstream.answer), "127.0.0.1", 0, backlog=512)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    asyncio.run(serve(options.journal, options.seed))


if __name__ == "__main__":
    main()
