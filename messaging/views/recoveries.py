"""Bulk recovery: the dry run of a filter or an incident, starting and stopping it, its progress and its report."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages as flashes
from django.db.models import Q, QuerySet
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from messaging import incidents, live, recovery
from messaging.insight import recoveries as told
from messaging.insight.filtering import (
    LONGEST_QUERY,
    MISREAD,
    canonical_query,
    is_misread,
    read_filter,
    told_filter,
    visible_connections,
)
from messaging.insight.listing import outgoing
from messaging.models import Incident, Message, Recovery, User
from messaging.models.outlook import closed_gates
from messaging.states import Direction
from messaging.views.desk import SeeOther
from messaging.views.painting import Paint
from messaging.views.person import PersonRequest

LIST = "messaging/recovery_list.html"
DETAIL = "messaging/recovery_detail.html"
MOST_LISTED = 50
NOTHING = "No failure is in this filter, so there is nothing to recover."
TOO_MUCH = "This is too much to look through at once. Narrow the filter: a shorter time, one connection, one cause."
STOPPED_BY_HAND = "Stopped by {who}"


@require_http_methods(["GET", "HEAD", "POST"])
def recoveries(request: PersonRequest) -> HttpResponse:
    """The recoveries that were started, newest first; a POST makes the dry run of a filter or an incident."""
    if request.method == "POST":
        return _freeze(request)
    request.glance = live.glance(request.user)
    kept = Recovery.objects.visible_to(request.user).filter(~Q(state=Recovery.State.DRAFT) | Q(author=request.user))
    listed = list(kept.select_related("author")[: MOST_LISTED + 1])
    context = {"rows": listed[:MOST_LISTED], "is_cut": len(listed) > MOST_LISTED, "section": "operations"}
    return render(request, LIST, context)


def _freeze(request: PersonRequest) -> HttpResponse:
    user, now = request.user, timezone.now()
    incident = _incident(user, request.POST.get("incident", ""))
    query = QueryDict(request.POST.get("query", "")[:LONGEST_QUERY])
    try:
        if incident is not None:
            made = recovery.freeze(
                user, _of_incident(user, incident), now, about=f"Incident: {incident}", incident=incident
            )
        else:
            connections = visible_connections(user, query)
            chosen = read_filter(query, connections)
            if is_misread(request.POST.get("query", ""), query, chosen):
                flashes.error(request, MISREAD)
                return SeeOther(_origin(None, canonical_query(query)))
            found = outgoing(user, chosen, now, closed_gates(now))
            about = told_filter(query, connections) or "All failures of the last 7 days"
            made = recovery.freeze(user, found, now, query=canonical_query(query), about=about)
    except (recovery.NothingToRecover, recovery.TooMuch) as refusal:
        flashes.warning(request, NOTHING if isinstance(refusal, recovery.NothingToRecover) else TOO_MUCH)
        return SeeOther(_origin(incident, canonical_query(query)))
    return SeeOther(made.get_absolute_url())


def _origin(incident: Incident | None, query: str) -> str:
    if incident is not None:
        return incident.get_absolute_url()
    return reverse("operations") + (f"?{query}" if query else "")


def _incident(user: User, key: str) -> Incident | None:
    """None when none is named; raises Http404 for one that this person may not see."""
    if not key:
        return None
    try:
        found = Incident.objects.visible_to(user).filter(uuid=UUID(key)).first()
    except ValueError:
        found = None
    if found is None:
        raise Http404
    return found


def _of_incident(user: User, incident: Incident) -> "QuerySet[Message]":
    """Its messages, as the incident itself counts them."""
    return Message.objects.visible_to(user).filter(incidents.affected(incident), direction=Direction.OUT)


@require_safe
def recovery_page(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """The dry run, the progress, or the report."""
    return _page(request, _find(request.user, uuid))


def _page(request: PersonRequest, shown: Recovery, refusal: str = "", status: int = 200) -> HttpResponse:
    request.glance = live.glance(request.user)
    context = {**_context(request.user, shown), **_rows_context(request.user, shown, request.GET)}
    context |= {
        "refusal": refusal,
        "section": "operations",
        "place": ("recovery", shown.pk) if context["is_moving"] else ("page", ""),
    }
    return render(request, DETAIL, context, status=status)


def _rows_context(user: User, shown: Recovery, asked: QueryDict) -> dict[str, Any]:
    """One page of messages: of the line that is asked for, behind the item `after`."""
    line, after = asked.get("line", ""), asked.get("after", "")
    line = line if line in told.KEYS else ""
    key = int(after) if after.isascii() and after.isdigit() and len(after) < 19 else 0
    rows, has_more = told.rows(user, shown, line, key)
    return {
        "rows": rows,
        "line": line,
        "here": urlencode({"line": line, "after": key}),
        "next": urlencode({"line": line, "after": rows[-1]["id"]}) if rows and has_more else "",
    }


def _context(user: User, shown: Recovery) -> dict[str, Any]:
    lines = told.lines(shown)
    total = sum(line.count for line in lines)
    counts = {line.key: line.count for line in lines}
    left = counts.get("due", 0)
    return {
        "recovery": shown,
        "lines": lines,
        "total": total,
        "is_cut": total >= recovery.MOST,
        "due": left,
        "tried": sum(counts.get(key, 0) for key in ("accepted", "moving", "unclear", "failed", "withdrawn")),
        "is_moving": told.is_moving(shown, lines),
        "can_start": shown.state == Recovery.State.DRAFT and shown.author_id == user.pk and left > 0,
        "can_stop": shown.is_under_way,
    }


def _find(user: User, uuid: UUID) -> Recovery:
    found = (
        Recovery.objects.visible_to(user).select_related("author", "stopped_by", "incident").filter(uuid=uuid).first()
    )
    if found is None:
        raise Http404
    return found


@require_POST
def recovery_start(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """Starts a dry run; pressing twice starts it once."""
    shown = _find(request.user, uuid)
    try:
        recovery.start(shown, request.user, timezone.now())
    except recovery.Refused as refusal:
        return _page(request, shown, str(refusal), status=409)
    return SeeOther(shown.get_absolute_url())


@require_POST
def recovery_stop(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """Stops it; whoever sees it may. What is on its way stays."""
    shown = _find(request.user, uuid)
    if not recovery.stop(shown, request.user, timezone.now(), STOPPED_BY_HAND.format(who=request.user.label)):
        flashes.info(request, "It had ended before: nothing was changed.")
    return SeeOther(shown.get_absolute_url())


def paint_recovery(request: PersonRequest, look: live.Glance, since: live.Cursor, scope: live.Scope) -> Paint:
    """State, progress, lines and messages of the open page. Three queries."""
    visible = Recovery.objects.visible_to(request.user).select_related("author", "stopped_by", "incident")
    shown = visible.filter(pk=scope.recovery_id or 0).first()
    if shown is None:
        return Paint(goes_on=False)
    asked = QueryDict(request.GET.get("q", "")[:LONGEST_QUERY])
    context = {**_context(request.user, shown), **_rows_context(request.user, shown, asked)}
    html = render_to_string(f"{DETAIL}#changes", context, request)
    has_ended = shown.ended_at is not None and shown.ended_at.timestamp() >= since.taken_at
    polite = f"The recovery is {shown.get_state_display().lower()}." if has_ended else ""
    return Paint([html], polite=polite, goes_on=context["is_moving"])
