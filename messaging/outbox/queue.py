"""The queue's moves that need no network: promote, cancel, expire, reap, handled. Each is a conditional UPDATE.

Whatever touches a message holds its conversation's lock first, except the two statements of `reap`, which only give a
dead worker's claim back or name a lost one.
"""

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Case, Exists, F, OuterRef, Q, When

from messaging.models import AuditEntry, Conversation, Message, SendAttempt, User
from messaging.outbox.compose import ring
from messaging.states import ATTENTION_STATES, CANCELLABLE_STATES, HEAD_STATES, AttemptOutcome, MessageState, Question

logger = logging.getLogger(__name__)

S = MessageState
FIRST_LOOK_AFTER = timedelta(seconds=5)
# More claims in a row than this, each ended by a vanished worker: the message itself may be what kills them.
POISON_CLAIMS = 5
POISON_REASON = "Backhaul stopped several times while preparing this message. Nothing was sent."
BATCH = 500


def lock(conversation_id: int) -> Conversation:
    """The conversation with its row locked: first in the lock order. Only inside a transaction."""
    return Conversation.objects.select_for_update().only("pk").get(pk=conversation_id)


def promote(conversation: Conversation, going_on_until: datetime | None = None) -> Message | None:
    """Queues the first waiting message when there is no head, and rings for it. The caller holds the lock.

    None when there is nothing to promote; safe to call at any time. A caller that itself goes on with what is due by
    `going_on_until` needs no ring for that.
    """
    line = Message.objects.filter(conversation=conversation, state__in=[*HEAD_STATES, S.WAITING], detached=False)
    line = line.only("uuid", "state", "not_before", "priority", "conversation_id")
    waiting = line.order_by(Case(When(state=S.WAITING, then=1), default=0), "seq").first()
    if waiting is None or waiting.state != S.WAITING:
        return None
    if not Message.objects.filter(pk=waiting.pk, state=S.WAITING).update(state=S.QUEUED):
        return None
    waiting.state = S.QUEUED
    assert waiting.not_before is not None
    if going_on_until is None or waiting.not_before > going_on_until:
        ring(waiting)
    return waiting


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
            logger.error("Message %s had been left waiting behind nobody", promoted.uuid)
    return found


def cancel(message: Message, user: User, now: datetime) -> bool:
    """Withdraws a message. True: it is cancelled and was never sent. False: too late, it has been claimed or settled."""
    with transaction.atomic():
        conversation = lock(message.conversation_id)
        cancelled = Message.objects.filter(pk=message.pk, state__in=CANCELLABLE_STATES).update(
            state=S.CANCELLED, settled_by=user, settled_at=now
        )
        if not cancelled:
            return False
        _audit("cancel", message, user)
        promote(conversation)
        conversation.summarise()
    return True


def handled(message: Message, user: User, now: datetime) -> bool:
    """Takes a failure off the list of things that need attention. False when it is not on it."""
    with transaction.atomic():
        conversation = lock(message.conversation_id)
        marked = Message.objects.filter(pk=message.pk, state__in=ATTENTION_STATES, handled_at=None).update(
            handled_at=now, handled_by=user
        )
        if marked:
            _audit("handled", message, user)
            conversation.summarise()
    return bool(marked)


def _audit(action: str, message: Message, user: User | None) -> None:
    AuditEntry.objects.create(
        user=user,
        action=action,
        conversation_id=message.conversation_id,
        message=message,
        connection_id=message.connection_id,
        detail={"seq": message.seq},
    )


def expire(now: datetime) -> int:
    """Gives up on messages that became too old before any try. Answers how many."""
    overdue = Message.objects.filter(state__in=CANCELLABLE_STATES, expires_at__lte=now)
    expired = 0
    for conversation_id in list(overdue.order_by().values_list("conversation_id", flat=True).distinct()[:BATCH]):
        with transaction.atomic():
            conversation = lock(conversation_id)
            count = overdue.filter(conversation_id=conversation_id).update(
                state=S.EXPIRED, settled_at=now, reason="It was not sent in time"
            )
            if count:
                promote(conversation)
                conversation.summarise()
        expired += count
    if expired:
        logger.warning("%d messages expired before they could be sent", expired)
    return expired


def reap(now: datetime) -> int:
    """Takes messages back from workers whose lease is over. Answers how many. Never makes a posted message sendable."""
    return _return_claims(now) + _lose_posts(now) + _isolate_poison(now)


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


def touch(scope: Q) -> int:
    """Re-writes the queued messages of a scope, so that pages see them again; rows in use change by themselves."""
    with transaction.atomic():
        free = list(
            Message.objects.filter(scope, state=S.QUEUED)
            .select_for_update(skip_locked=True)
            .values_list("pk", flat=True)
        )
        return Message.objects.filter(pk__in=free, state=S.QUEUED).update(worker=F("worker"))
