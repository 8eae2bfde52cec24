"""The rows of the inbox and of a thread as the screen shows them, read in one statement each.

The page and the live poll read the same rows here, so that a row has one meaning. Each row is a plain dictionary ready
for its template: no query, no attribute chain and no formatting is left for the loop that prints it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from django.db import connection
from django.utils.timezone import get_current_timezone

from messaging.access import may_withdraw
from messaging.insight.explanations import title_of
from messaging.live import CHANGED_BESIDE, HELD, MOST_CHANGES, Cursor, changed_sql, cursor_parameters
from messaging.models import User
from messaging.models.conversation import READ_THROUGH_SQL, unsettled_head_sql
from messaging.models.directory import provider_name, sees_every_fleet, visible_connections_sql
from messaging.models.explanations import STAMP_SQL
from messaging.models.outlook import ClosedGates, delivery_of
from messaging.models.people import name_sql
from messaging.models.statements import prepared_cursor
from messaging.states import (
    CANCELLABLE_STATES,
    LIVELY_STATES,
    REPEATABLE_STATES,
    RESENDABLE_STATES,
    Direction,
    MessageState,
    held_up,
)

Row = dict[str, Any]
PAGE_SIZE = 50
# The sender of a run is named once; a pause this long, or another author, starts a new run.
RUN_GAP_SECONDS = 5 * 60

_DELIVERY = """
  {m}.direction AS "{p}direction", {m}.state AS "{p}state", {m}.operation_status AS "{p}operation_status",
  {m}.reason AS "{p}reason", {m}.failed_attempts AS "{p}failed_attempts", {m}.occurred_at AS "{p}occurred_at",
  {m}.accepted_at AS "{p}accepted_at", {m}.not_before AS "{p}not_before", {m}.claim_count AS "{p}claim_count",
  {m}.delivered_at AS "{p}delivered_at", {m}.read_at AS "{p}read_at", {m}.record_status AS "{p}record_status",
  {m}.escalated_at AS "{p}escalated_at", {m}.corrected_at AS "{p}corrected_at", {m}.is_sent_twice AS "{p}is_sent_twice",
  {m}.group_size AS "{p}group_size",
  {s}.first_name AS "{p}settled_by__first_name", {s}.last_name AS "{p}settled_by__last_name",
  {s}.username AS "{p}settled_by__username", {m}.connection_id AS "{p}connection_id",
  n.tsp_slug AS "{p}connection__tsp_slug", n.source_name AS "{p}connection__source_name" """

# A list tells when its last message was composed by `last_at`; only a late one needs it for its badge.
_LATE_SINCE = "CASE WHEN m.escalated_at IS NOT NULL THEN m.occurred_at END"

_CONVERSATION = f"""
SELECT FALSE AS is_pin, c.id, c.uuid::text AS uuid, d.name AS driver, n.description, c.last_at, c.last_text, c.attention_count,
  c.unanswered_since IS NOT NULL AS needs_reply,
  c.last_incoming_id > {READ_THROUGH_SQL} AS is_unread, m.id AS last_id, m.priority, m.author_id,
  n.fleet_id, CASE WHEN m.author_id = %(user)s THEN m.settled_at END AS settled_at,
  {_DELIVERY.format(m="m", p="last__", s="s").replace("m.occurred_at", _LATE_SINCE)}
FROM messaging_conversation c
JOIN messaging_connection n ON n.id = c.connection_id
JOIN messaging_fleetuser d ON d.id = c.driver_id
LEFT JOIN messaging_message m ON m.id = c.last_message_id
LEFT JOIN messaging_user s ON s.id = m.settled_by_id
LEFT JOIN messaging_readmark r ON r.conversation_id = c.id AND r.user_id = %(user)s
"""


_MESSAGE = f"""
SELECT m.id, m.uuid::text AS uuid, m.conversation_id, m.text, m.priority, m.author_id, m.sender_name, m.handled_at, m.is_test,
  CASE WHEN m.direction = 'in' AND m.sender_name = '' THEN left(m.raw->>'sender_id', 8) END AS sender_short,
  a.first_name AS author__first_name, a.last_name AS author__last_name, a.username AS author__username,
  q.uuid::text AS quote_uuid, q.text AS quote_text, m.handled_note, {name_sql("h")} AS handled_by, m.handled_by_id,
  o.uuid::text AS repeats_uuid, o.occurred_at AS repeats_at,
  CASE WHEN m.state = 'waiting' THEN {unsettled_head_sql("m")} END AS behind,
  m.error_type, m.response_status_code, m.cause,
  CASE WHEN m.state IN ('failed', 'rejected', 'expired') THEN {STAMP_SQL} END AS entries_stamp,
  r.uuid::text AS again_uuid, r.occurred_at AS again_at, r.author_id AS again_by_id, r.author AS again_by,
  {_DELIVERY.format(m="m", p="", s="s")}
FROM messaging_message m
JOIN messaging_connection n ON n.id = m.connection_id
LEFT JOIN messaging_user a ON a.id = m.author_id
LEFT JOIN messaging_user s ON s.id = m.settled_by_id
LEFT JOIN messaging_user h ON h.id = m.handled_by_id
LEFT JOIN messaging_message o ON o.id = m.retry_of_id
LEFT JOIN LATERAL (SELECT x.uuid, x.occurred_at, x.author_id, {name_sql("u")} AS author
  FROM messaging_message x JOIN messaging_user u ON u.id = x.author_id
  WHERE x.retry_of_id = m.id AND x.state <> 'cancelled'
    AND (m.handled_at IS NOT NULL OR m.state IN ('failed', 'rejected', 'expired'))
  ORDER BY x.id DESC LIMIT 1) r ON TRUE
LEFT JOIN messaging_message q ON q.id = m.reply_to_id AND q.deleted_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class InboxFilter:
    """What the inbox shows. `show` is `all`, `unread`, `reply` or `attention`; `fleet_id` None means every visible fleet."""

    show: str = "all"
    fleet_id: int | None = None
    priority: str = ""
    before: tuple[datetime, int] | None = None  # keyset: the last_at and id of the last row of the page before
    after: tuple[datetime, int] | None = None  # keyset backwards: the first row of the page after


# The column names of a statement, by its text: describing thirty columns costs as much as reading twenty rows.
_names: dict[str, tuple[str, ...]] = {}
MOST_NAMED = 200


def read(sql: str, parameters: dict[str, Any], *, is_planned_once: bool = True) -> list[Row]:
    """The rows of a statement by its columns' names. One query.

    `is_planned_once` False has it planned anew, for its values: where one plan for all of them would be a bad one.
    """
    with prepared_cursor() if is_planned_once else connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        names = _names.get(sql)
        if names is None:
            if len(_names) >= MOST_NAMED:
                _names.clear()
            names = _names[sql] = tuple(column.name for column in cursor.description or ())
        return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class _Viewer:
    """Who looks at messages, when and where: asked once for all rows of an answer."""

    user: User
    user_id: int
    now: datetime
    gates: ClosedGates
    zone: tzinfo


def _viewer(user: User, now: datetime, gates: ClosedGates) -> _Viewer:
    return _Viewer(user, user.pk, now, gates, get_current_timezone())


def _inbox_where(user: User, chosen: InboxFilter) -> tuple[str, dict[str, Any]]:
    where = [visible_connections_sql(user, "c.connection_id"), "c.last_at IS NOT NULL"]
    values: dict[str, Any] = {"user": user.pk, "joined": user.date_joined}
    if chosen.show == "unread":
        where.append(f"c.last_incoming_id > {READ_THROUGH_SQL}")
    elif chosen.show == "reply":
        where.append("c.unanswered_since IS NOT NULL")
    elif chosen.show == "attention":
        where.append("c.attention_count > 0")
    if chosen.fleet_id is not None:
        where.append("n.fleet_id = %(fleet)s")
        values["fleet"] = chosen.fleet_id
    if chosen.priority:
        where.append("m.priority = %(priority)s")
        values["priority"] = chosen.priority
    for key, sign in ((chosen.before, "<"), (chosen.after, ">")):
        if key is not None:
            where.append(f"(c.last_at, c.id) {sign} (%(key_at)s, %(key_id)s)")
            values.update(key_at=key[0], key_id=key[1])
    return " AND ".join(where), values


@dataclass(frozen=True, slots=True)
class InboxPage:
    """One page of conversations, newest first; `pinned` are unhandled failures, which `rows` may repeat.

    `has_more` says that more lie beyond in the direction of travel.
    """

    rows: list[Row]
    pinned: list[Row]
    has_more: bool


def inbox_rows(
    user: User, chosen: InboxFilter, now: datetime, gates: ClosedGates, size: int = PAGE_SIZE, pinned: int = 0
) -> InboxPage:
    """A page of `size` conversations, and at most `pinned` of all those that need attention. One query."""
    where, values = _inbox_where(user, chosen)
    newest = "c.last_at DESC NULLS LAST, c.id DESC"
    # The other way through the same index
    order = "c.last_at ASC NULLS FIRST, c.id ASC" if chosen.after else newest
    sql = f"({_CONVERSATION} WHERE {where} ORDER BY {order} LIMIT {size + 1})"
    if pinned:
        urgent, _ = _inbox_where(user, InboxFilter(show="attention"))
        pins = _CONVERSATION.replace("FALSE AS is_pin", "TRUE AS is_pin", 1)
        sql = f"({pins} WHERE {urgent} ORDER BY {newest} LIMIT {pinned}) UNION ALL {sql}"
    # How rare the chosen ones are decides whether to read the list along or to look them up.
    is_narrow = chosen.show != "all" or chosen.fleet_id is not None or bool(chosen.priority)
    found = [conversation_row(row, now, gates) for row in read(sql, values, is_planned_once=not is_narrow)]
    above = [row for row in found if row["is_pin"]]
    page = found[len(above) :]
    shown = page[:size]
    if chosen.after:
        shown.reverse()
    return InboxPage(shown, above, len(page) > size)


def conversation_row(row: Row, now: datetime, gates: ClosedGates) -> Row:
    """Adds what the template prints: `url`, `fragment_url`, `label`, `badge` (None while empty), `is_incoming`."""
    row["url"] = f"/c/{row['uuid']}/"
    row["fragment_url"] = f"/_f/c/{row['uuid']}/"
    row["label"] = row["description"] or provider_name(row["last__connection__tsp_slug"] or "")
    row["is_unread"] = bool(row["is_unread"])
    row["is_incoming"] = row["last__direction"] == Direction.IN
    row["badge"] = delivery_of(row, now, gates, "last__") if row["last_id"] else None
    return row


@dataclass(frozen=True, slots=True)
class Changes:
    """What a look found: rows of the inbox, and bubbles of the open conversation, each at most MOST_CHANGES + 1; the columns
    of its connection, and whether its driver waits for an answer, each None when that did not change.
    """

    conversations: list[Row]
    bubbles: list[Row]
    connection: Row | None = None
    waiting: Row | None = None

    @property
    def is_flood(self) -> bool:
        """More conversations changed than a list repaints one by one."""
        return len(self.conversations) > MOST_CHANGES

    @property
    def is_long(self) -> bool:
        """More messages of the open conversation changed than a thread repaints one by one."""
        return len(self.bubbles) > MOST_CHANGES


def changed_rows(user: User, conversation_id: int | None, since: Cursor, now: datetime, gates: ClosedGates) -> Changes:
    """Everything a conversation page (or, with None, the inbox) must repaint. One query.

    A conversation counts when its row, one of its messages or this person's read mark changed; bubble and row
    of the open conversation also while a message is held, because its countdown runs, and a bubble when one changed that
    it waits for. Bubbles know their neighbours (`bubble_row`).
    """
    values = {"user": user.pk, "joined": user.date_joined, "conversation": conversation_id, **cursor_parameters(since)}
    parts = [f"SELECT 'c' AS kind, to_jsonb(t) AS body FROM ({_changed_conversations(user)}) t"]
    if conversation_id is not None:
        parts.append(f"SELECT 'm' AS kind, to_jsonb(t) AS body FROM ({_changed_messages(user)}) t")
        mine = visible_connections_sql(user, "t.id")
        for kind, sql in CHANGED_BESIDE.items():
            parts.append(f"SELECT '{kind}' AS kind, to_jsonb(t) AS body FROM ({sql}) t WHERE {mine}")
    found = read(" UNION ALL ".join(parts), values)
    bodies: dict[str, list[Row]] = {"c": [], "m": [], "n": [], "w": []}
    for row in found:
        bodies[row["kind"]].append(_revive(row["body"]))
    conversations = [conversation_row(row, now, gates) for row in bodies["c"]]
    viewer = _viewer(user, now, gates)
    bubbles = [bubble_row(row, viewer) for row in bodies["m"]]
    return Changes(conversations, bubbles, *(next(iter(bodies[kind]), None) for kind in "nw"))


def _changed_conversations(user: User) -> str:
    # The few that changed come first in the join order: with this many tables the planner keeps the order written. It
    # expects many behind every cursor, so each is looked up by itself (a subquery with OFFSET is not joined otherwise), and
    # the limit says that few go on.
    touched = _CONVERSATION.replace(
        "FROM messaging_conversation c", "FROM touched JOIN messaging_conversation c ON c.id = touched.id", 1
    )
    return f"""WITH changed AS MATERIALIZED (
      SELECT x.id FROM messaging_conversation x WHERE {changed_sql("x")}
      UNION SELECT y.conversation_id FROM messaging_message y WHERE {changed_sql("y")}
      UNION SELECT z.conversation_id FROM messaging_readmark z WHERE z.user_id = %(user)s AND {changed_sql("z")}
      UNION SELECT h.conversation_id FROM messaging_message h WHERE h.conversation_id = %(conversation)s AND {HELD.format("h")}),
    touched AS MATERIALIZED (SELECT seen.id FROM changed, LATERAL (
        SELECT v.id FROM messaging_conversation v WHERE v.id = changed.id AND v.last_at IS NOT NULL
          AND {visible_connections_sql(user, "v.connection_id")} OFFSET 0) seen
      LIMIT {MOST_CHANGES + 1})
    {touched}
    ORDER BY c.last_at DESC NULLS LAST, c.id DESC"""


def _changed_messages(user: User) -> str:
    # What changed anywhere is little and has an index; the planner, who cannot know that, would read the whole conversation.
    here = "x.conversation_id = %(conversation)s"
    return _with_neighbours(f"""WITH moved AS MATERIALIZED (
      SELECT x.id, x.seq, x.conversation_id FROM messaging_message x WHERE {changed_sql("x")})
    {_MESSAGE}
    WHERE m.id = ANY(ARRAY(
      SELECT x.id FROM moved x WHERE {here}
      UNION ALL SELECT x.id FROM messaging_message x WHERE {here} AND {HELD.format("x")}
      UNION ALL SELECT w.id FROM messaging_message w WHERE w.conversation_id = %(conversation)s AND w.state = 'waiting'
        AND w.seq > (SELECT min(x.seq) FROM moved x WHERE {here})))
      AND {visible_connections_sql(user, "m.connection_id")}
    ORDER BY m.occurred_at, m.id LIMIT {MOST_CHANGES + 1}""")


def _with_neighbours(messages: str) -> str:
    """The same rows with what stands before and after each in its conversation."""
    return f"""
SELECT t.*, b.occurred_at AS previous_at, b.direction = t.direction AND b.author_id IS NOT DISTINCT FROM t.author_id
    AND (t.author_id IS NOT NULL OR b.sender_name = t.sender_name) AS goes_on, f.uuid::text AS next_uuid,
  v.uuid::text AS conversation_uuid, d.name AS driver, z.settled_at, z.created_at,
  z.deleted_at IS NOT NULL AS is_gone, CASE WHEN z.seq IS NOT NULL THEN z.catena_id::text END AS stood_as,
  {unsettled_head_sql("t")} AS unsettled
FROM ({messages}) t
JOIN messaging_message z ON z.id = t.id
JOIN messaging_conversation v ON v.id = t.conversation_id
JOIN messaging_fleetuser d ON d.id = v.driver_id
LEFT JOIN LATERAL (SELECT x.occurred_at, x.direction, x.author_id, x.sender_name FROM messaging_message x
  WHERE x.conversation_id = t.conversation_id AND x.deleted_at IS NULL AND (x.occurred_at, x.id) < (t.occurred_at, t.id)
  ORDER BY x.occurred_at DESC, x.id DESC LIMIT 1) b ON TRUE
LEFT JOIN LATERAL (SELECT x.uuid FROM messaging_message x
  WHERE x.conversation_id = t.conversation_id AND x.deleted_at IS NULL AND (x.occurred_at, x.id) > (t.occurred_at, t.id)
  ORDER BY x.occurred_at, x.id LIMIT 1) f ON TRUE
ORDER BY t.occurred_at, t.id"""


def bubble(user: User, message_id: int, now: datetime, gates: ClosedGates) -> Row:
    """One message as `changed_rows` gives it. The caller has found it through `visible_to`. One query."""
    found = read(_with_neighbours(f"{_MESSAGE} WHERE m.id = %(message)s"), {"message": message_id})
    return bubble_row(found[0], _viewer(user, now, gates))


def bubble_row(row: Row, viewer: _Viewer) -> Row:
    """`message_row` for a message that is shown without its page: run and day follow from its neighbours."""
    message_row(row, viewer)
    day = row["local"].date()
    before = row["previous_at"]
    row["local_day"] = day
    row["day"] = day if before is None or before.astimezone(viewer.zone).date() != day else None
    row["is_first"] = (
        row["day"] is not None or not row["goes_on"] or (row["occurred_at"] - before).total_seconds() > RUN_GAP_SECONDS
    )
    return row


def _revive(body: str | Row) -> Row:
    """Turns the times of a JSON row back into moments."""
    row: Row = json.loads(body) if isinstance(body, str) else body
    for name, value in row.items():
        if value is not None and name.endswith(("_at", "not_before")):
            row[name] = datetime.fromisoformat(value)
    return row


def thread_rows(
    user: User, conversation_id: int, now: datetime, gates: ClosedGates, before: tuple[datetime, int] | None = None
) -> tuple[list[Row], bool]:
    """The newest page of a conversation (or the page before a key), oldest first, and whether older ones exist. One query.

    The caller has found the conversation through `visible_to`.
    """
    where = "m.conversation_id = %(conversation)s AND m.deleted_at IS NULL"
    values: dict[str, Any] = {"conversation": conversation_id}
    if before:
        where += " AND (m.occurred_at, m.id) < (%(key_at)s, %(key_id)s)"
        values.update(key_at=before[0], key_id=before[1])
    found = read(f"{_MESSAGE} WHERE {where} ORDER BY m.occurred_at DESC, m.id DESC LIMIT {PAGE_SIZE + 1}", values)
    viewer = _viewer(user, now, gates)
    page = [message_row(row, viewer) for row in reversed(found[:PAGE_SIZE])]
    mark_runs(page)
    return page, len(found) > PAGE_SIZE


def message_row(row: Row, viewer: _Viewer) -> Row:
    """Adds what the template prints: `badge`, `author` (the words before the bubble), `quote`, what may be done, `links`."""
    row["is_incoming"] = row["direction"] == Direction.IN
    row["is_mine"] = row["author_id"] == viewer.user_id
    row["author"] = _author(row)
    row["local"] = row["occurred_at"].astimezone(viewer.zone)
    row["badge"] = delivery_of(row, viewer.now, viewer.gates)
    row["is_bad"] = row["badge"].tone == "bad"
    row["held_up_by"] = unsettled_of(row["behind"])
    if row["held_up_by"]:
        row["badge"] = held_up(row["badge"], row["held_up_by"].state)
    row["quote"] = " ".join((row["quote_text"] or "").split())[:160] if row["quote_uuid"] else ""
    row["can_undo"] = (
        row["state"] in CANCELLABLE_STATES and row["claim_count"] == 0 and may_withdraw(viewer.user, row["author_id"])
    )
    row["can_edit_again"] = row["is_mine"] and row["state"] in REPEATABLE_STATES
    is_late = row["escalated_at"] is not None and row["state"] in LIVELY_STATES
    is_surprise = row["corrected_at"] is not None or row["is_sent_twice"]
    may_be_handled = is_late or is_surprise or row["state"] in RESENDABLE_STATES
    row["needs_handling"] = row["handled_at"] is None and may_be_handled
    # Whoever sees a message may send it again (`access.can_resend`): those are the fleet's members and support.
    row["can_resend"] = row["state"] in RESENDABLE_STATES and row["again_uuid"] is None and not row["is_test"]
    row["why"] = title_of(row, "The driver") if row["entries_stamp"] else ""
    row["links"] = _relations(row, viewer)
    row["url"] = f"/m/{row['uuid']}/"
    row["is_first"] = True
    return row


class Unsettled(NamedTuple):
    """A message that may have been sent, behind which the conversation waits."""

    state: str
    uuid: str

    @property
    def is_asked(self) -> bool:
        return self.state == MessageState.NEEDS_DECISION

    @property
    def url(self) -> str:
        return f"/m/{self.uuid}/decide/"


def unsettled_of(packed: str | None) -> Unsettled | None:
    """What `unsettled_head_sql` found."""
    return Unsettled(*packed.split(" ", 1)) if packed else None


def _relations(row: Row, viewer: _Viewer) -> list[tuple[str, str, datetime, str]]:
    """What a person did about the message: words, whose address, when, and what they noted. Mostly nothing."""
    found = []
    if row["repeats_uuid"]:
        found.append(("Repeats the message of", f"/m/{row['repeats_uuid']}/", row["repeats_at"], ""))
    if row["again_uuid"]:
        who = "you" if row["again_by_id"] == viewer.user_id else row["again_by"]
        found.append((f"Sent again by {who}", f"/m/{row['again_uuid']}/", row["again_at"], ""))
    elif row["handled_at"]:
        who = "you" if row["handled_by_id"] == viewer.user_id else row["handled_by"]
        found.append((f"Handled by {who}", "", row["handled_at"], row["handled_note"]))
    return [(words, address, at.astimezone(viewer.zone), note) for words, address, at, note in found]


def _author(row: Row) -> str:
    if row["is_incoming"]:
        return str(row["sender_name"] or "Unknown sender")
    if row["is_mine"]:
        return "You"
    name = f"{row['author__first_name'] or ''} {row['author__last_name'] or ''}".strip()
    return name or str(row["author__username"] or row["sender_name"] or "Office")


def mark_runs(page: Sequence[Row]) -> None:
    """Sets `is_first` on the first message of each run by one author, and `day` on the first message of each local day."""
    previous: Row | None = None
    for row in page:
        day = row["local"].date()
        row["local_day"] = day
        row["day"] = day if previous is None or previous["local_day"] != day else None
        row["is_first"] = (
            previous is None
            or row["day"] is not None
            or previous["author"] != row["author"]
            or (row["occurred_at"] - previous["occurred_at"]).total_seconds() > RUN_GAP_SECONDS
        )
        previous = row


def keyset(rows: Iterable[Row], at: str, *, last: bool) -> tuple[datetime, int] | None:
    """The key of the first or last row of a page, for the next page's query."""
    listed = list(rows)
    if not listed:
        return None
    row = listed[-1 if last else 0]
    return row[at], row["id"]


EPOCH = datetime.fromtimestamp(0, UTC)
MICROSECOND = timedelta(microseconds=1)


def fleet_choices(user: User, most: int) -> list[tuple[int, str]]:
    """Primary key and name of the fleets that this person may choose from, by name. One query."""
    mine = (
        "TRUE"
        if sees_every_fleet(user)
        else "id IN (SELECT fleet_id FROM messaging_fleetmembership WHERE user_id = %(user)s)"
    )
    with prepared_cursor() as cursor:
        cursor.execute(
            f"SELECT id, name FROM messaging_fleet WHERE withdrawn_at IS NULL AND {mine} ORDER BY name, id LIMIT {most}",
            {"user": user.pk},
        )
        return [(key, name) for key, name in cursor.fetchall()]


def micros(moment: datetime) -> int:
    """Microseconds since 1970: a moment exactly as PostgreSQL keeps it, in a URL."""
    return (moment - EPOCH) // MICROSECOND


def write_key(key: tuple[datetime, int] | None) -> str:
    """A keyset as `microseconds.id`; empty for None."""
    return f"{micros(key[0])}.{key[1]}" if key else ""


def read_number(text: str) -> int | None:
    """A primary key in a form or a URL; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def read_key(text: str) -> tuple[datetime, int] | None:
    """The keyset that `write_key` wrote; None for anything else."""
    at, _, pk = text.partition(".")
    if not all(part.isascii() and part.isdigit() and len(part) < 18 for part in (at, pk)):
        return None
    return EPOCH + int(at) * MICROSECOND, int(pk)
