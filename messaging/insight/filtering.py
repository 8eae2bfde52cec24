"""The filter of the operations list as it stands in an address: read, written, and told in words. Touches no message."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Q
from django.http import QueryDict
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.timezone import get_current_timezone, localtime, make_aware

from messaging.insight.listing import NO_CODE, NONE, RANGES, USUAL_RANGE, Key, OperationFilter, Row, provider_q
from messaging.insight.meanings import ERROR_TYPES
from messaging.insight.situations import ATTENTION, FAILURES, PENDING, WORDS
from messaging.mirror.redaction import storable_text
from messaging.models import Connection, User
from messaging.models.directory import ConnectionQuerySet
from messaging.models.wording import MOST_CHARACTERS, query_of
from messaging.states import SITUATIONS, Priority

EPOCH = datetime.fromtimestamp(0, UTC)
# The filter's selects list at most this many connections.
MOST_CHOICES = 300
# Fields of the filter in an address, in the order of the form. `before` and `after` say which page.
NAMES = (
    "text", "status", "fleet", "connection", "provider", "range", "from", "to", "error", "code", "priority", "sender", "driver",
    "cause",
)  # fmt: skip
LONGEST = {"text": MOST_CHARACTERS, "sender": 100, "driver": 100, "error": 50, "cause": 200}
# With all its fields at their longest an address stays under what a saved view can hold.
LONGEST_QUERY = 1000
MISREAD = "Part of the filter was not understood, so nothing was done. Correct it here and press again."
STATUS_CHOICES = [
    (ATTENTION, "Needs attention"),
    (PENDING, "Pending"),
    (FAILURES, "Failed or not sent"),
    *[(word, SITUATIONS[word].short or "Unknown status") for word in WORDS],
]
RANGE_CHOICES = [("24h", "Last 24 hours"), ("7d", "Last 7 days"), ("30d", "Last 30 days"), ("all", "Any time")]
ERROR_CHOICES = [*ERROR_TYPES.items(), (NONE, "No error type")]
LABELS = {
    "text": "Text", "status": "Status", "fleet": "Fleet", "connection": "Connection", "provider": "Provider", "range": "Time",
    "from": "From", "to": "To", "error": "Error type", "code": "Provider code", "priority": "Priority", "sender": "Written by",
    "driver": "Driver", "cause": "Cause",
}  # fmt: skip


def visible_connections(user: User, query: QueryDict) -> list[Connection]:
    """The connections that this person's filter may name, with their fleets: the first MOST_CHOICES, and what `query` names
    beyond them. One query, and a second one only beyond them.
    """
    own = Connection.objects.visible_to(user).select_related("fleet")
    listed = list(own[:MOST_CHOICES])
    return listed if len(listed) < MOST_CHOICES else [*listed, *_named(own, query, listed)]


def _named(own: ConnectionQuerySet, query: QueryDict, listed: Sequence[Connection]) -> Iterator[Connection]:
    """One connection for each fleet and provider in the query, and the connection itself, unless they are listed."""
    named = {
        "catena_id": _uuid(words_of(query, "connection")),
        "fleet__catena_id": _uuid(words_of(query, "fleet")),
    }
    wanted = [Q(**{field: value}) for field, value in named.items() if value is not None]
    if provider := words_of(query, "provider"):
        wanted.append(provider_q(provider))
    known = {one.pk for one in listed}
    parts = [own.filter(condition).order_by()[:1] for condition in wanted]
    found = parts[0].union(*parts[1:]) if parts else ()
    yield from (one for one in found if one.pk not in known)


def _uuid(word: str) -> UUID | None:
    try:
        return UUID(word)
    except ValueError:
        return None


def read_filter(query: QueryDict, connections: Sequence[Connection]) -> OperationFilter:
    """The filter that an address means. What it does not understand, or the person may not see, counts as not chosen.

    `connections` are those that the person sees. A moment without a zone is one of the active time zone.
    """
    asked = {name: words_of(query, name) for name in NAMES}
    slugs = {slug_of(one) for one in connections}
    return OperationFilter(
        status=_known(asked["status"], {word for word, _ in STATUS_CHOICES}),
        fleet_id={str(one.fleet.catena_id): one.fleet.pk for one in connections if one.fleet}.get(asked["fleet"]),
        connection_id={str(one.catena_id): one.pk for one in connections}.get(asked["connection"]),
        provider=_known(asked["provider"], slugs),
        priority=_known(asked["priority"], set(Priority.values)),
        error=asked["error"],
        code=_code(asked["code"]),
        cause=asked["cause"],
        sender=asked["sender"],
        driver=asked["driver"],
        text=asked["text"] if query_of(asked["text"]) else "",
        span=_known(asked["range"], set(RANGES)) or USUAL_RANGE,
        **_window(asked["from"], asked["to"]),
        before=read_key(query.get("before", "")),
        after=read_key(query.get("after", "")),
    )


def words_of(query: QueryDict, name: str) -> str:
    """What stands in a field: as it can be stored, without outer blanks, cut to its length."""
    # A cause is compared as it is: its blanks are part of it.
    word = storable_text(query.get(name, ""))
    return word[: LONGEST["cause"]] if name == "cause" else word.strip()[: LONGEST.get(name, 100)]


def refusals(query: QueryDict, chosen: OperationFilter) -> list[str]:
    """What the address says and `read_filter` left out, as sentences for the page."""
    return [f"{LABELS[name]}: {_quoted(words_of(query, name))} {why}." for name, why in _left_out(query, chosen)]


def is_misread(typed: str, query: QueryDict, chosen: OperationFilter) -> bool:
    """Whether a filter means more than it says: a field was left out, or `typed` is too long to be read whole.

    A page may show such a filter and say so. What acts on a filter must refuse it.
    """
    return bool(refusals(query, chosen)) or len(typed) > LONGEST_QUERY


def _quoted(word: str) -> str:
    return f"“{word}”"


def _left_out(query: QueryDict, chosen: OperationFilter) -> Iterator[tuple[str, str]]:
    unknown, unseen = "is not known here", "is none that you can see"
    since, until = read_moment(words_of(query, "from")), read_moment(words_of(query, "to"), is_end=True)
    rules: list[tuple[str, bool, str]] = [
        ("text", not chosen.text, "holds no word to look for"),
        ("status", not chosen.status, unknown),
        ("fleet", chosen.fleet_id is None, unseen),
        ("connection", chosen.connection_id is None, unseen),
        ("provider", not chosen.provider, unseen),
        ("range", words_of(query, "range") not in RANGES, unknown),
        ("from", since is None, "is no date"),
        ("to", until is None, "is no date"),
        ("to", since is not None and until is not None and chosen.until is None, "is not after the beginning"),
        ("code", chosen.code is None, "is no status code"),
        ("priority", not chosen.priority, unknown),
    ]
    yield from ((name, why) for name, is_out, why in rules if is_out and words_of(query, name))


def canonical_query(query: QueryDict, **changed: str) -> str:
    """The filter as a query string without empty fields and without a page; `changed` sets fields, or takes them away.

    Moments become UTC, so that the address means the same to everybody who opens it.
    """
    asked = {name: words_of(query, name) for name in NAMES}
    asked |= {
        name: written_moment(asked[name], is_end=name == "to")
        for name in ("from", "to")
        if asked[name] and name not in changed
    }
    if asked["range"] == USUAL_RANGE or asked["from"] or asked["to"]:
        del asked["range"]
    return urlencode({name: value for name, value in {**asked, **changed}.items() if value})


def told_filter(query: QueryDict, connections: Sequence[Connection]) -> str:
    """The filter in words, for a page's heading or a report; empty when nothing is chosen."""
    choices = {name: dict(listed) for name, listed in choices_of(connections).items()}
    said = []
    for name in NAMES:
        word = words_of(query, name)
        if word and not (name == "range" and word == USUAL_RANGE):
            said.append(f"{LABELS[name]}: {choices.get(name, {}).get(word) or shown_moment(word, name) or word}")
    return ", ".join(said)


def choices_of(connections: Sequence[Connection]) -> dict[str, list[tuple[str, str]]]:
    """Values and words of each field that offers a choice."""
    providers = sorted({(slug_of(one), one.provider) for one in connections}, key=lambda pair: pair[1])
    return {
        "status": STATUS_CHOICES,
        "fleet": list({str(one.fleet.catena_id): one.fleet.name for one in connections if one.fleet}.items()),
        "connection": [(str(one.catena_id), one.label) for one in connections],
        "provider": providers,
        "range": RANGE_CHOICES,
        "error": ERROR_CHOICES,
        "priority": [(word, str(label)) for word, label in Priority.choices],
    }


def slug_of(connection: Connection) -> str:
    return connection.tsp_slug or connection.source_name


def _known(word: str, words: set[str]) -> str:
    return word if word in words else ""


def _code(word: str) -> int | None:
    if word == NONE:
        return NO_CODE
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 4 and int(word) != NO_CODE else None


def _window(first: str, last: str) -> dict[str, datetime | None]:
    """`since` and `until`; an end that is not after the beginning is left out."""
    since, until = read_moment(first), read_moment(last, is_end=True)
    if since is not None and until is not None and until <= since:
        until = None
    return {"since": since, "until": until}


def read_moment(word: str, *, is_end: bool = False) -> datetime | None:
    """A date, or a date and a time; without a zone in the active one. A date as an end means the end of that day."""
    try:
        day = parse_date(word)
        moment = None if day is None else datetime.combine(day, time.min) + timedelta(days=int(is_end))
        moment = moment or parse_datetime(word)
    except (ValueError, OverflowError):
        return None
    # Nothing was sent outside these years, and at the ends of the calendar a moment has no place in every zone.
    if moment is None or not 1970 < moment.year < 9000:
        return None
    return moment if moment.tzinfo else make_aware(moment, get_current_timezone())


def written_moment(word: str, *, is_end: bool = False) -> str:
    """A moment for an address, in UTC; what is none stays as it is, to be refused by name."""
    moment = read_moment(word, is_end=is_end)
    return word if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def field_moment(word: str, *, is_end: bool = False) -> str:
    """A moment as a `datetime-local` field takes it, in the active time zone; empty for what is none."""
    moment = read_moment(word, is_end=is_end)
    return "" if moment is None else f"{localtime(moment):%Y-%m-%dT%H:%M}"


def shown_moment(word: str, name: str) -> str:
    moment = read_moment(word, is_end=name == "to") if name in {"from", "to"} else None
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def read_key(text: str) -> Key | None:
    """The keyset `microseconds.id` of an address; None for anything else."""
    at, _, pk = text.partition(".")
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in (at, pk)):
        return None
    try:
        return EPOCH + timedelta(microseconds=int(at)), int(pk)
    except OverflowError:
        return None


def write_key(row: Row) -> str:
    return f"{micros(row['occurred_at'])}.{row['id']}"


def micros(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)
