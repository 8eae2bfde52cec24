"""Two people who decide what the product cannot find out, each by their own dice, and now and then both at once."""

import random
import threading
from collections import Counter

from django.db import DatabaseError, InterfaceError
from django.db import connection as database
from django.utils import timezone

from messaging import models, reconcile
from messaging.states import DecisionKind
from tests.chaos.rest import is_left

# What is decided, by weight.
VERDICTS = {DecisionKind.SEND_AGAIN: 5, DecisionKind.WAS_SENT: 2, DecisionKind.LEAVE_UNSENT: 3}
SEND_NEXT = 0.02
BEAT = 0.25


def offered(message: models.Message) -> list[DecisionKind]:
    return [option.kind for option in reconcile.options(message, reconcile.evidence(message), timezone.now())]


class People:
    """Threads of this process that call the engine as its pages do."""

    def __init__(self, names: list[str], seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self.stop = threading.Event()
        self._seed = seed
        self._threads = [threading.Thread(target=self._decide_all, args=(name,), daemon=True) for name in names]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()

    def _decide_all(self, name: str) -> None:
        rng = random.Random(f"{self._seed}-{name}")
        while not self.stop.wait(BEAT):
            try:
                user = models.User.objects.get(username=name)
                self._let_past(user, rng)
                for message in models.Message.objects.filter(state="needs_decision").order_by("id")[:50]:
                    if not is_left(message.pk, self._seed):
                        self._decide(message, user, self._verdict(message))
            except (DatabaseError, InterfaceError):
                database.close()  # it is being crashed on purpose
            except Exception as error:
                self.errors.append(f"a person met {type(error).__name__}: {error}")
                break
        database.close()

    def _verdict(self, message: models.Message) -> DecisionKind:
        """The same for both, so that two who decide at once want the same."""
        rng = random.Random(f"{self._seed}-{message.pk}-{message.fence}")
        wanted = rng.choices(list(VERDICTS), list(VERDICTS.values()))[0]
        return wanted if wanted in offered(message) else DecisionKind.LEAVE_UNSENT

    def _let_past(self, user: models.User, rng: random.Random) -> None:
        for message in models.Message.objects.filter(state="unknown", detached=False).order_by("id")[:20]:
            if rng.random() < SEND_NEXT and DecisionKind.SEND_NEXT in offered(message):
                self._decide(message, user, DecisionKind.SEND_NEXT)

    def _decide(self, message: models.Message, user: models.User, kind: DecisionKind) -> None:
        try:
            reconcile.decide(message, user, kind, "a chaos run", seen=reconcile.stamp(message), now=timezone.now())
        except reconcile.AlreadyDecided:
            self.counts["already decided"] += 1
        except reconcile.NotDecidable:
            self.counts["not decidable"] += 1
        else:
            self.counts[kind.value] += 1
