"""The counts beside the navigation, on every page of a signed-in person."""

from typing import Any

from django.http import HttpRequest

from messaging.models import Conversation, Message, User


def navigation(request: HttpRequest) -> dict[str, Any]:
    """Template context `nav`: conversations unread and needing attention, failures to look at. Two queries."""
    user = getattr(request, "user", None)
    if not isinstance(user, User):
        return {}
    conversations = Conversation.objects.visible_to(user)
    return {
        "nav": {
            "inbox_unread": conversations.unread_by(user).count(),
            "attention": conversations.needing_attention().count(),
            "failed": Message.objects.visible_to(user).needing_attention().count(),
        }
    }
