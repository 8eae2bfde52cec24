"""What changed since a page's last look, for one person. Knows nothing of HTTP.

Every change marks its row with the transaction that made it (trigger `messaging_mark_change`). A cursor is PostgreSQL's
own snapshot at the last look: a row is news when its transaction was not yet visible then. No commit order can fool
that, and nothing is skipped; what is read between two statements of one look may be told twice, which a morph ignores.
"""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, Self

from django.db.models import BooleanField, Func, Q, Value

from messaging.models import User
from messaging.models.conversation import NEEDS_ATTENTION_SQL, READ_THROUGH_SQL
from messaging.models.directory import VISIBLE_IDS_SQL, visible_connections_sql
from messaging.models.outlook import ClosedGate, ClosedGates
from messaging.models.statements import prepared_cursor
from messaging.models.subscriptions import hook_address, hook_obstacle
from messaging.states import Badge, Direction, Facts, delivery

EPOCH = datetime.fromtimestamp(0, UTC)
SNAPSHOT = re.compile(r"(\d{1,19}):(\d{1,19}):((?:\d{1,19})(?:,\d{1,19})*)?", re.ASCII)
# A page that slept longer than this reloads its list instead of being told every change. One that slept over a meeting or a
# night, or was without a network, catches up from where it was.
STALE_AFTER_SECONDS = 12 * 60 * 60
# More changes than this at once are "the list has changed".
MOST_CHANGES = 50
# The cursor of a quiet page is renewed this often, so that its look stays a short index range.
RENEW_AFTER_SECONDS = 60
# Unread conversations are counted among this many newest ones: the count answers "is there news", not "how much ever".
UNREAD_WINDOW = 200

# While something is pending, and for a while after anything changed: news comes in company.
PENDING_POLL_MS = 1200
# With its spread and the way there and back still within the five seconds in which an author learns of a failure.
IDLE_POLL_MS = 3800
# Of a message: its countdown runs, or has just ended.
HELD = "{0}.state = 'queued' AND {0}.not_before > now() - interval '3 seconds'"
# The connections that the person sees, read once for the dozen places of a statement that ask, and how these name them.
WITH_MINE = f"WITH mine AS MATERIALIZED (SELECT {VISIBLE_IDS_SQL} AS ids)"
MINE = "(SELECT ids FROM mine)::bigint[]"
# What `glance` reads beside when nothing changed.
NO_NEWS = (None, None, None, False, None, False, None, False, None)
# How many of a person's own failures are counted one by one.
MOST_OWN = 100


class StaleCursor(Exception):
    """The cursor is unreadable or too old to tell changes one by one; the page must read its list again."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The moment of a look: epoch seconds and PostgreSQL's snapshot text `xmin:xmax:in-progress`."""

    taken_at: int
    snapshot: str

    def __str__(self) -> str:
        return f"{self.taken_at}.{self.snapshot}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises StaleCursor for anything that this module did not write, or that is older than half a day."""
        head, _, snapshot = text.partition(".")
        match = SNAPSHOT.fullmatch(snapshot)
        if not head.isdecimal() or len(head) > 12 or match is None or len(snapshot) > 4000:
            raise StaleCursor
        running = [int(number) for number in (match[3] or "").split(",") if number]
        lowest, highest = int(match[1]), int(match[2])
        if not 0 < lowest <= highest < 2**63 or any(not lowest <= number < highest for number in running):
            raise StaleCursor
        if running != sorted(set(running)) or time.time() - int(head) > STALE_AFTER_SECONDS:
            raise StaleCursor
        return cls(int(head), snapshot)

    @property
    def age(self) -> float:
        return time.time() - self.taken_at

    @property
    def lowest(self) -> int:
        """Changes by transactions below this were visible at the look."""
        return int(self.snapshot.partition(":")[0])


@dataclass(frozen=True, slots=True)
class Scope:
    """What a page shows: everything the person sees, one conversation, or one message (primary keys); of a recovery, the
    recovery itself besides.
    """

    conversation_id: int | None = None
    message_id: int | None = None
    recovery_id: int | None = None

    @property
    def condition(self) -> str:
        """An SQL condition that holds for the page's messages, with `{}` for their alias; empty when all are meant."""
        if self.message_id is not None:
            return "{}.id = %(message)s"
        return "" if self.conversation_id is None else "{}.conversation_id = %(conversation)s"


@dataclass(frozen=True, slots=True)
class Own:
    """The newest of the person's own messages that ask for somebody, and how many there are, this one included."""

    uuid: str
    address: str
    driver: str
    priority: str
    badge: Badge
    total: int

    @property
    def words(self) -> str:
        """Why it asks, in short."""
        return self.badge.short if self.badge.key == "late" else self.badge.long

    @property
    def others(self) -> str:
        return f"{self.total - 1}{'+' if self.total == MOST_OWN else ''}"


@dataclass(frozen=True, slots=True)
class Hooks:
    """So many webhook subscriptions of ours do not deliver; `is_under_way` says that somebody has asked to mend it."""

    trouble: int
    is_under_way: bool


class OpenIncident(NamedTuple):
    """An incident that is open; `connection_id` None: of the whole provider `source_name`."""

    uuid: str
    connection_id: int | None
    source_name: str
    error_type: str
    code: int | None
    failures: int
    drivers: int
    since: datetime

    def concerns(self, connection_id: int, source_name: str) -> bool:
        return self.connection_id == connection_id or (self.connection_id is None and self.source_name == source_name)


@dataclass(frozen=True, slots=True)
class Glance:
    """One cheap look: whether anything this person sees changed, the counts beside the navigation, and what the person is
    told on every page until somebody has taken care of it.

    The counts are None when nothing changed since the given cursor. `is_lively` says that something on the page is
    pending and younger than a minute, `is_moving` that something this person sees changed within the last minute: either
    way the page should look again soon. `incidents` are the open ones of every connection, for the caller to choose from;
    they are read only when something changed. `has_gate_news` says that a gate in this person's way moved, `has_hook_news` that
    something about the webhooks did; `hooks` is None while all of them deliver. `along` is what the caller had read along.
    """

    cursor: Cursor
    changed: bool
    is_lively: bool
    inbox_unread: int | None
    attention: int | None
    failed: int | None
    own: Own | None
    gates: ClosedGates
    has_gate_news: bool
    hooks: Hooks | None
    has_hook_news: bool
    incidents: Sequence[OpenIncident]
    has_incident_news: bool
    is_moving: bool = False
    along: Any = None

    @property
    def every_ms(self) -> int:
        return PENDING_POLL_MS if self.is_lively or self.is_moving else IDLE_POLL_MS


def changed_sql(alias: str) -> str:
    """A condition on `alias.changed_xid`; takes the parameters `lowest` and `since` of `cursor_parameters`."""
    # A planner that does not know the values expects a third of a table beyond one bound, and little between two.
    return (
        f"({alias}.changed_xid BETWEEN %(lowest)s AND {2**63 - 1} AND NOT "
        f"pg_visible_in_snapshot({alias}.changed_xid::text::xid8, %(since)s::pg_snapshot))"
    )


def cursor_parameters(cursor: Cursor) -> dict[str, Any]:
    return {"lowest": cursor.lowest, "since": cursor.snapshot}


def _changed(mine: str, within: str, *, of_recovery: bool) -> str:
    tables = [("messaging_message", "m"), ("messaging_conversation", "m")]
    parts = [
        f"EXISTS (SELECT 1 FROM {table} {alias} WHERE {changed_sql(alias)} AND {mine.format(alias + '.connection_id')})"
        for table, alias in tables
    ]
    parts.append(f"EXISTS (SELECT 1 FROM messaging_connection n WHERE {changed_sql('n')} AND {mine.format('n.id')})")
    parts += [_gate_changed(mine), _hooks_changed(), _incident_changed(mine)]
    parts.append(f"EXISTS (SELECT 1 FROM messaging_readmark r WHERE r.user_id = %(user)s AND {changed_sql('r')})")
    if of_recovery:
        parts.append(f"EXISTS (SELECT 1 FROM messaging_recovery y WHERE y.id = %(recovery)s AND {changed_sql('y')})")
    if within:
        parts.append(f"EXISTS (SELECT 1 FROM messaging_message h WHERE {within.format('h')} AND {HELD.format('h')})")
    return " OR ".join(parts)


def _gate_changed(mine: str) -> str:
    in_the_way = f"(g.connection_id IS NULL OR {mine.format('g.connection_id')})"
    return f"EXISTS (SELECT 1 FROM messaging_gate g WHERE {changed_sql('g')} AND {in_the_way})"


def _hooks_changed() -> str:
    return f"EXISTS (SELECT 1 FROM messaging_webhookwatch w WHERE {changed_sql('w')})"


def _incident_changed(mine: str) -> str:
    """Of anybody's provider: which connections an incident of a provider touches is the page's question."""
    here = f"(i.connection_id IS NULL OR {mine.format('i.connection_id')})"
    return f"EXISTS (SELECT 1 FROM messaging_incident i WHERE {changed_sql('i')} AND {here})"


def _lively(mine: str, within: str) -> str:
    where = (
        "l.direction = 'out' AND l.occurred_at > now() - interval '60 seconds' "
        "AND l.state IN ('waiting', 'queued', 'claimed', 'posting', 'accepted', 'unknown')"
    )
    if within:
        where += f" AND {within.format('l')}"
    return f"EXISTS (SELECT 1 FROM messaging_message l WHERE {where} AND {mine.format('l.connection_id')})"


def _own(mine: str) -> str:
    """The newest of the person's messages that need attention, with their number; the partial index finds them."""
    return f"""(SELECT jsonb_build_array(o.uuid, o.name, o.priority, o.state, o.reason, o.late,
      o.corrected, o.twice, o.total) FROM (
      SELECT m.uuid, d.name, m.priority, m.state, m.reason,
        extract(epoch FROM m.escalated_at - m.occurred_at) AS late,
        m.corrected_at IS NOT NULL AS corrected, m.is_sent_twice AS twice, count(*) OVER () AS total
      FROM (SELECT m.id, m.uuid, m.conversation_id, m.priority, m.state, m.reason, m.occurred_at, m.escalated_at,
          m.corrected_at, m.is_sent_twice
        FROM messaging_message m WHERE m.author_id = %(user)s AND {NEEDS_ATTENTION_SQL}
        AND m.deleted_at IS NULL AND {mine.format("m.connection_id")} ORDER BY m.id DESC LIMIT {MOST_OWN}) m
      JOIN messaging_conversation c ON c.id = m.conversation_id JOIN messaging_fleetuser d ON d.id = c.driver_id
      ORDER BY m.id DESC LIMIT 1) o)"""


@lru_cache(maxsize=64)
def _glance_sql(mine: str, within: str, along: str, *, has_cursor: bool, of_recovery: bool = False) -> str:
    """`mine` is the person's `visible_connections_sql` and `within` the page's `Scope.condition`, each with `{}` for what it
    is asked of: a handful of statements, each as long as a page.
    """
    seen = mine.format("c.connection_id")
    changed = _changed(mine, within, of_recovery=of_recovery) if has_cursor else "TRUE"
    return f"""
{WITH_MINE}
SELECT look.snapshot, look.changed, look.lively,
  (SELECT jsonb_agg(jsonb_build_array(g.connection_id, g.reason, extract(epoch FROM g.until),
      extract(epoch FROM g.probe_at), g.cause))
    FROM messaging_gate g WHERE g.state = 'locked' OR g.state = 'closed' AND (g.until IS NULL OR g.until > now())),
  CASE WHEN look.changed THEN jsonb_build_array(
    (SELECT count(*) FROM (
        SELECT c.id, c.last_incoming_id, c.last_incoming_at FROM messaging_conversation c
        WHERE {seen} ORDER BY c.last_at DESC NULLS LAST, c.id DESC LIMIT {UNREAD_WINDOW}) c
      LEFT JOIN LATERAL (SELECT read_through FROM messaging_readmark
        WHERE conversation_id = c.id AND user_id = %(user)s LIMIT 1) r ON TRUE
      WHERE c.last_incoming_id > {READ_THROUGH_SQL}),
    (SELECT jsonb_build_array(count(*), coalesce(sum(c.attention_count), 0))
      FROM messaging_conversation c WHERE c.attention_count > 0 AND {seen}),
    {_own(mine)},
    {_gate_changed(mine) if has_cursor else "TRUE"},
    (SELECT jsonb_build_array(w.trouble, w.wanted = 'repair') FROM messaging_webhookwatch w
      WHERE w.url = %(hooks)s AND w.trouble > 0),
    {_hooks_changed() if has_cursor else "TRUE"},
    (SELECT jsonb_agg(jsonb_build_array(i.uuid, i.connection_id, i.source_name, i.error_type, i.response_status_code,
        i.failures, i.drivers, extract(epoch FROM i.first_failed_at)) ORDER BY i.opened_at DESC, i.id DESC)
      FROM messaging_incident i WHERE i.resolved_at IS NULL),
    {_incident_changed(mine) if has_cursor else "TRUE"},
    {along or "NULL"}) END
FROM (SELECT pg_current_snapshot()::text AS snapshot, {changed} AS changed,
             {_lively(mine, within)} AS lively OFFSET 0) look"""


def parameters(user: User, scope: Scope, since: Cursor | None) -> dict[str, Any]:
    values: dict[str, Any] = {
        "user": user.pk,
        "joined": user.date_joined,
        "conversation": scope.conversation_id,
        "message": scope.message_id,
        "recovery": scope.recovery_id,
        "hooks": "" if hook_obstacle() else hook_address(),
    }
    return {**values, **cursor_parameters(since)} if since else values


def glance(
    user: User, scope: Scope = Scope(), since: Cursor | None = None, *, was_quick: bool = False, along: str = ""
) -> Glance:
    """Looks once, in one query. Without `since` everything counts as changed: pages call it so before they read.

    `was_quick` says that the page looks often. It goes on so until its cursor, which each change renews, is a minute old:
    no row has to remember when something changed. A row that is read after this look with the returned cursor's successor
    may be told again, never skipped.

    `along` is an SQL expression that gives one JSON value, which is read in the same query if something changed: a query
    costs a page more than what is in it. It may name `MINE` and takes the parameters of `parameters`.
    """
    mine, of_recovery = visible_connections_sql(user, "{}", MINE), scope.recovery_id is not None
    sql = _glance_sql(mine, scope.condition, along, has_cursor=since is not None, of_recovery=of_recovery)
    with prepared_cursor() as cursor:
        cursor.execute(sql, parameters(user, scope, since))
        seen = cursor.fetchone()
    snapshot, changed, lively, gates, packed = seen
    # Django hands JSON of a raw cursor over as text.
    unread, attention, own, has_gate_news, hooks, has_hook_news, incidents, has_incident_news, beside = (
        json.loads(packed) if packed else NO_NEWS
    )
    return Glance(
        cursor=Cursor(int(time.time()), snapshot),
        changed=changed,
        is_lively=lively,
        inbox_unread=unread,
        attention=attention[0] if attention else None,
        failed=attention[1] if attention else None,
        own=_own_of(own),
        gates=_closed(gates),
        has_gate_news=has_gate_news,
        hooks=Hooks(*hooks) if hooks else None,
        has_hook_news=has_hook_news,
        incidents=_incidents(incidents),
        has_incident_news=has_incident_news,
        is_moving=since is not None and (changed or (was_quick and since.age < RENEW_AFTER_SECONDS)),
        along=beside,
    )


def _own_of(packed: list[Any] | None) -> Own | None:
    if packed is None:
        return None
    uuid, driver, priority, state, reason, late, is_corrected, is_twice, total = packed
    facts = Facts(
        Direction.OUT,
        state,
        reason=reason,
        composed_at=EPOCH,
        escalated_at=None if late is None else EPOCH + timedelta(seconds=float(late)),
        corrected_at=EPOCH if is_corrected else None,
        is_sent_twice=is_twice,
    )
    return Own(uuid, f"/m/{uuid}/", driver, priority, delivery(facts, EPOCH), total)


def _closed(gates: str | None) -> ClosedGates:
    if gates is None:
        return {}
    return {
        connection_id: ClosedGate(reason, _moment(until), _moment(probe_at), cause)
        for connection_id, reason, until, probe_at, cause in json.loads(gates)
    }


def _incidents(packed: list[list[Any]] | None) -> list[OpenIncident]:
    if packed is None:
        return []
    return [OpenIncident._make((*facts, datetime.fromtimestamp(float(since), UTC))) for *facts, since in packed]


def _moment(epoch: float | None) -> datetime | None:
    return None if epoch is None else datetime.fromtimestamp(float(epoch), UTC)


class _WasVisible(Func):
    """Whether the transaction that last changed a row was visible in a snapshot."""

    function = "pg_visible_in_snapshot"
    template = "%(function)s(%(expressions)s::pg_snapshot)"
    arg_joiner = "::text::xid8, "
    output_field = BooleanField()


def news(since: Cursor) -> Q:
    """`changed_sql` for a queryset of a table that carries `changed_xid`."""
    return Q(changed_xid__gte=since.lowest) & ~Q(_WasVisible("changed_xid", Value(since.snapshot)))
