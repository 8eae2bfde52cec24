"""Sends a failure once more, as a new message that is linked to it: once, whoever asks and however often."""

import logging
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from messaging.mirror.reasons import TIMEOUT_CODES
from messaging.models import Message, OperationLog, SendAttempt, User
from messaging.outbox.compose import compose_locked
from messaging.outbox.queue import lock
from messaging.states import RESENDABLE_STATES, UNSETTLED_OUTCOMES, MessageState, OperationStatus, Priority

logger = logging.getLogger(__name__)

S = MessageState


class NotResendable(Exception):
    """The message is not, or no longer, one that can be sent again. `str()` is one sentence for people."""


class MayHaveArrived(NotResendable):
    """The driver may have the message in spite of the failure, and the person has not said that they know it."""


@dataclass(frozen=True, slots=True)
class Resend:
    """The new message. `is_new` False: somebody had sent the failure again already, and this is what they sent."""

    message: Message
    is_new: bool


def resend(message: Message, user: User, now: datetime, *, is_sure: bool) -> Resend:
    """Puts the same text to the same driver in the queue again and marks the failure as handled, in one transaction.

    Idempotent: of any number of calls, by one person or several, one makes a message and the others are given it, until
    that message is withdrawn. Raises `NotResendable`, `MayHaveArrived` unless `is_sure`, and `NoSender`; then nothing has
    changed. The caller has checked `access.can_resend`.
    """
    try:
        with transaction.atomic():
            return _resend(message, user, now, is_sure=is_sure)
    except IntegrityError:
        # The lock makes this impossible; the database's own rule `message_resent_once` stands behind it all the same.
        found = resent_as(message)
        if found is None:
            raise
        return Resend(found, is_new=False)


def _resend(message: Message, user: User, now: datetime, *, is_sure: bool) -> Resend:
    conversation = lock(message.conversation_id)
    current = Message.objects.select_related("reply_to", "connection").get(pk=message.pk)
    found = resent_as(current)
    if found is not None:
        return Resend(found, is_new=False)
    if current.is_test:
        raise NotResendable("This was a test of the connection. Send a new test from the connection's page.")
    if not can_be_resent(current):
        raise NotResendable("This message has not failed, or no longer: look at what became of it.")
    doubt = doubt_about(current)
    if doubt and not is_sure:
        raise MayHaveArrived(doubt)
    made = compose_locked(
        user, conversation, current.text or "", Priority(current.priority or Priority.MEDIUM), current.reply_to, uuid4(),
        now, retry_of=current,
    )  # fmt: skip
    Message.objects.filter(pk=current.pk).update(
        handled_at=Coalesce("handled_at", now), handled_by=Coalesce("handled_by", user.pk), worker=F("worker")
    )
    conversation.summarise()
    logger.info("Message %s is sent again as %s by %s", current.uuid, made.uuid, user.pk)
    return Resend(made, is_new=True)


def can_be_resent(message: Message) -> bool:
    """Whether its state allows it; whether somebody has done it is `resent_as`."""
    return message.state in RESENDABLE_STATES and message.deleted_at is None and not message.is_test


def resent_as(message: Message) -> Message | None:
    """What this message was sent again as; a withdrawn one does not count. If that failed, it is the one to send again."""
    repeats = Message.objects.select_related("author").filter(retry_of=message)
    return repeats.exclude(state=S.CANCELLED).order_by("-id").first()


def doubt_about(message: Message) -> str:
    """Why the driver may have got a failed message, or what it repeats, as a sentence; empty when neither is possible.

    Only the provider's own refusal of every try proves that it kept nothing: not a broken line, not its own trouble, not
    silence. Catena tries by itself, so the last try alone says little.
    """
    earlier = message
    doubt = _doubt_about_one(message)
    while not doubt and earlier.retry_of is not None:
        earlier = earlier.retry_of
        doubt = _doubt_about_one(earlier)
    return doubt if earlier is message or not doubt else f"It repeats an earlier message. {doubt}"


def _doubt_about_one(message: Message) -> str:
    unsettled = SendAttempt.objects.filter(message=message, outcome__in=UNSETTLED_OUTCOMES, operation=None)
    if unsettled.exists():
        return "An earlier try to send it was never answered."
    provider, code = message.connection.provider, message.response_status_code
    if message.is_sent_twice:
        return "Catena has two operations of this message, and this is the end of one of them."
    if message.state in {S.ACCEPTED, S.SUCCEEDED}:
        return f"In the end {provider} took that one after all."
    if message.state != S.FAILED:
        return ""
    if message.error_type == "network":
        return f"The line to {provider} broke, so nobody knows whether {provider} had taken the message before."
    if code is None:
        return f"{provider} gave no answer that says whether it had taken the message."
    if is_unclear(message.error_type, code):
        return f"{provider} answered {code}, which does not say that it had not taken the message."
    return _doubt_about_earlier(message)


def _doubt_about_earlier(message: Message) -> str:
    """The tries before the last: Catena repeats by itself, and the first may have arrived though the last was refused."""
    tries = OperationLog.objects.filter(operation__message=message, status=OperationStatus.FAILED)
    if any(is_unclear(*one) for one in tries.values_list("error_type", "response_status_code")):
        return f"An earlier try ended without a clear refusal by {message.connection.provider}."
    return ""


def is_unclear(error_type: str, code: int | None) -> bool:
    """Whether a failed try does not prove that the provider kept nothing: all but a refusal with a code of its own.

    "Request timeout" is a 4xx, and no refusal.
    """
    return error_type == "network" or code is None or not 400 <= code < 500 or code in TIMEOUT_CODES
