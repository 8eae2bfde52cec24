"""When not finding something proves that it is not there (reliability plan 3.4). Reads rows, asks Catena nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from messaging.models import Look, Message, Operation, SendAttempt
from messaging.states import Priority, Question

COMPLETE_LOOKS = 4
LEAST_SETTLE = timedelta(minutes=10)
SETTLE_FACTOR = 10
# The self-test of a connection rests on its newest listed sends.
SAMPLES = 200


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Whether matching is known to work on a connection, judged by the sends that went normally.

    `settle` is how long a listing must be given to show an operation, from the slowest that were seen.
    """

    samples: int
    mismatches: int
    settle: timedelta

    @property
    def is_green(self) -> bool:
        return self.samples > 0 and self.mismatches == 0


def self_test(connection_id: int) -> SelfTest:
    """One query over the connection's newest sends that a listing has shown."""
    newest = Operation.objects.filter(connection_id=connection_id, is_as_posted__isnull=False)
    rows = list(
        newest.order_by("-catena_created_at", "-id").values_list("is_as_posted", "first_seen_at", "listed_at")[:SAMPLES]
    )
    delays = sorted(listed - seen for _, seen, listed in rows if listed is not None)
    slowest = delays[min(len(delays) - 1, int(len(delays) * 0.99))] if delays else timedelta()
    return SelfTest(
        samples=len(rows),
        mismatches=sum(not is_same for is_same, _, _ in rows),
        settle=max(LEAST_SETTLE, SETTLE_FACTOR * slowest),
    )


@dataclass(frozen=True, slots=True)
class Absence:
    """What the looks of one POST prove, proof by proof."""

    complete: int
    is_settled: bool
    is_fresh: bool
    test: SelfTest

    @property
    def is_proven(self) -> bool:
        return self.complete >= COMPLETE_LOOKS and self.is_settled and self.is_fresh and self.test.is_green


def absence(attempt: SendAttempt, looks: Sequence[Look], test: SelfTest) -> Absence:
    """`is_settled`: the last complete look came late enough. `is_fresh`: a listing showed something newer than the POST."""
    ended = attempt.finished_at or attempt.posting_at
    complete = [one for one in looks if one.is_complete]
    return Absence(
        complete=len(complete),
        is_settled=any(one.at >= ended + test.settle for one in complete),
        is_fresh=any(one.newest_at is not None and one.newest_at > ended for one in complete),
        test=test,
    )


def ask_at(attempt: SendAttempt, priority: str | None) -> datetime:
    """When a person is asked about a lost POST at the latest, proven or not."""
    is_high = priority == Priority.HIGH
    patience = settings.GIVE_UP_HIGH_SECONDS if is_high else settings.GIVE_UP_SECONDS
    return (attempt.finished_at or attempt.posting_at) + timedelta(seconds=patience)


def question_for(message: Message, attempt: SendAttempt, found: Absence, now: datetime) -> Question | None:
    """What a person must be asked by now; None while looking goes on."""
    if found.is_proven:
        return Question.ABSENT
    return Question.UNPROVEN if now >= ask_at(attempt, message.priority) else None
