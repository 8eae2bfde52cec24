"""The dossier of one message, for paper: everything that is known of it, with times in UTC and local."""

from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from messaging import live
from messaging.access import can_review, is_administrator
from messaging.insight.proof import dossier
from messaging.insight.sentence import identities, sentence
from messaging.insight.story import tell, with_story
from messaging.models import Message, message_delivery
from messaging.views.person import PersonRequest

TEMPLATE = "messaging/message_dossier.html"


@require_safe
def message_dossier(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """For everybody who sees the message; response headers and internal notes are for support and administrators."""
    user, now = request.user, timezone.now()
    request.glance = live.glance(user)
    found = with_story(Message.objects.visible_to(user).filter(deleted_at=None, uuid=uuid)).first()
    if found is None:
        raise Http404
    story = tell(found, message_delivery(found, now, request.glance.gates), now)
    is_reviewer = can_review(user) or is_administrator(user)
    context = {
        "story": story,
        "shown": found,
        "sentence": sentence(story),
        "identities": [("Message", str(found.uuid)), *identities(story)],
        "dossier": dossier(story, is_reviewer=is_reviewer),
        "is_reviewer": is_reviewer,
        "section": "operations",
        "view": "page",
    }
    return render(request, TEMPLATE, context)
