"""The kill harness: the whole product under load, while its processes and its database die at random (plan, T1 and T1c)."""

import itertools
import random
import time
from collections import Counter
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.chaos import evidence, verdict
from tests.chaos.composing import Written
from tests.chaos.installation import Installation, Tempo, wait_until
from tests.chaos.mayhem import Dose, Mayhem
from tests.chaos.rest import is_at_rest

CALM_SECONDS = 60.0
# How long a run that calms down may be without a new message.
CLOSING_BEAT = 20.0
GATES_CLOSED = "SELECT count(*) FROM messaging_auditentry WHERE action = 'gate_closed'"
# How fast acts follow each other, and how fast people write at most: what two processors carry.
ACTS_A_SECOND, WRITES_A_SECOND = 2.5, 25.0
# With more on their way the machine is behind, and people write no more until it has caught up.
MOST_OPEN = 120


@dataclass(frozen=True)
class Options:
    sends: int = 2000
    kills: int = 200
    pauses: int = 20
    stops: int = 3
    faults: float = 0.2
    seed: int = 1
    workers: int = 4
    webs: int = 2
    connections: int = 10
    writers: int = 8
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return max((self.kills + self.pauses) / ACTS_A_SECOND, self.sends / WRITES_A_SECOND)

    @property
    def conversations(self) -> int:
        return max(20, self.sends // 10)


def run(options: Options) -> dict[str, Any]:
    """One run from an empty installation to the verdict; the figures, with `breaches`."""
    began = time.monotonic()
    with Installation(options.seed, Tempo(), options.settings) as installation:
        installation.open_rows()
        return _Run(options, installation).figures(began)


class _Run:
    def __init__(self, options: Options, installation: Installation) -> None:
        from tests.chaos.rows import fill

        self.options, self.installation = options, installation
        self.rng = random.Random(options.seed)
        self.cast = fill(options.conversations, options.connections)
        self.closers: list[Written] = []
        self.workers = [installation.worker() for _ in range(options.workers)]
        self.webs = [installation.web() for _ in range(options.webs)]
        for web in self.webs:
            web.await_ready()

    def figures(self, began: float) -> dict[str, Any]:
        storm = time.monotonic()
        self._storm()
        calm = time.monotonic()
        calm_seconds = self._calm()
        judged = time.monotonic()
        self._await_last_decision()
        case = evidence.collect(self.installation, self.writers.written + self.closers, self._errors())
        breaches = [*verdict.judge(case), *evidence.verified(self.installation)]
        ambiguous, found = verdict.recovered(case)
        return {
            **self._doses(),
            "states": dict(sorted(Counter(row.state for row in case.sent).items())),
            "posts": sum(not entry["is_late"] for entry in case.journal), "operations": len(case.texts),
            "faults": dict(sorted(Counter(entry["fault"] or "none" for entry in case.journal).items())),
            "decisions": dict(self.people.counts), "gates_closed": evidence.one_value(self._url, GATES_CLOSED),
            "ambiguous_but_accepted": ambiguous, "found_again": found, "bound_within_60_s": self.watch.share_within(60),
            "slowest_binding_seconds": self.watch.slowest, "bound_later": self.watch.later_than(60),
            "storm_seconds": round(calm - storm, 1), "calm_seconds": round(calm_seconds, 1),
            "verdict_seconds": round(time.monotonic() - judged, 1), "seconds": round(time.monotonic() - began, 1),
            "time_factor": self.installation.tempo.factor,
            "breaches": [str(breach) for breach in breaches],
        }  # fmt: skip

    def _doses(self) -> dict[str, Any]:
        return {
            "sends": sum(one.uuid is not None for one in self.writers.written),
            "tries_to_compose": sum(one.tries for one in self.writers.written), **self.mayhem.done,
        }  # fmt: skip

    def _storm(self) -> None:
        from tests.chaos.composing import Plan, Writers
        from tests.chaos.person import People
        from tests.chaos.watch import Watch

        options = self.options
        self.people = People(self.cast.deciders, options.seed)
        self.watch = Watch(self.installation.server.url_of("chaos"))
        ports = [web.port for web in self.webs]
        plan = Plan(options.sends, options.seconds, lambda: self.watch.open > MOST_OPEN)
        self.writers = Writers(ports, self.cast.authors, self.cast.places, plan, options.seed, options.writers)
        dose = Dose(options.kills, options.pauses, options.stops)
        self.mayhem = Mayhem(self.installation, self.workers, self.webs, dose, lambda: self.writers.progress, self.rng)
        self.installation.catena.rule(fault_share=options.faults, late_list_share=0.05, late_list_delay=4.0)
        self.writers.start()
        self.people.start()
        self.watch.start()
        self.mayhem.start()
        self.writers.join()
        self.mayhem.close()

    def _calm(self) -> float:
        """No more harm; how long it took until nothing moved any more, at most a minute."""
        self.installation.catena.rule(fault_share=0.0, late_list_share=0.0)
        began = time.monotonic()
        with suppress(RuntimeError):  # the verdict says what still moves
            self._come_to_rest(began)
            wait_until(self._is_all_found, CALM_SECONDS - (time.monotonic() - began), "all found", every=1.0)
        self.watch.close()
        return time.monotonic() - began

    def _come_to_rest(self, began: float) -> None:
        """Ordinary traffic goes on, one message on each connection at a time to a driver of its own: without a newer one no
        listing is known to be fresh. Raises RuntimeError when something still moves after a minute.
        """
        from tests.chaos.closing import compose_closers

        for turn in itertools.count(1):
            ports = [web.port for web in self.webs]
            self.closers += compose_closers(self.cast, self.writers, ports, turn)
            left = CALM_SECONDS - (time.monotonic() - began)
            with suppress(RuntimeError) if left > CLOSING_BEAT else nullcontext():
                wait_until(self._is_at_rest, min(left, CLOSING_BEAT), "rest")
                return

    def _await_last_decision(self) -> None:
        """What a person decided after all was at rest may be on its way again; it has as long as a POST takes."""
        self.people.close()
        with suppress(RuntimeError):  # the verdict says what still moves
            wait_until(self._is_at_rest, CLOSING_BEAT, "rest after the last decision")

    def _is_at_rest(self) -> bool:
        return is_at_rest(self._url, self.options.seed)

    @property
    def _url(self) -> str:
        return self.installation.server.url_of("chaos")

    def _is_all_found(self) -> bool:
        ambiguous, found = verdict.recovered(evidence.collect(self.installation, [], []))
        return ambiguous == found

    def _errors(self) -> list[str]:
        return [*self.writers.errors, *self.mayhem.errors, *self.people.errors]
