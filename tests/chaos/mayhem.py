"""Kills, freezes and crashes at random moments, and starts again what ended. All chance comes from the seed."""

import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.installation import Installation, Web, Worker

WEB_SHARE = 0.06
SUPERVISOR_BEAT = 0.03
ACT_BEAT = 0.02
DOWN_SECONDS = 0.6
MOST_EXITS = 300


@dataclass(frozen=True)
class Dose:
    kills: int
    pauses: int
    stops: int


@dataclass
class Mayhem:
    """Spreads its acts over a run, whose `progress` goes from 0 to 1.

    A supervisor keeps as many workers and webs alive as there were at the start.
    """

    installation: Installation
    workers: list[Worker]
    webs: list[Web]
    dose: Dose
    progress: Callable[[], float]
    rng: random.Random
    done: Counter[str] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)
    errors: list[str] = field(default_factory=list)

    def start(self) -> None:
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._guarded, args=(self._supervise,), daemon=True),
            threading.Thread(target=self._guarded, args=(self._act,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _guarded(self, work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except Exception as error:
            self.errors.append(f"the harness itself failed: {type(error).__name__} {error}")

    @property
    def is_done(self) -> bool:
        return not self._threads[1].is_alive()

    def close(self) -> None:
        """Ends the acts, lets what is frozen go on and has everything running again."""
        self._threads[1].join()
        self.stop.set()
        self._threads[0].join()
        self._revive()
        for web in self.webs:
            web.await_ready()

    def _act(self) -> None:
        acts = ["kill"] * self.dose.kills + ["pause"] * self.dose.pauses + ["crash"] * self.dose.stops
        self.rng.shuffle(acts)
        moments = sorted(self.rng.random() for _ in acts)
        for moment, act in zip(moments, acts, strict=True):
            while self.progress() < moment:
                if self.stop.wait(ACT_BEAT):
                    return
            getattr(self, f"_{act}")()

    def _kill(self) -> None:
        if self.rng.random() < WEB_SHARE and self.webs:
            web = self.rng.choice(self.webs)
            with self._lock:
                web.kill()
                web.start()
            self.done["web kills"] += 1
            return
        worker = self._living()
        worker.send(signal.SIGKILL)
        self.done["worker kills"] += 1

    def _pause(self) -> None:
        """Longer than the lease, while everything else goes on."""
        worker = self._living()
        worker.is_paused = True
        worker.send(signal.SIGSTOP)
        self.done["pauses"] += 1
        length = self.installation.tempo.lease * self.rng.uniform(1.3, 2.0)
        threading.Timer(length, self._go_on, (worker,)).start()

    def _go_on(self, worker: Worker) -> None:
        worker.send(signal.SIGCONT)
        worker.is_paused = False

    def _crash(self) -> None:
        self.installation.server.crash()
        self.stop.wait(self.rng.uniform(0.1, DOWN_SECONDS))
        self.installation.server.start()
        self.done["database stops"] += 1

    def _living(self) -> Worker:
        """One that runs; a frozen one is left in peace, so that its pause lasts."""
        with self._lock:
            free = [worker for worker in self.workers if not worker.is_paused]
        return self.rng.choice(free or self.workers)

    def _supervise(self) -> None:
        while not self.stop.wait(SUPERVISOR_BEAT):
            self._revive()

    def _revive(self) -> None:
        with self._lock:
            for place, worker in enumerate(self.workers):
                code = worker.code
                if code is None:
                    continue
                if code != -signal.SIGKILL:
                    self.done[f"ended by itself with {code}"] += 1
                    self._check_exits(code, worker)
                self.workers[place] = self.installation.worker()

    def _check_exits(self, code: int, worker: Worker) -> None:
        """One that starts while the database is down ends at once, and one that thaws too late by its alarm. More is a fault."""
        if code != -signal.SIGALRM and self.done[f"ended by itself with {code}"] > MOST_EXITS:
            raise RuntimeError(f"workers end by themselves, see {worker.log.name}: {worker.log.read_text()[-500:]}")
