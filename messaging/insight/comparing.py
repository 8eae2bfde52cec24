"""What changed between two of Catena's attempts, fact by fact. No query, no markup."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from messaging.insight.meanings import code_phrase, error_type_words, span
from messaging.insight.sentence import clock
from messaging.insight.story import Attempt, Story
from messaging.mirror.redaction import redact_headers, scrub


@dataclass(frozen=True, slots=True)
class Fact:
    """One row: what it is, and what each attempt says of it; empty when it says nothing."""

    name: str
    first: str
    second: str
    is_header: bool = False

    @property
    def is_changed(self) -> bool:
        return self.first != self.second


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two attempts side by side, the earlier first. The rows are always the same ones, and then one for each header."""

    first: Attempt
    second: Attempt
    facts: Sequence[Fact]

    @property
    def changed(self) -> int:
        return sum(fact.is_changed for fact in self.facts)


def chosen(asked: Sequence[str], count: int) -> tuple[int, int] | None:
    """The numbers of two attempts of `count`, the smaller first: those asked for (`["2,3"]` or `["2", "3"]`), else the last
    two. None when there are not two.
    """
    if count < 2:
        return None
    words = ",".join(asked)[:100].split(",")
    numbers = {int(word) for word in words if word.isascii() and word.isdecimal() and len(word) < 6}
    known = sorted(number for number in numbers if 1 <= number <= count)
    return (known[0], known[1]) if len(known) == 2 else (count - 1, count)


def compare(story: Story, first: int, second: int) -> Comparison:
    """Attempts by their numbers, which exist. Headers pass the allow-list and texts are scrubbed once more."""
    one, other = story.attempts[first - 1], story.attempts[second - 1]
    return Comparison(one, other, list(_facts(story, one, other)))


def _facts(story: Story, one: Attempt, other: Attempt) -> Iterator[Fact]:
    waits = _waits(story)
    yield Fact("When", clock(one.at, story.now), clock(other.at, story.now))
    yield Fact("Since the one before", waits[one.number], waits[other.number])
    yield Fact("Status", one.status, other.status)
    yield Fact("Code", _code(one), _code(other))
    yield Fact("Kind of error", error_type_words(one.error_type), error_type_words(other.error_type))
    yield Fact("What was said", scrub(one.details), scrub(other.details))
    before, after = _headers(one), _headers(other)
    for name in sorted({*before, *after}):
        yield Fact(name, before.get(name, ""), after.get(name, ""), is_header=True)


def _waits(story: Story) -> dict[int, str]:
    """By attempt, the time since the one before it; of the first, since Catena took the message."""
    accepted = story.message.accepted_at
    moments = [accepted or story.attempts[0].at, *(attempt.at for attempt in story.attempts)]
    return {
        number: span(after - before) if after > before else ""
        for number, (before, after) in enumerate(pairwise(moments), 1)
    }


def _code(attempt: Attempt) -> str:
    return f"{attempt.code} {code_phrase(attempt.code)}".strip() if attempt.code else ""


def _headers(attempt: Attempt) -> dict[str, str]:
    """By lower-case name, since providers change the case from one answer to the next."""
    return {name.lower(): value for name, value in redact_headers(attempt.headers).items()}
