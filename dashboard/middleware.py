"""What holds for every request: log-in, the person's time zone and theme, nothing kept by caches."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.contrib.auth.middleware import LoginRequiredMiddleware, get_user
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import resolve_url
from django.utils import timezone
from django_htmx.http import HttpResponseClientRedirect

from messaging.models import User

View = Callable[..., HttpResponseBase]
Respond = Callable[[HttpRequest], HttpResponse]
THEMES = frozenset({"light", "dark"})


class HtmxLoginRequiredMiddleware(LoginRequiredMiddleware):
    """Sends a signed-out htmx request to the log-in page as a whole page, never into the element it would have filled."""

    def handle_no_permission(self, request: HttpRequest, view_func: View) -> Any:
        if not getattr(request, "htmx", False):
            return super().handle_no_permission(request, view_func)
        back = _page_of(request) or resolve_url("inbox")
        return HttpResponseClientRedirect(f"{resolve_url('login')}?{urlencode({'next': back, 'why': 'expired'})}")


def _page_of(request: HttpRequest) -> str:
    """Path and query of the page that the htmx request comes from; empty when that is no address."""
    try:
        page = urlsplit(request.headers.get("HX-Current-URL", ""))
    except ValueError:
        return ""
    return page.path + (f"?{page.query}" if page.query else "") if page.path else ""


def personal(respond: Respond) -> Respond:
    """Activates the person's time zone, sets `request.theme`, and forbids caches to keep what signed-in people saw.

    `request.user` is the person from here on, where Django leaves a proxy that looks at itself at each of a page's 150 mentions.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        user: User | AnonymousUser = get_user(request)
        request.user = user
        request.theme = _theme(request, user)  # type: ignore[attr-defined]
        with timezone.override(_zone(user)):
            response = respond(request)
        if user.is_authenticated:
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    return middleware


def _zone(user: User | AnonymousUser) -> ZoneInfo | None:
    name = getattr(user, "time_zone", "")
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError):
        return None


def _theme(request: HttpRequest, user: User | AnonymousUser) -> str:
    """`light`, `dark`, or empty for the system's choice; the cookie remembers it for the log-in page."""
    chosen = user.theme if isinstance(user, User) else request.COOKIES.get("theme", "")
    return chosen if chosen in THEMES else ""
