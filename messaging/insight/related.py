"""The messages that belong to one: what it repeats and what repeats it, its twins, and what the driver wrote next."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from messaging.insight.story import Story
from messaging.models import Message
from messaging.states import Direction, MessageState

TWINS_WITHIN = timedelta(minutes=10)
MOST_TWINS = 5


@dataclass(frozen=True, slots=True)
class Related:
    """One message: what it is to the other one, its page and its words."""

    kind: str
    address: str
    text: str
    at: datetime


def related(story: Story) -> Sequence[Related]:
    """All that belong to the story's message, in the same conversation. At most two queries."""
    return list(_related(story))


def _related(story: Story) -> Iterator[Related]:
    message = story.message
    thread = Message.objects.filter(conversation_id=message.conversation_id, deleted_at=None)
    if message.retry_of is not None:
        yield _one("Repeats", message.retry_of)
    if story.resent is not None:
        yield Related("Sent again as", story.resent.url, message.text or "", story.resent.at)
    if message.direction == Direction.OUT:
        repeats = {message.retry_of_id}
        near = (message.occurred_at - TWINS_WITHIN, message.occurred_at + TWINS_WITHIN)
        twins = thread.filter(direction=Direction.OUT, text=message.text, occurred_at__range=near)
        # What repeats it is a twin by intent, and named above.
        twins = twins.exclude(pk=message.pk).exclude(retry_of=message.pk).exclude(state=MessageState.CANCELLED)
        for twin in twins.order_by("occurred_at", "id")[:MOST_TWINS]:
            if twin.pk not in repeats:
                yield _one("Same words", twin)
    later = thread.filter(direction=Direction.IN, occurred_at__gte=message.occurred_at).exclude(pk=message.pk)
    following = later.order_by("occurred_at", "id").first()
    if following is not None:
        yield _one("The driver's next words", following)


def _one(kind: str, message: Message) -> Related:
    return Related(kind, message.get_absolute_url(), message.text or "", message.occurred_at)
