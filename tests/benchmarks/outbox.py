"""What one worker process sends: a real `manage.py worker`, its database and an instant Catena on this machine."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import psycopg

from tests.benchmarks import queue
from tests.benchmarks.server import seconds_on_core
from tests.stack import ROOT, new_database, wait_for

GOAL_PER_SECOND, GOAL_CLAIM_MS = 300.0, 20.0
THREADS = 8
PATIENCE = 180.0


@dataclass(frozen=True, slots=True)
class Drained:
    """What one worker did: messages a second between its first and its last POST, and its CPU ms for each."""

    per_second: float
    cpu_ms: float
    claim_ms: list[float]


@contextmanager
def upstream() -> Iterator[int]:
    """The port of an instant Catena in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.upstream"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def figures_of(port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/figures")
    found: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return found


def environment(dsn: str, port: int, var: str) -> dict[str, str]:
    """The worker's settings are the product's own; only the sweeps that read from Catena are put off. In the folder `var` it
    keeps its high-water mark, which another database of the same name must not find.
    """
    return {
        **os.environ, "DATABASE_URL": dsn, "DJANGO_SETTINGS_MODULE": "dashboard.settings", "PYTHONPATH": str(ROOT),
        "SECRET_KEY": "benchmark-" * 6, "DEBUG": "false", "LOG_LEVEL": "WARNING", "WORKER_THREADS": str(THREADS),
        "CATENA_API_URL": f"http://127.0.0.1:{port}", "CATENA_TOKEN_URL": f"http://127.0.0.1:{port}/token",
        "CATENA_CLIENT_ID": "bench", "CATENA_CLIENT_SECRET": "bench", "OPERATION_SWEEP_SECONDS": "3600",
        "MESSAGE_SWEEP_SECONDS": "3600", "DIRECTORY_SWEEP_SECONDS": "3600", "VAR_DIR": var,
    }  # fmt: skip


def put_off_sweeps(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "INSERT INTO messaging_synccursor (name, started_at, read_count, last_error) SELECT 'round ' || name, now(), 0, ''"
        " FROM unnest(ARRAY['operations', 'messages', 'directory']) name"
    )


def has_begun(connection: psycopg.Connection[Any]) -> bool:
    return _answer(connection, "SELECT EXISTS (SELECT 1 FROM messaging_sendattempt WHERE outcome IS NULL)")


def is_done(connection: psycopg.Connection[Any]) -> bool:
    """Whether nothing that is due is left. Two looks into partial indexes: the question must not cost what it measures."""
    return _answer(
        connection,
        "SELECT NOT EXISTS (SELECT 1 FROM messaging_message WHERE conversation_id >= %(first)s AND state = 'waiting')"
        " AND NOT EXISTS (SELECT 1 FROM messaging_message WHERE conversation_id >= %(first)s AND NOT detached"
        " AND state IN ('claimed', 'needs_decision', 'posting', 'queued', 'unknown'))",
    )


def _answer(connection: psycopg.Connection[Any], question: str) -> bool:
    row = connection.execute(question, {"first": queue.FIRST_DUE}).fetchone()  # type: ignore[arg-type]  (constants)
    assert row is not None
    return bool(row[0])


def drain(admin_dsn: str, conversations: int, each: int) -> Drained:
    """Fills a database, lets one worker empty it and checks that each message came once and in order."""
    with upstream() as port, new_database(admin_dsn, f"bench_outbox_{os.getpid()}") as dsn, TemporaryDirectory() as var:
        settings = environment(dsn, port, var)
        queue.build(dsn, conversations, each)
        with psycopg.connect(dsn, autocommit=True) as connection:
            put_off_sweeps(connection)
            with probing(settings) as probe:
                worker = subprocess.Popen(
                    [sys.executable, "manage.py", "worker"], env=settings, cwd=ROOT, stdout=subprocess.DEVNULL
                )
                try:
                    claims, cpu = watch(worker, probe, connection)
                finally:
                    worker.send_signal(signal.SIGTERM)
                    worker.wait(30)
            found = figures_of(port)
            check(connection, found["texts"], conversations, each)
    first, last = found["span"]
    return Drained((conversations * each - 1) / (last - first), cpu * 1000 / (conversations * each), claims)


@contextmanager
def probing(settings: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """The probe of claims, ready to begin: what it costs to start must not be measured."""
    probe = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.claims", str(queue.FIRST_PROBED), str(queue.FIRST_DUE - 1)],
        env=settings, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert probe.stdout is not None
    try:
        probe.stdout.readline()
        yield probe
    finally:
        probe.kill()
        probe.wait()


def watch(
    worker: "subprocess.Popen[bytes]", probe: "subprocess.Popen[str]", connection: psycopg.Connection[Any]
) -> tuple[list[float], float]:
    """Claims of the probe while the worker is at it, and the CPU seconds that the worker has spent since it began."""
    process = psutil.Process(worker.pid)
    wait_for(lambda: has_begun(connection), PATIENCE, every=0.01)
    before = seconds_on_core(process)
    assert probe.stdin is not None
    probe.stdin.write("go\n")
    probe.stdin.flush()
    wait_for(lambda: is_done(connection) or worker.poll() is not None, PATIENCE, every=0.1)
    spent = seconds_on_core(process) - before
    times, _ = probe.communicate(timeout=60)
    return json.loads(times), spent


def check(connection: psycopg.Connection[Any], texts: list[str], conversations: int, each: int) -> None:
    """Exits when a message is missing, came twice or came before an earlier one, or when our rows say otherwise."""
    order: dict[str, list[int]] = {}
    for text in texts:
        conversation, number = text.split(" ")[0].split(":")
        order.setdefault(conversation, []).append(int(number))
    if len(order) != conversations or any(numbers != list(range(1, each + 1)) for numbers in order.values()):
        raise SystemExit(
            f"The worker sent {len(texts)} messages, not each of {conversations * each} once and in order."
        )
    states = connection.execute(
        "SELECT m.state, count(*), count(a.id) FROM messaging_message m LEFT JOIN messaging_sendattempt a"
        " ON a.message_id = m.id AND a.outcome = 'accepted' WHERE m.conversation_id >= %s GROUP BY 1",
        [queue.FIRST_DUE],
    ).fetchall()
    if states != [("accepted", conversations * each, conversations * each)]:
        raise SystemExit(f"The rows say {states}.")


def bare(admin_dsn: str, total: int) -> float:
    """Messages a second of the least that any sender does, on as many threads: a durable INSERT, then a POST."""
    with upstream() as port, new_database(admin_dsn, f"bench_bare_{os.getpid()}") as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE bare (id bigserial PRIMARY KEY, text text NOT NULL)")
        numbers = count()
        threads = [threading.Thread(target=bare_loop, args=(dsn, port, numbers, total)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = figures_of(port)
    if len(set(found["texts"])) != total:
        raise SystemExit("The bare loop lost a message.")
    first, last = found["span"]
    return float((total - 1) / (last - first))


def bare_loop(dsn: str, port: int, numbers: "count[int]", total: int) -> None:
    headers = {"Authorization": "Bearer bench.bench.bench", "Content-Type": "application/json", "Connection": "close"}
    draft = {"connection_id": queue.A_UUID, "sender_id": queue.A_UUID, "recipient_id": queue.A_UUID}
    with psycopg.connect(dsn, autocommit=True) as connection:
        while (number := next(numbers)) < total:
            text = f"{number} Load LD004711 please use the south gate, dock 4 is closed until 15:00 today"
            connection.execute("INSERT INTO bare (text) VALUES (%s)", [text], prepare=True)
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            line.request("POST", "/v2/telematics/messages", json.dumps({**draft, "message_text": text}), headers)
            answer = line.getresponse()
            assert answer.status == 202
            json.loads(answer.read())
            line.close()


def report(admin_dsn: str, is_quick: bool) -> list[dict[str, Any]]:
    """Runs the scenario and prints its table; the figures for the file."""
    conversations, each = (150, 10) if is_quick else (400, 10)
    floors = [bare(admin_dsn, 2000)]
    drained = drain(admin_dsn, conversations, each)
    floors.append(bare(admin_dsn, 2000))
    floor = sum(floors) / 2
    claims = sorted(drained.claim_ms)
    middle, worst = claims[len(claims) // 2], claims[int(len(claims) * 0.99)]
    waiting = queue.BLOCKED_CONVERSATIONS * (queue.BLOCKED_EACH - 1)
    print(
        f"\noutbox: one worker process, {THREADS} threads, {conversations * each:,} due, {waiting:,} waiting in front"
    )
    print(f"{'messages a second':<36}{drained.per_second:>8.0f}{_verdict(drained.per_second >= GOAL_PER_SECOND)}")
    print(f"{'bare INSERT + POST loop':<36}{floor:>8.0f}   ({floors[0]:.0f} before, {floors[1]:.0f} after)")
    print(f"{'ratio':<36}{drained.per_second / floor:>8.2f}")
    print(f"{'CPU ms of the worker per message':<36}{drained.cpu_ms:>8.2f}")
    print(f"{'claim ms, median':<36}{middle:>8.2f}")
    print(f"{'claim ms, 99 of 100':<36}{worst:>8.2f}{_verdict(worst <= GOAL_CLAIM_MS)}")
    return [
        {"name": "outbox, messages a second", "value": drained.per_second, "bare": floor, "cpu_ms": drained.cpu_ms,
         "goal": 1.0, "ratio": GOAL_PER_SECOND / drained.per_second},
        {"name": "outbox, claim ms, 99 of 100", "value": worst, "median": middle, "goal": 1.0, "ratio": worst / GOAL_CLAIM_MS},
    ]  # fmt: skip


def _verdict(is_met: bool) -> str:
    return "  met" if is_met else "  MISSED"
