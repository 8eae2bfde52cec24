"""The one poll of every page: looks once, and repaints only what changed. Writes nothing and keeps no session alive."""

from collections.abc import Mapping

from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.views.decorators.http import require_safe

from messaging import live
from messaging.changes import inbox_changes_sql
from messaging.models import Conversation, Message, User
from messaging.templatetags.frame import changed_frame
from messaging.templatetags.polling import fresh_poller, poller_element
from messaging.views.causes import paint_causes
from messaging.views.connections import paint_connections
from messaging.views.conversations import paint_conversation
from messaging.views.decide import paint_decision
from messaging.views.inbox import paint_inbox
from messaging.views.incident_words import paint_incident_words
from messaging.views.incidents import paint_incidents
from messaging.views.messages import paint_message
from messaging.views.operations import paint_operations
from messaging.views.painting import Paint, Painter
from messaging.views.paused import paint_hooks, paint_paused
from messaging.views.person import PersonRequest
from messaging.views.recoveries import paint_recovery
from messaging.views.subscriptions import paint_subscriptions


def paint_nothing(request: PersonRequest, look: live.Glance, since: live.Cursor, scope: live.Scope) -> Paint:
    """Pages without rows: the counts and the title are all that moves."""
    return Paint()


PAINTERS: Mapping[str, Painter] = {
    "page": paint_nothing,
    "inbox": paint_inbox,
    "conversation": paint_conversation,
    "message": paint_message,
    "decision": paint_decision,
    "ops": paint_operations,
    "causes": paint_causes,
    "connections": paint_connections,
    "subscriptions": paint_subscriptions,
    "compose": paint_nothing,
    "incidents": paint_incidents,
    "recovery": paint_recovery,
}
# Pages that say by themselves which gates are closed.
WITHOUT_NOTICES = frozenset({"connections"})
# The page that says by itself how the webhooks fare.
WITHOUT_HOOKS = frozenset({"subscriptions"})
# Where a person belongs who opens the poll's address by hand.
CANONICAL = {
    "recovery": "recoveries",
    "ops": "operations",
    "causes": "causes",
    "connections": "connections",
    "subscriptions": "subscriptions",
    "compose": "compose",
    "incidents": "incidents",
}


@require_safe
def live_poll(request: PersonRequest) -> HttpResponse:
    """204 when nothing changed; else the changed rows, the counts, one announcement and a fresh poller."""
    view, scope = request.GET.get("v", ""), _scope(request.GET)
    # What `request.htmx` asks, without parsing every header of what each open page sends every few seconds
    if request.META.get("HTTP_HX_REQUEST") != "true":
        return redirect(_canonical(request.user, view, scope))
    if view not in PAINTERS:
        raise Http404
    try:
        since = live.Cursor.parse(request.GET.get("since", ""))
        was_quick = request.GET.get("every") == str(live.PENDING_POLL_MS)
        along = inbox_changes_sql(request.user) if view == "inbox" else ""
        request.glance = look = live.glance(request.user, scope, since, was_quick=was_quick, along=along)
        if _is_quiet(look, since, request.GET):
            return HttpResponse(status=204)
        paint = _paint(PAINTERS[view], request, since, scope) if look.changed else Paint()
    except live.StaleCursor:
        return _stale(request, scope)
    return HttpResponse(_body(request, paint))


def _scope(asked: QueryDict) -> live.Scope:
    word = asked.get("scope", "")
    key = int(word) if word.isascii() and word.isdigit() and len(word) < 19 else None
    match asked.get("v", ""):
        case "conversation":
            return live.Scope(conversation_id=key)
        case "message" | "decision":
            return live.Scope(message_id=key)
        case "recovery":
            return live.Scope(recovery_id=key)
        case _:
            return live.Scope()


def _is_quiet(look: live.Glance, since: live.Cursor, asked: QueryDict) -> bool:
    """Nothing to tell, and the poller on the page may go on as it is."""
    return not look.changed and asked.get("every") == str(look.every_ms) and since.age < live.RENEW_AFTER_SECONDS


def _paint(painter: Painter, request: PersonRequest, since: live.Cursor, scope: live.Scope) -> Paint:
    answer = painter(request, request.glance, since, scope)
    return answer if isinstance(answer, Paint) else Paint(answer)


def _body(request: PersonRequest, paint: Paint) -> str:
    look, asked = request.glance, request.GET
    frame = changed_frame(look, paint.polite) if look.changed else ""
    if look.has_gate_news and asked.get("v") not in WITHOUT_NOTICES:
        frame += paint_paused(request.user, look, _scope(asked))
    if look.has_hook_news and asked.get("v") not in WITHOUT_HOOKS:
        frame += paint_hooks(request, look)
    if look.has_incident_news:
        frame += paint_incident_words(request.user, look, asked.get("v", ""), _scope(asked))
    place = (asked.get("v", ""), asked.get("scope", "")) if paint.goes_on else ("page", "")
    poller = poller_element(request.user.pk, look, *place, asked.get("q", ""))
    return "".join([*paint.html, frame, fresh_poller(poller)])


def _stale(request: PersonRequest, scope: live.Scope) -> HttpResponse:
    request.glance = live.glance(request.user, scope)
    return HttpResponse(_body(request, Paint([render_to_string("includes/live_stale.html")])))


def _canonical(user: User, view: str, scope: live.Scope) -> str:
    found: Conversation | Message | None = None
    if scope.conversation_id is not None:
        found = Conversation.objects.visible_to(user).filter(pk=scope.conversation_id).first()
    elif scope.message_id is not None:
        found = Message.objects.visible_to(user).filter(pk=scope.message_id).first()
    return found.get_absolute_url() if found else CANONICAL.get(view, "inbox")
