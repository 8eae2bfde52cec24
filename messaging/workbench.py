"""What support does beside a message: notes, who looks after it, and a look at raw bodies. Each is audited, in its transaction.

Sends nothing and changes no message.
"""

from datetime import timedelta

from django.core import signing
from django.db import transaction
from django.utils import timezone

from messaging.access import caretakers
from messaging.models import AuditEntry, Connection, Message, MessageCare, MessageNote, User

NOTE_LENGTH = 2000
OPEN_FOR = timedelta(minutes=5)
SALT = "messaging.workbench.reveal"


def reveal(user: User, message: Message) -> str:
    """Notes that this person looks at the raw bodies, and answers the proof that opens them for OPEN_FOR on this message."""
    _audit("raw_revealed", user, message)
    return signing.dumps([user.pk, message.pk], salt=SALT)


def is_open(user: User, message: Message, proof: str) -> bool:
    """Whether the proof was given to this person for this message, and not too long ago. Never raises."""
    try:
        return bool(signing.loads(proof, salt=SALT, max_age=OPEN_FOR) == [user.pk, message.pk])
    except signing.BadSignature:
        return False


def note(user: User, message: Message, text: str) -> MessageNote:
    """Keeps an internal note. The caller has checked that it is not empty and not longer than NOTE_LENGTH."""
    with transaction.atomic():
        made = MessageNote.objects.create(message=message, author=user, text=text)
        _audit("note_added", user, message, note=made.pk)
    return made


def give(user: User, message: Message, owner: User | None, *, seen: int | None) -> bool:
    """Puts the message into somebody's care, or with `owner` None into nobody's.

    `seen` is the primary key of the owner whom the person saw: False, with nothing changed, when it is another one by now.
    """
    wanted = owner.pk if owner else None
    with transaction.atomic():
        MessageCare.objects.bulk_create([MessageCare(message=message, owner=None)], ignore_conflicts=True)
        cares = MessageCare.objects.filter(message=message)
        moved = wanted != seen and cares.filter(owner_id=seen).update(owner_id=wanted, changed_at=timezone.now())
        if not moved:
            return cares.filter(owner_id=wanted).exists()
        _audit("care_given" if owner else "care_released", user, message, owner=wanted, was=seen)
    return True


def colleagues(message: Message) -> list[User]:
    """Those who may look after the message and see it, by name. One query."""
    return list(caretakers(Connection.objects.filter(pk=message.connection_id)))


def care_of(message: Message) -> MessageCare | None:
    """Who looks after the message and since when; None when nobody does. One query."""
    return MessageCare.objects.select_related("owner").filter(message=message, owner__isnull=False).first()


def notes_of(message: Message) -> list[MessageNote]:
    """The internal notes with their authors, oldest first. One query."""
    return list(message.notes.select_related("author"))


def _audit(action: str, user: User, message: Message, **detail: int | None) -> None:
    AuditEntry.objects.create(
        action=action, user=user, message=message, conversation_id=message.conversation_id,
        connection_id=message.connection_id, detail=detail,
    )  # fmt: skip
