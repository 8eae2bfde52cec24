"""Ends a process that was frozen with a POST in hand, before it could send late (reliability plan 2.7).

Catena cannot check a fencing token, so the fence is ours: a kernel timer that fires while the process sleeps and whose
signal keeps its deadly default, so that not one more instruction of ours runs after a pause that was too long.
"""

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# A timer that was computed from a clock reading older than this is computed again.
STALE = 0.05


class Watchdog:
    """One kernel timer for the earliest deadline of all threads. Does nothing until `enable`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deadlines: dict[int, float] = {}
        self._numbers = itertools.count()
        self._seconds: float | None = None

    def enable(self, seconds: float) -> None:
        """From now on a POST that is in hand for longer ends this process with SIGALRM. Call it on the main thread."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        self._seconds = seconds

    def disable(self) -> None:
        self._seconds = None
        signal.setitimer(signal.ITIMER_REAL, 0)

    def arm(self) -> int | None:
        """Starts a deadline, before intent is committed; answers its number for `disarm`."""
        if self._seconds is None:
            return None
        with self._lock:
            number = next(self._numbers)
            self._deadlines[number] = time.monotonic() + self._seconds
            # All deadlines are equally long, so a running timer already fires for an earlier one.
            if len(self._deadlines) == 1:
                self._set()
        return number

    def disarm(self, number: int | None) -> None:
        if number is None:
            return
        with self._lock:
            was_first = next(iter(self._deadlines)) == number
            del self._deadlines[number]
            if was_first:
                self._set()

    @contextmanager
    def on_guard(self) -> Iterator[None]:
        number = self.arm()
        try:
            yield
        finally:
            self.disarm(number)

    def _set(self) -> None:
        """Sets the timer for the earliest deadline. The old one runs until it is replaced, so there is no gap."""
        while True:
            now = time.monotonic()
            earliest = next(iter(self._deadlines.values()), None)
            if earliest is None:
                signal.setitimer(signal.ITIMER_REAL, 0)
                return
            if earliest <= now:
                os.kill(os.getpid(), signal.SIGALRM)
            signal.setitimer(signal.ITIMER_REAL, max(earliest - now, 0.001))
            # Frozen between reading the clock and setting the timer: the timer would be late by the length of the pause.
            if time.monotonic() - now < STALE:
                return


watchdog = Watchdog()
