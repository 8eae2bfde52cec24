"""The list of conversations: the page, its rows for a filter, and what the live poll repaints."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from urllib.parse import urlsplit
from uuid import UUID

from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.http import require_safe

from messaging import live
from messaging.changes import Changes, changes_of
from messaging.models import Conversation
from messaging.rows import Row, micros
from messaging.states import MessageState
from messaging.templatetags.desk import changed_conversations, news_offer
from messaging.templatetags.polling import fresh_poller, poller_element
from messaging.views.desk import DESK, LIST, Chosen, list_context, look_at_desk, parse_filter, read_filter
from messaging.views.painting import Paint
from messaging.views.person import PersonRequest, asking_address

SPOKEN_NAMES = 3


@require_safe
def inbox(request: PersonRequest) -> HttpResponse:
    """The desk with no conversation open."""
    request.glance = look_at_desk(request.user)
    chosen = read_filter(request.glance, request.GET)
    context = list_context(request.user, chosen, request.glance, timezone.now())
    frame = {"section": "inbox", "title": "Inbox - Backhaul", "view": "inbox", "conversation": None}
    return render(request, DESK, {**context, **frame})


@require_safe
def inbox_rows(request: PersonRequest) -> HttpResponse:
    """The rows alone, for a filter that changed or for news; without htmx it is the page.

    Beside an open conversation the page keeps its address and its thread.
    """
    beside = _open_conversation(request)
    request.glance = look_at_desk(request.user, beside.pk if beside else None)
    chosen = read_filter(request.glance, request.GET)
    if not request.htmx:
        return redirect(chosen.url())
    context = list_context(
        request.user, chosen, request.glance, timezone.now(), open_uuid=str(beside.uuid) if beside else ""
    )
    body = render_to_string(f"{LIST}#refreshed", context, request)
    response = HttpResponse(body + list_poller(request, context["q"], beside.pk if beside else None))
    if not beside and asking_address(request) != chosen.url():
        response["HX-Push-Url"] = chosen.url()
    return response


def _open_conversation(request: PersonRequest) -> Conversation | None:
    """The conversation that the asking page shows, by its address."""
    parts = urlsplit(asking_address(request)).path.split("/")
    if len(parts) != 4 or parts[1] != "c":
        return None
    try:
        return Conversation.objects.visible_to(request.user).get(uuid=UUID(parts[2]))
    except (Conversation.DoesNotExist, ValueError):
        return None


def list_poller(request: PersonRequest, query: str, conversation_id: int | None) -> str:
    """A poller for a page of which only a part was read just now: it goes on from where the old one was."""
    # Somebody opened or read anew what had changed, so they look on for more.
    look = replace(request.glance, is_moving=True)
    # A cursor too old means a page that slept; its first poll after waking has offered to read everything anew.
    with suppress(live.StaleCursor):
        look = replace(look, cursor=live.Cursor.parse(request.GET.get("since", "")))
    view, scope = ("conversation", str(conversation_id)) if conversation_id else ("inbox", "")
    return fresh_poller(poller_element(request.user.pk, look, view, scope, query))


def paint_inbox(request: PersonRequest, look: live.Glance, since: live.Cursor, scope: live.Scope) -> Paint:
    """Rows that changed, where they stand; what is new is offered, not inserted."""
    changes = changes_of(look.along, request.user, timezone.now(), look.gates)
    html = paint_list(request, changes, look)
    if changes.is_flood:
        return Paint([html])
    return Paint([html], speak_of_rows(request.user.pk, changes.conversations, since, _newest(request)))


def paint_list(request: PersonRequest, changes: Changes, look: live.Glance, open_uuid: str = "") -> str:
    """The changed rows of the list pane, and the offer to read it again. Too many rows come by that offer alone."""
    query = QueryDict(request.GET.get("q", ""))
    fleet = query.get("fleet", "")
    chosen = parse_filter(query, [(int(fleet), "")] if fleet.isascii() and fleet.isdigit() and len(fleet) < 19 else [])
    html = "" if changes.is_flood else changed_conversations(changes.conversations, open_uuid)
    news = "The list has changed" if changes.is_flood else _news(request, changes.conversations, chosen, look)
    if not news:
        return html
    return html + news_offer(news, chosen.url(), chosen.query(), may_refresh="page" not in query)


def _news(request: PersonRequest, rows: Sequence[Row], chosen: Chosen, look: live.Glance) -> str:
    """What the list does not show yet, in words; empty when it shows everything."""
    newest = _newest(request)
    fresh = [row for row in rows if _is_news(row, newest, request.user.pk) and chosen.holds(row)]
    if fresh:
        return f"{len(fresh)} new message" + ("s" if len(fresh) > 1 else "")
    if request.GET.get("pinned") != str(look.attention or 0) and chosen.show != "unread":
        return "What needs attention has changed"
    return ""


def _newest(request: PersonRequest) -> int:
    """The time of the newest row that the page shows, in microseconds; beyond every row when it shows no list."""
    word = request.GET.get("newest", "")
    return int(word) if word.isascii() and word.isdigit() and len(word) < 20 else 2**63


def _is_news(row: Row, newest: int, user_id: int) -> bool:
    return micros(row["last_at"]) > newest and (row["is_incoming"] or row["author_id"] != user_id)


def speak_of_rows(user_id: int, rows: Sequence[Row], since: live.Cursor, newest: int) -> str:
    """What is said of changes on the list."""
    incoming = [row["driver"] for row in rows if row["is_incoming"] and micros(row["last_at"]) > newest]
    mine = [row for row in rows if row["author_id"] == user_id]
    sent = [row for row in mine if ended_well(row["last__state"], row["settled_at"], since)]
    return sentence(incoming, len(sent))


def ended_well(state: str, settled_at: datetime | None, since: live.Cursor) -> bool:
    """Whether a message was accepted after the page's last look."""
    return state == MessageState.SUCCEEDED and settled_at is not None and settled_at.timestamp() >= since.taken_at


def sentence(incoming: Sequence[str], sent: int) -> str:
    """What is said politely. Failures of one's own are told at once, by `own_word` of the frame."""
    parts = [
        f"{_counted(len(incoming), 'new message')} from {_names(incoming)}" if incoming else "",
        f"{_counted(sent, 'message')} sent" if sent else "",
    ]
    return ", ".join(part for part in parts if part)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _names(names: Sequence[str]) -> str:
    shown = list(dict.fromkeys(names))
    more = f" and {len(shown) - SPOKEN_NAMES} more" if len(shown) > SPOKEN_NAMES else ""
    return ", ".join(shown[:SPOKEN_NAMES]) + more
