"""One real web process on its own database, and a client that counts what its requests cost in CPU."""

import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg

from tests.benchmarks import corpus

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 60
# As every signed-in browser has: without it each page would make a new secret, and none but the benchmark's would.
CSRF = "benchmarksbenchmarksbenchmarks42"
WEBHOOK_SECRET = "benchmark-" * 4


@dataclass(frozen=True, slots=True)
class Request:
    """One scenario: what is asked, and what must hold of the answer before it may be timed."""

    path: str
    status: int = 200
    htmx: bool = False
    contains: str = ""
    signed_in: bool = True
    form: str = ""  # a POST when there is one
    leads_to: str = ""


@dataclass
class Server:
    """A Granian worker with one process for one database of `messages` rows. Use as a context manager.

    One thread serves what is asked in turn; requests that come together want the product's number.
    """

    admin_dsn: str
    messages: int
    threads: int = 1
    fill: Callable[[str, int], dict[str, Any]] = corpus.build
    facts: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.name = f"bench_{self.messages}_{os.getpid()}"
        with psycopg.connect(self.admin_dsn, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{self.name}"')  # type: ignore[arg-type]
        self.dsn = self.admin_dsn.replace("/postgres?", f"/{self.name}?")
        self.environment = {
            **os.environ, "DATABASE_URL": self.dsn, "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings",
            "SECRET_KEY": "benchmark-" * 6, "DEBUG": "false", "LOG_LEVEL": "WARNING", "PYTHONPATH": str(ROOT),
            "CATENA_WEBHOOK_SECRET": WEBHOOK_SECRET,
        }  # fmt: skip
        self._manage("migrate", "--verbosity", "0")
        self.facts = self.fill(self.dsn, self.messages)
        self.session = self._manage("shell", "--verbosity", "0", "-c", SIGN_IN).strip().splitlines()[-1]
        self._start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        with psycopg.connect(self.admin_dsn, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')  # type: ignore[arg-type]

    def _manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            env=self.environment, capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"manage.py {arguments[0]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(self.port),
                "--workers", "1", "--blocking-threads", str(self.threads), "--no-access-log", "--log-level", "warning",
                "dashboard.wsgi:application",
            ],
            env=self.environment, cwd=ROOT,
        )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError):
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                self.ask(Request("/healthz"))
                return
            time.sleep(0.1)
        raise SystemExit("The benchmark's web process did not start.")

    def ask(self, request: Request) -> str:
        """Sends one request and checks its answer: a fast wrong answer fails the run."""
        headers = {"Host": f"127.0.0.1:{self.port}"}
        if request.signed_in:
            headers["Cookie"] = f"csrf={CSRF}; session={self.session}"
        if request.htmx:
            headers["HX-Request"] = "true"
        if request.form:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "X-CSRFToken": CSRF}
        self.connection.request("POST" if request.form else "GET", request.path, request.form or None, headers)
        answer = self.connection.getresponse()
        body = answer.read().decode()
        is_elsewhere = request.leads_to not in answer.getheader("Location", "")
        if answer.status != request.status or request.contains not in body or is_elsewhere:
            raise SystemExit(f"{request.path} answered {answer.status}, expected {request.status}: {body[:400]}")
        return body

    def cpu_seconds(self) -> float:
        """Time on a core of all worker processes so far, in nanosecond steps where the system tells them."""
        total = 0.0
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess, OSError):
                total += seconds_on_core(child)
        return total

    def cost(self, request: Request, times: int) -> tuple[float, float]:
        """(CPU ms, median wall ms) of one request, over `times` of them."""
        walls = []
        before = self.cpu_seconds()
        for _ in range(times):
            start = time.perf_counter()
            self.ask(request)
            walls.append(time.perf_counter() - start)
        return (self.cpu_seconds() - before) * 1000 / times, sorted(walls)[times // 2] * 1000

    def execute(self, sql: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(sql)  # type: ignore[arg-type]


def seconds_on_core(process: psutil.Process) -> float:
    threads = list(Path(f"/proc/{process.pid}/task").glob("*/schedstat"))
    if threads:
        return sum(int(path.read_text().split()[0]) for path in threads) / 1e9
    times = process.cpu_times()
    return float(times.user + times.system)


SIGN_IN = """
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from messaging.models import User
user = User.objects.get(username="bench")
session = import_module(settings.SESSION_ENGINE).SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.save()
print(session.session_key)
"""


def poll_of(page: str) -> str:
    """What a page's poller asks: its address as it stands on the page, and what it takes along from the list."""
    found = re.search(r'hx-get="(/_f/live/[^"]+)"', page)
    if found is None:
        raise SystemExit("The page carries no poller.")
    state = re.search(r'id="list-state"(.+?)</div>', page)
    along = re.findall(r'name="(\w+)" value="(\w*)"', state[1]) if state else []
    return "&".join([unescape(found[1]), *(f"{name}={value}" for name, value in along)])
