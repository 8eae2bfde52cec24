"""What a page of conversations must repaint since its last look."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from messaging.live import HELD, MINE, MOST_CHANGES, WITH_MINE, Cursor, Scope, changed_sql, parameters
from messaging.models import User
from messaging.models.conversation import unsettled_head_sql, waiting_sql
from messaging.models.directory import visible_connections_sql
from messaging.models.outlook import ClosedGates
from messaging.rows import (
    CONVERSATION_SQL,
    MESSAGE_SQL,
    RUN_GAP_SECONDS,
    Row,
    Viewer,
    conversation_row,
    message_row,
    read,
    viewer_of,
)


def _changed_connection() -> str:
    """The connection of `%(conversation)s` with what a page says of it, if it changed. Whether the
    person may see it is the caller's question.
    """
    return f"""SELECT n.id, n.catena_id, n.source_name, n.tsp_slug, n.description, n.status, n.share_level, n.message_support,
      n.schedule_status, n.last_successful_execution_at, n.next_execution_at, n.withdrawn_at
    FROM messaging_conversation h JOIN messaging_connection n ON n.id = h.connection_id
    WHERE h.id = %(conversation)s AND {changed_sql("n")}"""


def _changed_waiting() -> str:
    """Whether the driver of `%(conversation)s` waits for an answer, if the conversation changed. Whether the person may see it
    is the caller's question.
    """
    return f"""SELECT c.connection_id AS id, c.uuid, {waiting_sql("c")} FROM messaging_conversation c
    WHERE c.id = %(conversation)s AND {changed_sql("c")}"""


# What a conversation's page says beside its messages, each a statement whose `id` is the connection.
CHANGED_BESIDE = {"n": _changed_connection(), "w": _changed_waiting()}


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


def inbox_changes_sql(user: User) -> str:
    """The rows that the inbox must repaint, for `live.glance` to read along; `changes_of` takes what it finds.

    Only the inbox's: what a conversation must repaint is so much longer a statement that it would double the cost of every
    look at which nothing changed, and most are such.
    """
    return _changes_sql(visible_connections_sql(user, "{}", MINE), of_conversation=False)


def changed_rows(user: User, conversation_id: int | None, since: Cursor, now: datetime, gates: ClosedGates) -> Changes:
    """Everything a conversation's page must repaint. One query.

    A conversation counts when its row, one of its messages or this person's read mark changed; bubble and row
    of the open conversation also while a message is held, because its countdown runs, and a bubble when one changed that
    it waits for. Bubbles know their neighbours (`bubble_row`).
    """
    expression = _changes_sql(visible_connections_sql(user, "{}", MINE), of_conversation=True)
    values = parameters(user, Scope(conversation_id=conversation_id), since)
    found = read(f"{WITH_MINE} SELECT {expression} AS found", values)[0]["found"]
    # Django hands JSON of a raw cursor over as text.
    return changes_of(json.loads(found) if found else None, user, now, gates)


@lru_cache(maxsize=8)
def _changes_sql(mine: str, *, of_conversation: bool) -> str:
    parts = [f"SELECT 'c' AS kind, to_jsonb(t) AS body FROM ({_changed_conversations(mine)}) t"]
    if of_conversation:
        parts.append(f"SELECT 'm' AS kind, to_jsonb(t) AS body FROM ({_changed_messages(mine)}) t")
        for kind, sql in CHANGED_BESIDE.items():
            parts.append(f"SELECT '{kind}' AS kind, to_jsonb(t) AS body FROM ({sql}) t WHERE {mine.format('t.id')}")
    return f"(SELECT jsonb_agg(jsonb_build_array(y.kind, y.body)) FROM ({' UNION ALL '.join(parts)}) y)"


def changes_of(found: Sequence[tuple[str, Row]] | None, user: User, now: datetime, gates: ClosedGates) -> Changes:
    """The rows found, as the pages show them."""
    bodies: dict[str, list[Row]] = {"c": [], "m": [], "n": [], "w": []}
    for kind, body in found or ():
        bodies[kind].append(_revive(body))
    conversations = [conversation_row(row, now, gates) for row in bodies["c"]]
    bubbles = []
    if bodies["m"]:
        viewer = viewer_of(user, now, gates)
        bubbles = [bubble_row(row, viewer) for row in bodies["m"]]
    return Changes(conversations, bubbles, *(next(iter(bodies[kind]), None) for kind in "nw"))


def _changed_conversations(mine: str) -> str:
    # The few that changed come first in the join order: with this many tables the planner keeps the order written. It
    # expects many behind every cursor, so each is looked up by itself (a subquery with OFFSET is not joined otherwise), and
    # the limit says that few go on.
    touched = CONVERSATION_SQL.replace(
        "FROM messaging_conversation c", "FROM touched JOIN messaging_conversation c ON c.id = touched.id", 1
    )
    return f"""WITH changed AS MATERIALIZED (
      SELECT x.id FROM messaging_conversation x WHERE {changed_sql("x")}
      UNION SELECT y.conversation_id FROM messaging_message y WHERE {changed_sql("y")}
      UNION SELECT z.conversation_id FROM messaging_readmark z WHERE z.user_id = %(user)s AND {changed_sql("z")}
      UNION SELECT h.conversation_id FROM messaging_message h WHERE h.conversation_id = %(conversation)s AND {HELD.format("h")}),
    touched AS MATERIALIZED (SELECT seen.id FROM changed, LATERAL (
        SELECT v.id FROM messaging_conversation v WHERE v.id = changed.id AND v.last_at IS NOT NULL
          AND {mine.format("v.connection_id")} OFFSET 0) seen
      LIMIT {MOST_CHANGES + 1})
    {touched}
    ORDER BY c.last_at DESC NULLS LAST, c.id DESC"""


def _changed_messages(mine: str) -> str:
    # What changed anywhere is little and has an index; the planner, who cannot know that, would read the whole conversation.
    here = "x.conversation_id = %(conversation)s"
    return _with_neighbours(f"""WITH moved AS MATERIALIZED (
      SELECT x.id, x.seq, x.conversation_id FROM messaging_message x WHERE {changed_sql("x")})
    {MESSAGE_SQL}
    WHERE m.id = ANY(ARRAY(
      SELECT x.id FROM moved x WHERE {here}
      UNION ALL SELECT x.id FROM messaging_message x WHERE {here} AND {HELD.format("x")}
      UNION ALL SELECT w.id FROM messaging_message w WHERE w.conversation_id = %(conversation)s AND w.state = 'waiting'
        AND w.seq > (SELECT min(x.seq) FROM moved x WHERE {here})))
      AND {mine.format("m.connection_id")}
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
    """One message as `changes_of` gives it. The caller has found it through `visible_to`. One query."""
    found = read(_with_neighbours(f"{MESSAGE_SQL} WHERE m.id = %(message)s"), {"message": message_id})
    return bubble_row(found[0], viewer_of(user, now, gates))


def bubble_row(row: Row, viewer: Viewer) -> Row:
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


def _revive(row: Row) -> Row:
    """Turns the times of a JSON row back into moments."""
    for name, value in row.items():
        if value is not None and name.endswith(("_at", "not_before")):
            row[name] = datetime.fromisoformat(value)
    return row
