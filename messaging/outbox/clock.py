"""The database's time, which all workers share: a lease then means the same on every machine."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import connection

Clock = Callable[[], datetime]
RECHECK_SECONDS = 10.0


def database_clock() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        row: tuple[datetime] = cursor.fetchone()
        return row[0]


class DatabaseClock:
    """The same, asked at most every ten seconds; in between this machine's monotonic clock is added, so that a step of
    its wall clock changes nothing.
    """

    def __init__(self) -> None:
        self._asked: tuple[datetime, float] | None = None

    def __call__(self) -> datetime:
        if self._asked is None or time.monotonic() - self._asked[1] > RECHECK_SECONDS:
            self._asked = (database_clock(), time.monotonic())
        moment, read_at = self._asked
        return moment + timedelta(seconds=time.monotonic() - read_at)
