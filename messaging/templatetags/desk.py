"""How a conversation looks in the list and a message in its thread: printed by the page, by answers and by the poll.

Python and not a template: a page holds 75 of them, and the engine's price for looking up each variable was half of the
page's time. What people wrote passes `escape` here and nowhere else; everything else is ours.
"""

from collections.abc import Iterable
from datetime import date, tzinfo
from html import escape
from typing import Any

from django import template
from django.template.context import RequestContext
from django.utils import timezone
from django.utils.safestring import SafeString

from messaging.states import UNDECIDED_STATES, Badge, MessageState, Tone
from messaging.templatetags.delivery import (
    address,
    badge,
    day_label,
    exact_words,
    here_and_today,
    icon,
    near_words,
    priority,
    short_clock,
    time_element,
)

register = template.Library()
Row = dict[str, Any]

NO_TEXT = "(no text)"
NOTE_LENGTH = 500
# Of a conversation, not of a message: it stands in no filter of operations.
NEEDS_REPLY = Badge("needs_reply", "Needs reply", "Needs reply", "corner-down-left", Tone.NEUTRAL, quiet=True)
NO_REPLY_NEEDED = Badge("no_reply", "No reply needed", "No reply needed", "check", Tone.NEUTRAL, quiet=True)


@register.simple_tag
def conversation_items(rows: Iterable[Row], open_uuid: str = "") -> SafeString:
    """List items for the list pane; the conversation `open_uuid` is marked as the open one."""
    zone, today = here_and_today()
    return SafeString(
        "".join(f'<li class="row" id="c-{row["uuid"]}">{_link(row, open_uuid, zone, today)}</li>' for row in rows)
    )


def changed_conversations(rows: Iterable[Row], open_uuid: str = "") -> str:
    """Partials that repaint rows where they stand."""
    zone, today = here_and_today()
    return "".join(
        f'<hx-partial hx-target="#c-{row["uuid"]}" hx-swap="innerMorph">{_link(row, open_uuid, zone, today)}</hx-partial>'
        for row in rows
    )


def news_offer(news: str, url: str, query: str, *, may_refresh: bool) -> str:
    """A partial that offers to read the list anew, in the words of `news`; the page does so by itself where it may."""
    rows = escape(f"{address('inbox_rows')}?{query}")
    return (
        f'<hx-partial hx-target="#inbox-news" hx-swap="innerHTML"><a class="btn bar-button" href="{escape(url)}" hx-get="{rows}"'
        f' hx-swap="none" hx-include="#live" hx-sync="this:drop"{" data-auto-refresh" if may_refresh else ""}>'
        f"{icon('chevrons-up')}{escape(news)}</a></hx-partial>"
    )


def _link(row: Row, open_uuid: str, zone: tzinfo, today: date) -> str:
    """The link that is the row. What it does with htmx stands on the list around it."""
    local = row["last_at"].astimezone(zone)
    state, dot, hidden = "", "", ""
    if row["is_unread"]:
        state, dot, hidden = " is-unread", '<span class="row-dot"></span>', '<span class="vh">, unread</span>'
    current = ' aria-current="true"' if row["uuid"] == open_uuid else ""
    return (
        f'<a class="row-link{state}" href="{row["url"]}"{current} hx-get="{row["fragment_url"]}">'
        f'<span class="row-name">{dot}{escape(row["driver"])}<span class="row-sub"> {escape(row["label"])}</span>{hidden}</span>'
        f'<span class="row-time">{time_element(row["last_at"], exact_words(local), near_words(local, today))}</span>'
        f'<span class="row-text" dir="auto">{escape(row["last_text"]) or NO_TEXT}</span>'
        f'<span class="row-meta">{_row_meta(row)}</span></a>'
    )


def _row_meta(row: Row) -> str:
    shown = row["badge"]
    failures = ""
    if row["attention_count"] and shown.tone != Tone.BAD and shown.key not in {"needs_you", "late"}:
        words = "needs attention" if row["attention_count"] == 1 else "need attention"
        failures = (
            f'<span class="chip tone-bad">{icon("octagon-x")}<span>{row["attention_count"]} {words}</span></span>'
        )
    if row["needs_reply"]:
        return f"{failures}{_needs_reply(row, is_loud=bool(failures))}"
    if row["is_incoming"]:
        return f"{failures}{badge(NO_REPLY_NEEDED)}"
    return f"{failures}{priority(row['priority'])}{badge(shown)}"


def _needs_reply(row: Row, *, is_loud: bool) -> str:
    """A chip; beside what is louder, a failure or an answer on which more hangs than that it was withdrawn, a mere tick: two
    chips would leave no room for the name.
    """
    is_calm = row["is_incoming"] or row["badge"].quiet or row["badge"].tone == Tone.NEUTRAL
    shown = "" if is_calm else badge(row["badge"])
    return f"{shown}{badge(NEEDS_REPLY, 'list' if is_loud or shown else 'chip')}"


@register.simple_tag(takes_context=True)
def message_items(context: RequestContext, rows: Iterable[Row], unread_from: int | None = None) -> SafeString:
    """List items for the thread, with the days between them and "New" before the message `unread_from`."""
    thread = _Thread(context["address"], context.get("csrf_token", ""))
    rule = '<li class="new-rule"><span>New</span></li>'
    return SafeString(
        "".join(f"{day_item(row)}{rule if row['id'] == unread_from else ''}{thread.item(row)}" for row in rows)
    )


def changed_messages(rows: Iterable[Row], address: str, csrf_token: str) -> str:
    """Partials that put each message in its place, repaint it there (the page's script makes an append an update), or take a
    deleted one away.

    `rows` are the newest last, and know what stands after them (`changes.bubble_row`). Those that follow each other go into one
    partial: htmx looks for all places before it fills the first, and a new message is no place yet.
    """
    thread, changed = _Thread(address, csrf_token), list(rows)
    html, run = [_gone(row["uuid"] if row["is_gone"] else row["stood_as"]) for row in changed], ""
    shown = [row for row in changed if not row["is_gone"]]
    following = {row["uuid"] for row in shown}
    for row in shown:
        run += f"{day_item(row)}{thread.item(row)}"
        if row["next_uuid"] not in following:
            html.append(f"{_place(row)}{run}</hx-partial>")
            run = ""
    return "".join(html)


def _gone(uuid: str | None) -> str:
    """Takes a message off the page: it was deleted, or it was the provider's record of one of ours."""
    return f'<hx-partial hx-target="#m-{uuid}" hx-swap="delete"></hx-partial>' if uuid else ""


def _place(row: Row) -> str:
    if row["next_uuid"]:
        return f'<hx-partial hx-target="#m-{row["next_uuid"]}" hx-swap="beforebegin">'
    return '<hx-partial hx-target="#thread-items" hx-swap="beforeend">'


def day_item(row: Row) -> str:
    """The heading of the row's day, before the first message of that day."""
    if row["day"] is None:
        return ""
    return f'<li class="day" id="day-{row["day"].toordinal()}"><span>{day_label(row["day"])}</span></li>'


class _Thread:
    """Prints the messages of one conversation for one answer."""

    def __init__(self, address: str, csrf_token: Any) -> None:
        self.address = address
        self.token = csrf_token

    def item(self, row: Row) -> str:
        side = "msg-in" if row["is_incoming"] else "msg-out"
        classes = f"msg {side}{' msg-first' if row['is_first'] else ''}{' msg-bad' if row['is_bad'] else ''}"
        author = escape(row["author"])
        if row["sender_short"]:
            author = f'{author} <span class="mono">{escape(row["sender_short"])}</span>'
        before = f'<span class="msg-author">{author}</span>' if row["is_first"] else ""
        prefix = "" if row["is_first"] else f'<span class="vh">{author}: </span>'
        return (
            f'<li class="{classes}" id="m-{row["uuid"]}">{before}'
            f'<div class="bubble">{prefix}{_quote(row)}{_text(row)}</div><div class="msg-foot">{self._foot(row)}</div>'
            f"{self._remedies(row)}</li>"
        )

    def _foot(self, row: Row) -> str:
        local = row["local"]
        words = time_element(row["occurred_at"], exact_words(local), short_clock(local))
        status = "" if row["is_incoming"] else badge(row["badge"], "long")
        test = f'<span class="chip">{icon("activity")}Test</span>' if row["is_test"] else ""
        shown = f"{words}{test}{priority(row['priority'])}{status}{_relations(row)}"
        return f"{shown}{self._actions(row)}{self._links(row)}"

    def _actions(self, row: Row) -> str:
        parts = []
        if row["can_undo"]:
            word = "Undo" if row["badge"].key == "held" else "Cancel"
            parts.append(
                self._form(
                    f"{row['url']}cancel/", f'<button class="btn btn-link" type="submit" data-key="z">{word}</button>'
                )
            )
        if row["state"] in UNDECIDED_STATES:
            word = "Decide" if row["state"] == MessageState.NEEDS_DECISION else "What is known"
            parts.append(f'<a href="{row["url"]}decide/">{word}</a>')
        elif row["held_up_by"]:
            word = "Decide about that one" if row["held_up_by"].is_asked else "What is known of that one"
            parts.append(f'<a href="{row["held_up_by"].url}">{word}</a>')
        if row["can_edit_again"]:
            parts.append(f'<a href="{self.address}?text_of={row["uuid"]}#composer">Edit and send again</a>')
        return "".join(parts)

    def _form(self, action: str, button: str) -> str:
        return _form(action, button, self.token)

    def _remedies(self, row: Row) -> str:
        """What can be done about a failure: send it again, or say how it was taken care of."""
        parts = []
        if row["why"]:
            # In plain words, and the way to what can be done; the provider's own words stand in the badge.
            parts.append(
                f'<span class="small muted">{escape(row["why"])}. <a href="{row["url"]}#why">What to do</a></span>'
            )
        if row["can_resend"]:
            button = f'<button class="btn btn-small" type="submit">{icon("rotate-cw")}Send again</button>'
            parts.append(self._form(f"{row['url']}resend/", button))
        if row["needs_handling"]:
            field = (
                f'<label for="note-{row["uuid"]}">What was done? <span class="hint">For example: called the driver</span>'
                f'</label><input class="input" id="note-{row["uuid"]}" name="note" maxlength="{NOTE_LENGTH}" autocomplete="off">'
                f'<button class="btn btn-small" type="submit">{icon("check")}Mark as handled</button>'
            )
            form = self._form(f"{row['url']}handled/", field)
            summary = f"<summary>{icon('chevron-right')}Mark as handled</summary>"
            parts.append(f'<details class="more ask">{summary}{form}</details>')
        return f'<div class="msg-do">{"".join(parts)}</div>' if parts else ""

    def _links(self, row: Row) -> str:
        query = f"?reply_to={row['uuid']}"
        return (
            f'<span class="msg-acts"><a href="{self.address}{query}#composer" hx-get="/_f{self.address}quote/{query}"'
            f' hx-target="#composer-reply" hx-sync="#composer-reply:replace">Reply</a>'
            f'<a href="{row["url"]}">Details</a></span>'
        )


def _form(action: str, inside: str, csrf_token: Any) -> str:
    return (
        f'<form method="post" action="{action}" hx-post="{action}" hx-swap="none" hx-sync="this:drop">'
        f'<input type="hidden" name="csrfmiddlewaretoken" value="{csrf_token}">{inside}</form>'
    )


def question(uuid: object, doubt: str, csrf_token: Any, *, is_repeated: bool) -> str:
    """A partial that asks, beneath the message, for the second tick before a text goes out that the driver may have.

    An item of its own: a repainted message leaves it alone.
    """
    action = f"/m/{uuid}/resend/"
    missing = '<p class="bad">Tick the box if you mean it.</p>' if is_repeated else ""
    inside = (
        f'<p>{escape(doubt)} <strong>The driver may have it.</strong></p>{missing}<input type="hidden" name="asked" value="1">'
        f'<label class="check"><input type="checkbox" name="is_sure" value="1" required autofocus>'
        f"Send it again: the driver may see it twice</label>"
        f'<button class="btn btn-small" type="submit">{icon("rotate-cw")}Send again</button>'
    )
    return (
        f'<hx-partial hx-target="#m-{uuid}" hx-swap="afterend"><li class="msg-do" id="ask-{uuid}"><details class="more ask" open>'
        f"<summary>{icon('chevron-right')}Send it again?</summary>{_form(action, inside, csrf_token)}</details></li></hx-partial>"
    )


def no_question(uuid: object) -> str:
    return f'<hx-partial hx-target="#ask-{uuid}" hx-swap="delete"></hx-partial>'


def remark(uuid: object, words: str) -> str:
    """Partials that say beneath the message, in place of what was said there before, why a press did not do what it says.

    An item of its own like the question: it stands until the next press on that message. No words take it away.
    """
    before = f'<hx-partial hx-target="#said-{uuid}" hx-swap="delete"></hx-partial>'
    if not words:
        return before
    return (
        f'{before}<hx-partial hx-target="#m-{uuid}" hx-swap="afterend"><li class="msg-do" id="said-{uuid}">'
        f'<span class="status tone-hi" role="status">{escape(words)}</span></li></hx-partial>'
    )


def _relations(row: Row) -> str:
    """What this message repeats or was repeated by, and who took care of it."""
    if not row["links"]:
        return ""
    today, parts = timezone.localdate(), []
    for words, url, local, note in row["links"]:
        said = f"{escape(words)} {near_words(local, today)}"
        parts.append(f'<a href="{url}">{said}</a>' if url else f"<span>{said}{_noted(note)}</span>")
    return "".join(parts)


def _noted(note: str) -> str:
    return f': <span dir="auto">{escape(note)}</span>' if note else ""


def _quote(row: Row) -> str:
    if not row["quote_uuid"]:
        return ""
    return f'<a class="quote" href="#m-{row["quote_uuid"]}" dir="auto">{escape(row["quote"]) or NO_TEXT}</a>'


def _text(row: Row) -> str:
    if not row["text"]:
        return f'<div class="msg-text msg-none">{NO_TEXT}</div>'
    return f'<div class="msg-text" dir="auto" hx-ignore>{escape(row["text"])}</div>'
