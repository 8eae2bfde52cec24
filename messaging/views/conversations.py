"""One conversation: the page, the thread opened by a click, older messages, the read mark, and what the poll repaints."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from django.http import Http404, HttpResponse, QueryDict
from django.middleware.csrf import get_token
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from messaging import live
from messaging.changes import changed_rows
from messaging.insight.cards import may_rewrite
from messaging.models import Connection, ReadMark
from messaging.rows import Row, read_key, read_number, unsettled_of
from messaging.templatetags.desk import changed_messages
from messaging.threads import Head
from messaging.views.desk import (
    DESK,
    THREAD,
    Context,
    SeeOther,
    composer_context,
    context_pane,
    find_head,
    freshness,
    list_context,
    look_at_desk,
    message_in,
    quoted,
    read_filter,
    thread_context,
)
from messaging.views.inbox import ended_well, list_poller, paint_list, sentence
from messaging.views.incident_words import of_connection
from messaging.views.painting import Paint
from messaging.views.person import PersonRequest, asking_address

# An empty thread says so until its first message.
EMPTY_GONE = '<hx-partial hx-target="#thread-empty" hx-swap="delete"></hx-partial>'


@require_safe
def conversation(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """The desk with this conversation open."""
    found = find_head(request.user, uuid)
    return render_conversation(request, found, composer_of(request, found))


def composer_of(request: PersonRequest, found: Head) -> Context:
    """The composer as the address asks for it: answering a message (`reply_to`), or with a text again (`text_of`)."""
    again = message_in(request.user, found, request.GET.get("text_of", ""))
    may_repeat = again is not None and may_rewrite(again, request.user)
    text, priority = (again.text or "", again.priority or "") if again and may_repeat else ("", "")
    quote = quoted(request.user, found, request.GET.get("reply_to", ""))
    return composer_context(found, text=text, priority=priority, quote=quote)


def render_conversation(request: PersonRequest, found: Head, composer: Context, status: int = 200) -> HttpResponse:
    """The whole page around a composer, which may hold what a person typed and why it was refused."""
    user, now = request.user, timezone.now()
    look = look_at_desk(user, found.conversation.pk)
    # The head was read before: what changed since is news.
    request.glance = replace(look, cursor=live.Cursor(look.cursor.taken_at, found.snapshot))
    context = {
        **list_context(user, read_filter(look, QueryDict()), request.glance, now, str(found.conversation.uuid)),
        **_open(request, found, composer, now_key=request.GET.get("before", "")),
        "section": "inbox",
        "view": "conversation",
        "scope": found.conversation.pk,
    }
    return render(request, DESK, context, status=status)


def _open(request: PersonRequest, found: Head, composer: Context, now_key: str = "") -> Context:
    user, look, now = request.user, request.glance, timezone.now()
    return {
        **thread_context(user, found, look, now, read_key(now_key)),
        **context_pane(found, look.gates, now),
        "incident_notices": of_connection(user, look, found.connection),
        **composer,
        "title": f"{found.driver.name} - Inbox - Backhaul",
    }


@require_safe
def conversation_fragment(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """The thread and its context for a click on a row; without htmx it is the page."""
    if not request.htmx:
        return redirect("conversation", uuid)
    try:
        found = find_head(request.user, uuid)
    except Http404:
        return render(request, f"{THREAD}#missing", status=404)
    request.glance = live.glance(request.user, live.Scope(conversation_id=found.conversation.pk))
    composer = composer_context(found)
    body = render_to_string(f"{THREAD}#opened", {**_open(request, found, composer), "is_opened": True}, request)
    response = HttpResponse(body + list_poller(request, request.GET.get("q", ""), found.conversation.pk))
    response["HX-Push-Url"] = found.address
    return response


@require_safe
def older(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """The messages before a key, for the top of the open thread; without htmx it is the page that starts there."""
    found = find_head(request.user, uuid)
    key = read_key(request.GET.get("before", ""))
    if not request.htmx or key is None:
        query = f"?before={request.GET['before']}" if key else ""
        return redirect(found.address + query)
    request.glance = live.glance(request.user)
    context = thread_context(request.user, found, request.glance, timezone.now(), key)
    return render(request, f"{THREAD}#earlier", context)


@require_safe
def quote(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """The message that the composer is about to answer; nothing when none is named."""
    found = find_head(request.user, uuid)
    key = request.GET.get("reply_to", "")
    if not request.htmx:
        return redirect(found.address + (f"?reply_to={key}#composer" if message_in(request.user, found, key) else ""))
    context = {"quote": quoted(request.user, found, key), "address": found.address}
    return render(request, f"{THREAD}#reply_to", context)


@require_http_methods(["GET", "HEAD", "POST"])
def read(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """Notes how far this person has read. A GET, which a log-in in between makes of it, only shows the conversation."""
    found = find_head(request.user, uuid)
    if request.method == "POST":
        _mark_read(request, found)
        if request.htmx:
            # The list beside the thread shows it at once.
            return HttpResponse(status=204, headers={"HX-Trigger": "live:now"})
    return SeeOther(found.address)


def _mark_read(request: PersonRequest, found: Head) -> None:
    """Through the message that the page names, and never beyond the newest: what came since was not seen."""
    named, newest = read_number(request.POST.get("through", "")), found.conversation.last_incoming_id
    if newest is not None:
        ReadMark.advance(request.user, found.conversation, newest if named is None else min(named, newest))


def paint_conversation(request: PersonRequest, look: live.Glance, since: live.Cursor, scope: live.Scope) -> Paint:
    """The changed bubbles in their places, the list beside them, and the read mark when something came in."""
    changes = changed_rows(request.user, scope.conversation_id, since, timezone.now(), look.gates)
    if changes.is_long:
        raise live.StaleCursor
    oldest = read_key(request.GET.get("oldest", ""))
    bubbles = [row for row in changes.bubbles if oldest is None or (row["occurred_at"], row["id"]) >= oldest]
    shown = [row for row in bubbles if not row["is_gone"]]
    arrived = [row for row in shown if row["is_incoming"] and row["created_at"].timestamp() >= since.taken_at]
    html = [paint_list(request, changes, look, open_uuid=_open_uuid(request))]
    if bubbles:
        html.insert(0, paint_bubbles(request, bubbles, max((row["id"] for row in arrived), default=None)))
        html.append(_seen_through(request, max(row["id"] for row in bubbles)))
    if changes.connection is not None:
        html.append(_connection_news(request, Connection(**changes.connection)))
    if changes.waiting is not None:
        html.append(_waiting_news(request, changes.waiting))
    return Paint(html, _spoken(request.user.pk, shown, arrived, since))


def _seen_through(request: PersonRequest, painted: int) -> str:
    """Notes in the composer how far the page has come. A page without a composer names nothing, and is told nothing."""
    before = read_number(request.GET.get("seen", ""))
    if before is None or painted <= before:
        return ""
    return render_to_string(f"{THREAD}#seen_through", {"seen": painted}, request)


def _connection_news(request: PersonRequest, connection: Connection) -> str:
    """How fresh its replies are, and why nothing can be sent now. Where the page could not write before, it says so already."""
    has_composer = read_number(request.GET.get("seen", "")) is not None
    context = {
        "connection": connection,
        "freshness": freshness(connection, timezone.now()),
        "has_composer": has_composer,
    }
    return render_to_string(f"{THREAD}#connection_news", context, request)


def _waiting_news(request: PersonRequest, row: Row) -> str:
    """Whether the driver waits for an answer, above the composer. A page of older messages has no place for it."""
    return render_to_string(f"{THREAD}#waiting_news", {**row, "address": f"/c/{row['uuid']}/"}, request)


def _open_uuid(request: PersonRequest) -> str:
    """The conversation whose row is marked as open: the asking page's address says it."""
    path = asking_address(request)
    return path.split("/")[2] if path.startswith("/c/") else ""


def paint_bubbles(request: PersonRequest, bubbles: Sequence[Row], read_through: int | None = None) -> str:
    """Partials that put each bubble in its place or repaint it there, and the read mark when something came in."""
    address = f"/c/{bubbles[0]['conversation_uuid']}/"
    html = changed_messages(bubbles, address, get_token(request)) + EMPTY_GONE
    html += render_to_string(f"{THREAD}#waits", {"unsettled": unsettled_of(bubbles[-1]["unsettled"])}, request)
    if read_through is None:
        return html
    return html + render_to_string(f"{THREAD}#arrived", {"address": address, "read_through": read_through}, request)


def _spoken(user_id: int, bubbles: Sequence[Row], arrived: Sequence[Row], since: live.Cursor) -> str:
    mine = [row for row in bubbles if row["author_id"] == user_id]
    sent = [row for row in mine if ended_well(row["state"], row["settled_at"], since)]
    return sentence([row["author"] for row in arrived], len(sent))
