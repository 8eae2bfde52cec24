"""The sweeps of a worker, on threads of its own.

Not Procrastinate's periodic tasks: those run on the threads that POST, so that a provider who lets eight POSTs hang would
also stop the reaper, and each tick would cost a job, four events and a row of its defer table (43,000 a day for two
seconds). Here a round is a call on a monotonic schedule. Rounds that are the whole installation's business take turns by an
advisory lock and a common timetable, so that ten workers ask Catena no more often than one.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from zlib import crc32

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from messaging import budget, conf, heartbeat, inbox, incidents, outbox, reconcile, recovery, sync, tasks, verify
from messaging.budget import Share
from messaging.mirror import Change
from messaging.models import SyncCursor, Verification
from messaging.models.inbound import ASKED_GAP, ROUND
from messaging.models.subscriptions import hook_obstacle

logger = logging.getLogger(__name__)

# Any number that no other user of advisory locks in this database takes.
LOCK_CLASS = 0x6261
KEEPER_SECONDS = 2.0
BEAT_SECONDS = 10.0
# How late an event may be: it was committed before it was acknowledged, and nobody rings for it.
EVENTS_SECONDS = 0.25
# How soon a sweep begins that somebody asked for.
ASKED_SECONDS = 2.0
# How late a probe may be.
PROBE_SECONDS = 2.0
SUBSCRIPTION_SECONDS = 300.0
TIDY_SECONDS = 60.0
# How often it is asked whether the rules are due for a check, so that workers which restart daily still check daily.
VERIFY_BEAT_SECONDS = 300.0
# An incident is open within a minute of the failures that make it one.
INCIDENT_SECONDS = 15.0
ALERT_SECONDS = 5.0
# What is broken is looked at again this soon.
VERIFY_BROKEN = timedelta(hours=1)
DUE_BATCH = 400
# Few, so that a doorbell that rings meanwhile does not wait long for a thread, and more than a worker has threads.
DUE_AT_ONCE = 32
# A worker that is a little early must not lose its turn to rounding.
EARLY = 0.9
# Whoever has a turn asks the database far more often than this; a read of Catena takes 30 s at most. Silence for longer
# means a frozen process, whose kernel keeps the session and with it the lock for as long as the machine is up.
FROZEN_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Round:
    """One sweep and its beat in seconds. `is_shared` rounds run once per beat in the whole installation."""

    name: str
    every: float
    run: Callable[[], object]
    is_shared: bool = True


def lanes(senders: Executor) -> list[list[Round]]:
    """What runs side by side: a lane is one thread, so that a slow answer of Catena delays nothing that is urgent."""
    sweeps = [
        Round("operations", settings.OPERATION_SWEEP_SECONDS, sweep_operations),
        Round("messages", settings.MESSAGE_SWEEP_SECONDS, sweep_messages),
        Round("directory", settings.DIRECTORY_SWEEP_SECONDS, sweep_directory),
    ]
    subscriptions = Round("subscriptions", SUBSCRIPTION_SECONDS, check_subscriptions)
    return [
        [
            Round("heartbeat", BEAT_SECONDS, beat, is_shared=False),
            # Each worker by itself: its machine alone knows what it has sent.
            Round("epoch", KEEPER_SECONDS, outbox.epoch.check, is_shared=False),
            Round("keeper", KEEPER_SECONDS, keep),
            Round("tidy", TIDY_SECONDS, tidy),
        ],
        [Round("due", KEEPER_SECONDS, partial(drain_due, senders), is_shared=False)],
        # All workers at once: each takes the events that no other has in hand.
        [Round("events", EVENTS_SECONDS, process_events, is_shared=False)],
        [Round("restore", KEEPER_SECONDS, survey_restore)],
        [Round("reconcile", KEEPER_SECONDS, look_for_lost)],
        [Round("probes", PROBE_SECONDS, probe_gates)],
        [Round("recovery", recovery.BEAT.total_seconds(), recover)],
        *([sweep] for sweep in sweeps),
        [Round("asked", ASKED_SECONDS, partial(run_asked, [*sweeps, subscriptions]), is_shared=False)],
        [
            # A look at one row; whoever finds something takes it.
            Round("wanted", KEEPER_SECONDS, do_wanted, is_shared=False),
            subscriptions,
        ],
        [Round("incidents", INCIDENT_SECONDS, watch_incidents)],
        # Other people's servers answer here: on a thread of its own, so that none of them can hold up the watch.
        [Round("alerts", ALERT_SECONDS, tell_people)],
        [Round("verify", VERIFY_BEAT_SECONDS, partial(verify_rules, time.monotonic()))],
    ]


def beat() -> None:
    heartbeat.beat(timezone.now())
    outbox.epoch.sync()


def keep() -> None:
    """Takes back what dead workers held, gives up what is too old, tells of what is late, opens gates in time,
    promotes what was left behind.
    """
    now = outbox.database_clock()
    outbox.epoch.check()
    outbox.reap(now)
    outbox.expire(now)
    outbox.escalate(now)
    outbox.open_due_gates(now)
    outbox.promote_stranded()


def drain_due(senders: Executor) -> int:
    """Sends every head that is due, on the threads that answer doorbells; answers how many conversations that were.

    Doorbells may be lost, and a gate that opens rings none: all that it held is found here.
    """
    found = 0
    before: list[int] = []
    while not tasks.stopping.is_set():
        due = outbox.due_conversations(outbox.database_clock(), DUE_BATCH)
        # The same ones again means that they cannot be sent now: the next beat is soon enough.
        if not due or due == before:
            break
        found += _drain_each(due, senders)
        if len(due) < DUE_BATCH:
            break
        before = due
    return found


def _drain_each(conversations: list[int], senders: Executor) -> int:
    """Drains each, handing over `DUE_AT_ONCE` at a time, so that no thread waits for the slowest of a handful."""
    places = threading.Semaphore(DUE_AT_ONCE)
    drains = []
    for conversation_id in conversations:
        places.acquire()
        if tasks.stopping.is_set():
            break
        drains.append(senders.submit(tasks.drain, conversation_id))
        drains[-1].add_done_callback(lambda _: places.release())
    for drain in drains:
        drain.result()
    return len(drains)


def process_events() -> int:
    return inbox.process_due(outbox.database_clock(), is_stopping=tasks.stopping.is_set)


def run_asked(sweeps: Sequence[Round]) -> None:
    """Runs the sweeps that somebody wants out of turn."""
    asked = set(SyncCursor.objects.asked().values_list("name", flat=True))
    for sweep in sweeps:
        if f"{ROUND}{sweep.name}" in asked:
            run_round(sweep)


def tidy() -> None:
    forget_dead_jobs()
    inbox.forget_old(outbox.database_clock())
    recovery.forget_drafts(outbox.database_clock())


def look_for_lost() -> None:
    with budget.share(Share.RECONCILE):
        reconcile.look(conf.catena_client(), outbox.database_clock())


def survey_restore() -> None:
    with budget.share(Share.RECONCILE):
        reconcile.survey_open(conf.catena_client(), outbox.database_clock())


def probe_gates() -> int:
    return outbox.probe(conf.catena_client())


def recover() -> int:
    return recovery.advance(outbox.database_clock())


def sweep_operations() -> None:
    sync.operations(conf.catena_client(), timezone.now())


def sweep_messages() -> None:
    sync.messages_all(conf.catena_client(), timezone.now())


def sweep_directory() -> None:
    found = sync.directory(conf.catena_client(), timezone.now())
    if found.counts.get("connections", Counter())[Change.NEW]:
        inbox.release_parked(outbox.database_clock())


def do_wanted() -> None:
    sync.fulfil(conf.catena_client(), timezone.now())


def check_subscriptions() -> None:
    """Nothing without a secret: this installation then takes no webhooks."""
    if not hook_obstacle():
        sync.subscriptions.check(conf.catena_client(), timezone.now())


def watch_incidents() -> None:
    incidents.watch(outbox.database_clock())


def tell_people() -> int:
    return incidents.tell_due(outbox.database_clock())


def verify_rules(started: float) -> Verification | None:
    """Checks every rule in every row when that is due, and keeps what it found for the operations page.

    Not within the first minutes of a worker (`started`, monotonic): after a standstill much is late that it is about to do.
    """
    now = outbox.database_clock()
    latest = Verification.objects.first()
    every = timedelta(seconds=settings.VERIFY_SECONDS)
    if latest is not None and latest.at > now - (min(every, VERIFY_BROKEN) if latest.breaches else every):
        return None
    if time.monotonic() < started + verify.GRACE.total_seconds():
        return None
    report = verify.verify(now)
    if report.breaches:
        logger.error("%d breaches of the rules of sending, the first: %s", report.total, report.breaches[0])
    return verify.keep(report)


def forget_dead_jobs() -> int:
    """Deletes the doorbells that vanished workers had in hand; the rows they were about have been found by others."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM procrastinate_jobs WHERE status = 'doing' AND (worker_id IS NULL OR worker_id IN "
            "(SELECT id FROM procrastinate_workers WHERE last_heartbeat < now() - interval '60 s'))"
        )
        return int(cursor.rowcount)


@contextmanager
def turn(round_: Round, frozen_after: float | None = None) -> Iterator[bool]:
    """Whether this worker may run a shared round now: nobody else is at it, and its beat has come.

    The lock belongs to the database session, so it ends with a worker that dies. The session of one that is frozen is
    ended by others after `frozen_after` seconds of silence.
    """
    key = crc32(round_.name.encode()) & 0x7FFFFFFF
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCK_CLASS, key])
        if cursor.fetchone() != (True,):
            _end_frozen(round_, key, FROZEN_SECONDS if frozen_after is None else frozen_after)
            yield False
            return
    try:
        yield _has_come(round_)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK_CLASS, key])


END_FROZEN = """
SELECT pg_terminate_backend(a.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %s AND l.objid = %s AND l.objsubid = 2
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND a.pid <> pg_backend_pid() AND a.state_change < clock_timestamp() - make_interval(secs => %s)
"""


def _end_frozen(round_: Round, key: int, after: float) -> None:
    """Takes the turn from a worker that has stopped in the middle of it; the next beat is then free for anybody."""
    # A round that began a moment ago needs no closer look; one that never began may have frozen just before.
    recently = outbox.database_clock() - timedelta(seconds=after)
    if SyncCursor.objects.filter(name=f"{ROUND}{round_.name}", connection=None, started_at__gte=recently).exists():
        return
    with connection.cursor() as cursor:
        cursor.execute(END_FROZEN, [LOCK_CLASS, key, after])
        if cursor.rowcount:
            logger.error("A worker was frozen during the sweep %s; its database session was ended", round_.name)


def _has_come(round_: Round) -> bool:
    now = outbox.database_clock()
    row, _ = SyncCursor.objects.get_or_create(name=f"{ROUND}{round_.name}", connection=None)
    every = timedelta(seconds=round_.every * EARLY)
    if row.started_at is not None and row.started_at > now - (min(every, ASKED_GAP) if row.is_asked else every):
        return False
    SyncCursor.objects.filter(pk=row.pk).update(started_at=now)
    return True


def run_round(round_: Round) -> bool:
    """One round, if it is this worker's turn. True when it ran."""
    if not round_.is_shared:
        round_.run()
        return True
    with turn(round_) as is_ours:
        if is_ours:
            round_.run()
        return is_ours


class Outage:
    """One line when the database goes away and one when it is back, however many threads notice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None

    def began(self, error: Exception) -> None:
        with self._lock:
            if self._since is None:
                self._since = time.monotonic()
                logger.error("The database is away (%s); trying again until it is back", " ".join(str(error).split()))

    def ended(self) -> None:
        if self._since is None:
            return
        with self._lock:
            if self._since is not None:
                logger.warning("The database is back after %.0f s", time.monotonic() - self._since)
                self._since = None


def run_lane(lane: Sequence[Round], stop: threading.Event, outage: Outage) -> None:
    """Runs the rounds of a lane, each on its beat, until `stop` is set. No failure ends it."""
    due = dict.fromkeys((round_.name for round_ in lane), time.monotonic())
    while not stop.is_set():
        for round_ in lane:
            if time.monotonic() >= due[round_.name] and not stop.is_set():
                due[round_.name] = time.monotonic() + round_.every
                _attempt(round_, outage)
        stop.wait(max(0.0, min(due.values()) - time.monotonic()))
    connection.close()


def _attempt(round_: Round, outage: Outage) -> None:
    try:
        run_round(round_)
        outage.ended()
    except (OperationalError, InterfaceError) as error:
        outage.began(error)
        connection.close()
    except Exception:
        logger.exception("The sweep %s failed; it comes again in %.0f s", round_.name, round_.every)


def start(stop: threading.Event, outage: Outage, senders: Executor) -> list[threading.Thread]:
    """Every lane on its own thread; what is sent goes out on `senders`.

    The threads are daemons: a sweep that hangs must not keep a process from ending.
    """
    threads = [
        threading.Thread(target=run_lane, args=(lane, stop, outage), name=f"round-{lane[-1].name}", daemon=True)
        for lane in lanes(senders)
    ]
    for thread in threads:
        thread.start()
    return threads
