"""One budget of requests to Catena that all worker processes share, in shares: sends, reconciliation, sweeps.

The class of a call decides its share. A send always spends from `Share.SENDS`; a read spends from the share that surrounds
it, and from `Share.SWEEPS` when none does:

    with budget.share(Share.RECONCILE):
        for operation in client.list_operations(...):   # listings are lazy: read them inside
            ...

`share` is a context variable, so it holds for this thread only, and inner ones win. Without a limit
(`CATENA_REQUESTS_PER_MINUTE` 0) nothing here costs a query. Only requests to the API count, not those for access tokens.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from django.conf import settings
from django.db import connection

# How long a token may be held before it is spent or forgotten.
HOLD_SECONDS = 1.0
# What may be spent at once, as a part of a minute's worth.
BURST = 0.1
# A batch is at most this much of a share's time, and so many tokens.
BATCH_SECONDS, LARGEST_BATCH = 0.1, 50
# Between two looks at an empty bucket.
LEAST_WAIT = 0.1
# The row is locked before it is read, and its own time never goes back, so that no token is given out twice.
DRAW_SQL = """
WITH held AS MATERIALIZED (
    SELECT id, tokens, refilled_at, clock_timestamp() AS moment FROM messaging_requestbudget
    WHERE share = %(share)s FOR UPDATE),
filled AS MATERIALIZED (
    SELECT id, greatest(moment, refilled_at) AS moment, least(%(burst)s::float8,
        tokens + greatest(0, extract(epoch FROM moment - refilled_at)::float8) * %(rate)s::float8) AS tokens FROM held),
given AS MATERIALIZED (
    SELECT id, moment, tokens, greatest(0, least(%(wanted)s, floor(tokens)))::int AS granted FROM filled)
UPDATE messaging_requestbudget b SET tokens = g.tokens - g.granted, refilled_at = g.moment
FROM given g WHERE b.id = g.id
RETURNING g.granted, g.tokens
"""
FILL_SQL = """
INSERT INTO messaging_requestbudget (share, tokens, refilled_at) VALUES (%(share)s, %(burst)s, clock_timestamp())
ON CONFLICT (share) DO NOTHING
"""


class Share(StrEnum):
    """The classes of calls."""

    SENDS = "sends"
    RECONCILE = "reconcile"
    SWEEPS = "sweeps"


PERCENT = {Share.SENDS: 50, Share.RECONCILE: 20, Share.SWEEPS: 30}
_current: ContextVar[Share] = ContextVar("share", default=Share.SWEEPS)


@contextmanager
def share(name: Share | str) -> Iterator[None]:
    """What is read inside is spent from this share. Raises `ValueError` for one that does not exist."""
    token = _current.set(Share(name))
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Share:
    return _current.get()


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a share may be spent: tokens a second, and how many at once."""

    rate: float
    burst: float

    @classmethod
    def of(cls, share: Share, per_minute: int) -> "Pace | None":
        """None without a limit. However batches are held, any sixty seconds hold no more than the share's part."""
        if not per_minute:
            return None
        worth = per_minute * PERCENT[share] / 100
        burst = max(1.0, worth * BURST)
        return cls((worth - burst) / (60 + HOLD_SECONDS), burst)

    @property
    def batch(self) -> int:
        return max(1, min(LARGEST_BATCH, int(self.rate * BATCH_SECONDS)))


# What `draw_tokens` is.
type Draw = Callable[[Share, Pace, int], tuple[int, float]]


class Purse:
    """One process's tokens of one share. Thread-safe.

    Takes tokens out of the common bucket in batches that grow while they are used up at once, so that a busy process asks the
    database about ten times a second and an idle one holds back nothing.
    """

    def __init__(self, share: Share, clock: Callable[[], float] = time.monotonic, draw: Draw | None = None) -> None:
        self._share, self._clock, self._draw = share, clock, draw or draw_tokens
        self._lock = threading.Lock()
        self._tokens, self._size = 0, 1
        self._drawn_at = self._dry_until = -HOLD_SECONDS

    def take(self, pace: Pace) -> float | None:
        """One token. None: taken. Else the seconds after which to ask again; nothing was taken."""
        with self._lock:
            now = self._clock()
            if self._tokens and now < self._drawn_at + HOLD_SECONDS:
                self._tokens -= 1
                return None
            if now < self._dry_until:
                return self._dry_until - now
            wanted = self._next_size(now, pace)
            granted, left = self._draw(self._share, pace, wanted)
            if not granted:
                wait = max(LEAST_WAIT, (1 - left) / pace.rate)
                self._tokens, self._dry_until = 0, now + wait
                return wait
            self._tokens, self._size, self._drawn_at = granted - 1, wanted, now
            return None

    def wait(self) -> float:
        """For how many seconds this process knows that there is nothing to take; 0 when it does not know."""
        return max(0.0, self._dry_until - self._clock())

    def _next_size(self, now: float, pace: Pace) -> int:
        if self._tokens:
            return max(1, self._size // 2)
        is_hurried = now < self._drawn_at + HOLD_SECONDS / 2
        return min(2 * self._size if is_hurried else self._size, pace.batch)


def draw_tokens(share: Share, pace: Pace, wanted: int) -> tuple[int, float]:
    """Takes up to so many tokens out of the common bucket: how many it gave, and how many it held before."""
    values = {"share": share.value, "rate": pace.rate, "burst": pace.burst, "wanted": wanted}
    with connection.cursor() as cursor:
        cursor.execute(DRAW_SQL, values)
        row: tuple[int, float] | None = cursor.fetchone()
        if row is None:
            cursor.execute(FILL_SQL, values)
            cursor.execute(DRAW_SQL, values)
            row = cursor.fetchone()
    assert row is not None
    return row


@lru_cache
def purse(share: Share) -> Purse:
    """This process's own; `purse.cache_clear()` starts anew."""
    return Purse(share)


def take(share: Share, patience: float = 0.0) -> float | None:
    """Spends one request. None: it may go. Else nothing was spent, and after so many seconds it may be tried again.

    Waits for its turn, but only when that comes within `patience` seconds.
    """
    pace = Pace.of(share, settings.CATENA_REQUESTS_PER_MINUTE)
    if pace is None:
        return None
    deadline = time.monotonic() + patience
    while True:
        wait = purse(share).take(pace)
        if wait is None or time.monotonic() + wait > deadline:
            return wait
        threading.Event().wait(wait)


def is_spent(share: Share) -> bool:
    """Whether asking now would be in vain, as far as this process knows. No query."""
    return bool(settings.CATENA_REQUESTS_PER_MINUTE) and purse(share).wait() > 0
