"""The product as it is installed, and what surrounds it: database server, Catena, web and worker processes of their own."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests import templates
from tests.chaos.server import Server
from tests.stack import ROOT, free_port

# Static files are collected once for all runs of a checkout.
CACHE = Path(os.environ.get("CHAOS_CACHE", ROOT / "var" / "chaos"))
KEY = "a-key-for-the-chaos-runs-" * 3
TEMPLATE = "installed"


@dataclass(frozen=True)
class Tempo:
    """Times of the product for one run, in seconds; `factor` shortens what the environment cannot set (`hasten.py`)."""

    lease: float = 3.0
    connect: float = 1.0
    read: float = 1.5
    total: float = 2.0
    sweep: int = 3
    factor: float = 60.0

    def environment(self) -> dict[str, str]:
        return {
            "LEASE_SECONDS": str(self.lease), "SEND_CONNECT_SECONDS": str(self.connect),
            "SEND_READ_SECONDS": str(self.read), "SEND_TOTAL_SECONDS": str(self.total),
            "OPERATION_SWEEP_SECONDS": str(self.sweep), "MESSAGE_SWEEP_SECONDS": "86400",
            "DIRECTORY_SWEEP_SECONDS": "86400", "DECISION_DELAY_SECONDS": "1",
            # Off, or a fifth of bad answers would pause everything; the run of the gates switches them on.
            "BREAKER_CONNECTION_UNKNOWNS": "0", "BREAKER_CREDENTIAL_UNKNOWNS": "0",
            "GATE_FIRST_PAUSE_SECONDS": "1", "GATE_LONGEST_PAUSE_SECONDS": "4",
        }  # fmt: skip


def wait_until(question: Any, seconds: float, what: str, every: float = 0.05) -> Any:
    """The first true answer; RuntimeError naming `what` when none comes in time."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        pause.wait(every)
    raise RuntimeError(f"not within {seconds:.0f} s: {what}")


class Zygote:
    """The process that forks workers. Thread-safe."""

    def __init__(self, environment: dict[str, str], log: IO[bytes]) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.zygote"], env=environment, cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process that starts workers has gone; see zygote.log")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return self._read()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass
class Worker:
    """A real worker process, forked by the zygote."""

    zygote: Zygote
    log: Path
    order: dict[str, Any]
    pid: int = 0
    is_paused: bool = False

    def start(self) -> Self:
        self.pid = int(self.zygote.ask(do="start", log=str(self.log), **self.order)["pid"])
        return self

    @property
    def code(self) -> int | None:
        """None while it lives; the signal's number below zero when it was killed."""
        code: int | None = self.zygote.ask(do="ask", pid=self.pid)["code"]
        return code

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = 10.0) -> int:
        # A killed worker's code is -9, one that ended well has 0.
        wait_until(lambda: self.code is not None, seconds, f"the end of worker {self.pid}")
        code = self.code
        assert code is not None
        return code


@dataclass
class Web:
    """A real web process (Granian with its own child), as `manage.py serve` starts it."""

    environment: dict[str, str]
    log: Path
    application: str = "dashboard.wsgi:application"
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> Self:
        from messaging.management.parts import WEB

        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *WEB, "--host", "127.0.0.1", "--port", str(self.port), self.application],
                env=self.environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        return self

    def await_ready(self) -> None:
        wait_until(self._answers, 60, f"an answer of the pages, see {self.log}")

    def _answers(self) -> bool:
        with suppress(OSError):
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=2).status == 200)
        return False

    def kill(self) -> None:
        """Supervisor and child at once, as when a machine goes."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Catena:
    """The upstream process and its journal."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.journal = folder / "journal.jsonl"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.upstream", "--journal", str(self.journal), "--seed", str(seed)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def rule(self, **rules: Any) -> dict[str, Any]:
        """Changes how Catena behaves; answers its counts."""
        request = urllib.request.Request(f"{self.url}/_control", data=json.dumps(rules).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            counts: dict[str, Any] = json.loads(answer.read())["counts"]
        return counts

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.journal.read_text().splitlines()]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Installation:
    """Everything of one run; use as a context manager. `api` lets the workers reach Catena by another address (a proxy)."""

    def __init__(self, seed: int, tempo: Tempo, settings: dict[str, str] | None = None) -> None:
        self.tempo = tempo
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.folder.chmod(0o755)
        self.server = Server(self.folder / "pg")
        self.catena = Catena(self.folder, seed)
        self.settings = settings or {}
        self._workers = 0
        self._webs: list[Web] = []
        self._zygote: Zygote | None = None
        self.api = self.catena.url
        self._install()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for web in self._webs:
            web.kill()
        if self._zygote is not None:
            self._zygote.close()
        self.catena.close()
        self.server.close()
        if error is None and not os.environ.get("CHAOS_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            sys.stderr.write(f"Kept for a look: {self.folder}\n")

    def environment(self, database: str = "chaos") -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CATENA_", "DATABASE_URL"))}
        return {
            **kept, "DATABASE_URL": self.server.url_of(database), "SECRET_KEY": KEY, "DEBUG": "false",
            "VAR_DIR": str(self.folder / "var"), "CATENA_API_URL": self.api, "CATENA_TOKEN_URL": f"{self.api}/token",
            "CATENA_CLIENT_ID": "chaos", "CATENA_CLIENT_SECRET": "chaos", "LOG_LEVEL": "INFO", "WORKER_THREADS": "4",
            "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **self.tempo.environment(), **self.settings,
        }  # fmt: skip

    def open_rows(self, database: str = "chaos") -> None:
        """Makes Django in this process speak to a database of this run; once per process."""
        import django

        os.environ.update(self.environment(database))
        os.environ["DJANGO_SETTINGS_MODULE"] = "dashboard.settings"
        django.setup()
        logging.getLogger().setLevel(logging.CRITICAL)

    def manage(self, *arguments: str, database: str = "chaos") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments], env=self.environment(database), cwd=ROOT,
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    def _install(self) -> None:
        self.server.create(TEMPLATE)
        done = self.manage("migrate", "--verbosity", "0", database=TEMPLATE)
        if done.returncode:
            raise RuntimeError(f"no migration:\n{done.stdout}{done.stderr}")
        self.server.execute(TEMPLATE, json.loads(os.environ.get("CHAOS_DROPS", "[]")))
        (self.folder / "var").mkdir()
        (self.folder / "var" / "static").symlink_to(templates.collected(CACHE))
        self.server.create("chaos", TEMPLATE)

    def worker(self, name: str = "", **order: Any) -> Worker:
        """A new worker process; `order` is the zygote's (database, settings, point)."""
        if self._zygote is None:
            with (self.folder / "zygote.log").open("ab") as log:
                self._zygote = Zygote(self.environment(), log)
        self._workers += 1
        log_file = self.folder / f"worker-{name or self._workers}.log"
        return Worker(self._zygote, log_file, {"factor": self.tempo.factor, **order}).start()

    def web(self, database: str = "chaos", point: str = "") -> Web:
        environment = {**self.environment(database), "CHAOS_POINT": point}
        log = self.folder / f"web-{len(self._webs) + 1}.log"
        made = Web(environment, log, "tests.chaos.web:application" if point else "dashboard.wsgi:application")
        self._webs.append(made.start())
        return made

    def logs(self, pattern: str = "worker-*.log") -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob(pattern)))
