"""Workers that are frozen between intent and first byte, and woken after their lease: how many send late?"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.stack import ROOT, wait_for

LEASE, TOTAL, ALARM = 3.0, 1.0, 2.0
PAUSE = LEASE + 1.0


@dataclass
class Zombies:
    """Real worker processes on one database, each of which freezes at its first POST."""

    environment: dict[str, str]
    folder: Path
    alarm: float = ALARM
    # Without an alarm: whether a POST has come, which is waited for.
    has_sent: Callable[[], bool] = field(default=lambda: False)

    def run(self, count: int, at_once: int = 5) -> int:
        """Freezes `count` workers, wakes each after its lease is over, and waits until all have ended or sent.

        Answers how many of them were ended by their own alarm.
        """
        return sum(self._batch(min(at_once, count - first)) for first in range(0, count, at_once))

    def _batch(self, count: int) -> int:
        children = [self._start(f"zombie-{os.urandom(4).hex()}") for _ in range(count)]
        try:
            frozen = [wait_for(lambda child=child: self._is_frozen(child), 60) for child in children]
            assert all(frozen)
            started = time.monotonic()
            wait_for(lambda: time.monotonic() - started > PAUSE, PAUSE + 5)
            for child in children:
                if child.poll() is None:
                    child.send_signal(signal.SIGCONT)
            if self.alarm:
                return sum(child.wait(20) == -signal.SIGALRM for child in children)
            wait_for(self.has_sent, 20)
            return 0
        finally:
            for child in children:
                child.kill()
                child.wait(10)

    def _start(self, name: str) -> "subprocess.Popen[bytes]":
        environment = {
            **self.environment,
            # Each batch leaves sends in doubt; the pause that this asks for is not what is tested here.
            "BREAKER_CONNECTION_UNKNOWNS": "0", "BREAKER_CREDENTIAL_UNKNOWNS": "0",
            "LEASE_SECONDS": str(LEASE), "SEND_CONNECT_SECONDS": str(TOTAL), "SEND_READ_SECONDS": str(TOTAL),
            "SEND_TOTAL_SECONDS": str(TOTAL), "SEND_ALARM_SECONDS": str(self.alarm), "FROZEN_FILE": str(self.folder / name),
            # Each thread keeps a session, and all workers of a batch share one server with all who use it.
            "FROZEN_THREADS": "2",
        }  # fmt: skip
        with (self.folder / f"{name}.log").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.freezing"], env=environment, cwd=ROOT, stdout=log, stderr=log
            )
        child.frozen_file = self.folder / name  # type: ignore[attr-defined]
        return child

    def _is_frozen(self, child: "subprocess.Popen[bytes]") -> bool:
        """Stopped, or already ended by the alarm that runs while it is."""
        file: Path = child.frozen_file  # type: ignore[attr-defined]
        return file.exists() and (
            child.poll() is not None or psutil.Process(child.pid).status() == psutil.STATUS_STOPPED
        )
