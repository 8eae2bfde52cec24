"""Records how a claim ended and makes room for the next message. Every move is fenced: a late worker changes nothing."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, InterfaceError, OperationalError, connection, transaction

from messaging import mirror
from messaging.gates import close_gate, slow_down
from messaging.models import Message, SendAttempt
from messaging.models.statements import prepared_cursor
from messaging.outbox import breaker
from messaging.outbox.claiming import Claim
from messaging.outbox.compose import ring
from messaging.outbox.queue import FIRST_LOOK_AFTER, lock, promote, unknown_columns
from messaging.outbox.settling import bring_together, settle
from messaging.outbox.verdict import Hindrance, Verdict
from messaging.states import (
    ATTENTION_STATES,
    LEASED_STATES,
    UNSETTLED_OUTCOMES,
    AttemptOutcome,
    GateCause,
    MessageState,
    Question,
)

logger = logging.getLogger(__name__)

S = MessageState
# Whose POST is recorded here may have left before the database was restored, for all we know.
RESTORE_WORKER = "restore"
# Full jitter over a doubling time, in seconds, for what provably did not leave.
BACK_OFF_FIRST, BACK_OFF_MOST = 2.0, 300.0
SHORTEST_WAIT = 0.1
# Between two tries to record an outcome while the database is away.
RETRY_SECONDS = 0.5
# Only an attempt that is open, or whose answer was lost, may still learn how it ended.
CLOSE_SQL = f"""
UPDATE messaging_sendattempt a
SET outcome = %(outcome)s, finished_at = %(now)s, http_status = %(http_status)s::smallint, error_class = %(error_class)s,
    error_text = %(error_text)s, next_look_at = %(next_look_at)s::timestamptz,
    operation_id = coalesce(
        (SELECT o.id FROM messaging_operation o WHERE o.catena_id = %(operation)s::uuid
            AND NOT EXISTS (SELECT 1 FROM messaging_sendattempt t WHERE t.operation_id = o.id)),
        a.operation_id)
WHERE a.message_id = %(message)s AND a.fence = %(fence)s
  AND (a.outcome IS NULL OR a.outcome IN ({", ".join(f"'{outcome}'" for outcome in sorted(UNSETTLED_OUTCOMES))}))
"""  # noqa: S608 (our own words)
# With these the message makes room; when nobody takes it, there is nothing to claim.
LEAVING_OUTCOMES = frozenset({AttemptOutcome.ACCEPTED, AttemptOutcome.REFUSED})
NO_AUTHORITY_REASON = "An earlier attempt may have been sent, so Backhaul does not repeat it by itself."

# What a worker takes next, in the transaction that ends what it has in hand.
type Following = Callable[[], Claim | None]


def nothing_more() -> None:
    """The `Following` of a worker that does one thing only."""


def finish_surely(
    claim: Claim,
    verdict: Verdict,
    clock: Callable[[], datetime],
    jitter: Callable[[float, float], float],
    following: Following = nothing_more,
) -> Claim | None:
    """`finish`, again and again until the lease ends, while the database is away or a sweep brings the same record at the
    same moment. Then the reaper takes over. Answers what `following` claimed in the same transaction.
    """
    while True:
        try:
            now = clock()
            return _finish(claim, verdict, now, _wait(claim, verdict, now, jitter), following)[1]
        except (OperationalError, InterfaceError, IntegrityError) as error:
            if time.monotonic() > claim.ends_at or connection.in_atomic_block:
                raise
            logger.warning("Outcome of message %d not recorded yet: %s", claim.message_id, type(error).__name__)
            connection.close()
            threading.Event().wait(RETRY_SECONDS)


def finish(claim: Claim, verdict: Verdict, now: datetime, wait: timedelta = timedelta(0)) -> bool:
    """Records the outcome, frees or keeps the head, promotes the next: one transaction. `wait` is until the next try.

    False when the message has moved on; then only an operation id still counts, because it is strictly more knowledge.
    """
    return _finish(claim, verdict, now, wait, nothing_more)[0]


def _finish(
    claim: Claim, verdict: Verdict, now: datetime, wait: timedelta, following: Following
) -> tuple[bool, Claim | None]:
    with transaction.atomic():
        conversation = lock(claim.conversation_id)
        moved, wants_summary = _move(claim, verdict, now, wait)
        promoted = None
        if moved:
            _close_attempt(claim, verdict, now)
            promoted = promote(conversation, going_on_until=now)
        if wants_summary:
            conversation.summarise()
        is_over = moved and promoted is None and verdict.outcome in LEAVING_OUTCOMES
        # One commit for both. Should it be lost on its way, the outcome is recorded again and the claim's lease ends.
        claimed = None if is_over else following()
    if moved and verdict.outcome in UNSETTLED_OUTCOMES:
        breaker.trip(now)
    if not moved:
        logger.warning("Late outcome of message %d: %s, ignored", claim.message_id, verdict.outcome)
        _keep_late_operation(claim, verdict, now)
    return moved, claimed


def _move(claim: Claim, verdict: Verdict, now: datetime, wait: timedelta) -> tuple[bool, bool]:
    """Whether the message moved, and whether that changes what its conversation says of itself."""
    match verdict.outcome:
        case AttemptOutcome.ACCEPTED:
            return _accept(claim, verdict, now)
        case AttemptOutcome.REFUSED:
            moved = _set(claim, {S.POSTING}, _settled(verdict, now))
            return moved, moved
        case AttemptOutcome.UNSENT:
            return _requeue(claim, LEASED_STATES, verdict, now + wait, now), False
        case AttemptOutcome.UNAUTHORIZED | AttemptOutcome.RATE_LIMITED:
            return _requeue(claim, {S.POSTING}, verdict, now + wait, now), False
        case _:
            return _set(claim, {S.POSTING}, {**unknown_columns(now), "reason": verdict.reason}), False


def _set(claim: Claim, states: set[MessageState] | frozenset[MessageState], columns: dict[str, Any]) -> bool:
    own = Message.objects.filter(pk=claim.message_id, fence=claim.fence, state__in=states)
    return bool(own.update(**columns))


def _settled(verdict: Verdict, now: datetime) -> dict[str, Any]:
    return {
        "state": S.REJECTED,
        "lease_until": None,
        "settled_at": now,
        "reason": verdict.reason,
        "response_status_code": verdict.http_status,
    }


def _accept(claim: Claim, verdict: Verdict, now: datetime) -> tuple[bool, bool]:
    """Also from UNKNOWN, when the reaper gave this worker up too early."""
    assert verdict.operation is not None
    if mirror.bind_posted(claim.message_id, claim.fence, claim.connection_id, verdict.operation, now):
        return True, False
    message = Message.objects.select_related("connection").get(pk=claim.message_id)
    before = message.state
    if message.fence == claim.fence and mirror.bind_operation(message, verdict.operation, now):
        return True, message.escalated_at is not None or bool({before, message.state} & ATTENTION_STATES)
    columns = {**unknown_columns(now), "reason": "Catena's answer belongs to another message"}
    return _set(claim, {S.POSTING}, columns), False


def _requeue(
    claim: Claim, states: set[MessageState] | frozenset[MessageState], verdict: Verdict, due: datetime, now: datetime
) -> bool:
    # A controlled return is no sign of poison: only claims that ended with their worker add up.
    columns: dict[str, Any] = {"state": S.QUEUED, "lease_until": None, "claim_count": 1, "reason": verdict.reason}
    if due > now:
        columns["not_before"] = due
    if not _set(claim, states, columns):
        return False
    if due > now:
        ring(Message.objects.get(pk=claim.message_id))
    return True


def _close_attempt(claim: Claim, verdict: Verdict, now: datetime) -> None:
    values: dict[str, Any] = {
        "message": claim.message_id,
        "fence": claim.fence,
        "outcome": verdict.outcome.value,
        "now": now,
        "http_status": verdict.http_status,
        "error_class": verdict.error_class[:100],
        "error_text": verdict.error_text,
        "next_look_at": now + FIRST_LOOK_AFTER if verdict.outcome in UNSETTLED_OUTCOMES else None,
        "operation": verdict.operation.id if verdict.operation is not None else None,
    }
    with prepared_cursor() as cursor:
        cursor.execute(CLOSE_SQL, values)
    if claim.fence > 1:
        _recall_earlier(claim, now)


def _recall_earlier(claim: Claim, now: datetime) -> None:
    """An earlier POST of the same message was found while this one was on the wire."""
    earlier = SendAttempt.objects.filter(message_id=claim.message_id, operation__isnull=False).exclude(
        fence=claim.fence
    )
    found = earlier.select_related("operation__connection", "message__connection").first()
    if found is not None and found.operation is not None:
        bring_together(found.message, found.operation, now)


def _keep_late_operation(claim: Claim, verdict: Verdict, now: datetime) -> None:
    """The message went on without this answer (a person sent it again, say), but what Catena did must stay visible."""
    if verdict.operation is None:
        return
    operation = mirror.apply_operation(verdict.operation)
    attempt = SendAttempt.objects.filter(message_id=claim.message_id, fence=claim.fence, operation=None).first()
    if operation is None or attempt is None or settle(attempt, operation, now):
        return
    if not SendAttempt.objects.filter(operation=operation).exists():
        logger.error("Operation %s came late and finds no place at message %d", operation.catena_id, claim.message_id)


def _wait(claim: Claim, verdict: Verdict, now: datetime, jitter: Callable[[float, float], float]) -> timedelta:
    """How long until the next try; closes the credential's gate when no other message would get through either.

    Nothing behind a gate that waits for a probe or a person: it goes on with the others.
    """
    asked = None if verdict.retry_after is None else timedelta(seconds=max(verdict.retry_after, 1.0))
    if verdict.outcome == AttemptOutcome.RATE_LIMITED:
        until = slow_down(now, verdict.retry_after)
        return until - now + timedelta(seconds=jitter(0, 1))
    if verdict.hindrance == Hindrance.BUDGET:
        return (asked or timedelta(0)) + timedelta(seconds=jitter(0, 1))
    refused = _login_trouble(claim, verdict)
    if refused:
        close_gate(None, GateCause.LOGIN, now, asked, refused)
        return timedelta(0)
    if verdict.outcome == AttemptOutcome.UNSENT and verdict.reason:
        most = min(BACK_OFF_MOST, BACK_OFF_FIRST * 2 ** min(claim.fence - 1, 10))
        return max(timedelta(seconds=max(jitter(0, most), SHORTEST_WAIT)), asked or timedelta(0))
    return timedelta(0)


def _login_trouble(claim: Claim, verdict: Verdict) -> str:
    """Why Catena lets nobody in with our credentials; empty when this outcome does not say so."""
    # The first time that no token comes may be a moment's trouble.
    if verdict.hindrance == Hindrance.LOGIN or (verdict.hindrance == Hindrance.NO_ACCESS and claim.fence > 1):
        return verdict.hindrance
    if verdict.outcome == AttemptOutcome.UNAUTHORIZED and _was_unauthorized_before(claim):
        return "Catena refuses our access token, also a new one"
    return ""


def _was_unauthorized_before(claim: Claim) -> bool:
    return SendAttempt.objects.filter(
        message_id=claim.message_id, fence=claim.fence, prior_attempt__outcome=AttemptOutcome.UNAUTHORIZED
    ).exists()


def reject(claim: Claim, reason: str, now: datetime) -> bool:
    """Settles a claimed message that must not go out. False when the claim is gone."""
    columns = {"state": S.REJECTED, "lease_until": None, "settled_at": now, "reason": reason[:300]}
    return _leave(claim, columns)


def isolate(claim: Claim, now: datetime) -> bool:
    """Hands a claimed message to a person. False when the claim is gone."""
    logger.error("Message %d has no authority for another POST", claim.message_id)
    is_restored = SendAttempt.objects.filter(message_id=claim.message_id, worker=RESTORE_WORKER).exists()
    columns = {
        "state": S.NEEDS_DECISION,
        "question": Question.RESTORED if is_restored else Question.NO_AUTHORITY,
        "lease_until": None,
        "reason": NO_AUTHORITY_REASON,
    }
    return _leave(claim, columns)


def _leave(claim: Claim, columns: dict[str, Any]) -> bool:
    with transaction.atomic():
        conversation = lock(claim.conversation_id)
        moved = _set(claim, {S.CLAIMED}, columns)
        if moved:
            promote(conversation)
            conversation.summarise()
    return moved
