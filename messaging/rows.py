"""The rows of the inbox and of a thread as the screen shows them, read in one statement each.

The page and the live poll read the same rows here, so that a row has one meaning. Each row is a plain dictionary ready
for its template: no query, no attribute chain and no formatting is left for the loop that prints it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from django.db import connection
from django.utils.timezone import get_current_timezone

from messaging.access import may_withdraw
from messaging.insight.explanations import title_of
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

CONVERSATION_SQL = f"""
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


MESSAGE_SQL = f"""
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
class Viewer:
    """Who looks at messages, when and where: asked once for all rows of an answer."""

    user: User
    user_id: int
    now: datetime
    gates: ClosedGates
    zone: tzinfo


def viewer_of(user: User, now: datetime, gates: ClosedGates) -> Viewer:
    return Viewer(user, user.pk, now, gates, get_current_timezone())


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
    sql = f"({CONVERSATION_SQL} WHERE {where} ORDER BY {order} LIMIT {size + 1})"
    if pinned:
        urgent, _ = _inbox_where(user, InboxFilter(show="attention"))
        pins = CONVERSATION_SQL.replace("FALSE AS is_pin", "TRUE AS is_pin", 1)
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
    newest = "ORDER BY m.occurred_at DESC, m.id DESC"
    # The page is chosen before anything is joined to it: a plan for any conversation expects few messages in this one, and
    # would join all of a long one first.
    page_of = f"SELECT m.id FROM messaging_message m WHERE {where} {newest} LIMIT {PAGE_SIZE + 1}"
    chosen = MESSAGE_SQL.replace(
        "FROM messaging_message m", f"FROM ({page_of}) p JOIN messaging_message m ON m.id = p.id", 1
    )
    found = read(f"{chosen} {newest}", values)
    viewer = viewer_of(user, now, gates)
    page = [message_row(row, viewer) for row in reversed(found[:PAGE_SIZE])]
    mark_runs(page)
    return page, len(found) > PAGE_SIZE


def message_row(row: Row, viewer: Viewer) -> Row:
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


def _relations(row: Row, viewer: Viewer) -> list[tuple[str, str, datetime, str]]:
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


def fleets_sql(user: User, most: int) -> str:
    """An SQL expression: primary key and name of the fleets that this person may choose from, by name, as JSON or null."""
    mine = (
        "TRUE"
        if sees_every_fleet(user)
        else "f.id IN (SELECT fleet_id FROM messaging_fleetmembership WHERE user_id = %(user)s)"
    )
    return f"""(SELECT jsonb_agg(jsonb_build_array(f.id, f.name) ORDER BY f.name, f.id) FROM (
      SELECT f.id, f.name FROM messaging_fleet f WHERE f.withdrawn_at IS NULL AND {mine}
      ORDER BY f.name, f.id LIMIT {most}) f)"""


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
