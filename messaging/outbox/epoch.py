"""Notices that the database went back in history, before anything is sent on it (reliability plan 2.8).

A restored backup or a promoted standby brings back messages whose POST has happened since. Two witnesses: PostgreSQL's own
identity, and a small file in which this machine notes the newest POST it has begun. A session that stays open while the
history beneath it changes is caught by a third: intent is only recorded where this process's last one is known.
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
# The timeline of the WAL that is being written: the control file may lag behind a promotion. An error on a standby.
IDENTITY_SQL = """
SELECT (SELECT system_identifier::text FROM pg_control_system()), current_database(),
    ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint,
    (SELECT oid FROM pg_database WHERE datname = current_database()) || '/' || 'messaging_sendattempt'::regclass::oid
"""
START = datetime(1970, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)


class Identity(NamedTuple):
    system_identifier: str
    database: str
    timeline: int
    place: str

    def row(self) -> SendEpoch:
        return SendEpoch(
            system_identifier=self.system_identifier, timeline=self.timeline, place=self.place,
            noted_at=datetime.now(UTC),
        )  # fmt: skip

    def __str__(self) -> str:
        return str(self.row())


class Mark(NamedTuple):
    """How far sending had come: the last unlock, the id of the newest attempt and when it began; moments in microseconds."""

    era: int = 0
    attempt: int = 0
    began: int = 0


def identity() -> Identity:
    with connection.cursor() as cursor:
        cursor.execute(IDENTITY_SQL)
        return Identity(*cursor.fetchone())


def ticks(moment: datetime | None) -> int:
    return 0 if moment is None else (moment - START) // TICK


def era() -> int:
    return ticks(Restore.objects.aggregate(at=Max("unlocked_at"))["at"])


def is_known(mark: Mark, era_now: int) -> bool:
    """Whether the database remembers this very attempt, or an unlock has since accounted for what it forgot."""
    if mark.era != era_now or not mark.attempt:
        return mark.era <= era_now
    return SendAttempt.objects.filter(pk=mark.attempt, posting_at=START + mark.began * TICK).exists()


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
        return Mark(*map(int, words)) if len(words) == 3 and all(word.isdecimal() for word in words) else Mark()

    def note(self, mark: Mark) -> None:
        """Never goes back."""
        with self._lock, self._alone():
            if self.read() < mark:
                os.pwrite(self._file, " ".join(f"{number:020d}" for number in mark).encode(), 0)

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
        self._newest = Mark()

    def enable(self, folder: Path) -> None:
        """From now on every new session with the database is checked before its first statement."""
        self._folder = folder
        connection_created.connect(self._on_session, dispatch_uid="messaging.outbox.epoch")

    def disable(self) -> None:
        connection_created.disconnect(dispatch_uid="messaging.outbox.epoch")
        self._folder = self._water = None
        self._era, self._newest = 0, Mark()

    @property
    def newest(self) -> int:
        """The attempt that the database must know, or it is not the one on which this process has sent; 0 for none."""
        newest = self._newest
        return newest.attempt if newest.era == self._era else 0

    def note(self, attempt_id: int, began: datetime) -> None:
        """A POST of this machine is about to begin. Raises `OSError` when that cannot be noted."""
        if self._water is not None:
            mark = Mark(self._era, attempt_id, ticks(began))
            self._water.note(mark)
            self._newest = max(self._newest, mark)

    def sync(self) -> None:
        if self._water is not None:
            self._water.sync()

    def check(self) -> bool:
        """Whether sending may go on, on this session. Locks it for everybody when history went back."""
        if self._folder is None:
            return True
        found, known = identity(), SendEpoch.objects.first()
        if known is None:
            SendEpoch.objects.bulk_create([found.row()], ignore_conflicts=True)
        elif not known.place:
            SendEpoch.objects.filter(pk=known.pk, place="").update(place=found.place)
            return self.check()
        elif str(known) != str(found):
            lock_sending(RestoreCause.IDENTITY, f"It was {known}; it is {found}")
            return False
        self._water = self._water or HighWater(self._folder, found)
        noted, now = self._water.read(), era()
        if not is_known(noted, now):
            sent_at = START + noted.began * TICK
            lock_sending(RestoreCause.HIGH_WATER, f"It does not know attempt {noted.attempt}", sent_at=sent_at)
            return False
        self._era = now
        return True

    def _on_session(self, sender: Any, connection: Any, **_: Any) -> None:
        if connection.alias != DEFAULT_DB_ALIAS:
            return
        try:
            self.check()
        except BaseException:
            # Nobody may go on with a session that was not checked, such as one of a standby that is promoted later.
            connection.close()
            raise


def lock_sending(
    cause: RestoreCause, detail: str = "", *, restored_to: datetime | None = None, user: User | None = None,
    sent_at: datetime | None = None,
) -> Restore:  # fmt: skip
    """Nothing is sent from here on, by any worker, until a person unlocks it. Answers the open restore, new or known.

    `restored_to` is when the backup was taken; without it the newest trace that the database holds. `sent_at` is when
    something was sent that the database does not know.
    """
    now, here = database_clock(), str(identity())
    known = Restore.objects.filter(unlocked_at=None).first()
    if known is not None:
        is_stale = known.noticed_on != here or (sent_at is not None and sent_at > known.detected_at)
        return _notice_again(known, here, now, restored_to) if is_stale or restored_to else known
    moment = restored_to or _newest_trace() or now
    try:
        with transaction.atomic():
            gates.lock(REASON, now)
            made = Restore.objects.create(
                cause=cause, detail=detail[:300], noticed_on=here, detected_at=now, restored_to=moment,
                since=moment - SURVEY_MARGIN, locked_by=user,
            )  # fmt: skip
            AuditEntry.objects.create(user=user, action="sending_locked", detail={"restore": made.pk, "cause": cause})
    except IntegrityError:
        return Restore.objects.get(unlocked_at=None)  # another worker saw it at the same moment
    logger.error("Sending is locked: %s. %s", cause.label, detail)
    return made


def _notice_again(known: Restore, here: str, now: datetime, restored_to: datetime | None) -> Restore:
    """The open restore was in a backup itself, and was unlocked since; or a person knows when the backup was taken.

    What was surveyed before says nothing of the time since, so it is surveyed anew.
    """
    moment = restored_to or max(known.restored_to, _newest_trace() or known.restored_to)
    with transaction.atomic():
        gates.lock(REASON, now)
        changed = Restore.objects.filter(pk=known.pk, unlocked_at=None, detected_at=known.detected_at).update(
            noticed_on=here, detected_at=now, restored_to=moment, since=min(known.since, moment - SURVEY_MARGIN),
            surveyed_at=None, survey={}, problem="",
        )  # fmt: skip
        if changed:
            AuditEntry.objects.create(action="sending_locked_again", detail={"restore": known.pk})
    logger.error("Sending stays locked: what was sent since %s must be read anew", moment)
    known.refresh_from_db()
    return known


def _newest_trace() -> datetime | None:
    traces = (
        Message.objects.aggregate(at=Max("created_at"))["at"],
        SendAttempt.objects.aggregate(at=Max("posting_at"))["at"],
        AuditEntry.objects.aggregate(at=Max("at"))["at"],
    )
    return max((at for at in traces if at is not None), default=None)


def accept_identity(now: datetime) -> None:
    """This database is the one to send on from now on. The caller unlocks in the same transaction."""
    SendEpoch.objects.all().delete()
    accepted = identity().row()
    accepted.noted_at = now
    accepted.save()


epoch = Epoch()
