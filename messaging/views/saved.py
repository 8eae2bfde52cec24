"""Saved views: keeping the filter at hand under a name, renaming, replacing, sharing and deleting."""

from typing import Any

from django.contrib import messages as flashes
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from messaging import live, saved
from messaging.forms import ViewForm
from messaging.insight.filtering import canonical_query, told_filter, visible_connections
from messaging.models import Connection, SavedView
from messaging.saved import NameTaken, TooMany, Wish
from messaging.views.desk import SeeOther
from messaging.views.person import PersonRequest

TEMPLATE = "messaging/view_list.html"


@require_http_methods(["GET", "HEAD", "POST"])
def saved_views(request: PersonRequest) -> HttpResponse:
    """The views that this person may open, and the form that keeps the filter of the address as another one."""
    if request.method != "POST":
        return _page(request, canonical_query(request.GET))
    form = ViewForm(request.POST)
    query = request.POST.get("query", "")
    if not form.is_valid():
        return _page(request, query, typed=request.POST, problems=form.problems, status=422)
    try:
        kept = saved.keep(request.user, _wish(form), replaces="replace" in request.POST)
    except NameTaken as refusal:
        return _page(request, query, typed=request.POST, problems=[str(refusal)], taken=refusal.view, status=409)
    except TooMany as refusal:
        return _page(request, query, typed=request.POST, problems=[str(refusal)], status=409)
    flashes.success(request, f"This filter is kept as “{kept.name}”.")
    return SeeOther(f"{reverse('operations')}?{kept.query}")


@require_POST
def saved_view(request: PersonRequest, pk: int) -> HttpResponse:
    """Changes or deletes one of the person's own views; those of others are not here."""
    view = SavedView.objects.visible_to(request.user).filter(pk=pk, user=request.user).first()
    if view is None:
        raise Http404
    if request.POST.get("action") == "delete":
        saved.forget(view)
        flashes.success(request, f"The view “{view.name}” is deleted.")
        return SeeOther(reverse("saved_views"))
    return _change(request, view)


def _change(request: PersonRequest, view: SavedView) -> HttpResponse:
    # A form that says nothing of the filter leaves it as it is.
    typed = {"query": view.query, **request.POST.dict()}
    form = ViewForm(typed)
    try:
        if not form.is_valid():
            return _page(request, changed=(view.pk, typed), problems=form.problems, status=422)
        if not saved.change(view, _wish(form)):
            raise Http404
    except NameTaken as refusal:
        return _page(request, changed=(view.pk, typed), problems=[str(refusal)], status=409)
    flashes.success(request, f"The view “{form.cleaned_data['name']}” is changed.")
    return SeeOther(reverse("saved_views"))


def _wish(form: ViewForm) -> Wish:
    said = form.cleaned_data
    return Wish(name=said["name"], query=said["query"], is_shared=said["is_shared"])


def _page(
    request: PersonRequest,
    query: str = "",
    *,
    typed: QueryDict | None = None,
    changed: tuple[int, dict[str, Any]] | None = None,
    problems: list[str] | None = None,
    taken: SavedView | None = None,
    status: int = 200,
) -> HttpResponse:
    """`typed` is what the form of a new view holds, `changed` the view whose form was refused and what that one holds."""
    request.glance = live.glance(request.user)
    connections = visible_connections(request.user, QueryDict(query))
    found = SavedView.objects.visible_to(request.user).select_related("user")
    rows = [_row(view, request, connections, changed) for view in found]
    context = {
        "own": [row for row in rows if row["is_own"]],
        "shared": [row for row in rows if not row["is_own"]],
        "query": query,
        "about": told_filter(QueryDict(query), connections),
        "typed": {"name": typed.get("name", ""), "is_shared": "is_shared" in typed} if typed else {},
        "problems": problems or [],
        "is_new_refused": typed is not None,
        "taken": taken,
        "section": "operations",
        "view": "page",
    }
    return render(request, TEMPLATE, context, status=status)


def _row(
    view: SavedView, request: PersonRequest, connections: list[Connection], changed: tuple[int, dict[str, Any]] | None
) -> dict[str, Any]:
    typed = changed[1] if changed and changed[0] == view.pk else None
    return {
        "view": view,
        "is_own": view.user_id == request.user.pk,
        "about": told_filter(QueryDict(view.query), connections),
        "is_refused": typed is not None,
        "name": typed.get("name", "") if typed else view.name,
        "is_shared": "is_shared" in typed if typed else view.is_shared,
    }
