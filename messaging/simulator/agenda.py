"""What is due when. A heap on the world's lock: no thread, no clock of its own."""

import heapq
from collections.abc import Callable
from datetime import datetime
from itertools import count
from threading import Condition, RLock

Action = Callable[[], None]


class Agenda:
    """Every method takes the lock that it was given, which may be held already."""

    def __init__(self, lock: RLock) -> None:
        self._condition = Condition(lock)
        self._order = count()
        self._entries: list[tuple[datetime, int, Action]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def at(self, due: datetime, action: Action) -> None:
        with self._condition:
            heapq.heappush(self._entries, (due, next(self._order), action))
            if self._entries[0][2] is action:
                self._condition.notify_all()

    def clear(self) -> None:
        with self._condition:
            self._entries.clear()

    def take_due(self, now: datetime) -> Action | None:
        with self._condition:
            if self._entries and self._entries[0][0] <= now:
                return heapq.heappop(self._entries)[2]
            return None

    def wait(self, now: datetime, longest: float) -> None:
        """Returns when the next entry is due, when an earlier one came, or after `longest` seconds."""
        with self._condition:
            pause = longest
            if self._entries:
                pause = min(longest, (self._entries[0][0] - now).total_seconds())
            if pause > 0:
                self._condition.wait(pause)

    def wake(self) -> None:
        with self._condition:
            self._condition.notify_all()
