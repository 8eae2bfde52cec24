"""Which explanation a failure has: matching, and the failures of thirty days by what they have in common.

An entry holds for a failure when all that it names agrees. Among those that hold, specific ones come before general ones;
then the one that names the provider, then an error type, then a code (one code before a span of codes), and only then
words, the longest first, because providers change their texts. Of two that name the same, the older one speaks.

What we refuse ourselves has a type of its own: `rejected` for what Catena did not take, `expired` for what became too old.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Count, Max, Min

from messaging.models import Explanation, Message
from messaging.models.directory import provider_name
from messaging.models.explanations import STAMP_SQL
from messaging.states import RESENDABLE_STATES, MessageState

S = MessageState
# How far back a preview, the counts of the panel and the worklist look, and at how many causes at most.
REACH = timedelta(days=30)
MOST_GROUPS = 2_000
REJECTED, EXPIRED = "rejected", "expired"
_OWN_TYPES: Mapping[str, str] = {S.REJECTED: REJECTED, S.EXPIRED: EXPIRED}


class Failure(NamedTuple):
    """What an entry can name. `source_names` are the words for the provider; `text` is the cause, without ids and numbers."""

    source_names: tuple[str, ...]
    error_type: str
    code: int | None
    text: str


def error_type_of(state: str, error_type: str) -> str:
    """The type that entries name: Catena's word, or ours for what we did not send."""
    return _OWN_TYPES.get(state, error_type)


@dataclass(frozen=True, slots=True)
class Group:
    """Failures of thirty days that no entry can tell apart. `newest_id` is the key of the youngest."""

    failure: Failure
    count: int
    drivers: int
    first_at: datetime
    last_at: datetime
    newest_id: int

    @property
    def provider(self) -> str:
        return provider_name(self.failure.source_names[0])


def holds(entry: Explanation, failure: Failure) -> bool:
    """Whether all that the entry names agrees with the failure."""
    return (
        entry.is_active
        and (not entry.source_name or entry.source_name.lower() in failure.source_names)
        and (not entry.error_type or entry.error_type == failure.error_type)
        and _holds_code(entry, failure.code)
        and (not entry.words or entry.words.lower() in failure.text.lower())
    )


def _holds_code(entry: Explanation, code: int | None) -> bool:
    low, high = entry.code_from, entry.code_to
    return low is None or (code is not None and low <= code <= (low if high is None else high))


def _rank(entry: Explanation) -> tuple[bool, bool, bool, int, int, int]:
    codes = 0 if entry.code_from is None else 2 if entry.code_to in (None, entry.code_from) else 1
    # An entry that is not saved yet is the youngest.
    age = -entry.pk if entry.pk else -(2**63)
    return entry.is_specific, bool(entry.source_name), bool(entry.error_type), codes, len(entry.words), age


def ranked(entries: Iterable[Explanation]) -> list[Explanation]:
    """The most telling first, so that the first that holds is the one that speaks."""
    return sorted(entries, key=_rank, reverse=True)


def best(entries: Iterable[Explanation], failure: Failure) -> Explanation | None:
    """What is said of the failure, by entries that are `ranked`; None when none holds."""
    return next((entry for entry in entries if holds(entry, failure)), None)


# The ranked entries of this process with the stamp of the table at which they were read.
_kept: tuple[str, Sequence[Explanation]] = ("", ())


def stamp() -> str:
    """The stamp of the table. One tiny query."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {STAMP_SQL}")
        return str(cursor.fetchone()[0])


def current(known_stamp: str | None = None) -> Sequence[Explanation]:
    """The ranked active entries as they are in the database now; no query when the caller has read the stamp already.

    Read again only when an entry has changed, by whichever process: what an administrator saves is in force at once.
    """
    global _kept
    wanted = stamp() if known_stamp is None else known_stamp
    if _kept[0] != wanted:
        _kept = (wanted, ranked(Explanation.objects.filter(is_active=True)))
    return _kept[1]


def filled(words: str, provider: str, driver: str) -> str:
    """The words with provider and driver in their places. Other braces stay as they are."""
    return words.replace("{provider}", provider).replace("{driver}", driver)


def failure_of(row: Mapping[str, Any]) -> Failure:
    """From a row with the columns of the message and `connection__source_name`, `connection__tsp_slug`."""
    slug, source = row["connection__tsp_slug"] or "", row["connection__source_name"] or ""
    names = tuple(dict.fromkeys(name.lower() for name in (slug, source) if name)) or ("",)
    error_type = error_type_of(row["state"], row["error_type"])
    return Failure(names, error_type, row["response_status_code"], row["cause"])


def title_of(row: Mapping[str, Any], driver: str) -> str:
    """One line for a failure in a list or a bubble; empty when nothing is known. The row carries `entries_stamp`."""
    if not row["entries_stamp"]:
        return ""
    failure = failure_of(row)
    found = best(current(row["entries_stamp"]), failure)
    return filled(found.title, provider_name(failure.source_names[0]), driver) if found else ""


def groups(now: datetime) -> list[Group]:
    """The failures of thirty days in all fleets by provider, type, code and cause, the biggest first. One query."""
    facts = (
        "state", "error_type", "response_status_code", "cause", "connection__tsp_slug", "connection__source_name",
    )  # fmt: skip
    recent = Message.objects.outgoing().filter(state__in=sorted(RESENDABLE_STATES), occurred_at__gt=now - REACH)
    found = recent.order_by().values(*facts).annotate(
        count=Count("id"), drivers=Count("conversation_id", distinct=True), first_at=Min("occurred_at"),
        last_at=Max("occurred_at"), newest_id=Max("id"),
    ).order_by("-count", "-last_at")[:MOST_GROUPS]  # fmt: skip
    return [
        Group(failure_of(row), *(row[name] for name in ("count", "drivers", "first_at", "last_at", "newest_id")))
        for row in found
    ]


@dataclass(frozen=True, slots=True)
class Reach:
    """How many of the failures an entry holds for, how many it speaks for, and some groups of the latter."""

    held: int
    spoken: int
    examples: Sequence[Group]


def reach(entry: Explanation, known: Sequence[Group], others: Iterable[Explanation], most: int = 5) -> Reach:
    """What an entry would do if it were saved as it is, beside the others. Writes nothing."""
    order = ranked([entry, *(one for one in others if one.pk != entry.pk or entry.pk is None)])
    held = [one for one in known if holds(entry, one.failure)]
    spoken = [one for one in held if best(order, one.failure) is entry]
    return Reach(sum(one.count for one in held), sum(one.count for one in spoken), spoken[:most])


def spoken_counts(known: Sequence[Group], entries: Sequence[Explanation]) -> dict[int, int]:
    """For each entry's key, how many of the failures it speaks for."""
    counts: dict[int, int] = {}
    for group in known:
        found = best(entries, group.failure)
        if found is not None:
            counts[found.pk] = counts.get(found.pk, 0) + group.count
    return counts


def unexplained(known: Sequence[Group], entries: Sequence[Explanation]) -> list[tuple[Group, Explanation | None]]:
    """The groups for which no specific entry speaks, the biggest first, each with the general one that does."""
    found = ((group, best(entries, group.failure)) for group in known)
    return [(group, entry) for group, entry in found if entry is None or not entry.is_specific]


def telling_facts(group: Group) -> dict[str, str]:
    """What tells this group apart, by the names of an entry's fields; what is not known is left out."""
    failure = group.failure
    facts = {
        "source_name": failure.source_names[-1],
        "error_type": failure.error_type,
        "code_from": str(failure.code or ""),
        "words": _own_words(failure.text),
    }
    return {name: value for name, value in facts.items() if value}


def _own_words(text: str) -> str:
    """The longest piece of the provider's own words without a number in it."""
    own = text.partition(": ")[2].replace("…", "#")
    return max((piece.strip(" .,:;()") for piece in own.split("#")), key=len, default="")
