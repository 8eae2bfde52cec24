"""The page of one message: what became of it, every attempt, and what a person can do about it."""

from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.http import require_safe

from messaging import live, reconcile
from messaging.access import can_review, is_administrator, may_withdraw
from messaging.insight.cards import card
from messaging.insight.sentence import identities, sentence, support_text
from messaging.insight.story import Story, tell, with_story
from messaging.insight.timeline import timeline
from messaging.models import Message, User, message_delivery
from messaging.models.outlook import ClosedGates
from messaging.states import CANCELLABLE_STATES, RESENDABLE_STATES, UNDECIDED_STATES, Direction, Tone
from messaging.views.bench import bench
from messaging.views.painting import Paint
from messaging.views.paused import of_connection
from messaging.views.person import PersonRequest

TEMPLATE = "messaging/message_detail.html"


@require_safe
def message(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """Everything known of one message. For a reader the look, the story, notes and owner; at most eight queries."""
    return page(request, uuid)


def page(request: PersonRequest, uuid: UUID, status: int = 200, **typed: str) -> HttpResponse:
    """The page, with what was typed into it and refused."""
    request.glance = live.glance(request.user)
    story = _story(request.user, request.glance.gates, uuid=uuid)
    if story is None:
        raise Http404
    place = {"view": "page"} if story.is_over else {"view": "message", "scope": story.message.pk}
    paused = of_connection(request.glance.gates, story.message.connection)
    context = {**_context(request.user, story), **bench(request, story), "section": "operations", "paused": paused}
    return render(request, TEMPLATE, {**context, **place, **typed}, status=status)


def _story(user: User, gates: ClosedGates, **key: Any) -> Story | None:
    now = timezone.now()
    found = with_story(Message.objects.visible_to(user).filter(deleted_at=None, **key)).first()
    return tell(found, message_delivery(found, now, gates), now) if found else None


def _context(user: User, story: Story) -> dict[str, Any]:
    sees_headers = can_review(user) or is_administrator(user)
    shown = story.message
    return {
        "story": story,
        "shown": shown,
        "heading": _heading(story),
        "sentence": sentence(story),
        "steps": timeline(story, with_headers=sees_headers),
        "identities": identities(story),
        "support": support_text(story, with_headers=sees_headers),
        "card": card(story, user),
        "may_explain": is_administrator(user) and user.is_staff,
        "can_undo": _can_undo(user, shown),
        "resent": story.resent,
        # Whoever sees a message may send it again (`access.can_resend`): those are the fleet's members and support.
        "can_resend": shown.state in RESENDABLE_STATES and story.resent is None,
        # The same people may decide (`access.can_decide`).
        "can_decide": shown.state in UNDECIDED_STATES or reconcile.is_overdue(shown, story.now),
        "needs_handling": story.needs_handling,
        "is_incoming": shown.direction == Direction.IN,
    }


def _can_undo(user: User, shown: Message) -> bool:
    is_ours = shown.state in CANCELLABLE_STATES and shown.claim_count == 0
    return is_ours and may_withdraw(user, shown.author_id)


def _heading(story: Story) -> str:
    shown = story.message
    if shown.direction == Direction.IN:
        return f"Message from {shown.sender_name or shown.conversation.driver.name}"
    return f"Message to {shown.conversation.driver.name}"


def paint_message(request: PersonRequest, look: live.Glance, since: live.Cursor, scope: live.Scope) -> Paint:
    """What the open page repaints: head, timeline and ids of this message. One query."""
    story = _story(request.user, look.gates, pk=scope.message_id)
    if story is None:
        return Paint(goes_on=False)
    html = render_to_string(f"{TEMPLATE}#changes", _context(request.user, story), request)
    return Paint([html], polite=_news(request.user, story, since), goes_on=not story.is_over)


def _news(user: User, story: Story, since: live.Cursor) -> str:
    """The good end of one's own message, to be spoken once; nothing for steps on the way and for other people's messages.

    A bad end is told at once, by `own_word` of the frame.
    """
    shown = story.message
    has_ended = shown.settled_at is not None and shown.settled_at.timestamp() >= since.taken_at
    is_worth_it = has_ended and shown.author_id == user.pk and story.badge.tone != Tone.BAD
    return f"{_heading(story)}: {story.badge.long}" if is_worth_it else ""
