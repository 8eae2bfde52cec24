"""Gives a POST whose answer was lost the operation that Catena made of it, whenever and however that becomes known.

What was looked for (`reconcile`) and what comes late (`finish`) end here, under the conversation's lock.
"""

import logging
from datetime import datetime

from django.db import transaction

from messaging import mirror
from messaging.models import AuditEntry, Message, Operation, SendAttempt
from messaging.outbox.queue import lock, promote
from messaging.states import UNSETTLED_OUTCOMES, MessageState

logger = logging.getLogger(__name__)

S = MessageState


def settle(attempt: SendAttempt, operation: Operation, now: datetime) -> bool:
    """Binds a stored operation to an unsettled attempt and, through it, to its message. Idempotent.

    A message that already has another operation was sent twice: that is noted on it and in the audit, and nothing else
    moves. While another POST of it is on the wire only the attempt is settled; `bring_together` does the rest when that
    POST ends. False, with nothing changed, when the attempt is settled or the operation is taken.
    """
    conversation_id = Message.objects.values_list("conversation_id", flat=True).get(pk=attempt.message_id)
    with transaction.atomic():
        conversation = lock(conversation_id)
        message = (
            Message.objects.select_for_update(of=("self",)).select_related("connection").get(pk=attempt.message_id)
        )
        if not _take(attempt, operation):
            return False
        if message.state == S.POSTING:
            logger.warning("Message %s is sent again while its operation %s comes", message.uuid, operation.catena_id)
        else:
            bring_together(message, operation, now)
            promote(conversation)
            conversation.summarise()
    return True


def bring_together(message: Message, operation: Operation, now: datetime) -> None:
    """Lets a message follow from an operation that one of its attempts has. The caller holds the conversation's lock,
    promotes and summarises.
    """
    if message.operation_id is not None and message.operation_id != operation.pk:
        _note_sent_twice(message, operation)
    elif mirror.bind_found(message, operation, now):
        logger.info("Message %s was found: operation %s", message.uuid, operation.catena_id)
    else:
        # The attempt keeps its operation, so that nothing repeats it; the daily check reports what this leaves.
        logger.error(
            "Message %s in state %s has a POST, operation %s", message.uuid, message.state, operation.catena_id
        )


def _take(attempt: SendAttempt, operation: Operation) -> bool:
    """Whether the operation is now this attempt's, and no other's."""
    locked = Operation.objects.select_for_update().get(pk=operation.pk)
    if Message.objects.filter(operation=locked).exists() or SendAttempt.objects.filter(operation=locked).exists():
        return False
    unsettled = SendAttempt.objects.filter(pk=attempt.pk, operation=None, outcome__in=UNSETTLED_OUTCOMES)
    return bool(unsettled.update(operation=operation, next_look_at=None))


def _note_sent_twice(message: Message, operation: Operation) -> None:
    """Two POSTs of one message became operations: by a person's decision, and people must see what came of it."""
    own = Message.objects.filter(pk=message.pk)
    own.update(is_sent_twice=True, handled_at=None, handled_by=None, handled_note="")
    logger.warning("Message %s was sent twice: operation %s", message.uuid, operation.catena_id)
    AuditEntry.objects.create(
        action="sent_twice",
        message=message,
        conversation_id=message.conversation_id,
        connection_id=message.connection_id,
        detail={"operation": str(operation.catena_id)},
    )
