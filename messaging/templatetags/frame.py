"""What stands around every page: the navigation with its counts, and the word of one's own failures.

Python and not a template, like the rows of the desk: every page and every answer of the poll carries it. What people wrote
passes `escape` here; everything else is ours.
"""

from html import escape

from django import template
from django.template.base import Parser, TextNode, Token
from django.template.context import Context, RequestContext
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from messaging.live import Glance, Own
from messaging.states import Priority
from messaging.templatetags.delivery import address, asset, icon

register = template.Library()

# Address and section, word, icon, key; then what the count beside it has for class and for words.
ENTRIES = (
    ("search", "Search", "search", "/", "", ""),
    ("inbox", "Inbox", "inbox", "g i", "count", "unread"),
    ("operations", "Operations", "activity", "g o", "count count-bad", "need attention"),
    ("connections", "Connections", "plug", "g c", "", ""),
    ("settings", "Settings", "settings", "", "", ""),
)


@register.tag
def constant(parser: Parser, token: Token) -> TextNode:
    """Includes a template without variables as plain text, when the including one is compiled."""
    _, name = token.split_contents()
    return TextNode(render_to_string(parser.compile_filter(name).resolve(Context())))


@register.simple_tag
def favicon(attention: int | None) -> SafeString:
    """The icon of the browser's tab; the page's script exchanges it when what needs attention comes or goes."""
    calm, alert = asset("favicon.svg"), asset("favicon-attention.svg")
    return SafeString(
        f'<link rel="icon" id="favicon" type="image/svg+xml" href="{alert if attention else calm}" data-calm="{calm}"'
        f' data-attention="{alert}">'
    )


@register.simple_tag(takes_context=True)
def side(context: RequestContext) -> SafeString:
    """The header of a signed-in person's page; reads `nav`, `user`, and `section` for the entry that is open."""
    nav, open_section = context["nav"], str(context.get("section", ""))
    numbers = {"inbox": nav["inbox_unread"], "operations": nav["failed"]}
    entries = "".join(_entry(*entry, number=numbers.get(entry[0]), open_section=open_section) for entry in ENTRIES)
    return SafeString(
        f'<header class="side"><a class="brand" href="{address("inbox")}">{icon("backhaul")}Backhaul</a> '
        f'<nav aria-label="Main"><ul class="nav">{entries}</ul></nav>{_account(context)}</header>'
    )


def _entry(
    section: str, word: str, icon_name: str, key: str, look: str, words: str, *, number: int | None, open_section: str
) -> str:
    hotkey = f' data-key="{key}"' if key else ""
    current = ' aria-current="page"' if section == open_section else ""
    shown = f' <span class="{look}" id="nav-{section}">{_count(number, words)}</span>' if look else ""
    return f'<li><a href="{address(section)}"{hotkey}{current}>{icon(icon_name)}<span>{word}</span>{shown}</a></li>'


def _count(number: int | None, words: str) -> str:
    return f'{number}<span class="vh"> {words}</span>' if number else ""


def _account(context: RequestContext) -> str:
    return (
        f'<div class="account"><span class="account-name">{escape(context["user"].label)}</span> '
        f'<button class="btn btn-quiet btn-small" type="button" data-dialog="keys" data-key="?" data-needs-js hidden>'
        f'{icon("keyboard")}Keyboard</button> <form method="post" action="{address("logout")}">'
        f'<input type="hidden" name="csrfmiddlewaretoken" value="{context.get("csrf_token", "")}">'
        f'<button class="btn btn-quiet btn-small" type="submit">{icon("log-out")}Log out</button></form></div>'
    )


@register.simple_tag
def own_word(own: Own | None) -> SafeString:
    """The newest of one's own messages that ask for somebody: on every page until one of them is taken care of."""
    if not own:  # or the empty text that a template hands over where there is no navigation
        return SafeString("")
    whose = "High priority message" if own.priority == Priority.HIGH else "Your message"
    more = f'<a class="own-more" href="/?show=attention">and {own.others} more</a>' if own.total > 1 else ""
    return SafeString(
        f'<div class="own own-{own.badge.tone}" id="own-{own.uuid}">{icon(own.badge.icon)}<a href="{own.address}" dir="auto">'
        f"<strong>{whose} to {escape(own.driver)}</strong>: {escape(own.words)}</a>{more}</div>"
    )


def changed_frame(look: Glance, polite: str) -> str:
    """Partials that every answer of the poll with news carries: counts, the word of one's own failures, the title with its
    favicon, and one sentence to announce politely, or none.
    """
    attention = " data-attention" if look.attention else ""
    announced = (
        f'<hx-partial hx-target="#live-announce" hx-swap="outerHTML"><span id="live-announce" data-id="{look.cursor}"'
        f' data-polite="{escape(polite)}" hidden></span></hx-partial>'
        if polite
        else ""
    )
    counts = "".join(
        f'<hx-partial hx-target="#nav-{section}" hx-swap="innerHTML">{_count(number, words)}</hx-partial>'
        for section, number, words in (
            ("inbox", look.inbox_unread, "unread"),
            ("operations", look.failed, "need attention"),
        )
    )
    return (
        f'{counts}<hx-partial hx-target="#own" hx-swap="innerMorph">{own_word(look.own)}</hx-partial>'
        f'<hx-partial hx-target="#live-title" hx-swap="outerHTML"><span id="live-title" data-title=""'
        f' data-unread="{look.inbox_unread or ""}"{attention} hidden></span></hx-partial>{announced}'
    )
