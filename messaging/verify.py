"""Checks that the rules which make sending honest hold in every row (reliability plan 2.3 and 3). Reads only.

A rule is a query for its breaches. The database's own constraints keep most of them; they are checked all the same, because
a constraint can be dropped, and a restored or hand-edited row has met none.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import OperationalError, connection, transaction
from psycopg.errors import QueryCanceled

from messaging import guards
from messaging.models import Verification
from messaging.models.conversation import NEEDS_ATTENTION_SQL, unanswered_since_sql
from messaging.models.statements import prepared_cursor
from messaging.states import HEAD_STATES, OPERATION_STATES, UNSETTLED_OUTCOMES

TIME_LIMIT = timedelta(seconds=60)
# Of one rule this many lines are printed; the rest is counted.
MOST_LINES = 50
# What a worker needs to act on something that is due; longer means that nobody does.
GRACE = timedelta(minutes=5)
KEPT = timedelta(days=90)


def _words(values: Sequence[str]) -> str:
    return ", ".join(f"'{value}'" for value in sorted(values))


HEADS, BOUND, UNSETTLED = _words([*HEAD_STATES]), _words([*OPERATION_STATES]), _words([*UNSETTLED_OUTCOMES])
OURS = "m.seq IS NOT NULL"
UNSETTLED_ATTEMPT = (
    f"EXISTS (SELECT 1 FROM messaging_sendattempt u WHERE u.message_id = m.id AND u.operation_id IS NULL"
    f" AND u.outcome IN ({UNSETTLED}))"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """`sql` selects one text per breach: the ids that name it. `sentence` says what must hold."""

    name: str
    sentence: str
    sql: str


@dataclass(frozen=True, slots=True)
class Breach:
    rule: Rule
    ids: str

    def __str__(self) -> str:
        return f"{self.rule.name}: {self.ids} ({self.rule.sentence})"


@dataclass(slots=True)
class Report:
    """What one run found. `uncounted` are breaches of a rule beyond the lines that are shown."""

    at: datetime
    breaches: list[Breach] = field(default_factory=list)
    uncounted: int = 0
    rules: int = 0
    seconds: float = 0.0

    @property
    def total(self) -> int:
        return len(self.breaches) + self.uncounted


def _message_rule(name: str, sentence: str, where: str) -> Rule:
    return Rule(name, sentence, f"SELECT 'message ' || m.uuid FROM messaging_message m WHERE {where}")


def _attempt_rule(name: str, sentence: str, where: str, joins: str = "") -> Rule:
    return Rule(
        name,
        sentence,
        "SELECT 'message ' || m.uuid || ', attempt ' || a.id FROM messaging_sendattempt a"
        f" JOIN messaging_message m ON m.id = a.message_id {joins} WHERE {where}",
    )


RULES: tuple[Rule, ...] = (
    # The line of each conversation.
    Rule(
        "one_head",
        "a conversation has at most one message that is being sent or is unsettled",
        "SELECT 'conversation ' || c.uuid FROM messaging_message m JOIN messaging_conversation c"
        f" ON c.id = m.conversation_id WHERE m.state IN ({HEADS}) AND NOT m.detached GROUP BY c.uuid HAVING count(*) > 1",
    ),
    _message_rule(
        "waits_behind_somebody",
        "a message waits only behind another one",
        "m.state = 'waiting' AND NOT EXISTS (SELECT 1 FROM messaging_message h WHERE h.conversation_id = m.conversation_id"
        f" AND h.state IN ({HEADS}) AND NOT h.detached)",
    ),
    Rule(
        "sequence_is_whole",
        "every number of a conversation's line was given to exactly one message",
        "SELECT 'conversation ' || c.uuid FROM messaging_conversation c JOIN messaging_message m ON m.conversation_id = c.id"
        f" WHERE {OURS} GROUP BY c.id HAVING count(*) <> count(DISTINCT m.seq) OR max(m.seq) <> count(*)"
        " OR max(m.seq) <> c.next_seq - 1",
    ),
    Rule(
        "posted_in_order",
        "a message is posted after those composed before it, unless a person let it past",
        # Backwards through each line, with the earliest POST among all the later messages. Linear in a line's length.
        "SELECT 'message ' || later.uuid || ' before ' || m.uuid FROM (SELECT l.id, l.begun, min(ARRAY[l.first, l.id]) OVER"
        " (PARTITION BY l.conversation_id ORDER BY l.seq DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS passed"
        " FROM (SELECT m.id, m.conversation_id, m.seq, min(a.id) AS first, CASE WHEN m.state IN ('waiting', 'queued',"
        f" 'claimed') AND min(a.id) IS NULL THEN {2**63 - 1} ELSE min(a.id) FILTER (WHERE a.authority = 'compose') END AS begun"
        f" FROM messaging_message m LEFT JOIN messaging_sendattempt a ON a.message_id = m.id WHERE {OURS} GROUP BY m.id) l"
        " ) line JOIN messaging_message m ON m.id = line.id JOIN messaging_message later ON later.id = line.passed[2]"
        " WHERE line.passed[1] < line.begun"
        " AND NOT EXISTS (SELECT 1 FROM messaging_decision d WHERE d.message_id = m.id)",
    ),
    _message_rule(
        "detached_by_decision",
        "a message is passed only by a person's decision",
        "m.detached AND NOT EXISTS (SELECT 1 FROM messaging_decision d WHERE d.message_id = m.id AND d.kind = 'send_next')",
    ),
    _message_rule(
        "detached_only_if_ambiguous",
        "only an unsettled message can have been passed",
        f"m.detached AND m.state IN ({HEADS}) AND m.state NOT IN ('unknown', 'needs_decision')",
    ),
    # Our POSTs.
    Rule(
        "one_open_attempt",
        "a message has at most one POST under way",
        "SELECT 'message ' || m.uuid FROM messaging_sendattempt a JOIN messaging_message m ON m.id = a.message_id"
        " WHERE a.outcome IS NULL GROUP BY m.uuid HAVING count(*) > 1",
    ),
    _message_rule(
        "open_attempt_while_posting",
        "a POST is under way exactly while its message is being posted",
        "(m.state = 'posting') <> EXISTS (SELECT 1 FROM messaging_sendattempt a WHERE a.message_id = m.id"
        " AND a.outcome IS NULL)",
    ),
    _attempt_rule(
        "first_attempt_is_composed",
        "the first POST of a message rests on its composing or on a person's decision, and no later one on its composing",
        "(a.authority = 'compose') <> NOT EXISTS (SELECT 1 FROM messaging_sendattempt e WHERE e.message_id = a.message_id"
        " AND e.id < a.id) AND a.authority <> 'human'",
    ),
    _attempt_rule(
        "proof_proves",
        "a repeated POST cites the one before it, which provably was not processed",
        "a.authority = 'proof_not_sent' AND (p.id IS NULL OR p.message_id <> a.message_id OR p.outcome IS NULL"
        " OR p.outcome NOT IN ('unsent', 'unauthorized', 'rate_limited') OR EXISTS (SELECT 1 FROM messaging_sendattempt e"
        " WHERE e.message_id = a.message_id AND e.id > p.id AND e.id < a.id))",
        "LEFT JOIN messaging_sendattempt p ON p.id = a.prior_attempt_id",
    ),
    _attempt_rule(
        "human_has_decision",
        "a POST that a person wanted cites a decision to send this message again",
        "a.authority = 'human' AND (d.id IS NULL OR d.message_id <> a.message_id OR d.kind <> 'send_again')",
        "LEFT JOIN messaging_decision d ON d.id = a.decision_id",
    ),
    Rule(
        "one_post_per_decision",
        "one decision and one proof buy one POST each",
        "SELECT 'attempts ' || string_agg(a.id::text, ', ') FROM messaging_sendattempt a"
        " WHERE a.decision_id IS NOT NULL OR a.prior_attempt_id IS NOT NULL"
        " GROUP BY a.decision_id, a.prior_attempt_id HAVING count(*) > 1",
    ),
    Rule(
        "one_attempt_per_operation",
        "one operation proves one POST",
        "SELECT 'operation ' || o.catena_id FROM messaging_sendattempt a JOIN messaging_operation o ON o.id = a.operation_id"
        " GROUP BY o.catena_id HAVING count(*) > 1",
    ),
    _attempt_rule(
        "finished_attempt_has_end",
        "a POST has an outcome exactly when it has an end",
        "(a.outcome IS NULL) <> (a.finished_at IS NULL)",
    ),
    _attempt_rule(
        "fence_of_its_message",
        "no POST carries a later claim than its message",
        "a.fence > m.fence",
    ),
    _attempt_rule(
        "operation_of_same_connection",
        "the operation of a POST belongs to the message's connection",
        "o.connection_id <> m.connection_id",
        "JOIN messaging_operation o ON o.id = a.operation_id",
    ),
    _attempt_rule(
        "operation_is_what_was_posted",
        "a POST that was found has the operation of what it sent",
        f"a.outcome IN ({UNSETTLED}) AND a.fingerprint <> '' AND o.fingerprint <> '' AND a.fingerprint <> o.fingerprint",
        "JOIN messaging_operation o ON o.id = a.operation_id",
    ),
    _attempt_rule(
        "accepted_means_bound",
        "a message that Catena took has its operation",
        "a.outcome = 'accepted' AND m.operation_id IS NULL",
    ),
    # States.
    _message_rule(
        "bound_states_have_operation",
        "an accepted message has its operation",
        f"m.state IN ({BOUND}) AND m.operation_id IS NULL",
    ),
    Rule(
        "one_message_per_operation",
        "one operation proves one message",
        "SELECT 'operation ' || o.catena_id FROM messaging_message m JOIN messaging_operation o ON o.id = m.operation_id"
        " GROUP BY o.catena_id HAVING count(*) > 1",
    ),
    _message_rule(
        "operation_needs_attempt",
        "an operation is ours only if a POST of ours became it",
        f"m.operation_id IS NOT NULL AND {OURS} AND EXISTS (SELECT 1 FROM messaging_sendattempt s WHERE s.message_id = m.id)"
        " AND NOT EXISTS (SELECT 1 FROM messaging_sendattempt a WHERE a.message_id = m.id"
        " AND (a.operation_id = m.operation_id OR a.operation_id IS NULL AND a.outcome = 'accepted'))",
    ),
    _message_rule(
        "state_follows_operation",
        "a message is final when its operation is, and not before",
        "EXISTS (SELECT 1 FROM messaging_operation o WHERE o.id = m.operation_id AND ("
        " o.status = 'success' AND m.state IN ('accepted', 'failed')"
        " OR o.status = 'failed' AND m.state IN ('accepted', 'succeeded')"
        " OR o.status NOT IN ('success', 'failed') AND m.state IN ('succeeded', 'failed')))",
    ),
    _message_rule(
        "unknown_is_unsettled",
        "a message is being looked for only while a POST of it has no answer",
        f"m.state = 'unknown' AND (m.unknown_since IS NULL OR NOT {UNSETTLED_ATTEMPT})",
    ),
    _message_rule(
        "unknown_is_looked_for",
        "somebody will look for every message of which nobody knows",
        "m.state = 'unknown' AND NOT EXISTS (SELECT 1 FROM messaging_sendattempt a WHERE a.message_id = m.id"
        f" AND a.outcome IN ({UNSETTLED}) AND a.operation_id IS NULL AND a.next_look_at IS NOT NULL)",
    ),
    _message_rule(
        "never_sent_means_never_posted",
        "cancelled and expired messages may not have left",
        f"m.state IN ('cancelled', 'expired') AND (m.operation_id IS NOT NULL OR {UNSETTLED_ATTEMPT})",
    ),
    _message_rule(
        "decision_has_question", "who asks a person says why", "m.state = 'needs_decision' AND m.question = ''"
    ),
    _message_rule(
        "verdict_has_decision",
        "a message is closed only by a person",
        "m.state IN ('closed_sent', 'closed_not_sent') AND m.settled_by_id IS NULL",
    ),
    _message_rule(
        "verdict_gives_way_to_facts",
        "a message that Catena took is not called unsent",
        "m.state IN ('closed_not_sent', 'rejected') AND EXISTS (SELECT 1 FROM messaging_sendattempt a"
        " WHERE a.message_id = m.id AND a.operation_id IS NOT NULL)",
    ),
    _message_rule(
        "lease_while_held",
        "a lease belongs to a message that a worker holds",
        "(m.state IN ('claimed', 'posting')) <> (m.lease_until IS NOT NULL)",
    ),
    _message_rule(
        "sent_twice_is_said",
        "two operations of one message are shown to people",
        f"{OURS} AND m.is_sent_twice <> ((SELECT count(*) FROM messaging_sendattempt a WHERE a.message_id = m.id"
        " AND a.operation_id IS NOT NULL) > 1)",
    ),
    Rule(
        "one_live_resend",
        "a failed message is sent again once at a time",
        "SELECT 'message ' || m.uuid FROM messaging_message r JOIN messaging_message m ON m.id = r.retry_of_id"
        " WHERE r.state NOT IN ('rejected', 'cancelled', 'expired') GROUP BY m.uuid HAVING count(*) > 1",
    ),
    _message_rule("resend_is_later", "a resend is composed after what it repeats", "m.retry_of_id >= m.id"),
    _message_rule(
        "resend_to_the_same_driver",
        "a resend goes to the driver of what it repeats",
        "EXISTS (SELECT 1 FROM messaging_message r WHERE r.id = m.retry_of_id AND r.conversation_id <> m.conversation_id)",
    ),
    _message_rule(
        "sent_to_its_driver",
        "a message goes to the driver of its conversation, on that connection",
        f"{OURS} AND NOT EXISTS (SELECT 1 FROM messaging_conversation c WHERE c.id = m.conversation_id"
        " AND c.connection_id = m.connection_id AND c.driver_id = m.recipient_id)",
    ),
    _message_rule(
        "composing_is_audited",
        "who composed a message is on record",
        f"{OURS} AND NOT EXISTS (SELECT 1 FROM messaging_auditentry e WHERE e.message_id = m.id"
        " AND e.action IN ('compose', 'resend', 'test_send'))",
    ),
    # Repeated columns.
    Rule(
        "summary_is_true",
        "what a conversation says of its messages is what they say",
        "SELECT 'conversation ' || c.uuid FROM messaging_conversation c"
        " LEFT JOIN LATERAL (SELECT m.id, m.occurred_at FROM messaging_message m WHERE m.conversation_id = c.id"
        " AND m.deleted_at IS NULL ORDER BY m.occurred_at DESC, m.id DESC LIMIT 1) latest ON TRUE"
        " LEFT JOIN (SELECT m.conversation_id, max(m.id) FILTER (WHERE m.direction = 'in') AS incoming,"
        f" count(*) FILTER (WHERE {NEEDS_ATTENTION_SQL}) AS urgent FROM messaging_message m WHERE m.deleted_at IS NULL"
        " GROUP BY m.conversation_id) said ON said.conversation_id = c.id"
        " WHERE (c.last_message_id, c.last_at, c.last_incoming_id, c.attention_count, c.unanswered_since)"
        " IS DISTINCT FROM (latest.id, latest.occurred_at, said.incoming, coalesce(said.urgent, 0),"
        f" {unanswered_since_sql('c')})",
    ),
    _message_rule(
        "status_is_the_operations",
        "what a message says of its operation is what that says",
        f"{OURS} AND EXISTS (SELECT 1 FROM messaging_operation o WHERE o.id = m.operation_id"
        " AND o.status <> m.operation_status)",
    ),
    # What pauses sending.
    Rule(
        "gate_says_why",
        "sending is paused for a reason, and that reason knows its end: a time, a read that succeeds, or a person",
        "SELECT 'gate ' || g.id FROM messaging_gate g WHERE g.state <> 'open' AND g.cause = ''"
        " OR g.state = 'closed' AND g.until IS NULL AND g.probe_at IS NULL AND g.cause <> 'operator'",
    ),
    # A database that went back in history.
    Rule(
        "lock_has_a_restore",
        "sending is locked only while somebody can unlock it",
        "SELECT 'gate ' || g.id FROM messaging_gate g WHERE g.state = 'locked'"
        " AND NOT EXISTS (SELECT 1 FROM messaging_restore r WHERE r.unlocked_at IS NULL)",
    ),
    Rule(
        "restore_locks_sending",
        "nothing can be sent until a person has looked at what a restore brought back",
        "SELECT 'restore ' || r.id FROM messaging_restore r WHERE r.unlocked_at IS NULL AND NOT EXISTS"
        " (SELECT 1 FROM messaging_gate g WHERE g.connection_id IS NULL AND g.state = 'locked')",
    ),
    _attempt_rule(
        "nothing_sent_while_locked",
        "nothing is posted between a restore and its unlock",
        "a.posting_at < coalesce(r.unlocked_at, 'infinity')",
        # What began in the moment of the lock had seen an open gate.
        "JOIN messaging_restore r ON a.posting_at > r.detected_at + interval '1 minute'",
    ),
)  # fmt: skip
# These speak of time: a breach means that no worker does its work. A stopped installation is in breach of none of the others.
PUNCTUAL: tuple[Rule, ...] = (
    _message_rule(
        "leases_are_taken_back",
        "a worker that vanished loses its claim within minutes",
        "m.state IN ('claimed', 'posting') AND m.lease_until < %(late)s",
    ),
    _message_rule(
        "expired_is_said",
        "a message that is too old says so",
        f"(m.state = 'queued' OR m.state = 'waiting' AND NOT {UNSETTLED_ATTEMPT}) AND m.expires_at < %(late)s",
    ),
    _message_rule(
        "pending_is_asked_for",
        "a pending message is asked for",
        "m.state = 'accepted' AND (m.next_poll_at IS NULL OR m.next_poll_at < %(late)s - interval '30 minutes')",
    ),
    _message_rule(
        "lost_is_looked_for_in_time",
        "looks for a lost POST come when they are due",
        "m.state = 'unknown' AND NOT EXISTS (SELECT 1 FROM messaging_sendattempt a WHERE a.message_id = m.id"
        " AND a.next_look_at >= %(late)s)",
    ),
    Rule(
        "gates_open_in_time",
        "a pause ends when its time has come, and what only a read can end is tried",
        "SELECT 'gate ' || g.id FROM messaging_gate g"
        " WHERE g.state = 'closed' AND (g.until < %(late)s OR g.probe_at < %(late)s)",
    ),
)
# The guards that the rules above rest on: one that is gone or not valid is a breach of its own.
GUARDS = Rule("guards_stand", "the constraints and triggers of the schema exist and are in force", guards.MISSING_SQL)


def verify(
    now: datetime, *, is_running: bool = True, rules: Sequence[Rule] = (), limit: timedelta = TIME_LIMIT
) -> Report:
    """Checks every rule, or those given, in one snapshot, read-only. With `is_running`, also that what is due is done.

    A rule that takes longer than `limit` is reported as a breach: nobody knows whether it holds.
    """
    began = time.monotonic()
    report = Report(at=now)
    rules = rules or (*RULES, GUARDS, *(PUNCTUAL if is_running else ()))
    with _snapshot(limit) as is_own:
        for rule in rules:
            try:
                # Its own savepoint, so that a rule which takes too long does not end the others.
                with transaction.atomic() if is_own else nullcontext():
                    _check(rule, report, now)
            except OperationalError as error:
                if not isinstance(error.__cause__, QueryCanceled):
                    raise
                report.breaches.append(Breach(rule, f"not known, no answer within {limit.total_seconds():g} s"))
    report.rules, report.seconds = len(rules), time.monotonic() - began
    return report


@contextmanager
def _snapshot(limit: timedelta = TIME_LIMIT) -> Iterator[bool]:
    """One read-only moment of the database, so that a message which moves meanwhile is seen before or after, not between.

    False inside a transaction of somebody else: its own view and limits must do.
    """
    is_own = not connection.in_atomic_block
    with transaction.atomic(), connection.cursor() as cursor:
        if is_own:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute(f"SET LOCAL statement_timeout = {int(limit.total_seconds() * 1000)}")
            # Asked once a day of whole tables: here a plan that knows the values is worth its making.
            cursor.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        yield is_own


def _check(rule: Rule, report: Report, now: datetime) -> None:
    values: dict[str, Any] = {"late": now - GRACE, **guards.expected()}
    with prepared_cursor() as cursor:
        cursor.execute(rule.sql, values)
        rows = cursor.fetchall()
    report.breaches += [Breach(rule, ids) for (ids,) in rows[:MOST_LINES]]
    report.uncounted += max(0, len(rows) - MOST_LINES)


def keep(report: Report) -> Verification:
    """Stores what a run found, for the operations page, and forgets what runs found more than a quarter of a year ago."""
    Verification.objects.filter(at__lt=report.at - KEPT).delete()
    return Verification.objects.create(
        at=report.at,
        rule_count=report.rules,
        breaches=[str(breach) for breach in report.breaches],
        seconds=report.seconds,
    )
