"""Failures grouped by cause, for the filter of the operations list."""

from typing import Any

from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from messaging import live
from messaging.insight import listing
from messaging.insight.causes import MOST_GROUPS, groups
from messaging.insight.figures import figures
from messaging.insight.filtering import LONGEST_QUERY, canonical_query, read_filter, visible_connections
from messaging.states import CAUSED_STATES
from messaging.views.console import console_context
from messaging.views.operations import figures_context
from messaging.views.person import PersonRequest

TEMPLATE = "messaging/cause_list.html"


@require_safe
def causes(request: PersonRequest) -> HttpResponse:
    """The page: figures, filter and one row for each cause on each connection."""
    request.glance = live.glance(request.user)
    context = {**_groups_context(request), **figures_context(figures(request.user))}
    return render(request, TEMPLATE, {**context, "section": "operations"})


@require_safe
def causes_rows(request: PersonRequest) -> HttpResponse:
    """The groups alone, for a filter that changed. Without htmx it is the page."""
    query = canonical_query(request.GET)
    address = reverse("causes") + (f"?{query}" if query else "")
    if not request.htmx:
        return redirect(address)
    request.glance = live.glance(request.user)
    response = render(request, f"{TEMPLATE}#fragment", _groups_context(request))
    response["HX-Push-Url"] = address
    return response


def _groups_context(request: PersonRequest) -> dict[str, Any]:
    console = console_context(request)
    found, has_more = groups(request.user, request.GET, console["chosen"], timezone.now(), request.glance.gates)
    return {
        **console,
        "groups": found,
        "has_more": has_more,
        "most_groups": MOST_GROUPS,
        "failures": sum(group.count for group in found),
    }


def paint_causes(request: PersonRequest, look: live.Glance, since: live.Cursor, scope: live.Scope) -> list[str]:
    """The figures, and an offer to count again when failures of the filter came or changed: no row moves by itself."""
    query = QueryDict(request.GET.get("q", "")[:LONGEST_QUERY])
    chosen = read_filter(query, visible_connections(request.user, query))
    found = listing.outgoing(request.user, chosen, timezone.now(), look.gates)
    changed = found.filter(live.news(since), state__in=sorted(CAUSED_STATES)).count()
    context = {"changed": changed, **figures_context(figures(request.user))}
    return [render_to_string(f"{TEMPLATE}#changes", context, request)]
