"""The page after a restore: what happened, what the survey found, and the button that lets sending go on."""

from typing import Any

from django.contrib import messages as flashes
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from messaging import access, live, reconcile
from messaging.forms import UnlockForm
from messaging.models import Message, Restore
from messaging.views.desk import SeeOther
from messaging.views.person import PersonRequest

TEMPLATE = "messaging/restore.html"
ADDRESS = "/ops/restore/"


@require_http_methods(["GET", "HEAD", "POST"])
def restore(request: PersonRequest) -> HttpResponse:
    """For support alone. A POST unlocks sending, with a reason and a second tick, once the survey is done."""
    if not access.can_review(request.user):
        raise Http404
    if request.method != "POST":
        return _page(request)
    form = UnlockForm(request.POST)
    if not form.is_valid():
        return _page(request, form, [str(error) for errors in form.errors.values() for error in errors], 422)
    try:
        reconcile.unlock(request.user, form.cleaned_data["reason"], timezone.now())
    except reconcile.NotUnlockable as refusal:
        return _page(request, form, [str(refusal)], 409)
    flashes.success(request, "Sending goes on.")
    return SeeOther(ADDRESS)


def _page(
    request: PersonRequest, form: UnlockForm | None = None, errors: list[str] | None = None, status: int = 200
) -> HttpResponse:
    request.glance = live.glance(request.user)
    found = reconcile.open_restore()
    context = {
        "restore": found,
        "groups": _groups(request, found) if found else [],
        "errors": errors or [],
        "reason": form["reason"].value() if form else "",
        "section": "operations",
        "view": "page",
    }
    return render(request, TEMPLATE, context, status=status)


def _groups(request: PersonRequest, found: Restore) -> list[dict[str, Any]]:
    """The messages that the survey touched, as it left them, the ones that need a person first. One query."""
    kept = found.survey
    named = [uuid for name in ("asked", "waiting", "bound") for uuid in kept.get(name, [])]
    rows = Message.objects.visible_to(request.user).filter(uuid__in=named).select_related("conversation__driver")
    known = {str(row.uuid): row for row in rows}
    headings = {
        "asked": "Need a decision: may have been sent, not found at Catena",
        "waiting": "Wait behind another one: may have been sent, asked about when their turn comes",
        "bound": "Were sent since the backup: found at Catena",
    }
    return [
        {
            "heading": heading,
            "count": kept.get(f"{name}_count", 0),
            "messages": [known[uuid] for uuid in kept.get(name, []) if uuid in known],
        }
        for name, heading in headings.items()
    ]
