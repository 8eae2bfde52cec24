"""The counts beside the navigation and the word of one's own failures, on every page of a signed-in person."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from messaging import live
from messaging.models import User


def navigation(request: HttpRequest) -> dict[str, Any]:
    """Template context: `nav` with its counts, `build_id`. One query, and none when the view has looked already."""
    context: dict[str, Any] = {"build_id": settings.BUILD_ID}
    user = getattr(request, "user", None)
    if isinstance(user, User):
        context["nav"] = SimpleLazyObject(lambda: counts(user, getattr(request, "glance", None)))
    return context


def counts(user: User, glance: live.Glance | None = None) -> dict[str, Any]:
    look = glance or live.glance(user)
    return {
        "inbox_unread": look.inbox_unread,
        "attention": look.attention,
        "failed": look.failed,
        "own": look.own,
        "shortcuts": "on" if user.has_shortcuts else "off",
    }
