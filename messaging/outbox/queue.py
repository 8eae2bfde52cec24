"""The queue's moves that need no network: promote, cancel, expire, reap. Each is a conditional UPDATE.

Whatever touches a message holds its conversation's lock first, except the two statements of `reap`, which only give a
dead worker's claim back or name a lost one.
"""

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from messaging import doorbell
from messaging.models import AuditEntry, Conversation, Message, Restore, SendAttempt, User
from messaging.models.statements import prepared_cursor
from messaging.outbox import breaker
from messaging.states import (
    CANCELLABLE_STATES,
    HEAD_STATES,
    UNSETTLED_OUTCOMES,
    AttemptOutcome,
    MessageState,
    Question,
)

logger = logging.getLogger(__name__)

S = MessageState
FIRST_LOOK_AFTER = timedelta(seconds=5)
# More claims in a row than this, each ended by a vanished worker: the message itself may be what kills them.
POISON_CLAIMS = 5
POISON_REASON = "Backhaul stopped several times while preparing this message. Nothing was sent."
BATCH = 500
HEADS = ", ".join(f"'{state}'" for state in sorted(HEAD_STATES))
PROMOTE_SQL = f"""
UPDATE messaging_message m SET state = 'queued'
WHERE m.id = (SELECT w.id FROM messaging_message w WHERE w.conversation_id = %(conversation)s AND w.state = 'waiting'
    AND NOT w.detached ORDER BY w.seq LIMIT 1)
  AND m.state = %(waiting)s AND NOT EXISTS (SELECT 1 FROM messaging_message h WHERE h.conversation_id = %(conversation)s
    AND h.state IN ({HEADS}) AND NOT h.detached)
RETURNING m.id, m.not_before, m.priority
"""  # noqa: S608 (our own words)


def lock(conversation_id: int) -> Conversation:
    """The conversation with its row locked: first in the lock order. Only inside a transaction."""
    with prepared_cursor() as cursor:
        cursor.execute("SELECT id FROM messaging_conversation WHERE id = %s FOR UPDATE", [conversation_id])
        row = cursor.fetchone()
    if row is None:
        raise Conversation.DoesNotExist
    return Conversation.from_db(None, ["id"], row)


def promote(conversation: Conversation, going_on_until: datetime | None = None) -> int | None:
    """Queues the first waiting message when there is no head, and rings for it; its id. The caller holds the lock.

    None when there is nothing to promote; safe to call at any time. A caller that itself goes on with what is due by
    `going_on_until` needs no ring for that.
    """
    with prepared_cursor() as cursor:
        cursor.execute(PROMOTE_SQL, {"conversation": conversation.pk, "waiting": S.WAITING.value})
        row = cursor.fetchone()
    if row is None:
        return None
    message_id, due, priority = row
    if going_on_until is None or due > going_on_until:
        doorbell.ring_drain(conversation.pk, at=due, priority=priority)
    return int(message_id)


def promote_stranded() -> int:
    """Promotes wherever messages wait behind nobody. Finds nothing unless a promotion was lost; logs what it finds."""
    heads = Message.objects.filter(conversation_id=OuterRef("conversation_id"), state__in=HEAD_STATES, detached=False)
    stranded = Message.objects.filter(~Exists(heads), state=S.WAITING).values_list("conversation_id", flat=True)
    found = 0
    for conversation_id in list(stranded.order_by().distinct()[:BATCH]):
        with transaction.atomic():
            promoted = promote(lock(conversation_id))
        if promoted is not None:
            found += 1
            logger.error("Message %d had been left waiting behind nobody", promoted)
    return found


def cancel(message: Message, user: User, now: datetime) -> bool:
    """Withdraws a message. True: it is cancelled and was never sent. False: too late, it has been claimed or settled.

    Too late also when the database went back in history: until that has been looked into, it may have been sent.
    """
    with transaction.atomic():
        conversation = lock(message.conversation_id)
        own = Message.objects.filter(pk=message.pk, state__in=CANCELLABLE_STATES)
        if _unexplained().filter(restored_to__gte=message.created_at).exists():
            return False
        # "Cancelled" says that nothing was sent, which of a message that was to go again nobody knows.
        state = S.CLOSED_NOT_SENT if may_have_left().filter(message=message).exists() else S.CANCELLED
        cancelled = own.update(state=state, settled_by=user, settled_at=now)
        if not cancelled:
            return False
        _audit("cancel", message, user)
        _reopen_repeated(message)
        promote(conversation)
        conversation.summarise()
    return True


def _unexplained() -> QuerySet[Restore]:
    """The database went back in history, and nobody has read yet what was sent since."""
    return Restore.objects.filter(unlocked_at=None, surveyed_at=None)


def _reopen_repeated(message: Message) -> None:
    """A resend that is withdrawn repeated nothing: what it had closed asks for a person again."""
    if message.retry_of_id is None:
        return
    repeated = Message.objects.filter(pk=message.retry_of_id)
    repeated.filter(handled_at=message.occurred_at).update(handled_at=None, handled_by=None)
    repeated.update(worker=F("worker"))  # an open page shows that it can be sent again


def _audit(action: str, message: Message, user: User | None) -> None:
    AuditEntry.objects.create(
        user=user,
        action=action,
        conversation_id=message.conversation_id,
        message=message,
        connection_id=message.connection_id,
        detail={"seq": message.seq},
    )


def may_have_left() -> QuerySet[SendAttempt]:
    """POSTs of which nobody knows what became."""
    return SendAttempt.objects.filter(outcome__in=UNSETTLED_OUTCOMES, operation=None)


def expire(now: datetime) -> int:
    """Gives up on messages that became too old before they could be sent. Answers how many.

    One that was to be sent again may have arrived the first time: it goes back to a person, once its turn has come. After a
    restore nothing expires before the survey: what the backup holds as waiting may have been sent since.
    """
    if _unexplained().exists():
        return 0
    overdue = Message.objects.filter(state__in=CANCELLABLE_STATES, expires_at__lte=now)
    posted = Exists(may_have_left().filter(message_id=OuterRef("pk")))
    stale = overdue.filter(~posted | Q(state=S.QUEUED))
    expired = 0
    for conversation_id in list(stale.order_by().values_list("conversation_id", flat=True).distinct()[:BATCH]):
        with transaction.atomic():
            conversation = lock(conversation_id)
            own = overdue.filter(conversation_id=conversation_id)
            count = own.filter(posted, state=S.QUEUED).update(
                state=S.NEEDS_DECISION, question=Question.OVERDUE, reason=Question.OVERDUE.label
            )
            count += own.filter(~posted).update(state=S.EXPIRED, settled_at=now, reason="It was not sent in time")
            if count:
                promote(conversation)
                conversation.summarise()
        expired += count
    if expired:
        logger.warning("%d messages expired before they could be sent", expired)
    return expired


def reap(now: datetime) -> int:
    """Takes messages back from workers whose lease is over. Answers how many. Never makes a posted message sendable."""
    reaped = _return_claims(now) + _lose_posts(now) + _isolate_poison(now)
    # Also for what others recorded: a worker may vanish between an unclear outcome and its count.
    breaker.trip(now)
    return reaped


def _return_claims(now: datetime) -> int:
    """CLAIMED proves that no byte was sent, so these may simply go again."""
    returned = Message.objects.filter(state=S.CLAIMED, lease_until__lt=now, claim_count__lte=POISON_CLAIMS).update(
        state=S.QUEUED, lease_until=None
    )
    if returned:
        logger.warning("%d claims of vanished workers returned to the queue", returned)
    return returned


def _lose_posts(now: datetime) -> int:
    """POSTING past its lease may have been sent: it is looked for, never repeated."""
    with transaction.atomic():
        lost = list(
            Message.objects.filter(state=S.POSTING, lease_until__lt=now)
            .select_for_update(skip_locked=True)
            .values_list("pk", flat=True)
        )
        Message.objects.filter(pk__in=lost, state=S.POSTING).update(**unknown_columns(now))
        SendAttempt.objects.filter(message__in=lost, outcome=None).update(
            outcome=AttemptOutcome.LOST,
            finished_at=now,
            error_text="The worker vanished while sending.",
            next_look_at=now + FIRST_LOOK_AFTER,
        )
    if lost:
        logger.error("%d messages are unknown: their worker vanished while sending", len(lost))
    return len(lost)


def unknown_columns(now: datetime) -> dict[str, object]:
    """What a message is set to when nobody can say whether it left."""
    return {
        "state": S.UNKNOWN,
        "lease_until": None,
        "unknown_since": now,
        "question": "",
    }


def _isolate_poison(now: datetime) -> int:
    poisoned = Message.objects.filter(state=S.CLAIMED, lease_until__lt=now, claim_count__gt=POISON_CLAIMS)
    isolated = 0
    for pk, conversation_id in poisoned.values_list("pk", "conversation_id"):
        with transaction.atomic():
            conversation = lock(conversation_id)
            count = poisoned.filter(pk=pk).update(
                state=S.NEEDS_DECISION, question=Question.POISON, lease_until=None, reason=POISON_REASON
            )
            if count:
                conversation.summarise()
        isolated += count
        logger.error("Message %s ended %d workers; a person must decide", pk, POISON_CLAIMS + 1)
    return isolated
