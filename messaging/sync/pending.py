"""The operations sweep: what became of everything that Catena has accepted and not finished (reliability plan 2.10).

One listing per connection answers for all its pending messages, however many; single reads are the exception.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import batched
from random import Random, SystemRandom

from django.conf import settings
from django.db.models import F, Q

from messaging import mirror
from messaging.catena import errors, types
from messaging.catena.client import CatenaClient
from messaging.mirror import Change
from messaging.models import Connection, Message, Operation
from messaging.states import MessageState
from messaging.sync.cursors import BadItems, Progress, Round, check_pause
from messaging.sync.summary import Summary

OPERATIONS = "operations"
# Catena's clock and ours may differ a little, and an operation may be older than its answer.
SLACK = timedelta(minutes=2)
# Older ones are read one by one, so that a single stuck message does not make every listing reach back for weeks.
LIST_WINDOW = timedelta(hours=24)
MISSES_BEFORE_SINGLE_READ = 2
SINGLE_READS = 20
AT_ONCE = 5000
RECORDS_AT_ONCE = 500
JITTER = 0.2
# After a listing that failed, nothing of that connection is asked for before this many seconds.
LEAST_AFTER_FAILURE = 15.0


def operations(
    client: CatenaClient,
    now: datetime,
    summary: Summary | None = None,
    *,
    everything: bool = False,
    rng: Random | None = None,
) -> Summary:
    """Asks for every pending message whose `next_poll_at` has come (or, with `everything`, for all of them).

    At most 5,000 messages a round, the longest due first, and at most 20 single reads; the rest stays due. Idempotent.
    Never raises one of Catena's failures: the summary tells.
    """
    summary, work = summary or Summary(), Round(OPERATIONS, now)
    rng = rng or SystemRandom()
    reads = SINGLE_READS
    with summary.watching(work):
        check_pause(now)
        for connection, pending in _by_connection(_due(now, everything=everything)):
            look = _Look(client, connection, pending, now, summary)
            try:
                with work.source(connection) as progress:
                    reads -= look.take(progress, reads)
            finally:
                look.plan_next(rng)
    return summary


def _due(now: datetime, *, everything: bool) -> Iterable[Message]:
    due = Message.objects.pending_at_catena().select_related("operation", "connection")
    if not everything:
        due = due.filter(Q(next_poll_at=None) | Q(next_poll_at__lte=now))
    return due.order_by(F("next_poll_at").asc(nulls_first=True), "id")[:AT_ONCE]


def _by_connection(messages: Iterable[Message]) -> list[tuple[Connection, list[Message]]]:
    groups: dict[Connection, list[Message]] = defaultdict(list)
    for message in messages:
        groups[message.connection].append(message)
    return list(groups.items())


class _Look:
    """One round's look at one connection."""

    def __init__(
        self, client: CatenaClient, connection: Connection, pending: Sequence[Message], now: datetime, summary: Summary
    ) -> None:
        self.client, self.connection, self.pending = client, connection, pending
        self.now, self.summary = now, summary
        self.is_done = False
        self.left_for_later: set[int] = set()

    def take(self, progress: Progress, reads: int) -> int:
        """Lists, then reads singly what a list does not show; returns the number of single reads made."""
        listable = [message for message in self.pending if created(message) > self.now - LIST_WINDOW]
        old = [message for message in self.pending if created(message) <= self.now - LIST_WINDOW]
        missing = self._list(listable, progress) if listable else []
        often = [message for message in missing if message.looks + 1 >= MISSES_BEFORE_SINGLE_READ]
        Message.objects.filter(pk__in=[message.pk for message in missing]).update(looks=F("looks") + 1)
        wanted = old + often
        self.left_for_later = {message.pk for message in wanted[reads:]}
        for message in wanted[:reads]:
            self._read_one(message, progress)
        self.is_done = True
        return min(len(wanted), reads)

    def _list(self, listable: Sequence[Message], progress: Progress) -> list[Message]:
        """Applies the listing that covers these messages; returns those that it does not show."""
        listing = self.client.list_operations(
            from_datetime=min(created(message) for message in listable) - SLACK,
            to_datetime=self.now,
            connection_id=self.connection.catena_id,
            resource="message",
            operation="create",
            on_bad=BadItems("operation"),
        )
        wanted = {message.operation.catena_id: message for message in listable if message.operation}
        for page in batched(listing, RECORDS_AT_ONCE):
            progress.read += len(page)
            for record in page:
                wanted.pop(record.id, None)
            self._apply(page)
        return list(wanted.values())

    def _apply(self, page: Sequence[types.Operation]) -> None:
        self.summary.add(OPERATIONS, mirror.apply_listed(page, self.now))

    def _read_one(self, message: Message, progress: Progress) -> None:
        if message.operation is None:
            return
        try:
            record = self.client.get_operation(self.connection.catena_id, message.operation.catena_id)
        except errors.Refused as refusal:
            # Gone, or no longer shared with us: nothing is concluded from that, the message stays pending.
            self.summary.problems.append(f"Operation {message.operation.catena_id}: {refusal}")
            return
        progress.read += 1
        before = Operation.objects.filter(catena_id=record.id).exists()
        applied = mirror.apply_operation(record)
        change = Change.SKIPPED if applied is None else Change.CHANGED if before else Change.NEW
        self.summary.add(OPERATIONS, Counter({change: 1}))

    def plan_next(self, rng: Random) -> None:
        """Sets when each is looked at next; messages that are settled by now are left alone."""
        steps: dict[float, list[int]] = defaultdict(list)
        for message in self.pending:
            if message.pk not in self.left_for_later:
                steps[self._delay(message)].append(message.pk)
        spread = 1 + JITTER * (2 * rng.random() - 1)
        for delay, keys in steps.items():
            later = self.now + timedelta(seconds=delay * spread)
            Message.objects.filter(pk__in=keys, state=MessageState.ACCEPTED).update(next_poll_at=later)

    def _delay(self, message: Message) -> float:
        delay = delay_at((self.now - (message.accepted_at or created(message))).total_seconds(), schedule())
        return delay if self.is_done else max(delay, LEAST_AFTER_FAILURE)


def schedule() -> Sequence[float]:
    """Seconds between two looks at one pending message, the last one for ever."""
    steps: Sequence[float] = settings.OPERATION_POLL_SECONDS
    return steps


def delay_at(age: float, steps: Sequence[float]) -> float:
    """The gap that the schedule holds for a message of this age, in seconds; nothing needs to be counted for it."""
    passed = 0.0
    for step in steps:
        passed += step
        if age < passed:
            return step
    return steps[-1]


def created(message: Message) -> datetime:
    assert message.operation is not None, "a message that Catena accepted has its operation"
    return message.operation.catena_created_at
