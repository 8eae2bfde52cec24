"""One question over ids, drivers and the words of messages. Reads only; every statement has a time limit.

All statements of one question share its time, so that no question, however hostile, takes longer than the limit.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import itemgetter
from typing import Any
from uuid import UUID

from django.db import OperationalError, connection, transaction
from django.db.models import Case, Count, F, Func, OuterRef, Q, Subquery, TextField, Value, When, Window
from django.db.models.functions import Cast
from psycopg.errors import QueryCanceled

from messaging.models import Conversation, FleetUser, Message, User
from messaging.models.directory import provider_name, visible_connections_sql
from messaging.models.outlook import DELIVERY_COLUMNS, ClosedGates, delivery_of
from messaging.models.wording import MOST_CHARACTERS, MOST_WORDS, query_of
from messaging.states import Badge, Direction

__all__ = ["MOST_CHARACTERS", "Answer", "DriverHit", "MessageHit", "look_up", "recent"]

TIME_LIMIT_SECONDS = 2.0
# A statement that would begin with less than this is not begun.
LEAST_SECONDS = 0.05
MOST_SHOWN = 20
# More matches than this are neither counted nor sorted: a further word helps, a thousand rows do not.
MOST_COUNTED = 1000
# Fewer digits than this are no phone number. A shorter id may as well be a word: it is listed and not opened.
FEWEST_DIGITS, SHORTEST_ID = 4, 6
# Fewer letters than this begin half of all words, so they are looked for as a whole word.
SHORTEST_BEGINNING = 3

UUID_SHAPE = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}(?![0-9a-f])", re.IGNORECASE)
# As people copy a header: `X-Request-Id: abc`.
HEADER_SHAPE = re.compile(r"[a-z][\w-]*id\s*[:=]\s*(\S.*)", re.IGNORECASE)
PHONE_SHAPE = re.compile(r"[\d\s()+./-]+", re.ASCII)

# Where an id may stand: what it then is, and the messages that have it. Each is served by an index of its own.
_OF_OPERATION = "SELECT m.id FROM messaging_operation o JOIN messaging_message m ON m.operation_id = o.id WHERE "
_PLACES_OF_UUID = (
    ("Message id", "SELECT id FROM messaging_message WHERE uuid = %(uuid)s"),
    ("Operation id", f"{_OF_OPERATION} o.catena_id = %(uuid)s"),
    ("Message record", "SELECT id FROM messaging_message WHERE catena_id = %(uuid)s"),
    ("Message record", f"{_OF_OPERATION} o.resource_id = %(uuid)s"),
    (
        "Operation id",
        "SELECT m.id FROM messaging_operation o JOIN messaging_message m ON m.catena_id = o.resource_id"
        " WHERE o.catena_id = %(uuid)s",
    ),
    (
        "Operation id",
        "SELECT a.message_id FROM messaging_operation o JOIN messaging_sendattempt a ON a.operation_id = o.id"
        " WHERE o.catena_id = %(uuid)s",
    ),
    (
        "Attempt id",
        "SELECT m.id FROM messaging_operationlog l JOIN messaging_message m ON m.operation_id = l.operation_id"
        " WHERE l.catena_id = %(uuid)s",
    ),
    (
        "Group message",
        "SELECT m.id FROM messaging_groupmessage g JOIN messaging_message m ON m.group_id = g.id"
        " WHERE g.catena_id = %(uuid)s",
    ),
)
_PLACES_OF_WORD = (
    ("Provider's id", "SELECT id FROM messaging_message WHERE source_id = %(word)s AND source_id <> ''"),
    ("Provider's id", f"{_OF_OPERATION} o.source_id = %(word)s AND o.source_id <> ''"),
    # By itself: for the first few of some thousands, which it takes it for, the database would read through all attempts.
    (
        "Request id",
        "WITH l AS MATERIALIZED (SELECT operation_id FROM messaging_operationlog"
        " WHERE request_ids @> ARRAY[%(word)s]::varchar[])"
        " SELECT m.id FROM l JOIN messaging_message m ON m.operation_id = l.operation_id",
    ),
)
_SHOWN = (
    "id", "uuid", "text", "sender_name", "created_at", "conversation__driver__name", "connection__description",
    *DELIVERY_COLUMNS,
)  # fmt: skip

Rows = list[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class MessageHit:
    """One message. `found_by` says which of its ids was asked for; empty when its words were."""

    id: int
    address: str
    driver: str
    connection: str
    is_incoming: bool
    text: str
    at: datetime
    badge: Badge
    found_by: str = ""


@dataclass(frozen=True, slots=True)
class DriverHit:
    """One driver of one connection. Without a conversation the address is that of a new message."""

    name: str
    username: str
    phone: str
    connection: str
    address: str
    last_at: datetime | None
    is_gone: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found, best first: ids, then drivers, then words.

    A total over MOST_COUNTED means "more than that". `is_cut_short`: the time was up before all was looked through.
    """

    words: tuple[str, ...]
    by_id: Sequence[MessageHit] = ()
    drivers: Sequence[DriverHit] = ()
    drivers_total: int = 0
    messages: Sequence[MessageHit] = ()
    messages_total: int = 0
    is_cut_short: bool = False
    jump: str = ""

    @property
    def total(self) -> int:
        return len(self.by_id) + self.drivers_total + self.messages_total

    @property
    def is_too_broad(self) -> bool:
        return self.is_cut_short or self.messages_total > MOST_COUNTED


class _Clock:
    """The time that is left for one question."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self.has_struck = False

    def run[T](self, read: Callable[[], T], otherwise: T) -> T:
        """What `read` answers within the time that is left; `otherwise` when there is none. Opens a transaction."""
        left = self._ends - time.monotonic()
        if left < LEAST_SECONDS:
            self.has_struck = True
            return otherwise
        try:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(int(left * 1000))])
                return read()
        except OperationalError as error:
            if not isinstance(error.__cause__, QueryCanceled):
                raise
            self.has_struck = True
            return otherwise


def look_up(user: User, text: str, now: datetime, gates: ClosedGates, seconds: float) -> Answer:
    """What this person may see of what was asked for, within `seconds`; never raises because of the text.

    `jump` is set when the whole text is an id of exactly one message.
    """
    asked = cleaned(text)
    words = tuple(word for word in asked.split() if any(map(str.isalnum, word)))[:MOST_WORDS]
    if not words:
        return Answer(())
    clock = _Clock(seconds)
    ids: dict[int, str] = clock.run(lambda: _ids(user, asked), {})
    drivers: Rows = clock.run(lambda: _drivers(user, asked, words), [])
    question = _question(asked)
    matches: list[tuple[int, datetime]] = clock.run(lambda: _matches(user, question), [])
    said = [one for one, _ in sorted(matches, key=itemgetter(1, 0), reverse=True)[:MOST_SHOWN]]
    if len(matches) > MOST_COUNTED:
        said = clock.run(lambda: _latest(user, question), said)
    wanted = [*ids, *(one for one in said if one not in ids)]
    shown: dict[int, MessageHit] = clock.run(lambda: _messages(user, wanted, now, gates), {})
    by_id = [_named(shown[one], label) for one, label in ids.items() if one in shown]
    messages = sorted((shown[one] for one in said if one in shown), key=lambda hit: (hit.at, hit.id), reverse=True)
    return Answer(
        words=words,
        by_id=by_id,
        drivers=[_driver_hit(row) for row in drivers],
        drivers_total=drivers[0]["total"] if drivers else 0,
        messages=messages,
        messages_total=len(matches),
        is_cut_short=clock.has_struck,
        jump=by_id[0].address if len(by_id) == 1 and len(asked) >= SHORTEST_ID and not clock.has_struck else "",
    )


def cleaned(text: str) -> str:
    """What PostgreSQL can take of the text: at most MOST_CHARACTERS, no NUL, no lone surrogate, one space for many."""
    storable = text[:MOST_CHARACTERS].replace("\0", " ").encode("utf-8", "ignore").decode()
    return " ".join(storable.split())


def recent(user: User, size: int = 12) -> list[DriverHit]:
    """The conversations in which something was said last. One query."""
    rows = (
        Conversation.objects.visible_to(user)
        .filter(last_at__isnull=False)
        .order_by(F("last_at").desc(nulls_last=True), "-id")
        .values(
            "uuid", "last_at", "driver__name", "driver__username", "driver__phone_number", "driver__deleted_at",
            "connection__description", "connection__tsp_slug", "connection__source_name",
        )[:size]
    )  # fmt: skip
    return [
        DriverHit(
            name=row["driver__name"],
            username=row["driver__username"],
            phone=row["driver__phone_number"],
            connection=_connection_label(row),
            address=f"/c/{row['uuid']}/",
            last_at=row["last_at"],
            is_gone=row["driver__deleted_at"] is not None,
        )
        for row in rows
    ]


def _ids(user: User, asked: str) -> dict[int, str]:
    """The messages that have this id, the best place first, with the name of the place."""
    found = UUID_SHAPE.search(asked)
    header = HEADER_SHAPE.fullmatch(asked)
    values = {
        "uuid": UUID(found[0]) if found else None,
        "word": (header[1] if header else asked).strip("\"'`,;"),
        "user": user.pk,
    }
    places = [*(_PLACES_OF_UUID if found else ()), *_PLACES_OF_WORD]
    seen = visible_connections_sql(user, "v.connection_id")
    parts = " UNION ALL ".join(
        f"(SELECT v.id, {place} AS place FROM ({sql}) f(id) JOIN messaging_message v ON v.id = f.id"  # noqa: S608 (our own words)
        f" WHERE v.deleted_at IS NULL AND {seen} LIMIT {MOST_SHOWN})"
        for place, (_, sql) in enumerate(places)
    )
    sql = (
        f"SELECT h.id, min(h.place) FROM ({parts}) h"  # noqa: S608 (our own words)
        f" GROUP BY h.id ORDER BY 2, 1 DESC LIMIT {MOST_SHOWN}"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return {row[0]: places[row[1]][0] for row in cursor.fetchall()}


def _drivers(user: User, asked: str, words: Iterable[str]) -> Rows:
    """Those whose name and user name hold every word, or whose phone number has these digits; the likeliest first."""
    digits_of = Func(F("phone_number"), Value(r"\D"), Value(""), Value("g"), function="regexp_replace")
    named = Q()
    for word in words:
        named &= Q(name__icontains=word) | Q(username__icontains=word)
    digits = "".join(filter(str.isdigit, asked)).lstrip("0") if PHONE_SHAPE.fullmatch(asked) else ""
    known = named | Q(source_id=asked)
    if len(digits) >= FEWEST_DIGITS:
        known |= Q(digits__contains=digits)
    if found := UUID_SHAPE.search(asked):
        known |= Q(catena_id=UUID(found[0]))
    place = Case(
        When(Q(name__iexact=asked) | Q(username__iexact=asked) | Q(source_id=asked), then=0),
        When(Q(name__istartswith=asked), then=1),
        default=2,
    )
    talk = Conversation.objects.filter(driver_id=OuterRef("pk"), connection_id=OuterRef("connection_id"))
    rows = (
        FleetUser.objects.visible_to(user)
        .exclude(is_driver=False)
        .annotate(digits=Cast(digits_of, TextField()))
        .filter(known)
        .annotate(
            place=place,
            total=Window(Count("pk")),
            talk=Subquery(talk.values("uuid")[:1]),
            last_at=Subquery(talk.values("last_at")[:1]),
        )
        .order_by("place", F("last_at").desc(nulls_last=True), "name", "id")
    )
    listed: Iterable[Mapping[str, Any]] = rows.values(
        "name", "username", "phone_number", "catena_id", "deleted_at", "talk", "last_at", "total",
        "connection__description", "connection__tsp_slug", "connection__source_name",
    )[:MOST_SHOWN]  # fmt: skip
    return list(listed)


def _driver_hit(row: Mapping[str, Any]) -> DriverHit:
    return DriverHit(
        name=row["name"],
        username=row["username"],
        phone=row["phone_number"],
        connection=_connection_label(row),
        address=f"/c/{row['talk']}/" if row["talk"] else f"/compose/?recipient={row['catena_id']}",
        last_at=row["last_at"],
        is_gone=row["deleted_at"] is not None,
    )


def _matches(user: User, question: str | None) -> list[tuple[int, datetime]]:
    """Up to MOST_COUNTED and one messages with these words, in no order, and when they were said."""
    if question is None:
        return []
    sql = f"SELECT w.message_id, w.occurred_at {_matching_sql(user)} LIMIT {MOST_COUNTED + 1}"
    with connection.cursor() as cursor:
        cursor.execute(sql, {"question": question, "user": user.pk})
        rows: list[tuple[int, datetime]] = cursor.fetchall()
    return rows


def _latest(user: User, question: str | None) -> list[int]:
    """The messages with these words that reached us last: read backwards until there are enough, nothing is sorted."""
    sql = f"SELECT w.message_id {_matching_sql(user)} ORDER BY w.message_id DESC LIMIT {MOST_SHOWN}"
    with connection.cursor() as cursor:
        cursor.execute(sql, {"question": question, "user": user.pk})
        return [row[0] for row in cursor.fetchall()]


def _matching_sql(user: User) -> str:
    seen = visible_connections_sql(user, "w.connection_id")
    return f"FROM messaging_messagewords w WHERE w.vector @@ to_tsquery('simple', %(question)s) AND {seen}"


def _question(asked: str) -> str | None:
    question = query_of(asked)
    words = asked.split()[:MOST_WORDS]
    if question is not None and len(words[-1]) < SHORTEST_BEGINNING:
        return question.removesuffix(":*")
    return question


def _messages(user: User, ids: Iterable[int], now: datetime, gates: ClosedGates) -> dict[int, MessageHit]:
    known = Message.objects.visible_to(user).filter(pk__in=list(ids), deleted_at=None)
    return {row["id"]: _message_hit(row, delivery_of(row, now, gates)) for row in known.values(*_SHOWN)}


def _message_hit(row: Mapping[str, Any], badge: Badge) -> MessageHit:
    return MessageHit(
        id=row["id"],
        address=f"/m/{row['uuid']}/",
        driver=row["conversation__driver__name"],
        connection=_connection_label(row),
        is_incoming=row["direction"] == Direction.IN,
        text=row["text"] or "",
        at=row["occurred_at"],
        badge=badge,
    )


def _named(hit: MessageHit, label: str) -> MessageHit:
    return replace(hit, found_by=label)


def _connection_label(row: Mapping[str, Any]) -> str:
    own = row["connection__description"]
    return str(own or provider_name(row["connection__tsp_slug"] or row["connection__source_name"] or ""))
