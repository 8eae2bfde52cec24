"""Sending a failure again: at once where it certainly did not arrive, else after a question. One press or many, one message."""

from uuid import UUID

from django.contrib import messages as flashes
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.utils import timezone
from django.utils.timezone import localtime
from django.views.decorators.http import require_http_methods

from messaging import access, live, outbox, threads
from messaging.models import Message, User
from messaging.templatetags.desk import no_question, question, remark
from messaging.views.desk import SeeOther
from messaging.views.person import PersonRequest
from messaging.views.replies import back, painted

TEMPLATE = "messaging/message_resend.html"
UNSURE = "Tick the box if you mean it. Nothing was sent."


@require_http_methods(["GET", "HEAD", "POST"])
def resend(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """The question on a page of its own, and the answer to it. A bubble's button asks and answers beside the bubble."""
    message = _find(request.user, uuid)
    if not access.can_resend(request.user, message.connection):
        raise PermissionDenied
    if request.method != "POST":
        return _page(request, message)
    refusal = threads.obstacle(request.user, message.conversation.driver, is_resend=True)
    if refusal:
        return _refused(request, message, refusal)
    try:
        sent = outbox.resend(message, request.user, timezone.now(), is_sure="is_sure" in request.POST)
    except outbox.MayHaveArrived as doubt:
        return _asked(request, message, str(doubt))
    except (outbox.NotResendable, outbox.NoSender) as problem:
        return _refused(request, message, str(problem))
    return _sent(request, message, sent)


def _find(user: User, uuid: UUID) -> Message:
    known = Message.objects.visible_to(user).outgoing().filter(uuid=uuid, deleted_at=None)
    found = known.select_related(
        "author", "connection__fleet", "conversation__driver__connection__fleet",
        "conversation__driver__connection__pinned_sender",
    ).first()  # fmt: skip
    if found is None:
        raise Http404
    return found


def _page(request: PersonRequest, message: Message, refusal: str = "", status: int = 200) -> HttpResponse:
    request.glance = live.glance(request.user)
    found = outbox.resent_as(message)
    context = {
        "shown": message,
        "driver": message.conversation.driver,
        "provider": message.connection.provider,
        "resent": found,
        "resent_by": who_and_when(request.user, found) if found else "",
        "can_resend": found is None and outbox.can_be_resent(message),
        "doubt": outbox.doubt_about(message),
        "refusal": refusal,
        "back": (request.POST or request.GET).get("back", ""),
        "section": "inbox",
        "view": "page",
    }
    return render(request, TEMPLATE, context, status=status)


def _asked(request: PersonRequest, message: Message, doubt: str) -> HttpResponse:
    """The second tick is missing: the first press asks for it, a further one says so."""
    is_again = "asked" in request.POST
    if request.htmx:
        asked = question(message.uuid, doubt, get_token(request), is_repeated=is_again)
        return HttpResponse(remark(message.uuid, "") + asked)
    if is_again:
        return _page(request, message, UNSURE, status=422)
    origin = "?back=message" if request.POST.get("back") == "message" else ""
    return SeeOther(f"{request.path}{origin}")


def _refused(request: PersonRequest, message: Message, refusal: str) -> HttpResponse:
    if request.htmx:
        return HttpResponse(painted(request, message, refusal) + no_question(message.uuid))
    return _page(request, message, refusal, status=422)


def _sent(request: PersonRequest, message: Message, sent: outbox.Resend) -> HttpResponse:
    """Shows the new message. Who comes second is told who was first."""
    note = "" if sent.is_new else f"{who_and_when(request.user, sent.message)}. It is not sent twice."
    if request.htmx:
        body = painted(request, message, note) + painted(request, sent.message)
        return HttpResponse(body + no_question(message.uuid), headers={"HX-Trigger": "live:now"})
    if note:
        flashes.info(request, f"{note} This is what was sent.")
    return back(request, sent.message)


def who_and_when(user: User, sent: Message) -> str:
    by = "You" if sent.author_id == user.pk or sent.author is None else sent.author.label
    return f"{by} sent it again at {localtime(sent.occurred_at):%H:%M}"
