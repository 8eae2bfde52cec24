"""An unkind network between Catena and our receiver: each event comes one to five times, late, out of order, until taken."""

import gzip
import heapq
import http.client
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from threading import Condition, Event, Thread
from typing import Any, Self

from messaging.simulator import records
from messaging.simulator.wire import dump
from tests.messaging.hooks import ADDRESS, headers_of

MOST_TIMES = 5
LATEST_SECONDS = 4.0
# Before a courier whose delivery was not taken tries anything again.
PAUSE_SECONDS = 0.3
HANDS = 6


@dataclass(order=True)
class _Letter:
    due: float
    number: int
    event_id: str = field(compare=False)
    body: bytes = field(compare=False)


class Couriers:
    """Carries the events of a simulated world; to be added to its listeners. `lost` is the share that is never carried.

    `acknowledged` holds the ids that were answered 202, `statuses` counts all answers (0: none), `seen` the events by name.
    """

    def __init__(self, port: int, secret: str, rng: Random, lost: float = 0.0) -> None:
        self.acknowledged: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.seen: Counter[str] = Counter()
        self.carried: set[str] = set()
        self._port, self._secret, self._rng, self._lost = port, secret, rng, lost
        self._numbers = itertools.count()
        self._letters: list[_Letter] = []
        self._changed = Condition()
        self._in_hand = 0
        self._closing = Event()
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(HANDS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(10)

    @property
    def are_done(self) -> bool:
        with self._changed:
            return not self._letters and not self._in_hand

    def take(self, event: records.Event) -> None:
        """A listener of the world: plans the deliveries of one event."""
        with self._changed:
            self.seen[event.name] += 1
            if self._rng.random() < self._lost:
                return
            self.carried.add(event.id)
            for attempt in range(1, self._rng.randint(1, MOST_TIMES) + 1):
                delay = self._rng.uniform(0, LATEST_SECONDS) if self._rng.random() < 0.8 else 0.0
                self._put(delay, event.id, _envelope(event, attempt))

    def carry_now(self, event: records.Event) -> int:
        """Delivers one event at once, and once; the status of the answer."""
        return self._carry(http.client.HTTPConnection("127.0.0.1", self._port, timeout=10), _envelope(event, 1))

    def _put(self, delay: float, event_id: str, body: bytes) -> None:
        heapq.heappush(self._letters, _Letter(time.monotonic() + delay, next(self._numbers), event_id, body))
        self._changed.notify()

    def _next(self) -> _Letter | None:
        """Waits for a letter that is due; None at the end."""
        with self._changed:
            while not self._closing.is_set():
                wait = self._letters[0].due - time.monotonic() if self._letters else 1.0
                if wait <= 0:
                    self._in_hand += 1
                    return heapq.heappop(self._letters)
                self._changed.wait(wait)
        return None

    def _work(self) -> None:
        line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        while (letter := self._next()) is not None:
            status = self._carry(line, letter.body)
            if status != 202:
                self._closing.wait(PAUSE_SECONDS)
            with self._changed:
                self.statuses[status] += 1
                self._in_hand -= 1
                if status == 202:
                    self.acknowledged.add(letter.event_id)
                else:
                    self._put(0.0, letter.event_id, letter.body)
        line.close()

    def _carry(self, line: http.client.HTTPConnection, body: bytes) -> int:
        """The status of the answer; 0 when none came."""
        headers = {**headers_of(body, self._secret), "Content-Type": "application/json", "Content-Encoding": "gzip"}
        try:
            line.request("POST", ADDRESS, gzip.compress(body, 1), headers)
            answer = line.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            line.close()
            return 0
        return answer.status


def _envelope(event: records.Event, attempt: int) -> bytes:
    envelope: dict[str, Any] = {
        "version": "1.0", "event_name": event.name, "data": [event.record], "timestamp": None, "id": event.id,
        "webhook_id": "019de3a1-4b7c-7d10-8f52-2a6b9c0d1e31", "delivery_attempt": attempt,
    }  # fmt: skip
    return dump(envelope)
