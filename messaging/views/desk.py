"""The desk as template context: the list of conversations, the open thread, its composer and what is known of its driver."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

from django.conf import settings
from django.http import Http404, HttpResponseRedirect, QueryDict

from messaging import live
from messaging.insight.health import health
from messaging.insight.meanings import rough_span
from messaging.models import Connection, Message, User
from messaging.models.outlook import ClosedGates
from messaging.rows import (
    EPOCH,
    InboxFilter,
    Row,
    fleets_sql,
    inbox_rows,
    keyset,
    micros,
    read_key,
    thread_rows,
    write_key,
)
from messaging.states import Priority
from messaging.threads import Head, head
from messaging.views.paused import of_connection

Context = dict[str, Any]
Key = tuple[datetime, int]
DESK = "messaging/desk.html"
LIST = "messaging/conversation_list.html"
THREAD = "messaging/conversation_thread.html"

SHOWS = {"all": "All", "unread": "Unread", "reply": "Needs reply", "attention": "Attention"}
# Rows of the whole list, and of the list beside an open thread.
LIST_SIZE, BESIDE_SIZE = 50, 25
# Failures on top of the unfiltered list; the rest is one link away.
MOST_PINNED = 5
# Above this many fleets the filter's select would cost more than the list.
MOST_FLEETS = 300


class SeeOther(HttpResponseRedirect):
    """The page after a form, asked for with GET."""

    status_code = 303


@dataclass(frozen=True, slots=True)
class Chosen:
    """The inbox filter of a URL with the fleets that this person may choose. What a URL says in error counts as not said."""

    show: str
    fleet_id: int | None
    priority: str
    before: Key | None
    after: Key | None
    fleets: list[tuple[int, str]]

    @property
    def is_narrow(self) -> bool:
        return self.show != "all" or self.fleet_id is not None or bool(self.priority)

    @property
    def is_first_page(self) -> bool:
        return self.before is None and self.after is None

    @property
    def rows(self) -> InboxFilter:
        return InboxFilter(self.show, self.fleet_id, self.priority, self.before, self.after)

    def query(self, **changed: str) -> str:
        """The filter as a query string without empty fields; without the page, unless `before` or `after` is given."""
        fields = {
            "show": "" if self.show == "all" else self.show,
            "fleet": str(self.fleet_id or ""),
            "priority": self.priority,
            **changed,
        }
        return urlencode({name: word for name, word in fields.items() if word})

    def url(self, **changed: str) -> str:
        query = self.query(**changed)
        return f"/?{query}" if query else "/"

    @property
    def words(self) -> str:
        """What was chosen, for people."""
        said = [SHOWS[self.show] if self.show != "all" else "", dict(self.fleets).get(self.fleet_id or 0, "")]
        return ", ".join(word for word in [*said, f"{self.priority} priority" if self.priority else ""] if word)

    def holds(self, row: Row) -> bool:
        """Whether a conversation belongs on this list."""
        return (
            (self.show != "unread" or row["is_unread"])
            and (self.show != "reply" or row["needs_reply"])
            and (self.show != "attention" or row["attention_count"] > 0)
            and (self.fleet_id is None or row["fleet_id"] == self.fleet_id)
            and (not self.priority or row["priority"] == self.priority)
        )


def look_at_desk(user: User, conversation_id: int | None = None) -> live.Glance:
    """A page's look, with the fleets that this person may choose from read along. One query."""
    return live.glance(user, live.Scope(conversation_id=conversation_id), along=fleets_sql(user, MOST_FLEETS))


def read_filter(look: live.Glance, query: QueryDict) -> Chosen:
    """The filter of an address, after `look_at_desk`."""
    return parse_filter(query, [(key, name) for key, name in look.along or ()])


def parse_filter(query: QueryDict, fleets: list[tuple[int, str]]) -> Chosen:
    show, fleet, priority = (query.get(name, "") for name in ("show", "fleet", "priority"))
    known = {str(key): key for key, _ in fleets}
    return Chosen(
        show=show if show in SHOWS else "all",
        fleet_id=known.get(fleet),
        priority=priority if priority in Priority.values else "",
        before=read_key(query.get("before", "")),
        after=read_key(query.get("after", "")),
        fleets=fleets,
    )


def list_context(user: User, chosen: Chosen, look: live.Glance, now: datetime, open_uuid: str = "") -> Context:
    """The list pane; `open_uuid` is the conversation beside it. One query, or two when the way back led to the top."""
    size = BESIDE_SIZE if open_uuid else LIST_SIZE
    has_pins = not chosen.is_narrow and chosen.is_first_page and look.attention
    page = inbox_rows(user, chosen.rows, now, look.gates, size, MOST_PINNED if has_pins else 0)
    if chosen.after and not page.has_more:
        # Walked back to the top: show the first page whole, not its remainder.
        return list_context(user, parse_filter(QueryDict(chosen.query()), chosen.fleets), look, now, open_uuid)
    above = {row["id"] for row in page.pinned}
    rows = [row for row in page.rows if row["id"] not in above]
    listed = rows[: size - len(above)]
    has_more = page.has_more or len(listed) < len(rows)
    return {
        "chosen": chosen,
        "open_uuid": open_uuid,
        "pinned": page.pinned,
        "pinned_total": look.attention or 0,
        "rows": listed,
        "newer": _newer(chosen, listed),
        "older": chosen.url(before=write_key(keyset(listed, "last_at", last=True))) if listed and has_more else "",
        "newest": str(micros(max((row["last_at"] for row in [*page.rows, *page.pinned]), default=EPOCH))),
        "strip": [(word, label, chosen.url(show="" if word == "all" else word)) for word, label in SHOWS.items()],
        "priorities": Priority.choices,
        "q": chosen.query() if chosen.is_first_page else chosen.query(page="2"),
    }


def _newer(chosen: Chosen, listed: list[Row]) -> str:
    if chosen.is_first_page:
        return ""
    return chosen.url(after=write_key(keyset(listed, "last_at", last=False))) if listed else chosen.url()


def find_head(user: User, uuid: UUID) -> Head:
    """Raises Http404 for a conversation that this person may not see. One query."""
    found = head(user, uuid)
    if found is None:
        raise Http404
    return found


def thread_context(user: User, found: Head, look: live.Glance, now: datetime, before: Key | None = None) -> Context:
    """The thread pane without its composer: the newest messages, or those before a key. One query."""
    rows, has_older = thread_rows(user, found.conversation.pk, now, look.gates, before)
    return {
        "address": found.address,
        "conversation": found.conversation,
        "driver": found.driver,
        "connection": found.connection,
        "bubbles": rows,
        "before": before,
        "oldest": write_key(keyset(rows, "occurred_at", last=False)),
        "older_key": write_key(keyset(rows, "occurred_at", last=False)) if has_older else "",
        "unread_from": None if before else _first_unread(rows, found.read_through),
        "read_through": found.unread_through,
        # A page of older messages does not show the newest: nobody can say there that those want no answer.
        **({} if before else found.waits),
        "is_opened": False,
        "seen": _newest(found, rows),
    }


def _newest(found: Head, rows: list[Row]) -> int:
    """The newest message that was there when the page was made: what comes after it, its reader has not seen."""
    known = (found.conversation.last_incoming_id, found.conversation.last_message_id)
    shown: list[int] = [row["id"] for row in rows]
    return max(*shown, *(key or 0 for key in known))


def _first_unread(rows: list[Row], read_through: int) -> int | None:
    return next((row["id"] for row in rows if row["is_incoming"] and row["id"] > read_through), None)


def context_pane(found: Head, gates: ClosedGates, now: datetime) -> Context:
    """What is known of the driver's connection: whether it can send, how it fares, how fresh its replies are."""
    connection = found.connection
    return {
        "connection_url": f"/connections/{connection.catena_id}/",
        "freshness": freshness(connection, now),
        "has_receipts": found.has_receipts,
        "health": health(connection.sending_obstacle, found.counts),
        "gate": gates.get(None) or gates.get(connection.pk),
        "paused": of_connection(gates, connection),
    }


def freshness(connection: Connection, now: datetime) -> str:
    """When replies were last read from the provider, and when next or why no more are, in a sentence or two."""
    if connection.reading_obstacle is None:
        return synced(connection, now)
    return f"{synced(connection, now)} {connection.reading_obstacle}"


def synced(connection: Connection, now: datetime) -> str:
    """When replies were last read from the provider, and when next, as a sentence."""
    last, following = connection.last_successful_execution_at, connection.next_execution_at
    if last is None:
        said = f"Catena does not say when it last read replies from {connection.provider}"
    else:
        said = f"Replies from {connection.provider} synced {rough_span(now - last)} ago"
    if last is None or following is None or connection.reading_obstacle is not None:
        return f"{said}."
    return f"{said}, next in {rough_span(following - now)}." if following > now else f"{said}, the next are due."


def composer_context(
    found: Head,
    *,
    text: str = "",
    priority: str = "medium",
    quote: Row | None = None,
) -> Context:
    """An empty composer, or one that keeps what was typed. Each form has its own token, so that it sends once."""
    return {
        "address": found.address,
        "obstacle": found.obstacle,
        "client_token": uuid4(),
        "text": text,
        "priority": priority if priority in Priority.values else Priority.MEDIUM.value,
        "priorities": Priority.choices,
        "quote": quote,
        "text_limit": str(settings.MESSAGE_TEXT_LIMIT),
        "unsettled": found.unsettled,
        "errors": (),
        "moved": None,
        "first_name": next(iter(found.driver.name.split()), "the driver"),
    }


def quoted(user: User, found: Head, key: str) -> Row | None:
    """The message of this conversation that a reply answers, as the composer shows it; None when it is not there."""
    message = message_in(user, found, key)
    if message is None:
        return None
    return {"uuid": message.uuid, "text": " ".join((message.text or "").split())[:160] or "(no text)"}


def message_in(user: User, found: Head, key: str) -> Message | None:
    """A message of this conversation by uuid; None for anything else."""
    if not key:
        return None
    try:
        wanted = UUID(key)
    except ValueError:
        return None
    return (
        Message.objects.visible_to(user).filter(conversation=found.conversation, uuid=wanted, deleted_at=None).first()
    )
