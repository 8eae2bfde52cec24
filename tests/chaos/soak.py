"""Trouble on the way to Catena and at its gates: a fault proxy, a token outage, a 429 storm, listings that lag (plan, T4).

Phases of one run, one after the other, on one installation whose workers stay alive; messages are composed by the engine.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from tests.chaos import evidence, verdict
from tests.chaos.composing import Written
from tests.chaos.installation import Installation, Tempo, Worker, wait_until
from tests.chaos.proxy import KINDS, Proxy
from tests.chaos.rest import is_at_rest

# 15 minutes of listings that lag are 15 seconds here, as every other long wait is a sixtieth of itself.
FACTOR = 60.0
LAG = 15 * 60 / FACTOR
STORM_SECONDS, ASKED_SECONDS = 6.0, 4
OUTAGE_SECONDS = 5.0
# A POST that was on its way when the first 429 came is no disobedience.
IN_FLIGHT = 0.5
PROMPT_SECONDS = 60.0
WORKERS = 3
UNSETTLED = "SELECT count(*) FROM messaging_message WHERE state IN ('queued', 'claimed', 'posting')"
BOUND_LATE = """
SELECT count(*) FROM messaging_sendattempt WHERE outcome IN ('ambiguous', 'lost') AND operation_id IS NULL
"""


class Soak:
    def __init__(self, installation: Installation, proxy: Proxy, seed: int) -> None:
        from tests.chaos.rows import fill

        self.installation, self.proxy, self.seed = installation, proxy, seed
        self.rng = random.Random(seed)
        self.cast = fill(conversations=40, connections=4)
        self.written: list[Written] = []
        self.turns: Counter[int] = Counter()
        self.findings: list[str] = []
        self.figures: dict[str, Any] = {}
        self.workers: list[Worker] = [installation.worker() for _ in range(WORKERS)]

    @property
    def url(self) -> str:
        return self.installation.server.url_of("chaos")

    def compose(self, count: int, seconds: float = 0.0) -> list[str]:
        """So many messages to random drivers, spread over the time; their texts."""
        from django.utils import timezone

        from messaging import models, outbox

        author = models.User.objects.get(username=self.cast.authors[0])
        texts = []
        for _ in range(count):
            place = self.rng.choice(self.cast.places)
            self.turns[place.conversation] += 1
            turn = self.turns[place.conversation]
            one = Written(f"{place.conversation}:{turn}:{len(self.written)}", place, turn, uuid4())
            talk = models.Conversation.objects.get(pk=place.conversation)
            made = outbox.compose(author, talk, one.text, "medium", None, one.token, timezone.now())
            one.uuid = str(made.uuid)
            self.written.append(one)
            texts.append(one.text)
            time.sleep(seconds / count)
        return texts

    def drain(self, seconds: float, what: str) -> None:
        """Waits until nothing is left to be sent."""
        self._await(lambda: evidence.one_value(self.url, UNSETTLED) == 0, seconds, what)

    def _await(self, question: Callable[[], bool], seconds: float, what: str) -> None:
        try:
            wait_until(question, seconds, what, every=0.2)
        except RuntimeError as error:
            self.findings.append(str(error))

    def network(self) -> None:
        """Every kind of spoilt connection, a third of them all; then each kind has been met."""
        self.proxy.trouble.share = 0.35
        self.compose(150, seconds=10.0)
        self.drain(60.0, "the queue drains through a bad network")
        self.proxy.trouble.share = 0.0
        met = {kind for kind in KINDS if self.proxy.counts[kind]}
        if met != set(KINDS):
            self.findings.append(f"the proxy never tried {sorted(set(KINDS) - met)}")
        self.figures["connections"] = dict(self.proxy.counts)

    def storm(self) -> None:
        """Catena answers everything with 429 for a while: one wait for all workers, never cut short."""
        began = len(self.installation.catena.entries())
        self.installation.catena.rule(limited=True, retry_after=ASKED_SECONDS)
        self.compose(60, seconds=STORM_SECONDS)
        self.installation.catena.rule(limited=False)
        refused = [one for one in self.installation.catena.entries()[began:] if one["fault"] == "limited"]
        self.figures["storm_posts"] = len(refused)
        if not refused:
            self.findings.append("no POST met the storm")
        self._check_waits([one["at"] for one in refused])
        self.drain(60.0, "the queue drains after the storm")

    def _check_waits(self, moments: list[float]) -> None:
        """Between the first refusal and the end of the wait that it asked for, nothing is POSTed by anybody."""
        until = 0.0
        began = -1e9
        for moment in moments:
            if began + IN_FLIGHT < moment < until:
                self.findings.append(
                    f"a POST came {until - moment:.1f} s before the end, during the wait Catena asked for"
                )
            if moment >= until:
                began, until = moment, moment + ASKED_SECONDS - IN_FLIGHT

    def outage(self) -> None:
        """No token is to be had: nothing is sent, nothing is lost, and all of it goes out afterwards."""
        for worker in self.workers:
            worker.send(9)  # type: ignore[arg-type]
        self.installation.catena.rule(token_down=True)
        self.workers = [self.installation.worker() for _ in range(WORKERS)]
        texts = self.compose(40, seconds=OUTAGE_SECONDS)
        early = [one for one in self.installation.catena.entries() if one["text"] in set(texts)]
        if early:
            self.findings.append(f"{len(early)} POSTs without a token")
        self.installation.catena.rule(token_down=False)
        self.drain(60.0, "the queue drains once there are tokens")

    def prompt(self) -> None:
        """The product's own schedule of looks, unhastened: an accepted POST without an answer is bound within a minute."""
        self._restart(1.0)
        self.installation.catena.rule(
            fault_share=1.0, faults={"reset_after": 1.0, "truncated": 1.0, "error_after": 1.0}
        )
        began = time.monotonic()
        self.compose(40)
        self.drain(30.0, "all have been posted")
        self.installation.catena.rule(fault_share=0.0)
        self._await(self._is_all_bound, PROMPT_SECONDS, "every accepted POST is bound to its operation")
        lost, found = verdict.recovered(evidence.collect(self.installation, [], []))
        self.figures["prompt"] = f"{found} of {lost}"
        self.figures["prompt_binding_seconds"] = round(time.monotonic() - began, 1)
        self._restart(FACTOR)

    def _is_all_bound(self) -> bool:
        """Of the POSTs that Catena has accepted and whose answer was lost."""
        case = evidence.collect(self.installation, [], [])
        lost, found = verdict.recovered(case)
        return 0 < lost == found

    def lag(self) -> None:
        """Operations appear in listings up to fifteen minutes late (a sixtieth of that): later than absence is proven."""
        faults = {"reset_after": 1.0, "reset_before": 0.3}
        self.installation.catena.rule(fault_share=0.5, faults=faults, late_list_share=1.0, late_list_delay=LAG)
        self.compose(80, seconds=8.0)
        self.installation.catena.rule(fault_share=0.0, late_list_share=0.0)
        self.figures["list_lag_seconds"] = f"up to {LAG:g} (15 minutes by the factor {FACTOR:g})"

    def _restart(self, factor: float) -> None:
        for worker in self.workers:
            worker.send(15)  # type: ignore[arg-type]
        for worker in self.workers:
            worker.wait(30)
        self.workers = [self.installation.worker(factor=factor) for _ in range(WORKERS)]

    def settle(self) -> float:
        """The last messages, which show listings to be fresh; then a minute for everything to come to rest."""
        from tests.chaos.person import People

        people = People(self.cast.deciders, self.seed)
        people.start()
        began = time.monotonic()
        places, self.cast = self.cast, type(self.cast)(self.cast.authors, [], self.cast.closing, [])
        for _ in range(3):
            self.compose(len(places.closing) * 2, seconds=LAG / 3)
        self._come_to_rest()
        self._await(self._is_all_bound, 60.0, "every accepted POST is bound once listings have caught up")
        people.close()
        # Their last decision may have sent something again after all was at rest.
        self._await(self._is_at_rest, 60.0, "rest after the last decision")
        self.findings += people.errors
        self.figures["decisions"] = dict(people.counts)
        return time.monotonic() - began

    def _come_to_rest(self) -> None:
        """Ordinary traffic goes on meanwhile: without a newer message no listing is known to be fresh."""
        for _ in range(3):
            with suppress(RuntimeError):
                wait_until(self._is_at_rest, 20.0, "rest", every=0.2)
                return
            self.compose(len(self.cast.places), seconds=1.0)
        self._await(self._is_at_rest, 20.0, "rest")

    def _is_at_rest(self) -> bool:
        return is_at_rest(self.url, self.seed)


# The unhastened one first: what it plans must not outlast it.
PHASES = ("prompt", "network", "storm", "outage", "lag")


def run(seed: int, phases: list[str] | None = None) -> dict[str, Any]:
    began = time.monotonic()
    with Installation(seed, Tempo(factor=FACTOR)) as installation:
        proxy = Proxy(installation.catena.port, seed)
        installation.api = proxy.url
        installation.open_rows()
        soak = Soak(installation, proxy, seed)
        for phase in phases or PHASES:
            started = time.monotonic()
            getattr(soak, phase)()
            soak.figures[f"{phase}_seconds"] = round(time.monotonic() - started, 1)
        soak.figures["settle_seconds"] = round(soak.settle(), 1)
        case = evidence.collect(installation, soak.written, soak.findings)
        breaches = [*verdict.judge(case), *evidence.verified(installation)]
        lost, found = verdict.recovered(case)
        proxy.close()
    return {
        **soak.figures, "sends": len(soak.written), "states": dict(Counter(row.state for row in case.sent)),
        "ambiguous_but_accepted": lost, "found_again": found, "seconds": round(time.monotonic() - began, 1),
        "breaches": [str(breach) for breach in breaches],
    }  # fmt: skip
