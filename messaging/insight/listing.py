"""The rows of the operations list: every outgoing message, filtered, in pages of constant cost."""

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from django.contrib.postgres.search import SearchQuery
from django.db.models import BooleanField, F, JSONField, Q, QuerySet, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Concat

from messaging.insight.figures import figures_sql
from messaging.insight.situations import ATTENTION, situation_q
from messaging.models import Connection, Conversation, Message, MessageWords, User
from messaging.models.directory import provider_name
from messaging.models.outlook import DELIVERY_COLUMNS, ClosedGates, delivery_of
from messaging.models.wording import query_of

Row = dict[str, Any]
Key = tuple[datetime, int]
PAGE_SIZE = 50
# Unhandled failures that the unfiltered list shows on top; the rest is one link away.
MOST_ATTENTION = 20
SNIPPET_LENGTH = 160
# So many keys stand in a statement as numbers.
MOST_KEYS = 2000
# How far back the list looks, by the word in the URL; None looks at everything.
RANGES: dict[str, timedelta | None] = {
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "all": None,
}
USUAL_RANGE = "7d"
# What stands for "it has none" in the fields whose emptiness means "any".
NONE = "none"
NO_CODE = 0

_COLUMNS = (
    *DELIVERY_COLUMNS,
    "id", "uuid", "text", "priority", "error_type", "response_status_code", "attempt_count", "handled_at",
    "sender_name", "author__first_name", "author__last_name", "author__username",
    "conversation__driver__name", "connection__description", "connection__fleet__name",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OperationFilter:
    """What the list shows; empty means everything. `status` is a situation's key or one of the wider words.

    `error`, `code` and `cause` are exact, with NONE or NO_CODE for "it has none"; `sender` and `driver` are words of a name;
    `text` is words of the message. With `since` or `until`, `span` says nothing.
    """

    status: str = ""
    fleet_id: int | None = None
    connection_id: int | None = None
    provider: str = ""
    priority: str = ""
    error: str = ""
    code: int | None = None
    cause: str = ""
    sender: str = ""
    driver: str = ""
    text: str = ""
    span: str = USUAL_RANGE
    since: datetime | None = None
    until: datetime | None = None
    before: Key | None = None  # keyset: time and id of the last row of the page before
    after: Key | None = None  # keyset backwards: the first row of the page after

    @property
    def is_usual(self) -> bool:
        """Nothing chosen: failures are gathered on top."""
        bare = replace(self, before=None, after=None)
        return all(getattr(bare, one.name) == one.default for one in fields(bare))


def outgoing(user: User, chosen: OperationFilter, now: datetime, gates: ClosedGates) -> "QuerySet[Message]":
    """The messages that the filter means, without order and page.

    Asks one small query first when `driver`, `sender` or `text` is chosen: what stands in the statement as numbers lets the
    database see how few there are, where a subquery has it walk through all messages to find none.
    """
    found = Message.objects.visible_to(user).outgoing().filter(_time_q(chosen, now), deleted_at=None)
    if chosen.status:
        found = found.filter(situation_q(chosen.status, now, gates))
    if chosen.provider:
        found = found.filter(connection__in=Connection.objects.filter(provider_q(chosen.provider)))
    named = few(_named(user, chosen))
    if isinstance(named.get("pk__in"), QuerySet) and _is_short(chosen):
        del named["pk__in"]
        found = found.filter(_says(chosen.text))
    return found.filter(**_plain(chosen), **named)


def _time_q(chosen: OperationFilter, now: datetime) -> Q:
    since, reach = chosen.since, RANGES[chosen.span]
    if since is None and chosen.until is None and reach is not None:
        since = now - reach
    asked = Q() if since is None else Q(occurred_at__gte=since)
    return asked if chosen.until is None else asked & Q(occurred_at__lt=chosen.until)


def _plain(chosen: OperationFilter) -> dict[str, Any]:
    """The fields that are equal to a column."""
    wanted: dict[str, Any] = {
        "connection__fleet_id": chosen.fleet_id,
        "connection_id": chosen.connection_id,
        "priority": chosen.priority or None,
        "error_type": _or_none(chosen.error),
        "cause": _or_none(chosen.cause),
        "response_status_code": chosen.code or None,
    }
    plain = {name: value for name, value in wanted.items() if value is not None}
    return plain | ({"response_status_code": None} if chosen.code == NO_CODE else {})


def _or_none(word: str) -> str | None:
    """What a column must be: None for anything, empty for "it has none"."""
    return ("" if word == NONE else word) if word else None


def provider_q(word: str) -> Q:
    """Connections of the provider with this slug."""
    return Q(tsp_slug=word) | Q(tsp_slug="", source_name=word)


def words_q(column: str, typed: str) -> Q:
    """Rows whose column holds every word, in any order, without regard to case."""
    found = Q()
    for word in typed.split():
        found &= Q(**{f"{column}__icontains": word})
    return found


def _named(user: User, chosen: OperationFilter) -> "dict[str, QuerySet[Any]]":
    """What the words of the filter stand for, by the lookup that it belongs to."""
    named: dict[str, QuerySet[Any]] = {}
    if chosen.driver:
        talks = Conversation.objects.visible_to(user).filter(words_q("driver__name", chosen.driver))
        named["conversation__in"] = talks
    if chosen.sender:
        named["author__in"] = people_named(chosen.sender)
    if chosen.text:
        named["pk__in"] = _saying(chosen.text)
    return named


def _is_short(chosen: OperationFilter) -> bool:
    reach = RANGES[chosen.span]
    return chosen.since is None and chosen.until is None and reach is not None and reach <= timedelta(days=7)


def _says(text: str) -> RawSQL:
    """Whether a message says a text, asked of each by itself: of a few days that is cheaper than all that ever said it."""
    return RawSQL(
        "(SELECT w.vector @@ to_tsquery('pg_catalog.simple', %s) FROM messaging_messagewords w"
        " WHERE w.message_id = messaging_message.id)",
        (query_of(text),),
        BooleanField(),
    )


def few(named: "dict[str, QuerySet[Any]]") -> "dict[str, list[int] | QuerySet[Any]]":
    """Each as its keys when they are MOST_KEYS at most, and as the subquery that it was otherwise. One query, or none."""
    if not named:
        return {}
    asked = [
        found.order_by().annotate(lookup=Value(lookup)).values_list("lookup", "pk")[: MOST_KEYS + 1]
        for lookup, found in named.items()
    ]
    keys: dict[str, list[int]] = {lookup: [] for lookup in named}
    # Without an order: the union would ask for that of its first model.
    for lookup, key in asked[0].union(*asked[1:], all=True).order_by() if len(asked) > 1 else asked[0]:
        keys[lookup].append(key)
    return {
        lookup: keys[lookup] if len(keys[lookup]) <= MOST_KEYS else found.order_by().values("pk")
        for lookup, found in named.items()
    }


def people_named(typed: str) -> "QuerySet[User]":
    """People with every word in their name or username."""
    label = Concat(F("first_name"), Value(" "), F("last_name"), Value(" "), F("username"))
    return User.objects.alias(label_words=label).filter(words_q("label_words", typed))


def _saying(text: str) -> "QuerySet[MessageWords]":
    """The messages of any time that say the text, whoever may see them. Without a bound in time the database need not read
    all that say a common word to find enough of them.
    """
    query = query_of(text)
    if query is None:
        return MessageWords.objects.none()
    asked = SearchQuery(query, config="pg_catalog.simple", search_type="raw")
    return MessageWords.objects.filter(vector=asked)


def page(user: User, chosen: OperationFilter, now: datetime, gates: ClosedGates) -> tuple[list[Row], bool]:
    """One page, newest first, and whether more lie beyond it in the direction of travel. One query.

    The unfiltered list leaves out what `attention` shows above it.
    """
    found = outgoing(user, chosen, now, gates)
    if chosen.is_usual:
        found = found.exclude(situation_q(ATTENTION, now, gates))
    if chosen.after:
        at, pk = chosen.after
        found = found.filter(Q(occurred_at__gt=at) | Q(id__gt=pk), occurred_at__gte=at).order_by("occurred_at", "id")
    else:
        if chosen.before:
            at, pk = chosen.before
            # The bare comparison gives the index its starting point, the other one the exact row.
            found = found.filter(Q(occurred_at__lt=at) | Q(id__lt=pk), occurred_at__lte=at)
        found = found.order_by("-occurred_at", "-id")
    rows = read_rows(found, PAGE_SIZE + 1, now, gates)
    shown = rows[:PAGE_SIZE]
    return (shown[::-1] if chosen.after else shown), len(rows) > PAGE_SIZE


def attention(user: User, now: datetime, gates: ClosedGates) -> list[Row]:
    """The newest unhandled failures of any age, one more than MOST_ATTENTION when there are more. One query."""
    found = outgoing(user, OperationFilter(status=ATTENTION, span="all"), now, gates).order_by("-occurred_at", "-id")
    return read_rows(found, MOST_ATTENTION + 1, now, gates)


def read_rows(found: "QuerySet[Message]", most: int, now: datetime, gates: ClosedGates) -> list[Row]:
    return [_row(row, now, gates) for row in found.values(*_COLUMNS)[:most]]


def read_changed(user: User, found: "QuerySet[Message]", most: int, now: datetime, gates: ClosedGates) -> list[Row]:
    """The same, newest first, each row with the `figures` of this moment for `figures.parse`. Still one query."""
    carried = RawSQL(figures_sql(user), (), JSONField())  # noqa: S611 (constants and an integer key)
    rows = found.order_by("-occurred_at", "-id").annotate(figures=carried).values(*_COLUMNS, "figures")[:most]
    return [_row(row, now, gates) for row in rows]


def _row(row: Row, now: datetime, gates: ClosedGates) -> Row:
    """Adds what the template prints, so that its loop only prints."""
    row["url"] = f"/m/{row['uuid']}/"
    row["driver"] = row["conversation__driver__name"]
    row["label"] = row["connection__description"] or provider_name(
        row["connection__tsp_slug"] or row["connection__source_name"]
    )
    row["fleet"] = row["connection__fleet__name"] or ""
    row["badge"] = delivery_of(row, now, gates)
    row["snippet"] = " ".join((row["text"] or "").split())[:SNIPPET_LENGTH]
    row["author"] = _author(row)
    return row


def _author(row: Row) -> str:
    name = f"{row['author__first_name'] or ''} {row['author__last_name'] or ''}".strip()
    return name or str(row["author__username"] or row["sender_name"] or "")
