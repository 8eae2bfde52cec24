"""Judges a run: what the pages promised, what our rows say and what Catena's journal holds must agree. Pure, no I/O.

Messages are told apart by their texts, which a run makes unique; nothing here trusts a key that the product assigned.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

Json = dict[str, Any]
FOUND = frozenset({"accepted", "succeeded", "failed"})
TERMINAL = frozenset({"succeeded", "failed", "rejected", "cancelled", "expired", "closed_sent", "closed_not_sent"})
HEADS = frozenset({"queued", "claimed", "posting", "unknown", "needs_decision"})
CLOSING = frozenset({"was_sent", "leave_unsent"})
AMBIGUOUS = frozenset({"ambiguous", "lost"})


@dataclass(frozen=True, slots=True)
class Breach:
    """One broken promise; `kind` is a word for counting, `detail` names the message."""

    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as our rows hold it. `operation` is the Catena id that it is bound to."""

    key: int
    uuid: str
    text: str
    conversation: int
    seq: int
    state: str
    operation: str | None = None
    detached: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    message: int
    fence: int
    authority: str
    outcome: str | None
    operation: str | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    message: int
    kind: str
    at: datetime


@dataclass
class Case:
    """Everything that is judged. `promised` maps a text to the uuid that a page named for it."""

    promised: dict[str, str]
    sent: Sequence[Sent]
    attempts: Sequence[Attempt]
    decisions: Sequence[Decided]
    journal: Sequence[Json]
    errors: Sequence[str] = field(default_factory=list)

    @cached_property
    def of_text(self) -> dict[str, list[Sent]]:
        found: dict[str, list[Sent]] = defaultdict(list)
        for one in self.sent:
            found[one.text].append(one)
        return found

    @cached_property
    def attempts_of(self) -> dict[int, list[Attempt]]:
        found: dict[int, list[Attempt]] = defaultdict(list)
        for one in self.attempts:
            found[one.message].append(one)
        return found

    @cached_property
    def decisions_of(self) -> dict[int, list[Decided]]:
        found: dict[int, list[Decided]] = defaultdict(list)
        for one in self.decisions:
            found[one.message].append(one)
        return found

    @cached_property
    def accepted(self) -> dict[str, list[Json]]:
        """The journal's accepted POSTs by text, in the order in which Catena took them."""
        found: dict[str, list[Json]] = defaultdict(list)
        for entry in self.journal:
            if entry["operation"]:
                found[entry["text"]].append(entry)
        return found

    @cached_property
    def texts(self) -> dict[str, str]:
        """The text of each operation at Catena."""
        return {entry["operation"]: entry["text"] for entry in self.journal if entry["operation"]}


def judge(case: Case) -> list[Breach]:
    rules = (_lost, _stranded, _posts, _after_a_close, _order, _false, _unbound, _unforeseen)
    return [breach for rule in rules for breach in rule(case)]


def _lost(case: Case) -> Iterator[Breach]:
    for text, uuid in case.promised.items():
        rows = case.of_text.get(text, [])
        if len(rows) != 1:
            yield Breach("lost" if not rows else "composed twice", f"{text} has {len(rows)} rows")
        elif rows[0].uuid != uuid:
            yield Breach("lost", f"{text} is not the message that the page named")
    for text, rows in case.of_text.items():
        if text not in case.promised and len(rows) > 1:
            yield Breach("composed twice", f"{text} has {len(rows)} rows")


def _stranded(case: Case) -> Iterator[Breach]:
    """Everything has ended, waits for a person, or waits behind one that does."""
    heads = {one.conversation: one for one in case.sent if one.state in HEADS and not one.detached}
    for one in case.sent:
        if one.state in TERMINAL or one.state == "needs_decision":
            continue
        head = heads.get(one.conversation)
        if one.state == "waiting" and head is not None and head.state == "needs_decision":
            continue
        behind = f" behind {head.text} in {head.state}" if head is not None and head is not one else ""
        yield Breach("stranded", f"{one.text} is {one.state}{behind}")


def _posts(case: Case) -> Iterator[Breach]:
    """Each POST had a recorded intent; each accepted one beyond the first, a person's decision."""
    seen = Counter(entry["text"] for entry in case.journal if not entry["is_late"])
    for text, posts in seen.items():
        attempts = [one for row in case.of_text.get(text, []) for one in case.attempts_of[row.key]]
        if posts > len(attempts):
            yield Breach("POST without intent", f"{text}: {posts} POSTs, {len(attempts)} attempts")
        allowed = 1 + sum(one.authority == "human" for one in attempts)
        if len(case.accepted[text]) > allowed:
            yield Breach("sent twice", f"{text}: accepted {len(case.accepted[text])} times, {allowed} allowed")
    for row in case.sent:
        bought = sum(one.authority == "human" for one in case.attempts_of[row.key])
        paid = sum(one.kind == "send_again" for one in case.decisions_of[row.key])
        if bought > paid:
            yield Breach("sent twice", f"{row.text}: {bought} repeated POSTs for {paid} decisions")


def _after_a_close(case: Case) -> Iterator[Breach]:
    """Whoever says that it was sent, or shall stay unsent, has the last word."""
    for row in case.sent:
        closes = [one.at.timestamp() for one in case.decisions_of[row.key] if one.kind in CLOSING]
        entries = [entry for entry in case.journal if entry["text"] == row.text] if closes else []
        if any(entry["at"] > closes[0] and not entry["is_late"] for entry in entries):
            yield Breach("sent after a decision against it", row.text)


def _order(case: Case) -> Iterator[Breach]:
    """First acceptances of a conversation follow its numbers, and the numbers follow its writer."""
    first = {entry["text"]: place for place, entry in reversed(list(enumerate(case.journal))) if entry["operation"]}
    threads: dict[int, list[Sent]] = defaultdict(list)
    for one in sorted(case.sent, key=lambda row: row.seq):
        threads[one.conversation].append(one)
    for rows in threads.values():
        yield from _disorder([row for row in rows if row.text in first and not _let_past(case, row)], first, "order")
        turns = {row.text: int(row.text.split(":")[1]) for row in rows if row.text.count(":") == 2}
        yield from _disorder([row for row in rows if row.text in turns], turns, "order of writing")


def _let_past(case: Case, row: Sent) -> bool:
    return any(one.kind == "send_next" for one in case.decisions_of[row.key])


def _disorder(rows: Sequence[Sent], place: dict[str, int], kind: str) -> Iterator[Breach]:
    for before, after in itertools.pairwise(rows):
        if place[before.text] > place[after.text]:
            yield Breach(kind, f"{after.text} went before {before.text}")


def _false(case: Case) -> Iterator[Breach]:
    """What we call accepted was accepted, as this message and no other."""
    for row in case.sent:
        if row.state in FOUND or row.operation:
            yield from _bound_wrongly(case, row, row.operation)
        for attempt in case.attempts_of[row.key]:
            if attempt.operation:
                yield from _bound_wrongly(case, row, attempt.operation)


def _bound_wrongly(case: Case, row: Sent, operation: str | None) -> Iterator[Breach]:
    if operation is None or operation not in case.texts:
        yield Breach("falsely accepted", f"{row.text} is {row.state} by {operation}, which Catena never made")
    elif case.texts[operation] != row.text:
        yield Breach("bound to another's operation", f"{row.text} has the operation of {case.texts[operation]}")


def _unbound(case: Case) -> Iterator[Breach]:
    """Once lists have caught up, every operation of ours is known to be ours."""
    known = bound_operations(case)
    for text, entries in case.accepted.items():
        for entry in entries:
            if entry["operation"] not in known:
                states = [row.state for row in case.of_text.get(text, [])]
                yield Breach("not found again", f"{text} ({entry['fault'] or 'no fault'}), message {states}")


def bound_operations(case: Case) -> set[str]:
    return {one.operation for one in [*case.sent, *case.attempts] if one.operation}


def _unforeseen(case: Case) -> Iterator[Breach]:
    for error in case.errors:
        yield Breach("unforeseen", error)


def recovered(case: Case) -> tuple[int, int]:
    """Of the POSTs whose answer was lost although Catena had accepted: how many there were, how many were found again."""
    lost = {one.message for one in case.attempts if one.outcome in AMBIGUOUS}
    known = bound_operations(case)
    texts = {row.text for row in case.sent if row.key in lost}
    ours = [entry["operation"] for text in texts for entry in case.accepted.get(text, [])]
    return len(ours), sum(operation in known for operation in ours)


def counted(breaches: Iterable[Breach]) -> dict[str, int]:
    return dict(Counter(breach.kind for breach in breaches))
