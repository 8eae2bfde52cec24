"""Notices that the database went back in history, before anything is sent on it (reliability plan 2.8).

A restored backup or a promoted standby brings back messages whose POST has happened since. Two witnesses: PostgreSQL's own
identity, and a small file in which this machine notes the newest POST it has begun.
"""

import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS, IntegrityError, connection, transaction
from django.db.backends.signals import connection_created
from django.db.models import Max

from messaging import gates
from messaging.models import AuditEntry, Message, Restore, RestoreCause, SendAttempt, SendEpoch, User
from messaging.outbox.clock import database_clock

logger = logging.getLogger(__name__)

# Operations of before the backup may have been on their way when it was taken.
SURVEY_MARGIN = timedelta(hours=1)
REASON = "the database went back in time, and support must check what was sent since"
# The timeline of the WAL that is being written: the control file may lag behind a promotion.
IDENTITY_SQL = """
SELECT (SELECT system_identifier::text FROM pg_control_system()), current_database(),
    ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint
"""


class Identity(NamedTuple):
    system_identifier: str
    database: str
    timeline: int


class Mark(NamedTuple):
    """How far sending had come: the moment of the last unlock in microseconds, then the id of the newest attempt."""

    era: int
    attempt: int


def identity() -> Identity:
    with connection.cursor() as cursor:
        cursor.execute(IDENTITY_SQL)
        return Identity(*cursor.fetchone())


def database_mark() -> Mark:
    unlocked = Restore.objects.aggregate(at=Max("unlocked_at"))["at"]
    newest = SendAttempt.objects.aggregate(id=Max("id"))["id"]
    return Mark(int(unlocked.timestamp() * 1_000_000) if unlocked else 0, newest or 0)


class HighWater:
    """The newest POST of this machine, in a file of its own for each database. Safe across threads and processes.

    A note reaches the file at once, so that it outlives this process, and the disk within the worker's heartbeat.
    """

    def __init__(self, folder: Path, of: Identity) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = sha256(f"{of.system_identifier} {of.database}".encode()).hexdigest()[:16]
        self._file = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()

    def read(self) -> Mark:
        words = os.pread(self._file, 100, 0).decode("ascii", "replace").split()
        return Mark(*map(int, words)) if len(words) == 2 and all(word.isdecimal() for word in words) else Mark(0, 0)

    def note(self, mark: Mark) -> None:
        """Never goes back."""
        with self._lock, self._alone():
            if self.read() < mark:
                os.pwrite(self._file, f"{mark.era:020d} {mark.attempt:020d}\n".encode(), 0)

    def sync(self) -> None:
        os.fsync(self._file)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


class Epoch:
    """Does nothing until `enable`: only a worker sends, so only a worker can send on the wrong database."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._water: HighWater | None = None
        self._era = 0

    def enable(self, folder: Path) -> None:
        """From now on every new session with the database is checked before its first statement."""
        self._folder = folder
        connection_created.connect(self._on_session, dispatch_uid="messaging.outbox.epoch")

    def disable(self) -> None:
        connection_created.disconnect(dispatch_uid="messaging.outbox.epoch")
        self._folder = self._water = None

    def note(self, attempt_id: int) -> None:
        """A POST of this machine is about to begin."""
        if self._water is not None:
            self._water.note(Mark(self._era, attempt_id))

    def sync(self) -> None:
        if self._water is not None:
            self._water.sync()

    def check(self) -> bool:
        """Whether sending may go on, on this session. Locks it for everybody when history went back."""
        if self._folder is None:
            return True
        found, known = identity(), SendEpoch.objects.first()
        if known is None:
            SendEpoch.objects.bulk_create([_row(found)], ignore_conflicts=True)
        elif (known.system_identifier, known.timeline) != (found.system_identifier, found.timeline):
            return self._refuse(RestoreCause.IDENTITY, f"It was {known}; it is {_row(found)}")
        self._water = self._water or HighWater(self._folder, found)
        noted, stored = self._water.read(), database_mark()
        if noted > stored:
            return self._refuse(RestoreCause.HIGH_WATER, f"Attempt {noted.attempt} was sent; it knows {stored.attempt}")
        self._era = stored.era
        return True

    def _refuse(self, cause: RestoreCause, detail: str) -> bool:
        lock_sending(cause, detail)
        return False

    def _on_session(self, sender: Any, connection: Any, **_: Any) -> None:
        if connection.alias == DEFAULT_DB_ALIAS:
            self.check()


def _row(found: Identity) -> SendEpoch:
    return SendEpoch(system_identifier=found.system_identifier, timeline=found.timeline, noted_at=datetime.now(UTC))


def lock_sending(
    cause: RestoreCause, detail: str = "", *, restored_to: datetime | None = None, user: User | None = None
) -> Restore:
    """Nothing is sent from here on, by any worker, until a person unlocks it. Answers the open restore, new or known.

    `restored_to` is when the backup was taken; without it the newest trace that the database holds.
    """
    known = Restore.objects.filter(unlocked_at=None).first()
    if known is not None:
        return known
    now = database_clock()
    moment = restored_to or _newest_trace() or now
    try:
        with transaction.atomic():
            gates.lock(REASON, now)
            made = Restore.objects.create(
                cause=cause, detail=detail[:300], detected_at=now, restored_to=moment, since=moment - SURVEY_MARGIN,
                locked_by=user,
            )  # fmt: skip
            AuditEntry.objects.create(user=user, action="sending_locked", detail={"restore": made.pk, "cause": cause})
    except IntegrityError:
        return Restore.objects.get(unlocked_at=None)  # another worker saw it at the same moment
    logger.error("Sending is locked: %s. %s", cause.label, detail)
    return made


def _newest_trace() -> datetime | None:
    traces = (
        Message.objects.aggregate(at=Max("created_at"))["at"],
        SendAttempt.objects.aggregate(at=Max("posting_at"))["at"],
        AuditEntry.objects.aggregate(at=Max("at"))["at"],
    )
    return max((at for at in traces if at is not None), default=None)


def accept_identity(now: datetime) -> None:
    """This database is the one to send on from now on. The caller unlocks in the same transaction."""
    found = identity()
    SendEpoch.objects.all().delete()
    SendEpoch.objects.create(system_identifier=found.system_identifier, timeline=found.timeline, noted_at=now)


epoch = Epoch()
