"""What is known about a send that may have arrived, for the person who must decide. Reads rows alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from messaging.models import Look, Message, Operation, SendAttempt
from messaging.reconcile.absence import SelfTest, absence, self_test
from messaging.reconcile.matching import unbound, window_of
from messaging.states import UNSETTLED_OUTCOMES, Direction, MessageState

S = MessageState
MOST = 5


@dataclass(frozen=True, slots=True)
class Try:
    """One POST without an answer: when it left, what went wrong in plain words, how often it was looked for, and which of
    the proofs that it is absent there are (`absence.Absence`). `problem` is what the last look met.
    """

    posting_at: datetime
    finished_at: datetime | None
    outcome: str
    error: str
    looks: int
    complete_looks: int
    last_look_at: datetime | None
    next_look_at: datetime | None
    window_from: datetime
    window_to: datetime
    is_settled: bool
    is_fresh: bool
    is_absence_proven: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Near:
    """An operation at Catena that may be the message (`differs` empty) or comes close to it."""

    id: str
    created_at: str
    differs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Said:
    """A message of the conversation since the first POST: the driver's words, or our text as the provider shows it."""

    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """`candidates` match in all that we send; `nearest` do not. `echoes` are outgoing messages of the same text that came
    back from the provider and belong to no operation: sent from here, or typed by somebody at the provider's own screen.
    """

    text: str
    tries: Sequence[Try]
    candidates: Sequence[Near]
    nearest: Sequence[Near]
    driver_said: Sequence[Said]
    echoes: Sequence[Said]
    waiting: int
    samples: int
    mismatches: int

    def as_json(self) -> dict[str, Any]:
        """As it is kept with the decision; the text itself stands in the message."""
        kept = asdict(self)
        del kept["text"]
        for said in [*kept["driver_said"], *kept["echoes"]]:
            del said["text"]
        plain: dict[str, Any] = _plain(kept)
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value.isoformat() if isinstance(value, datetime) else value


def evidence(message: Message) -> Evidence:
    """Everything at once, in at most seven queries, whatever happened."""
    attempts = list(
        SendAttempt.objects.filter(message=message, operation=None, outcome__in=UNSETTLED_OUTCOMES).order_by("id")
    )
    looks = list(Look.objects.filter(attempt__in=attempts).order_by("id"))
    test = self_test(message.connection_id)
    since = attempts[0].posting_at if attempts else message.occurred_at
    same = _of_the_same(message, attempts)
    return Evidence(
        text=message.text or "",
        tries=[_try(attempt, [one for one in looks if one.attempt_id == attempt.pk], test) for attempt in attempts],
        candidates=[one for one in same if not one.differs],
        nearest=[*(one for one in same if one.differs), *(Near(**row) for row in (looks[-1].nearest if looks else []))],
        driver_said=_said(message, since, Direction.IN),
        echoes=_said(message, since, Direction.OUT),
        waiting=Message.objects.filter(conversation_id=message.conversation_id, state=S.WAITING).count(),
        samples=test.samples,
        mismatches=test.mismatches,
    )


def _try(attempt: SendAttempt, looks: Sequence[Look], test: SelfTest) -> Try:
    found = absence(attempt, looks, test)
    since, until = window_of(attempt)
    return Try(
        posting_at=attempt.posting_at,
        finished_at=attempt.finished_at,
        outcome=attempt.outcome or "",
        error=attempt.error_text,
        looks=attempt.looks,
        complete_looks=found.complete,
        last_look_at=looks[-1].at if looks else None,
        next_look_at=attempt.next_look_at,
        window_from=since,
        window_to=until,
        is_settled=found.is_settled,
        is_fresh=found.is_fresh,
        is_absence_proven=found.is_proven,
        problem=looks[-1].problem if looks else "",
    )


def _of_the_same(message: Message, attempts: Sequence[SendAttempt]) -> list[Near]:
    """Free operations that equal the message in all that we send. Those of another time differ in that."""
    prints = {attempt.fingerprint for attempt in attempts if attempt.fingerprint}
    if not prints:
        return []
    windows = [window_of(attempt) for attempt in attempts]
    free = unbound(Operation.objects.filter(connection_id=message.connection_id, fingerprint__in=prints))
    rows = free.filter(catena_created_at__gte=min(since for since, _ in windows)).order_by("catena_created_at", "id")
    found = [(str(row.catena_id), row.catena_created_at) for row in rows[:MOST]]
    return [
        Near(key, at.isoformat(), () if any(since <= at <= until for since, until in windows) else ("created_at",))
        for key, at in found
    ]


def _said(message: Message, since: datetime, direction: Direction) -> list[Said]:
    """What was mirrored into the conversation since the first POST; of outgoing ones only those of the same text."""
    rows = Message.objects.filter(
        conversation_id=message.conversation_id, state=S.MIRRORED, direction=direction, occurred_at__gte=since
    ).filter(deleted_at=None)
    if direction == Direction.OUT:
        # What was said to a group is no trace of what was sent to one of them.
        rows = rows.filter(text=message.text, group=None)
    return [Said(row.occurred_at, row.text or "") for row in rows.order_by("occurred_at", "id")[:MOST]]
