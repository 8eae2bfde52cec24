"""Times how long a POST whose answer was lost stays unknown before its operation is bound to it, and counts what is open."""

import threading
from datetime import UTC, datetime

import psycopg

BEAT = 0.5
BOUND = """
SELECT a.id, a.finished_at FROM messaging_sendattempt a
WHERE a.outcome IN ('ambiguous', 'lost') AND a.operation_id IS NOT NULL
"""
OPEN = "SELECT count(*) FROM messaging_message WHERE state IN ('queued', 'claimed', 'posting', 'unknown')"


class Watch:
    """Looks twice a second on a thread of its own. A late answer of the worker itself is no matter of this.

    `open` is how many messages were on their way at the last look.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._found: dict[int, float] = {}
        self.open = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(BEAT):
            self._look()
        self._look()

    def _look(self) -> None:
        try:
            with psycopg.connect(self._url, connect_timeout=2) as link:
                rows = link.execute(BOUND).fetchall()
                self.open = link.execute(OPEN).fetchone()[0]  # type: ignore[index]
        except psycopg.OperationalError:
            return  # it is being crashed on purpose
        now = datetime.now(UTC)
        for key, finished_at in rows:
            self._found.setdefault(key, (now - finished_at).total_seconds())

    def share_within(self, seconds: float) -> float | None:
        """Of all that were bound; None when there was none."""
        if not self._found:
            return None
        return round(sum(one <= seconds for one in self._found.values()) / len(self._found), 4)

    def later_than(self, seconds: float) -> dict[int, float]:
        """The attempts that took longer, by id, to look them up in a database that is kept."""
        return {key: round(took, 1) for key, took in self._found.items() if took > seconds}

    @property
    def slowest(self) -> float | None:
        return round(max(self._found.values()), 1) if self._found else None
