"""Starts child processes, watches them and stops them, so that nothing is left whoever is killed. Standard library only.

Each child leads a process group of its own, away from the terminal's Ctrl-C, and reads a pipe that only the parent holds
open: when the parent is gone, however it died, the pipe ends and the child stops itself.
"""

import http.client
import logging
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
START_SECONDS = 60.0
# Longer than a worker needs at most (30 s), so that it can still record how its last POST ended.
STOP_SECONDS = 35.0
TICK = 0.1
SHOWN_LINES = 15


class StopAsked(Exception):
    """Ctrl-C, SIGTERM or SIGHUP came while children were starting."""


class ChildFailed(Exception):
    """A child ended or did not get ready; the text is for a person and holds the last lines of its log."""


@dataclass
class Child:
    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    command: list[str]
    comes_back: bool = False

    def failure(self, what: str) -> ChildFailed:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN_LINES:]
        tail = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
        return ChildFailed(f"The {self.name} {what}. The end of {self.log}:\n{tail}")


class Family:
    """The children of one command. Use as a context manager: on leaving it all are stopped, the youngest first.

    Takes over the stop signals meanwhile. A second Ctrl-C kills instead of waiting. Children run in the folder `home`
    and write to files in `logs`.
    """

    def __init__(self, home: Path, logs: Path) -> None:
        self._home, self._logs = home, logs
        self._children: list[Child] = []
        self._is_stop_asked = False
        self._interrupts = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        for number in STOP_SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for child in reversed(self._children):
            self._stop(child)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        # Plain values only: a lock taken here could be one that the interrupted code holds.
        self._is_stop_asked = True
        self._interrupts += number == signal.SIGINT

    def start(self, name: str, command: list[str], *, comes_back: bool = False) -> Child:
        """Starts `python <command>` and returns at once. With `comes_back` its own alarm (SIGALRM) is no failure."""
        log = self._logs / f"{name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 (our own modules)
                [sys.executable, "-m", __name__, *command],
                cwd=self._home,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name, process, log, command, comes_back)
        self._children.append(child)
        return child

    def await_ready(self, child: Child, is_ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Returns when the child is ready. Raises ChildFailed or StopAsked when it, or another one, will not be."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise child.failure(f"was not ready after {seconds:g} seconds")
            _pause()
        self.check()

    def check(self) -> None:
        """Raises StopAsked when a signal came, ChildFailed when a child is no longer there."""
        if self._is_stop_asked:
            raise StopAsked
        for child in tuple(self._children):
            code = child.process.poll()
            if code == -signal.SIGALRM and child.comes_back:
                self._revive(child)
            elif code is not None:
                raise child.failure(f"stopped by itself ({_ending(code)})")

    def _revive(self, child: Child) -> None:
        """A worker that was frozen too long has ended itself so as not to send late; another one goes on."""
        logger.warning("The %s was frozen and has ended itself; starting another one", child.name)
        self._children.remove(child)
        self.start(child.name, child.command, comes_back=True)

    def watch(self) -> None:
        """Returns when a stop is asked for; raises ChildFailed when a child ends before that."""
        with suppress(StopAsked):
            while True:
                self.check()
                _pause()

    def _stop(self, child: Child) -> None:
        """Asks, waits, and in the end kills; then kills what is left of its group."""
        deadline = time.monotonic() + STOP_SECONDS
        with suppress(ProcessLookupError):
            child.process.send_signal(signal.SIGTERM)
        while child.process.poll() is None and time.monotonic() < deadline and self._interrupts < 2:
            _pause()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()


def _pause() -> None:
    threading.Event().wait(TICK)


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def is_free(host: str, port: int) -> bool:
    """Whether this process could listen there now. Raises PermissionError for a port that only root may use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except PermissionError:
            raise
        except OSError:
            return False
    return True


def free_port(preferred: int) -> int:
    """`preferred` when it is free on this machine's loopback, else any that is."""
    if is_free("127.0.0.1", preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def status_of(host: str, port: int, path: str) -> int | None:
    """The HTTP status of a GET, None without an answer. Passes by any proxy of the environment."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _follow_the_parent() -> None:
    """Stops this process when its standard input ends, gently at first; whatever it reads from then on is empty."""
    pipe = os.dup(0)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)

    def follow() -> None:
        while os.read(pipe, 64):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(STOP_SECONDS)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=follow, name="follow-the-parent", daemon=True).start()


def main() -> None:
    """Runs `-m module arguments...` or `script arguments...` as Python would, for as long as the parent lives."""
    _follow_the_parent()
    is_module = sys.argv[1] == "-m"
    sys.argv = sys.argv[2 if is_module else 1 :]
    if is_module:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
