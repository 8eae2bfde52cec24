"""Sending a test message on a connection, by those who review."""

from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone

from messaging import access, outbox
from messaging.forms import TrialForm
from messaging.views.connections import find_connection, render_connection
from messaging.views.desk import SeeOther
from messaging.views.person import PersonRequest
from messaging.views.replies import post_or_return


@post_or_return
def connection_test(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """Puts the test in the queue and goes back to the connection's page, which shows the answer; a refusal keeps what was
    typed.
    """
    one = find_connection(request.user, uuid)
    address = f"{reverse('connection', args=[one.catena_id])}#test"
    if request.method != "POST":
        return SeeOther(address)
    if not access.can_review(request.user):
        raise PermissionDenied
    form = TrialForm(one, request.POST)
    if not form.is_valid():
        return render_connection(request, one, status=422, trial=form)
    if one.sending_obstacle is not None:
        form.add_error(None, one.sending_obstacle)
        return render_connection(request, one, status=422, trial=form)
    given = form.cleaned_data
    try:
        outbox.send_test(request.user, given["recipient"], given["text"], given["client_token"], timezone.now())
    except (outbox.TooManyTests, outbox.NoSender) as refusal:
        form.add_error(None, str(refusal))
        return render_connection(request, one, status=409, trial=form)
    return SeeOther(address)
