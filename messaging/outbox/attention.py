"""What asks for a person: failures until somebody has handled them, urgent messages that nobody accepts in time, and drivers
who wait for an answer until they have one or somebody says that none is wanted.
"""

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Least

from messaging.models import AuditEntry, Conversation, Message, User
from messaging.models.conversation import needs_attention_q
from messaging.outbox.compose import HOLD_SECONDS_WHEN_HIGH
from messaging.outbox.queue import lock
from messaging.states import HOLD_MARGIN, LIVELY_STATES, MessageState, Priority

logger = logging.getLogger(__name__)

LONGEST_HOLD = timedelta(seconds=HOLD_SECONDS_WHEN_HIGH) + HOLD_MARGIN
BATCH = 500


def handled(message: Message, user: User, now: datetime, note: str = "") -> bool:
    """Takes a failure or a late message off the list of things that need attention; `note` says what was done.

    False when it is not on that list any more, or when it asks for a decision, which a note cannot replace.
    """
    with transaction.atomic():
        conversation = lock(message.conversation_id)
        open_ones = Message.objects.filter(needs_attention_q(), pk=message.pk).exclude(
            state=MessageState.NEEDS_DECISION
        )
        marked = open_ones.update(handled_at=now, handled_by=user, handled_note=note)
        if marked:
            _audit("handled", message, user, {"has_note": bool(note)})
            conversation.summarise()
    return bool(marked)


def waive_answer(conversation_id: int, user: User, through: int) -> bool:
    """Notes that the driver's messages up to the id `through` want no answer. False: that was said before.

    What came after `through` goes on waiting: whoever pressed had not seen it.
    """
    with transaction.atomic():
        conversation = _lock_waiting(conversation_id)
        through, before = min(through, conversation.last_incoming_id or 0), conversation.no_answer_through
        if through <= (before or 0):
            return False
        columns = {"no_answer_through": through, "no_answer_before": before, "no_answer_by": user}
        _wait_or_not(conversation, user, "answer_waived", through, columns)
    return True


def want_answer(conversation_id: int, user: User, through: int) -> bool:
    """Takes back the last `waive_answer`, which reached through `through`. False: it was another one, or is taken back."""
    with transaction.atomic():
        conversation = _lock_waiting(conversation_id)
        if conversation.no_answer_through != through:
            return False
        columns = {"no_answer_through": conversation.no_answer_before, "no_answer_before": None, "no_answer_by": user}
        _wait_or_not(conversation, user, "answer_wanted", through, columns)
    return True


def _lock_waiting(conversation_id: int) -> Conversation:
    conversation = lock(conversation_id)
    conversation.refresh_from_db(fields=["last_incoming_id", "no_answer_through", "no_answer_before", "connection"])
    return conversation


def _wait_or_not(
    conversation: Conversation, user: User, action: str, through: int, columns: dict[str, int | User | None]
) -> None:
    Conversation.objects.filter(pk=conversation.pk).update(**columns)
    conversation.summarise()
    AuditEntry.objects.create(
        user=user,
        action=action,
        conversation=conversation,
        connection_id=conversation.connection_id,
        detail={"through": through},
    )


def escalate(now: datetime) -> int:
    """Brings urgent messages before a person that are not accepted in their time. Answers how many; once for each.

    The time counts from the end of the hold. Later `not_before` is moved on by back-offs, which are no excuse: hence at
    most the longest hold after the composing. Runs in rounds, so it takes the conversations one by one.
    """
    latest = now - timedelta(seconds=settings.ESCALATE_HIGH_SECONDS)
    late = Message.objects.alias(free_at=Least("not_before", F("occurred_at") + LONGEST_HOLD)).filter(
        priority=Priority.HIGH,
        state__in=sorted(LIVELY_STATES),
        escalated_at=None,
        occurred_at__lte=latest,
        free_at__lte=latest,
    )
    escalated = 0
    for conversation_id in list(late.order_by().values_list("conversation_id", flat=True).distinct()[:BATCH]):
        with transaction.atomic():
            conversation = lock(conversation_id)
            found = list(late.filter(conversation_id=conversation_id).select_for_update(of=("self",)))
            Message.objects.filter(pk__in=[message.pk for message in found]).update(escalated_at=now)
            for message in found:
                _audit("escalated", message, None, {"state": message.state})
            if found:
                conversation.summarise()
        escalated += len(found)
    if escalated:
        logger.warning("%d urgent messages were not accepted in their time", escalated)
    return escalated


def _audit(action: str, message: Message, user: User | None, detail: dict[str, object]) -> None:
    AuditEntry.objects.create(
        user=user,
        action=action,
        conversation_id=message.conversation_id,
        message=message,
        connection_id=message.connection_id,
        detail={"seq": message.seq, **detail},
    )
