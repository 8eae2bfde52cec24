"""What support sees beside the story of a message, and what the fleet's managers see of it, as template context."""

import json
from typing import Any

from django.conf import settings

from messaging import workbench
from messaging.access import can_review, is_administrator
from messaging.insight.comparing import chosen, compare
from messaging.insight.escalation import curl, escalation, posted_body
from messaging.insight.related import related
from messaging.insight.story import Story
from messaging.mirror.redaction import keepable
from messaging.views.person import PersonRequest


def bench(request: PersonRequest, story: Story) -> dict[str, Any]:
    """Notes and owner for everybody who sees the message; the tools for those who review. At most six queries."""
    message, user = story.message, request.user
    care = workbench.care_of(message)
    context: dict[str, Any] = {"notes": workbench.notes_of(message), "care": care, "note_length": workbench.NOTE_LENGTH}
    if not (can_review(user) or is_administrator(user)):
        return context
    pair = chosen(request.GET.getlist("compare"), len(story.attempts))
    is_open = workbench.is_open(user, message, request.GET.get("revealed", ""))
    return {
        **context,
        "can_work": True,
        "colleagues": [one for one in workbench.colleagues(message) if care is None or one.pk != care.owner_id],
        "related": related(story),
        "comparison": compare(story, *pair) if pair else None,
        "is_comparing": "compare" in request.GET,
        "curl": curl(message, settings.CATENA_API_URL),
        "escalation": escalation(story),
        "is_open": is_open,
        "bodies": raw_bodies(story) if is_open else [],
    }


def raw_bodies(story: Story) -> list[tuple[str, str]]:
    """What is stored of the bodies, each with its name, as indented JSON; redacted once more on the way out."""
    message, operation = story.message, story.message.operation
    bodies = [
        ("Our request to Catena", posted_body(message)),
        ("Operation: what Catena was asked for", operation.payload if operation else None),
        ("Operation: everything else that Catena said", operation.raw if operation else None),
        ("Message record", message.raw),
    ]
    return [(name, json.dumps(keepable(body), indent=2, ensure_ascii=False)) for name, body in bodies if body]
