"""The one poller of a page: an element that asks the live view what changed since the page was read."""

from html import escape
from typing import Any
from urllib.parse import quote_plus

from django import template
from django.template.context import RequestContext
from django.utils.safestring import SafeString

from messaging.live import Glance

register = template.Library()

# Pages that were opened together would ask together: each person's pages keep their own beat, within this share.
SPREAD_PERCENT = 4


@register.simple_tag(takes_context=True)
def poller(context: RequestContext, **given: Any) -> SafeString:
    """The poller after `request.glance`; reads `view`, `scope` (a primary key) and `q` (the page's own filter) from the
    context, unless they are given.
    """
    request: Any = context["request"]
    words = (given.get(name, context.get(name)) for name in ("view", "scope", "q"))
    view, scope, query = (str(word) if word is not None else "" for word in words)
    return poller_element(request.user.pk, request.glance, view, scope, query)


def poller_element(user_id: int, look: Glance, view: str, scope: str = "", query: str = "") -> SafeString:
    """The element for a page that read its rows after `look`.

    `scope` is the primary key of the conversation or message that the page shows, `query` the page's own filter. The
    inputs inside go along with the requests that replace the poller: a new one must not forget what the old one knew.
    """
    offset = user_id * 7 % (2 * SPREAD_PERCENT + 1) - SPREAD_PERCENT
    given = {"v": view, "scope": scope, "every": str(look.every_ms), "q": query}
    parameters = "&amp;".join(f"{name}={quote_plus(word)}" for name, word in given.items() if word)
    cursor = str(look.cursor)
    return SafeString(
        f'<div id="live" hidden hx-get="/_f/live/?{parameters}&amp;since={cursor}" hx-include="#list-state, #thread-state, #seen"'
        f' hx-trigger="every {look.every_ms * (100 + offset) // 100}ms, live:now from:body" hx-sync="this:drop"'
        f' hx-swap="none"><input type="hidden" name="since" value="{cursor}">'
        f'<input type="hidden" name="q" value="{escape(query)}"></div>'
    )


def fresh_poller(element: SafeString) -> str:
    """The same for an answer: takes the place of the poller on the page."""
    return f'<hx-partial hx-target="#live" hx-swap="outerHTML">{element}</hx-partial>'
