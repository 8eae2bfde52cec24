"""What a person does to messages of a conversation: reply, withdraw, take a failure off the list."""

from uuid import UUID

from django.contrib import messages as flashes
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from messaging import access, outbox
from messaging.changes import bubble
from messaging.forms import HandledForm, ReplyForm
from messaging.mirror.redaction import storable_text
from messaging.models import Message, closed_gates
from messaging.rows import read_number
from messaging.states import MessageState
from messaging.templatetags.desk import remark
from messaging.threads import Head, newer_lines
from messaging.views.conversations import paint_bubbles, render_conversation
from messaging.views.desk import (
    THREAD,
    Context,
    SeeOther,
    composer_context,
    find_head,
    quoted,
)
from messaging.views.person import PersonRequest

SPENT = "This form was sent before with another text. Your text is kept; press Send again to send it too."
TOO_LATE = "Too late to withdraw: it may already be with the provider."
HANDLED_BEFORE = "This needs no attention any more: look at what became of it."
# A GET comes from a log-in in between, which returns to the address that was asked: it shows the page and writes nothing.
post_or_return = require_http_methods(["GET", "HEAD", "POST"])


@post_or_return
def reply(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """Puts a reply in the queue and shows its bubble; a refusal keeps every word that was typed."""
    found = find_head(request.user, uuid)
    if request.method != "POST":
        return SeeOther(found.address)
    form = ReplyForm(found.conversation, request.user, request.POST)
    if found.obstacle is not None:
        return _refused(request, found, form, [found.obstacle])
    if not form.is_valid():
        return _refused(request, found, form, [str(error) for errors in form.errors.values() for error in errors])
    given, seen = form.cleaned_data, read_number(request.POST.get("seen", ""))
    try:
        message = outbox.compose(
            request.user,
            found.conversation,
            given["message_text"],
            given["priority"],
            given["reply_to"],
            given["client_token"],
            timezone.now(),
            seen,
        )
    except outbox.MovedOn:
        return _moved_on(request, found, form, seen or 0)
    if (message.conversation_id, message.text) != (found.conversation.pk, given["message_text"]):
        # A browser may keep a hidden field over a reload: the token was used for something else.
        return _refused(request, found, form, [SPENT])
    return _sent(request, found, message)


def _sent(request: PersonRequest, found: Head, message: Message) -> HttpResponse:
    if not request.htmx:
        return SeeOther(f"{found.address}#m-{message.uuid}")
    context = composer_context(found)
    body = painted(request, message) + render_to_string(f"{THREAD}#sent", context, request)
    return HttpResponse(body, headers={"HX-Trigger": "live:now"})


def _moved_on(request: PersonRequest, found: Head, form: ReplyForm, seen: int) -> HttpResponse:
    """Shows what others wrote meanwhile; with that before their eyes, the same form sends."""
    lines = newer_lines(request.user, found, seen)
    if not request.htmx:
        context = {**_kept(request, found, form), "client_token": form.data.get("client_token"), "moved": lines}
        return render_conversation(request, found, context, status=409)
    context = {"moved": lines, "seen": lines.through}
    body = render_to_string(f"{THREAD}#moved_on", context, request)
    return HttpResponse(body, status=409, headers={"HX-Trigger": "live:now"})


def _kept(request: PersonRequest, found: Head, form: ReplyForm) -> Context:
    """The composer with everything that was typed."""
    return composer_context(
        found,
        text=form.data.get("message_text", ""),
        priority=form.data.get("priority", ""),
        quote=quoted(request.user, found, form.data.get("reply_to", "")),
    )


def _refused(request: PersonRequest, found: Head, form: ReplyForm, errors: list[str]) -> HttpResponse:
    context: Context = {**_kept(request, found, form), "errors": list(dict.fromkeys(errors))}
    if "client_token" not in form.errors and SPENT not in errors:
        context["client_token"] = form.data.get("client_token")
    if not request.htmx:
        return render_conversation(request, found, context, status=422)
    context |= {"is_token_spent": True}
    return HttpResponse(render_to_string(f"{THREAD}#refused", context, request), status=422)


@post_or_return
def cancel(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """Withdraws a message that no worker has claimed; too late, it says so and shows what became of it."""
    message = _find_message(request, uuid)
    if request.method == "POST":
        if not access.may_withdraw(request.user, message.author_id):
            raise PermissionDenied
        note = "" if _withdraw(request, message) else TOO_LATE
        if request.htmx:
            return HttpResponse(painted(request, message, note), headers={"HX-Trigger": "live:now"})
        if note:
            flashes.warning(request, note)
    return back(request, message)


def _withdraw(request: PersonRequest, message: Message) -> bool:
    """True when it is withdrawn, now or by an earlier press of the same button."""
    if outbox.cancel(message, request.user, timezone.now()):
        return True
    message.refresh_from_db(fields=["state"])
    return message.state == MessageState.CANCELLED


@post_or_return
def handled(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """Takes a failure off "Needs attention". Whoever sees it may: those are the fleet's members and support."""
    message = _find_message(request, uuid)
    if request.method == "POST":
        refusal = _handle(request, message)
        if request.htmx:
            return HttpResponse(painted(request, message, refusal), headers={"HX-Trigger": "live:now"})
        if refusal:
            flashes.warning(request, refusal)
    return back(request, message)


def _handle(request: PersonRequest, message: Message) -> str:
    """Why it was not marked, as a sentence; empty when it was."""
    form = HandledForm(request.POST)
    if not form.is_valid():
        return " ".join(str(error) for error in form.errors["note"])
    is_marked = outbox.handled(message, request.user, timezone.now(), storable_text(form.cleaned_data["note"]))
    return "" if is_marked else HANDLED_BEFORE


@post_or_return
def no_reply(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """Says that the driver's messages through the one that the page names want no answer, or takes that back. Whoever sees
    the conversation may: those are the fleet's members and support. The page's next look, which it takes at once, shows it.
    """
    found = find_head(request.user, uuid)
    if request.method == "POST":
        for field, act in (("waive", outbox.waive_answer), ("undo", outbox.want_answer)):
            through = read_number(request.POST.get(field, ""))
            if through is not None:
                act(found.conversation.pk, request.user, through)
        if request.htmx:
            return HttpResponse(status=204, headers={"HX-Trigger": "live:now"})
    return SeeOther(found.address)


def _find_message(request: PersonRequest, uuid: UUID) -> Message:
    visible = Message.objects.visible_to(request.user).select_related("conversation")
    found = visible.filter(uuid=uuid, deleted_at=None).first()
    if found is None:
        raise Http404
    return found


def back(request: PersonRequest, message: Message) -> HttpResponse:
    """To the page whose button it was: the message's own, or its conversation."""
    if request.POST.get("back") == "message":
        return SeeOther(message.get_absolute_url())
    return SeeOther(f"{message.conversation.get_absolute_url()}#m-{message.uuid}")


def painted(request: PersonRequest, message: Message, note: str = "") -> str:
    """The message's bubble as it now is, and beneath it the note, or nothing more of an earlier one."""
    now = timezone.now()
    row = bubble(request.user, message.pk, now, closed_gates(now))
    return paint_bubbles(request, [row]) + remark(message.uuid, note)
