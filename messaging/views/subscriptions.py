"""The webhook subscriptions: how they stand, and the buttons that have a worker tend them."""

from typing import Any

from django.contrib import messages as flashes
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from messaging import access, live, sync
from messaging.forms import WebhookForm
from messaging.insight.hooks import overview
from messaging.models import WebhookWork
from messaging.views.desk import SeeOther
from messaging.views.person import PersonRequest
from messaging.views.replies import post_or_return

TEMPLATE = "messaging/subscription_list.html"
# What support may ask for; the rest is an administrator's.
MENDING = frozenset({WebhookWork.CHECK, WebhookWork.REPAIR})
ASKED = "A worker does it within seconds; this page tells what came of it."
IN_VAIN = "Nothing was changed: what was asked for a moment ago is still under way."


@post_or_return
def subscriptions(request: PersonRequest) -> HttpResponse:
    """For support and administrators. A POST asks a worker for one piece of work; Catena is not called from here."""
    if not access.tends_webhooks(request.user):
        raise Http404
    if request.method != "POST":
        return _page(request)
    form = WebhookForm(request.POST)
    if not form.is_valid():
        return _page(request, [str(error) for errors in form.errors.values() for error in errors], 422)
    work = WebhookWork(form.cleaned_data["action"])
    if work not in MENDING and not access.is_administrator(request.user):
        raise PermissionDenied
    now = timezone.now()
    if obstacle := overview(now).obstacle:
        return _page(request, [obstacle], 409)
    if sync.want(work, request.user, now):
        flashes.success(request, ASKED)
    else:
        flashes.warning(request, IN_VAIN)
    return SeeOther(reverse("subscriptions"))


def _page(request: PersonRequest, errors: list[str] | None = None, status: int = 200) -> HttpResponse:
    request.glance = live.glance(request.user)
    context = {**_context(request), "errors": errors or [], "section": "operations"}
    return render(request, TEMPLATE, context, status=status)


def _context(request: PersonRequest) -> dict[str, Any]:
    return {"found": overview(timezone.now()), "is_administrator": access.is_administrator(request.user)}


def paint_subscriptions(request: PersonRequest, look: live.Glance, since: live.Cursor, scope: live.Scope) -> list[str]:
    """What the page repaints when something about the webhooks has moved. Two queries; nothing for those who may not see it."""
    if not look.has_hook_news or not access.tends_webhooks(request.user):
        return []
    return [render_to_string(f"{TEMPLATE}#changes", _context(request), request)]
