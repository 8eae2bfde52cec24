"""From a person's words to a row in the queue, in one transaction. Validates only what the database needs."""

from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F

from messaging import doorbell
from messaging.catena import types
from messaging.mirror import fingerprint
from messaging.models import AuditEntry, Connection, Conversation, FleetUser, Message, ReadMark, User
from messaging.states import HEAD_STATES, HOLD_MARGIN, Direction, MessageState, Priority

S = MessageState

# Claims take the earliest `send_by` first, so urgent messages overtake others without starving them.
PATIENCE = {Priority.HIGH: timedelta(0), Priority.MEDIUM: timedelta(minutes=5), Priority.LOW: timedelta(minutes=15)}
HOLD_SECONDS_WHEN_HIGH = 3
# For a connection whose fleet is not known: the same hours as a new fleet has.
EXPIRES_HIGH_HOURS, EXPIRES_OTHER_HOURS = 4, 24
# A test asks how things are now.
TEST_LIFETIME = timedelta(minutes=10)


class NoSender(Exception):
    """The connection has no user that a message could go out from; `str()` says what to do about it."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(
            f"{connection.label} has no user to send from. Ask the fleet to add an office user at {connection.provider}."
        )


class MovedOn(Exception):
    """Somebody else has written in the conversation since the author last looked."""


def open_conversation(driver: FleetUser) -> Conversation:
    """The conversation with this driver, made when there is none. Safe to call at the same time from two places."""
    return Conversation.objects.get_or_create(connection_id=driver.connection_id, driver=driver)[0]


def compose(
    author: User,
    conversation: Conversation,
    text: str,
    priority: str,
    reply_to: Message | None,
    client_token: UUID,
    now: datetime,
    seen: int | None = None,
) -> Message:
    """Puts a message in the queue: message, audit entry, read mark and doorbell in one transaction.

    Idempotent by (author, client_token): a repeated token returns the message that it made, whatever else is passed.
    `seen` is the newest message that the author had before them; None when nobody says. The caller has checked
    `access.can_send`. Raises `NoSender`, and `MovedOn` when others wrote after `seen`; locks the conversation.
    """
    existing = _composed_before(author, client_token)
    if existing is not None:
        return existing
    try:
        with transaction.atomic():
            if seen is not None:
                _check_seen(author, conversation, seen)
            return compose_locked(author, conversation, text, Priority(priority), reply_to, client_token, now)
    except IntegrityError:
        existing = _composed_before(author, client_token)
        if existing is None:
            raise
        return existing


def _check_seen(author: User, conversation: Conversation, seen: int) -> None:
    """Under the lock, so that no line can come between the look and the send."""
    locked = Conversation.objects.select_for_update().get(pk=conversation.pk)
    if Message.objects.filter(conversation=locked).news_for(author, seen).exists():
        raise MovedOn


def _composed_before(author: User, client_token: UUID) -> Message | None:
    return Message.objects.filter(author=author, client_token=client_token).first()


def compose_locked(
    author: User,
    conversation: Conversation,
    text: str,
    priority: Priority,
    reply_to: Message | None,
    client_token: UUID,
    now: datetime,
    retry_of: Message | None = None,
    *,
    is_test: bool = False,
) -> Message:
    """`compose` inside the caller's transaction, whose lock on the conversation it takes or repeats. Raises `NoSender`."""
    locked = Conversation.objects.select_for_update().get(pk=conversation.pk)
    connection = Connection.objects.select_related("fleet", "pinned_sender").get(pk=locked.connection_id)
    Conversation.objects.filter(pk=locked.pk).update(next_seq=F("next_seq") + 1)
    message = Message(
        conversation=locked,
        connection=connection,
        direction=Direction.OUT,
        seq=locked.next_seq,
        author=author,
        client_token=client_token,
        sender=sender_of(connection),
        recipient=locked.driver,
        text=text,
        priority=priority,
        reply_to=reply_to,
        retry_of=retry_of,
        state=S.WAITING if _must_wait(locked) else S.QUEUED,
        occurred_at=now,
        not_before=now if is_test else now + _hold(author, priority),
        send_by=now if is_test else now + PATIENCE[priority],
        expires_at=now + (TEST_LIFETIME if is_test else lifetime(connection, priority)),
        is_test=is_test,
    )
    message.sender_name = message.sender.name if message.sender else ""
    message.fingerprint = fingerprint(draft_of(message).body())
    message.save(force_insert=True)
    _note(message, author, locked)
    return message


def _note(message: Message, author: User, locked: Conversation) -> None:
    repeated = {"retry_of": str(message.retry_of.uuid)} if message.retry_of else {}
    AuditEntry.objects.create(
        user=author,
        action="resend" if repeated else "test_send" if message.is_test else "compose",
        conversation=locked,
        message=message,
        connection_id=message.connection_id,
        detail={"seq": message.seq, "priority": message.priority, "length": len(message.text or ""), **repeated},
    )
    if locked.last_incoming_id is not None and not repeated and not message.is_test:
        ReadMark.advance(author, locked, locked.last_incoming_id)  # replying means reading
    locked.summarise()
    if message.state == S.QUEUED:
        ring(message)


def ring(message: Message) -> None:
    """Asks a worker for this message when it is due; one ring per head, because a drain goes on with the next."""
    assert message.not_before is not None
    doorbell.ring_drain(message.conversation_id, at=message.not_before, priority=message.priority or Priority.MEDIUM)


def sender_of(connection: Connection) -> FleetUser:
    """Who a message goes out from. Raises `NoSender`."""
    if connection.pinned_sender is not None:
        return connection.pinned_sender
    found = FleetUser.objects.filter(connection=connection).senders().first()
    if found is None:
        raise NoSender(connection)
    return found


def _must_wait(conversation: Conversation) -> bool:
    """Behind a head, or behind others that wait (a head may have just left without promoting yet)."""
    ahead = Message.objects.filter(conversation=conversation, detached=False, state__in=[*HEAD_STATES, S.WAITING])
    return ahead.exists()


def _hold(author: User, priority: Priority) -> timedelta:
    shown = author.undo_seconds
    if shown == 0:
        return timedelta(0)
    if priority == Priority.HIGH:
        shown = min(HOLD_SECONDS_WHEN_HIGH, shown)
    return timedelta(seconds=shown) + HOLD_MARGIN


def lifetime(connection: Connection, priority: Priority) -> timedelta:
    """How long a message may wait before it is too old to be sent, as its fleet has set it."""
    is_high, fleet = priority == Priority.HIGH, connection.fleet
    if fleet is None:
        return timedelta(hours=EXPIRES_HIGH_HOURS if is_high else EXPIRES_OTHER_HOURS)
    return timedelta(hours=fleet.expires_high_hours if is_high else fleet.expires_other_hours)


def draft_of(message: Message) -> types.MessageDraft:
    """What is POSTed for this message. A reply is linked only if Catena knows the message it answers."""
    assert message.sender is not None
    assert message.recipient is not None
    return types.MessageDraft(
        connection_id=message.connection.catena_id,
        sender_id=message.sender.catena_id,
        recipient_id=message.recipient.catena_id,
        message_text=message.text or "",
        priority=message.priority,
        reply_to_message_id=message.reply_to.catena_id if message.reply_to else None,
    )
