"""The first import: a real `manage.py sync` on an empty database, against a simulated Catena with weeks of history."""

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode, urlsplit

import psutil
import psycopg

from tests.benchmarks.server import seconds_on_core
from tests.stack import ROOT, new_database, wait_for

GOAL_PER_SECOND, GOAL_MIB, GOAL_GROWTH = 1500.0, 150.0, 1.15
MIB = 1024 * 1024
PAGE = 300
PATIENCE = 900.0
LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Crowd:
    """A running simulator: its addresses, and its process for what it costs."""

    names: dict[str, str]
    process: psutil.Process

    def seconds_on_core(self) -> float:
        """Also of the threads that ended with their connections, which the finer clock of `server` forgets."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@dataclass(frozen=True, slots=True)
class Run:
    """One `manage.py sync`: what it printed, wall seconds, CPU seconds of it, of the simulator and of the database, and
    memory in MiB.
    """

    printed: str
    seconds: float
    cpu: float
    simulator_cpu: float
    database_cpu: float
    peak: float
    quarter: float
    end: float


@contextmanager
def crowd(users: int, messages: int) -> Iterator[Crowd]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.crowd", str(users), str(messages)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield Crowd(json.loads(process.stdout.readline()), psutil.Process(process.pid))
    finally:
        process.kill()
        process.wait()


def environment(dsn: str, names: dict[str, str], var: str) -> dict[str, str]:
    return {
        **os.environ, "DATABASE_URL": dsn, "DJANGO_SETTINGS_MODULE": "dashboard.settings", "PYTHONPATH": str(ROOT),
        "SECRET_KEY": "benchmark-" * 6, "DEBUG": "false", "LOG_LEVEL": "WARNING", "CATENA_API_URL": names["api"],
        "CATENA_TOKEN_URL": names["token"], "CATENA_CLIENT_ID": names["id"], "CATENA_CLIENT_SECRET": names["secret"],
        "VAR_DIR": var,
    }  # fmt: skip


@contextmanager
def installation(admin_dsn: str, name: str, found: Crowd) -> Iterator[tuple[str, dict[str, str]]]:
    """An empty, migrated database and the settings of a process that imports into it."""
    with new_database(admin_dsn, f"bench_{name}_{os.getpid()}") as dsn, TemporaryDirectory() as var:
        settings = environment(dsn, found.names, var)
        yield dsn, settings


def begin(settings: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "manage.py", "sync"], env=settings, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def read(dsn: str, settings: dict[str, str], found: Crowd, expected: int) -> Run:
    """Runs one sync to its end and looks at its memory meanwhile. Exits when it fails."""
    start, before = time.monotonic(), found.seconds_on_core()
    child = begin(settings)
    process = psutil.Process(child.pid)
    looks: list[tuple[int, int]] = []
    cpu, backends = 0.0, dict[int, float]()
    with psycopg.connect(dsn, autocommit=True) as connection:
        while child.poll() is None:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                looks.append((newest(connection), process.memory_info().rss))
                cpu = seconds_on_core(process) or cpu
                backends |= seconds_of_backends(connection)
            with suppress(subprocess.TimeoutExpired):
                child.wait(LOOK_SECONDS)
    printed, _ = child.communicate()
    if child.returncode:
        raise SystemExit(f"manage.py sync failed:\n{printed}")
    looks = [look for look in looks if look[1]]
    quarter = next((size for count, size in looks if count >= expected / 4), looks[-1][1])
    return Run(
        printed=printed,
        seconds=time.monotonic() - start,
        cpu=cpu,
        simulator_cpu=found.seconds_on_core() - before,
        database_cpu=sum(backends.values()),
        peak=max(size for _, size in looks) / MIB,
        quarter=quarter / MIB,
        end=looks[-1][1] / MIB,
    )


def newest(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT coalesce(max(id), 0) FROM messaging_message").fetchone()
    assert row is not None
    return int(row[0])


def seconds_of_backends(connection: psycopg.Connection[Any]) -> dict[int, float]:
    """CPU seconds of each server process that works on this database, ours left out. Empty when it runs elsewhere."""
    found = {}
    sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    for (pid,) in connection.execute(sql):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            found[pid] = sum(psutil.Process(pid).cpu_times()[:2])
    return found


def check(dsn: str, users: int, messages: int) -> None:
    """Exits unless each record is here exactly once, and each conversation's row repeats what its messages say."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        found = connection.execute(
            "SELECT (SELECT count(DISTINCT catena_id) FROM messaging_fleetuser), count(*), count(DISTINCT catena_id),"
            " count(*) FILTER (WHERE text IS NULL OR sender_id IS NULL OR recipient_id IS NULL) FROM messaging_message"
        ).fetchone()
        stale = connection.execute(
            "SELECT count(*) FROM messaging_conversation c WHERE last_at <>"
            " (SELECT max(m.occurred_at) FROM messaging_message m WHERE m.conversation_id = c.id)"
        ).fetchone()
    if found != (users, messages, messages, 0) or stale != (0,):
        raise SystemExit(f"Expected {users} users and {messages} messages, each once; the rows say {found}, {stale}.")


def killed_and_resumed(admin_dsn: str, found: Crowd, users: int, messages: int) -> str:
    """Kills an import in the middle, lets another go on, and checks the rows. Returns what that one printed."""
    with installation(admin_dsn, "killed", found) as (dsn, settings):
        child = begin(settings)
        with psycopg.connect(dsn, autocommit=True) as connection:
            wait_for(lambda: newest(connection) >= messages / 2 or child.poll() is not None, PATIENCE)
        was_at_it = child.poll() is None
        child.kill()
        child.communicate()
        if not was_at_it:
            raise SystemExit("The import ended before it could be killed.")
        printed = read(dsn, settings, found, messages).printed
        check(dsn, users, messages)
    return printed


def bare(admin_dsn: str, found: Crowd) -> float:
    """Records a second of the least that any import does: fetch a page, insert its items in one statement."""
    with new_database(admin_dsn, f"bench_fetch_{os.getpid()}") as dsn, psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE bare (id uuid PRIMARY KEY, text text, raw jsonb NOT NULL)")
        connection.commit()
        token = _token(found)
        line = http.client.HTTPConnection(urlsplit(found.names["api"]).netloc, timeout=60)
        start = time.monotonic()
        count = 0
        for path in ("/v2/telematics/users", "/v2/telematics/messages"):
            for items in _pages(line, path, token, found):
                rows = [(item["id"], item.get("message_text"), json.dumps(item)) for item in items]
                with connection.transaction(), connection.cursor() as cursor:
                    cursor.executemany("INSERT INTO bare VALUES (%s, %s, %s)", rows)
                count += len(rows)
        return count / (time.monotonic() - start)


def _token(found: Crowd) -> str:
    address = urlsplit(found.names["token"])
    line = http.client.HTTPConnection(address.netloc, timeout=60)
    form = {"grant_type": "client_credentials", "client_id": found.names["id"], "client_secret": found.names["secret"]}
    body = urlencode({**form, "scope": "organization"})
    line.request("POST", address.path, body, {"Content-Type": "application/x-www-form-urlencoded"})
    return str(json.loads(line.getresponse().read())["access_token"])


def _pages(line: http.client.HTTPConnection, path: str, token: str, found: Crowd) -> Iterator[list[dict[str, Any]]]:
    """Every page of a listing; messages day by day, as a simulator looks at all of a window for each of its pages."""
    windows: list[dict[str, str]] = [{}]
    if path.endswith("messages"):
        end = time.time()
        edges = [_moment(end - 86400 * days) for days in range(45, -1, -1)]
        windows = [{"from_datetime": a, "to_datetime": b} for a, b in pairwise(edges)]
    for window in windows:
        cursor: str | None = ""
        while cursor is not None:
            query = {**window, "size": str(PAGE), **({"cursor": cursor} if cursor else {})}
            line.request("GET", f"{path}?{urlencode(query)}", headers={"Authorization": f"Bearer {token}"})
            page = json.loads(line.getresponse().read())
            yield page["items"]
            cursor = page["next_page"]


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def report(admin_dsn: str, is_quick: bool) -> list[dict[str, Any]]:
    """Runs the scenario and prints its table; the figures for the file."""
    users, messages = (500, 20_000) if is_quick else (2_000, 100_000)
    with crowd(users, messages) as found:
        floors = [bare(admin_dsn, found)]
        with installation(admin_dsn, "import", found) as (dsn, settings):
            first = read(dsn, settings, found, messages)
            check(dsn, users, messages)
            second = read(dsn, settings, found, messages)
            check(dsn, users, messages)
        floors.append(bare(admin_dsn, found))
        resumed = killed_and_resumed(admin_dsn, found, users, messages)
    rate, floor, growth = (users + messages) / first.seconds, sum(floors) / 2, first.end / first.quarter
    says_nothing = "Nothing was new or different." in second.printed
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")
    print(f"import: one `manage.py sync`, {users:,} users and {messages:,} messages, {PAGE} a page")
    print(f"{'records a second, end to end':<36}{rate:>8.0f}{_verdict(rate >= GOAL_PER_SECOND)}")
    print(f"{'bare fetch + INSERT loop':<36}{floor:>8.0f}   ({floors[0]:.0f} before, {floors[1]:.0f} after)")
    print(f"{'ratio':<36}{rate / floor:>8.2f}")
    print(f"{'CPU of the import, cores':<36}{first.cpu / first.seconds:>8.2f}")
    print(f"{'CPU of the simulator, cores':<36}{first.simulator_cpu / first.seconds:>8.2f}")
    print(f"{'CPU of the database, cores':<36}{first.database_cpu / first.seconds:>8.2f}")
    spent = first.cpu + first.simulator_cpu + first.database_cpu
    print(f"{'records a CPU second of all three':<36}{(users + messages) / spent:>8.0f}")
    print(f"{'peak MiB of the import':<36}{first.peak:>8.0f}{_verdict(first.peak <= GOAL_MIB)}")
    print(f"{'MiB at the end / at a quarter':<36}{growth:>8.2f}{_verdict(growth <= GOAL_GROWTH)}")
    print(f"{'seconds of a second sync':<36}{second.seconds:>8.1f}   changed nothing{_verdict(says_nothing)}")
    print(f"{'killed half-way, read again':<36}{_read_again(resumed):>8,}   nothing lost, nothing twice  met")
    return [
        {"name": "import, records a second", "value": rate, "bare": floor, "cpu": first.cpu,
         "simulator_cpu": first.simulator_cpu, "goal": 1.0, "ratio": GOAL_PER_SECOND / rate},
        {"name": "import, peak MiB", "value": first.peak, "goal": 1.0, "ratio": first.peak / GOAL_MIB},
        {"name": "import, growth of memory", "value": growth, "goal": 1.0, "ratio": growth / GOAL_GROWTH},
        {"name": "import, second sync changes nothing", "value": second.seconds, "goal": 1.0,
         "ratio": 1.0 if says_nothing else 9.0},
    ]  # fmt: skip


def _read_again(printed: str) -> int:
    """Messages that the resumed import found to be here already."""
    found = re.search(r"^messages +[\d,]+ +[\d,]+ +[\d,]+ +([\d,]+)", printed, re.MULTILINE)
    return int(found[1].replace(",", "")) if found else -1


def _verdict(is_met: bool) -> str:
    return "  met" if is_met else "  MISSED"
