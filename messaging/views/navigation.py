"""The counts beside the navigation and the word of one's own failures, on every page of a signed-in person."""

from functools import partial
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from messaging import access, live
from messaging.models import User
from messaging.views.paused import Notices, hook_context, of_person


def navigation(request: HttpRequest) -> dict[str, Any]:
    """Template context: `nav` with its counts, `paused`, `hooks`, `build_id`. One query, and none when the view has looked
    already.
    """
    context: dict[str, Any] = {"build_id": settings.BUILD_ID}
    user = getattr(request, "user", None)
    if isinstance(user, User):
        context["can_unlock"] = access.can_review(user)
        context |= hook_context(user)
        for name, read in (("nav", _counts), ("paused", _paused), ("hooks", _hooks)):
            # A page that has not looked looks when it prints the first of them.
            has_looked = getattr(request, "glance", None) is not None
            context[name] = read(request, user) if has_looked else SimpleLazyObject(partial(read, request, user))
    return context


def _counts(request: HttpRequest, user: User) -> dict[str, Any]:
    return counts(user, _look(request, user))


def _paused(request: HttpRequest, user: User) -> Notices:
    return of_person(user, _look(request, user).gates)


def _hooks(request: HttpRequest, user: User) -> live.Hooks | None:
    return _look(request, user).hooks


def _look(request: HttpRequest, user: User) -> live.Glance:
    person: Any = request
    if getattr(person, "glance", None) is None:
        person.glance = live.glance(user)
    look: live.Glance = person.glance
    return look


def counts(user: User, glance: live.Glance | None = None) -> dict[str, Any]:
    look = glance or live.glance(user)
    return {
        "inbox_unread": look.inbox_unread,
        "attention": look.attention,
        "failed": look.failed,
        "own": look.own,
        "shortcuts": "on" if user.has_shortcuts else "off",
    }
