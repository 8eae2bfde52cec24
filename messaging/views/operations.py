"""The operations list: every outgoing message with its fate, failures first, and the figures of the day."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from messaging import live
from messaging.access import can_review, is_administrator, may_export, tends_webhooks
from messaging.insight import listing
from messaging.insight.checked import last_check
from messaging.insight.figures import MOST_COUNTED, Figures, figures, parse
from messaging.insight.filtering import (
    LONGEST_QUERY,
    canonical_query,
    micros,
    read_filter,
    read_key,
    visible_connections,
    write_key,
)
from messaging.insight.hooks import turned_away
from messaging.insight.listing import OperationFilter, Row
from messaging.insight.meanings import span
from messaging.insight.reading import sweeps
from messaging.models import User
from messaging.models.outlook import ClosedGates
from messaging.views.console import console_context
from messaging.views.incident_words import bar_context
from messaging.views.person import PersonRequest

__all__ = ["operations", "operations_rows", "paint_operations", "read_filter", "read_key"]

TEMPLATE = "messaging/operation_list.html"


@require_safe
def operations(request: PersonRequest) -> HttpResponse:
    """The page: figures, filter and one page of rows."""
    request.glance = live.glance(request.user)
    context = {**_list_context(request), **figures_context(figures(request.user)), **_watch_context(request.user)}
    context |= bar_context(request.user, request.glance)
    return render(request, TEMPLATE, {**context, "section": "operations"})


def _watch_context(user: User) -> dict[str, Any]:
    """What the invariant checker found, which webhooks brought no news, and how far the sweeps have read: for those who can
    act on it.
    """
    now = timezone.now()
    found: dict[str, Any] = {"shows_check": True, "check": last_check(now)} if can_review(user) else {}
    if tends_webhooks(user):
        found |= {"turned": turned_away(now), "has_panel": is_administrator(user)}
        found |= {"shows_sweeps": True, "sweeps": sweeps(now)}
    return found


@require_safe
def operations_rows(request: PersonRequest) -> HttpResponse:
    """The rows alone, for a filter that changed. Without htmx it is the page."""
    query = canonical_query(request.GET)
    address = reverse("operations") + (f"?{query}" if query else "")
    if not request.htmx:
        return redirect(address)
    request.glance = live.glance(request.user)
    response = render(request, f"{TEMPLATE}#fragment", _list_context(request))
    response["HX-Push-Url"] = address
    return response


def _list_context(request: PersonRequest) -> dict[str, Any]:
    now, gates = timezone.now(), request.glance.gates
    console = console_context(request)
    chosen: OperationFilter = console["chosen"]
    rows, has_more = listing.page(request.user, chosen, now, gates)
    urgent = _urgent(request.user, chosen, now, gates)
    return {
        **console,
        "rows": rows,
        "may_export": may_export(request.user),
        "urgent": urgent[: listing.MOST_ATTENTION],
        "more_urgent": len(urgent) > listing.MOST_ATTENTION,
        "attention_total": request.glance.failed,
        **_pager(request.GET, chosen, rows, has_more=has_more),
        "newest": micros(max((row["occurred_at"] for row in [*rows, *urgent]), default=now)),
    }


def _urgent(user: User, chosen: OperationFilter, now: datetime, gates: ClosedGates) -> list[Row]:
    """The failures on top: on the first page of the unfiltered list only."""
    if not chosen.is_usual or chosen.before or chosen.after:
        return []
    return listing.attention(user, now, gates)


def _pager(query: QueryDict, chosen: OperationFilter, rows: Sequence[Row], *, has_more: bool) -> dict[str, str]:
    """`newer` and `older`: query strings of the neighbouring pages, empty where there is none."""
    has_newer = has_more if chosen.after else chosen.before is not None
    has_older = True if chosen.after else has_more
    return {
        "newer": canonical_query(query, after=write_key(rows[0])) if rows and has_newer else "",
        "older": canonical_query(query, before=write_key(rows[-1])) if rows and has_older else "",
    }


def figures_context(found: Figures) -> dict[str, Any]:
    return {
        "figures": found,
        "figures_cap": MOST_COUNTED,
        "oldest": span(found.oldest_pending) if found.oldest_pending is not None else "",
        "median": span(found.median) if found.median is not None else "",
        "p95": span(found.p95) if found.p95 is not None else "",
    }


def paint_operations(request: PersonRequest, look: live.Glance, since: live.Cursor, scope: live.Scope) -> list[str]:
    """What the open list repaints: the rows that changed, the figures, and an offer to load what is new. One query,
    and two more while a filter is chosen and something new is there.

    Raises StaleCursor when too many rows changed to repaint them one by one.
    """
    now = timezone.now()
    found = listing.outgoing(request.user, OperationFilter(span="all"), now, look.gates).filter(live.news(since))
    rows = listing.read_changed(request.user, found, live.MOST_CHANGES + 1, now, look.gates)
    if len(rows) > live.MOST_CHANGES:
        raise live.StaleCursor
    if not rows:
        return []
    arrivals = _arrivals(request, rows, now, look.gates)
    context = {"rows": rows, "arrivals": arrivals, **figures_context(parse(rows[0]["figures"]))}
    return [render_to_string(f"{TEMPLATE}#changes", context, request)]


def _arrivals(request: PersonRequest, rows: Sequence[Row], now: datetime, gates: ClosedGates) -> int:
    """How many of the changed rows are younger than the youngest on the page (`newest`, epoch microseconds) and belong on it."""
    newest = request.GET.get("newest", "")
    if not (newest.isascii() and newest.isdigit() and len(newest) < 20):
        return 0
    young = [row["id"] for row in rows if micros(row["occurred_at"]) > int(newest)]
    query = QueryDict(request.GET.get("q", "")[:LONGEST_QUERY])
    if not young or not canonical_query(query):
        return len(young)
    chosen = read_filter(query, visible_connections(request.user, query))
    return listing.outgoing(request.user, chosen, now, gates).filter(pk__in=young).count()
