"""The one poller of a page: an element that asks the live view what changed since the page was read."""

from typing import Any
from urllib.parse import urlencode

from django import template
from django.template.context import RequestContext
from django.utils.html import format_html
from django.utils.safestring import SafeString

from messaging.live import Glance

register = template.Library()

# Pages that were opened together would ask together: each person's pages keep their own beat, within this share.
SPREAD_PERCENT = 4


@register.simple_tag(takes_context=True)
def poller(context: RequestContext) -> SafeString:
    """The poller after `request.glance`; reads `view`, `scope` and `q` from the context."""
    request: Any = context["request"]
    words = (context.get("view"), context.get("scope"), context.get("q"))
    view, scope, query = (str(word) if word is not None else "" for word in words)
    return poller_element(request.user.pk, request.glance, view, scope, query)


def poller_element(user_id: int, look: Glance, view: str, scope: str = "", query: str = "") -> SafeString:
    """The element for a page that read its rows after `look`.

    `scope` is the primary key of the conversation or message that the page shows, `query` the page's own filter. The
    inputs inside go along with the requests that replace the poller: a new one must not forget what the old one knew.
    """
    offset = user_id * 7 % (2 * SPREAD_PERCENT + 1) - SPREAD_PERCENT
    parameters = urlencode({"v": view, "scope": scope, "every": look.every_ms, "q": query})
    return format_html(
        '<div id="live" hidden hx-get="/_f/live/?{}&amp;since={}" hx-include="#list-state, #thread-state"'
        ' hx-trigger="every {}ms, live:now from:body" hx-sync="this:drop" hx-swap="none">'
        '<input type="hidden" name="since" value="{}"><input type="hidden" name="q" value="{}"></div>',
        parameters,
        look.cursor,
        look.every_ms * (100 + offset) // 100,
        look.cursor,
        query,
    )


def fresh_poller(element: str) -> SafeString:
    """The same for an answer: takes the place of the poller on the page."""
    return format_html('<hx-partial hx-target="#live" hx-swap="outerHTML">{}</hx-partial>', element)
