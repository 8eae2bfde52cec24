"""The whole product as a person meets it: real web and worker processes, a real database, the simulator over HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from messaging.simulator import Pace, SimulatorServer, World
from tests import templates

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
PASSWORD = "north-yard-gate-7"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(question: Any, seconds: float = 30.0, every: float = 0.05) -> Any:
    """The first true answer of `question()`; AssertionError when none comes in time."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        pause.wait(every)
    raise AssertionError(f"nothing within {seconds} s from {question}")


@dataclass
class Stack:
    """A running product. `world` scripts Catena's side; `dsn` reads the rows."""

    dsn: str
    simulator: SimulatorServer
    world: World
    var: Path
    port: int = field(default_factory=free_port)
    settings: dict[str, str] = field(default_factory=dict)
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ, "DATABASE_URL": self.dsn, "SECRET_KEY": "a-key-for-the-tests-" * 3, "DEBUG": "false",
            "PUBLIC_URL": self.url, "VAR_DIR": str(self.var), "CATENA_API_URL": self.simulator.url,
            "CATENA_TOKEN_URL": self.simulator.token_url, "CATENA_CLIENT_ID": self.simulator.client_id,
            "CATENA_CLIENT_SECRET": self.simulator.client_secret, "LOG_LEVEL": "INFO", "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.stack_settings", **self.settings,
        }  # fmt: skip

    def manage(self, *arguments: str) -> str:
        """Runs one command to its end and returns what it printed; a failure shows its output."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"manage.py {arguments} failed:\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Starts a child whose output goes to a file beside the others."""
        with (self.var / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, *command], env=self.environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
            )
        self.children[name] = child
        return child

    def start_web(self) -> None:
        self.start(
            "web", "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", "1", "--blocking-threads", "4", "--no-access-log", "dashboard.wsgi:application",
        )  # fmt: skip
        wait_for(self._answers, START_SECONDS)

    def start_worker(self, name: str = "worker") -> subprocess.Popen[bytes]:
        return self.start(name, str(ROOT / "manage.py"), "worker")

    def _answers(self) -> bool:
        with suppress(OSError):
            return urllib.request.urlopen(f"{self.url}/healthz", timeout=2).status == 200
        return False

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return connection.execute(sql, values).fetchall()

    def tell_driver_to_write(self, driver: str, text: str) -> None:
        """A driver (Catena id) writes on his own, through the simulator's control plane."""
        body = json.dumps({"user_id": driver, "text": text}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.simulator.url}/_sim/driver-message", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status < 300

    def stop(self) -> None:
        for child in self.children.values():
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.children.values():
            with suppress(subprocess.TimeoutExpired):
                child.wait(30)
            child.kill()
            child.wait(5)

    def logs(self) -> str:
        return "\n".join(f"== {path.name}\n{path.read_text()[-4000:]}" for path in sorted(self.var.glob("*.log")))


@contextmanager
def new_database(admin_dsn: str, name: str) -> Iterator[str]:
    """A database with all tables on the server behind `admin_dsn`, dropped at the end. Yields its DSN."""
    template = templates.migrated(admin_dsn)
    with psycopg.connect(admin_dsn, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')  # type: ignore[arg-type]
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')  # type: ignore[arg-type]
    try:
        yield admin_dsn.replace("/postgres?", f"/{name}?")
    finally:
        with psycopg.connect(admin_dsn, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')  # type: ignore[arg-type]


@contextmanager
def running_stack(admin_dsn: str, var: Path, pace: Pace, **settings: str) -> Iterator[Stack]:
    """The seeded product with web and one worker. The people's password is PASSWORD."""
    world = World(pace=pace)
    with (
        new_database(admin_dsn, f"stack_{os.getpid()}_{free_port()}") as dsn,
        SimulatorServer(world) as simulator,
    ):
        stack = Stack(dsn=dsn, simulator=simulator, world=world, var=var, settings=settings)
        try:
            (var / "static").symlink_to(templates.collected())
            stack.manage("seed_demo", "--password", PASSWORD)
            stack.start_web()
            stack.start_worker()
            yield stack
        finally:
            stack.stop()
