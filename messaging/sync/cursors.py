"""How far each sweep has read, what stopped it, and how long Catena asked us to wait. One row of `SyncCursor` each."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import InterfaceError, OperationalError
from django.utils import timezone

from messaging import gates
from messaging.catena import errors
from messaging.models import Connection, SyncCursor
from messaging.states import GateCause

logger = logging.getLogger(__name__)

# So many sources in a row that do not answer are Catena's trouble, not theirs.
PATIENCE = 3


class RoundStopped(Exception):
    """The rest of the round is pointless. `str()` is one sentence for people: what happened and what to do."""


@dataclass
class Progress:
    """What one pass over one source did so far."""

    cursor: SyncCursor
    read: int = 0


def cursor_of(name: str, connection: Connection | None = None) -> SyncCursor:
    row, _ = SyncCursor.objects.get_or_create(name=name, connection=connection)
    return row


def advance(cursor: SyncCursor, position: datetime) -> None:
    """Moves the position forward, never back."""
    if cursor.position is None or cursor.position < position:
        cursor.position = position
        cursor.save(update_fields=["position"])


def check_pause(now: datetime) -> None:
    """Raises `RoundStopped` while Catena wants to be left alone (429): one wait for every sweep of every worker."""
    until = gates.reading_paused_until(now)
    if until is not None:
        raise RoundStopped(f"Catena asked to slow down; reading goes on after {until:%H:%M:%S} UTC")


def _keep_error(cursor: SyncCursor, problem: str) -> None:
    cursor.last_error = problem
    cursor.save(update_fields=["started_at", "last_error"])


def _slow_down(error: errors.CatenaError) -> datetime:
    """A 429 stops sending too; a time that comes with another failure is about reading alone."""
    now = timezone.now()
    if isinstance(error, errors.RateLimited):
        return gates.slow_down(now, error.retry_after)
    until = now + timedelta(seconds=error.retry_after or 0)
    gates.pause_reading(until)
    return until


class Round:
    """One sweep over several sources: a failing source is noted and passed over, a failing Catena ends the sweep."""

    def __init__(self, name: str, now: datetime, patience: int = PATIENCE) -> None:
        """`patience`: so many sources in a row that do not answer end it; 1 where there is but one source."""
        self.name, self._patience = name, patience
        self._began = (now, time.monotonic())
        self.problems: list[str] = []
        self._silent = 0

    @contextmanager
    def source(self, connection: Connection | None = None, name: str = "") -> Iterator[Progress]:
        """Surrounds the reading of one source; its outcome is kept in the source's cursor.

        Catena's failures end here: as a problem of this source, or as `RoundStopped`. So does what nobody foresaw, or one
        odd record would hide every source after it for good. A database that is away passes through.
        """
        # Another worker may have been told to slow down meanwhile.
        check_pause(self._began[0] + timedelta(seconds=time.monotonic() - self._began[1]))
        cursor = cursor_of(name or self.name, connection)
        cursor.started_at = timezone.now()
        progress = Progress(cursor)
        try:
            yield progress
        except errors.CatenaError as error:
            self._failed(cursor, error)
            return
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            logger.exception("Sweep %s of connection %s met something unforeseen", cursor.name, cursor.connection_id)
            self._noted(cursor, f"Unforeseen: {type(error).__name__}")
            return
        self._silent = 0
        cursor.finished_at, cursor.read_count, cursor.last_error = timezone.now(), progress.read, ""
        cursor.save(update_fields=["started_at", "finished_at", "read_count", "last_error"])

    def _failed(self, cursor: SyncCursor, error: errors.CatenaError) -> None:
        stopped = self._stops_all(error)
        if stopped:
            _keep_error(cursor, str(error))
            logger.error("Sweep %s stopped: %s", cursor.name, stopped)
            raise RoundStopped(stopped) from error
        self._noted(cursor, str(error))
        logger.warning("Sweep %s of connection %s failed: %s", cursor.name, cursor.connection_id, error)

    def _noted(self, cursor: SyncCursor, problem: str) -> None:
        _keep_error(cursor, problem)
        self.problems.append(f"{cursor}: {problem}")

    def _stops_all(self, error: errors.CatenaError) -> str:
        """Why the whole round ends here, as a sentence; empty when only this source is concerned."""
        if isinstance(error, errors.OverBudget):
            return f"{error}; reading goes on when there is room again (CATENA_REQUESTS_PER_MINUTE)"
        if isinstance(error, errors.RateLimited) or error.retry_after:
            until = _slow_down(error)
            return f"Catena asked to slow down; reading goes on after {until:%H:%M:%S} UTC"
        if isinstance(error, errors.Unauthorized):
            # The read was repeated with a new token by then, so this is the second refusal: a send would meet the third.
            gates.close_gate(None, GateCause.LOGIN, timezone.now())
            return f"{error}. Check CATENA_CLIENT_ID and CATENA_CLIENT_SECRET"
        if not isinstance(error, errors.Unavailable):
            return ""
        self._silent += 1
        if self._silent < self._patience:
            return ""
        return f"{error}. Check CATENA_API_URL and CATENA_TOKEN_URL, or wait until Catena answers again"


class BadItems:
    """Receives unreadable items of a listing: counted and logged by path, so that one never hides the others."""

    def __init__(self, what: str) -> None:
        self.what, self.count = what, 0

    def __call__(self, problem: errors.BadPayload) -> None:
        self.count += 1
        logger.error("Catena listed a %s that cannot be read: %s", self.what, problem)
