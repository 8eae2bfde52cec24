"""The page and the fragment of the one box that finds anything."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from messaging import live
from messaging import search as finder
from messaging.views.person import PersonRequest

TEMPLATE = "messaging/search.html"


@require_safe
def search(request: PersonRequest) -> HttpResponse:
    """The page with what was found. The id of exactly one message goes straight to its page."""
    request.glance = live.glance(request.user)
    context = _context(request)
    answer: finder.Answer = context["answer"]
    if answer.jump:
        return redirect(answer.jump)
    return render(request, TEMPLATE, {**context, "section": "search", "view": "page"})


@require_safe
def search_results(request: PersonRequest) -> HttpResponse:
    """What was found alone, while the box is typed into; it opens nothing by itself. Without htmx it is the page."""
    if not request.htmx:
        query = request.GET.urlencode()
        return redirect(reverse("search") + (f"?{query}" if query else ""))
    request.glance = live.glance(request.user)
    return render(request, f"{TEMPLATE}#fragment", _context(request))


def _context(request: PersonRequest) -> dict[str, Any]:
    asked = finder.cleaned(request.GET.get("q", ""))
    answer = finder.look_up(request.user, asked, timezone.now(), request.glance.gates, finder.TIME_LIMIT_SECONDS)
    return {
        "asked": asked,
        "answer": answer,
        "recent": [] if answer.words else finder.recent(request.user),
        "most": finder.MOST_CHARACTERS,
        "most_counted": finder.MOST_COUNTED,
        "most_shown": finder.MOST_SHOWN,
    }
