"""Pausing sending by hand, and letting it go on: for one connection or for all, by those who review."""

from uuid import UUID

from django.contrib import messages as flashes
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone

from messaging import access, gates
from messaging.forms import GateForm
from messaging.views.connections import find_connection, render_connection, render_connections
from messaging.views.desk import SeeOther
from messaging.views.person import PersonRequest
from messaging.views.replies import post_or_return

DONE = {
    "open": "Messages go out again {where}.",
    "close": "Sending is paused {where}. Messages wait, and nothing is refused.",
}
IN_VAIN = {
    "open": "Nothing was changed: sending is not paused {where}, or it is locked.",
    "close": "Nothing was changed: a colleague has paused sending {where} already, or it is locked.",
}


@post_or_return
def connection_gate(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """The gate of one connection; a refusal shows its page with what was typed."""
    one = find_connection(request.user, uuid)
    address = reverse("connection", args=[one.catena_id])
    if request.method != "POST":
        return SeeOther(address)
    form = _form(request)
    if not form.is_valid():
        return render_connection(request, one, form, status=422)
    _act(request, form, one.pk, "on this connection")
    return SeeOther(address)


@post_or_return
def credential_gate(request: PersonRequest) -> HttpResponse:
    """The gate of the whole credential; a refusal shows the list with what was typed."""
    if request.method != "POST":
        return SeeOther(reverse("connections"))
    form = _form(request)
    if not form.is_valid():
        return render_connections(request, form, status=422)
    _act(request, form, None, "on all connections")
    return SeeOther(reverse("connections"))


def _form(request: PersonRequest) -> GateForm:
    if not access.can_review(request.user):
        raise PermissionDenied
    return GateForm(request.POST)


def _act(request: PersonRequest, form: GateForm, connection_id: int | None, where: str) -> None:
    action, reason = form.cleaned_data["action"], form.cleaned_data["reason"]
    act = gates.open_by_hand if action == "open" else gates.close_by_hand
    if act(connection_id, request.user, reason, timezone.now()):
        flashes.success(request, DONE[action].format(where=where))
    else:
        flashes.warning(request, IN_VAIN[action].format(where=where))
