"""`manage.py demo` as a person runs it: one command, a log-in, Ctrl-C, and the same again."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from messaging.processes import is_free
from tests.stack import free_port, wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
FIRST_SECONDS = 120
# Measured at a third of this on an idle machine of two cores; other tests run beside this one.
AGAIN_SECONDS = 40
pytestmark = pytest.mark.processes


@dataclass
class Demo:
    """One run on the folder `var`."""

    var: Path
    port: int
    simulator_port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        return (self.var.parent / "said").read_text()

    def start(self) -> float:
        """Runs the command until it says that it is ready; returns the seconds that took."""
        began = time.monotonic()
        with (self.var.parent / "said").open("w") as said:
            self.process = subprocess.Popen(
                [
                    sys.executable, str(ROOT / "manage.py"), "demo", "--port", str(self.port),
                    "--simulator-port", str(self.simulator_port), "--var", str(self.var),
                ],
                stdout=said, stderr=subprocess.STDOUT, start_new_session=True, cwd=self.var.parent,
                env={**os.environ, "DATABASE_URL": "postgresql://must.not.be.used/real"},
            )  # fmt: skip
        started = self.process
        wait_for(lambda: "Stop: Ctrl-C" in self.said or started.poll() is not None, FIRST_SECONDS)
        assert started.poll() is None, self.said
        return time.monotonic() - began

    def stop(self, number: signal.Signals) -> int:
        assert self.process
        self.process.send_signal(number)
        return self.process.wait(60)

    def processes(self) -> list[psutil.Process]:
        """What runs because of this demo: its descendants, and the database server, which leaves its family."""
        assert self.process
        family = psutil.Process(self.process.pid).children(recursive=True)
        server = psutil.Process(int((self.var / "postgres" / "postmaster.pid").read_text().splitlines()[0]))
        return [*family, server, *server.children(recursive=True)]

    def is_off(self) -> bool:
        return is_free("127.0.0.1", self.port) and is_free("127.0.0.1", self.simulator_port)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Visitor:
    """A browser without JavaScript."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._cookies = CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self._cookies)
        )

    def get(self, path: str) -> str:
        with self._opener.open(self._url + path, timeout=20) as answer:
            assert answer.status == 200
            assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
            return str(answer.read().decode())

    def log_in(self, name: str, password: str) -> str:
        """The page after the log-in."""
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.get("/login/"))
        assert found
        form = {"csrfmiddlewaretoken": found[1], "username": name, "password": password}
        with self._opener.open(f"{self._url}/login/", urllib.parse.urlencode(form).encode(), timeout=20) as answer:
            assert answer.url == f"{self._url}/", "the log-in was refused"
            return str(answer.read().decode())


@pytest.fixture(scope="module")
def shared_var() -> Iterator[Path]:
    """One folder for all starts: only the first has to make the database and read the simulated week.

    Not under pytest's own temporary folder: each run of pytest closes that one to other users, and for root the
    embedded server is another user.
    """
    with TemporaryDirectory(prefix="backhaul-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "var"


@pytest.fixture
def demo(shared_var: Path) -> Iterator[Demo]:
    made = Demo(var=shared_var, port=free_port(), simulator_port=free_port())
    yield made
    if made.process and made.process.poll() is None:
        made.stop(signal.SIGTERM)


def of_the_simulator(demo: Demo, figure: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{demo.simulator_port}/_sim/stats", timeout=10) as answer:
        return int(json.load(answer)[figure])


@pytest.mark.chaos
def test_the_demo_starts_logs_people_in_stops_cleanly_and_starts_again_with_what_it_had(demo: Demo) -> None:
    demo.start()
    passwords = json.loads((demo.var / "demo_passwords.json").read_text())
    for name in ("mara", "sol", "ada"):
        assert re.search(rf"^  {name} +{re.escape(passwords[name])} ", demo.said, re.MULTILINE)
    first = Visitor(demo.url)
    threads = set(re.findall(r"/c/([0-9a-f-]{36})/", first.log_in("mara", passwords["mara"])))
    assert len(threads) > 5
    [hashed] = set(re.findall(r"/static/css/app\.[0-9a-f]{12}\.css", first.get("/")))
    assert "var(--" in first.get(hashed)
    assert (demo.var / "secret_key").stat().st_mode & 0o777 == 0o600
    subscriptions = of_the_simulator(demo, "subscriptions")
    assert subscriptions >= 20
    wait_for(lambda: of_the_simulator(demo, "taken"), seconds=60)  # a driver writes every 20 seconds
    assert of_the_simulator(demo, "taken") == of_the_simulator(demo, "deliveries"), "none was refused"
    running = demo.processes()
    assert len(running) > 8

    assert demo.stop(signal.SIGTERM) == 0
    assert [process for process in running if is_alive(process)] == []
    assert demo.is_off()

    assert demo.start() < AGAIN_SECONDS
    assert json.loads((demo.var / "demo_passwords.json").read_text()) == passwords
    assert of_the_simulator(demo, "subscriptions") == subscriptions
    second = Visitor(demo.url)
    second.log_in("mara", passwords["mara"])
    for thread in sorted(threads)[:3]:
        assert second.get(f"/c/{thread}/")
    assert demo.stop(signal.SIGINT) == 0
    assert demo.is_off()


@pytest.mark.chaos
def test_a_killed_demo_leaves_nothing_behind(demo: Demo) -> None:
    demo.start()
    running = demo.processes()

    assert demo.stop(signal.SIGKILL) == -signal.SIGKILL

    wait_for(lambda: [process for process in running if is_alive(process)] == [], seconds=10)
    assert demo.is_off()


@pytest.mark.chaos
def test_a_dead_child_stops_the_demo_and_is_named(demo: Demo) -> None:
    demo.start()
    assert demo.process
    worker = next(p for p in psutil.Process(demo.process.pid).children() if "worker" in p.cmdline())

    worker.kill()

    assert demo.process.wait(60) == 1
    assert "The worker stopped by itself (SIGKILL)" in demo.said
    assert demo.is_off()


def refused(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "demo", *arguments],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        sentence = refused("--port", str(port), "--var", str(tmp_path / "var"))

    way_out = r"Choose another one: make demo PORT=\d{4,5}"
    assert re.fullmatch(rf"Configuration: Port {port} is in use by another program\. {way_out}\n", sentence), sentence
    assert not (tmp_path / "var").exists()


def test_a_folder_that_cannot_be_written_is_refused_in_one_sentence(tmp_path: Path) -> None:
    var = tmp_path / "var"
    var.write_text("a file where the folder should be")

    sentence = refused("--port", str(free_port()), "--var", str(var))

    assert sentence == (
        f"Configuration: The folder {var} cannot be written (File exists). "
        "Make it writable, or set VAR_DIR to one that is.\n"
    )


def test_a_second_demo_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sentence = refused("--port", str(free_port()), "--var", str(tmp_path))

    assert sentence == (
        f"Configuration: A demo already runs in {tmp_path}. Stop it first, or set VAR_DIR to another folder.\n"
    )
