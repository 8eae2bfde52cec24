"""What the webhook receiver costs: beside a busy web process, and against a bare view that does one INSERT.

Every event is new and honest, every answer is looked at, and afterwards each event has its row.
"""

import gzip
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import psycopg

from messaging.simulator.webhooks import sign
from tests.benchmarks.server import CSRF, WEBHOOK_SECRET, Server
from tests.stack import ROOT

GOAL_P99_MS, GOAL_SHARE = 250.0, 0.6
PER_SECOND = 50
LINES = 4
SENDERS = 16
EXAMPLE = json.loads((Path(__file__).parent.parent / "contract" / "examples" / "event_message_added.json").read_text())
HOOK, BARE = "/hooks/catena/", "/_bench/insert"
TABLE = "CREATE TABLE bench_bare (id bigserial PRIMARY KEY, body bytea NOT NULL)"
STORED = {
    HOOK: "SELECT count(DISTINCT key) FROM messaging_webhookevent WHERE state <> 'dead'",
    BARE: "SELECT count(*) FROM bench_bare",
}


class Line:
    """One connection that is kept open. Use as a context manager."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def post(self, request: bytes) -> None:
        """Sends a whole request; anything but 202 without a body ends the run."""
        self.socket.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = self.socket.recv(65536)
            if not piece:
                raise SystemExit("The web process closed the connection.")
            answer += piece
        if not answer.startswith(b"HTTP/1.1 202 ") or not answer.endswith(b"\r\n\r\n"):
            raise SystemExit(f"The answer was {answer[:300]!r}")


def request(path: str, port: int) -> bytes:
    """The bytes of one new event, as Catena sends it."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    event = {**EXAMPLE, "id": str(uuid.uuid4()), "timestamp": now}
    body = json.dumps(event, separators=(",", ":")).encode()
    packed = gzip.compress(body, 1)
    headers = {
        "Host": f"127.0.0.1:{port}", "Content-Type": "application/json", "Content-Encoding": "gzip",
        "Content-Length": len(packed), "User-Agent": "Catena-Webhook", "X-Source": "catena-notifications",
        "X-Catena-Timestamp": now, "X-Catena-Signature": sign(WEBHOOK_SECRET, now, body),
        "X-Event-Type": event["event_name"], "X-Webhook-ID": event["webhook_id"], "X-Request-ID": uuid.uuid4(),
        "X-Schema-Version": "1.0", "X-Delivery-Attempt": 1,
    }  # fmt: skip
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return head.encode() + b"\r\n" + packed


def stored(server: Server, path: str) -> int:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        row = connection.execute(STORED[path]).fetchone()  # type: ignore[call-overload]  (constants)
    return int(row[0])


@dataclass(frozen=True, slots=True)
class Round:
    """Requests a second, and the CPU ms of the web process for each."""

    per_second: float
    cpu_ms: float


def hasten(server: Server, path: str, times: int) -> Round:
    """As many as the process takes over `LINES` connections; each must have its row afterwards."""
    before = stored(server, path)
    shares = [[request(path, server.port) for _ in range(times // LINES)] for _ in range(LINES)]
    cpu, start = server.cpu_seconds(), time.perf_counter()
    with ThreadPoolExecutor(LINES) as pool:
        list(pool.map(lambda share: post_all(server.port, share), shares))
    wall, cpu = time.perf_counter() - start, server.cpu_seconds() - cpu
    sent = sum(map(len, shares))
    if stored(server, path) != before + sent:
        raise SystemExit(f"{path} acknowledged {sent} and stored {stored(server, path) - before}.")
    return Round(sent / wall, cpu * 1000 / sent)


def post_all(port: int, requests: list[bytes]) -> None:
    with Line(port) as line:
        for one in requests:
            line.post(one)


def in_turn(server: Server, rounds: int, times: int) -> list[tuple[Round, Round]]:
    """(receiver, bare) of each round, each of them first in every other one."""
    pairs = []
    for number in range(rounds):
        order = (HOOK, BARE) if number % 2 else (BARE, HOOK)
        found = {path: hasten(server, path, times) for path in order}
        pairs.append((found[HOOK], found[BARE]))
    return pairs


@contextmanager
def visitors(server: Server, count: int) -> Iterator[Callable[[], int]]:
    """People who ask for one page after another. Yields a function that stops them and tells how many they got."""
    paths = ["/", f"/c/{server.facts['conversation']}/", "/ops/"]
    command = [sys.executable, "-m", "tests.benchmarks.visitor", str(server.port)]
    command += [f"csrf={CSRF}; session={server.session}", *paths]
    running = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        yield lambda: sum(int(one.communicate("stop\n", timeout=60)[0] or 0) for one in running)
    finally:
        for one in running:
            one.kill()
            one.wait()


def steady(server: Server, seconds: int) -> list[float]:
    """Milliseconds of each of `PER_SECOND` events a second, from the moment at which it was to be sent."""
    before, total = stored(server, HOOK), seconds * PER_SECOND
    requests = [request(HOOK, server.port) for _ in range(total)]
    numbers, times = iter(range(total)), [0.0] * total
    taking, never = threading.Lock(), threading.Event()
    start = time.perf_counter() + 0.2

    def send() -> None:
        with Line(server.port) as line:
            while True:
                with taking:
                    number = next(numbers, None)
                if number is None:
                    return
                due = start + number / PER_SECOND
                never.wait(max(0.0, due - time.perf_counter()))
                line.post(requests[number])
                times[number] = (time.perf_counter() - due) * 1000

    with ThreadPoolExecutor(SENDERS) as pool:
        for done in [pool.submit(send) for _ in range(SENDERS)]:
            done.result()
    if stored(server, HOOK) != before + total:
        raise SystemExit(f"Acknowledged {total}, stored {stored(server, HOOK) - before}.")
    return sorted(times)


def report(admin_dsn: str, is_quick: bool) -> list[dict[str, Any]]:
    """Runs the scenario and prints its table; the figures for the file."""
    seconds, rounds, times = (5, 3, 400) if is_quick else (20, 7, 1200)
    with Server(admin_dsn, 10_000, threads=8) as server:
        server.execute(TABLE)
        for path in (HOOK, BARE):
            hasten(server, path, 200)  # every thread connects, every statement is prepared
        with visitors(server, 2) as stop:
            busy, start = server.cpu_seconds(), time.perf_counter()
            latencies = steady(server, seconds)
            busy, wall = server.cpu_seconds() - busy, time.perf_counter() - start
            pages = stop()
        pairs = in_turn(server, rounds, times)
    p50, p99, worst = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)], latencies[-1]
    share = statistics.median(hook.per_second / bare.per_second for hook, bare in pairs)
    hook, bare = (statistics.median(pair[place].per_second for pair in pairs) for place in (0, 1))
    costs = [statistics.median(pair[place].cpu_ms for pair in pairs) for place in (0, 1)]
    print(
        f"\nreceiver: one web process, 8 threads; {len(latencies)} events at {PER_SECOND} a second beside two visitors"
    )
    print(
        f"{'pages a second meanwhile':<36}{pages / wall:>8.0f}   (the process at {100 * busy / wall:.0f} % of a core)"
    )
    print(f"{'ms to the answer, median':<36}{p50:>8.1f}")
    print(f"{'ms to the answer, 99 of 100':<36}{p99:>8.1f}{_verdict(p99 <= GOAL_P99_MS)}")
    print(f"{'ms to the answer, worst':<36}{worst:>8.1f}")
    print(f"{'events a second, ' + str(LINES) + ' connections':<36}{hook:>8.0f}   ({costs[0]:.2f} CPU ms each)")
    print(f"{'bare view with one INSERT':<36}{bare:>8.0f}   ({costs[1]:.2f} CPU ms each)")
    print(f"{'share of its rate':<36}{share:>8.2f}{_verdict(share >= GOAL_SHARE)}   (median of {len(pairs)} rounds)")
    return [
        {"name": "receiver, ms of 99 in 100", "value": p99, "median": p50, "worst": worst, "pages": pages / wall,
         "goal": 1.0, "ratio": p99 / GOAL_P99_MS},
        {"name": "receiver, events a second", "value": hook, "bare": bare, "cpu_ms": costs[0], "bare_cpu_ms": costs[1],
         "share": share, "goal": 1.0, "ratio": GOAL_SHARE / share},
    ]  # fmt: skip


def _verdict(is_met: bool) -> str:
    return "  met" if is_met else "  MISSED"
