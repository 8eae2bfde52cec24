"""The page on which a person decides about a send that may have arrived. What is typed survives every refusal."""

from typing import Any
from uuid import UUID

from django.contrib import messages as flashes
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from messaging import access, live, reconcile
from messaging.forms import DecisionForm
from messaging.insight import dossier
from messaging.insight.sentence import clock
from messaging.models import Decision, Message, User, message_delivery
from messaging.states import DecisionKind, MessageState
from messaging.views.desk import SeeOther
from messaging.views.painting import Paint
from messaging.views.person import PersonRequest

TEMPLATE = "messaging/message_decide.html"
DONE = {
    DecisionKind.SEND_AGAIN: "It is sent again.",
    DecisionKind.WAS_SENT: "Marked as sent.",
    DecisionKind.LEAVE_UNSENT: "Left unsent.",
    DecisionKind.SEND_NEXT: "The next message goes out now.",
}


@require_http_methods(["GET", "HEAD", "POST"])
def decide(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """The evidence and the choice; a POST records the choice, once, on what the page had shown."""
    message = _find(request.user, uuid=uuid)
    if message is None or not access.can_decide(request.user, message.connection):
        raise Http404
    if request.method != "POST":
        return _page(request, message)
    form = DecisionForm(request.POST, may_be_twice=bool(reconcile.evidence(message).tries))
    if not form.is_valid():
        return _page(request, message, form, [str(error) for errors in form.errors.values() for error in errors], 422)
    return _record(request, message, form)


def _record(request: PersonRequest, message: Message, form: DecisionForm) -> HttpResponse:
    given = form.cleaned_data
    kind = DecisionKind(given["kind"])
    try:
        reconcile.decide(message, request.user, kind, given["reason"], seen=given["seen"], now=timezone.now())
    except reconcile.AlreadyDecided as first:
        if (first.decision.user_id, first.decision.kind) != (request.user.pk, kind):
            return _page(request, _again(request.user, message), form, [told(request.user, first.decision)], 409)
    except reconcile.NotDecidable as refusal:
        return _page(request, _again(request.user, message), form, [str(refusal)], 409)
    flashes.success(request, DONE[kind])
    return SeeOther(message.get_absolute_url())


def told(user: User, decision: Decision) -> str:
    """Who decided what, when and why, for somebody who wanted to decide too."""
    who = "You have" if decision.user_id == user.pk else f"{decision.user.label} has"
    what = decision.get_kind_display().lower()
    return f"{who} decided at {clock(decision.created_at, timezone.now())}: {what}. Reason: {decision.reason}"


def _find(user: User, **key: Any) -> Message | None:
    visible = Message.objects.visible_to(user).filter(deleted_at=None, seq__isnull=False, **key)
    return (
        reconcile.with_stamp(visible)
        .select_related(
            "conversation__driver", "connection__fleet", "author", "settled_by", "sender", "recipient", "reply_to"
        )
        .first()
    )


def _again(user: User, message: Message) -> Message:
    found = _find(user, pk=message.pk)
    if found is None:
        raise Http404
    return found


def _page(
    request: PersonRequest,
    message: Message,
    form: DecisionForm | None = None,
    errors: list[str] | None = None,
    status: int = 200,
) -> HttpResponse:
    now = timezone.now()
    request.glance = live.glance(request.user, live.Scope(message_id=message.pk))
    known = reconcile.evidence(message)
    context = {
        "shown": message,
        "badge": message_delivery(message, now, request.glance.gates),
        "driver": message.conversation.driver,
        "verdict": dossier.verdict(message, now),
        "is_checked": message.state == MessageState.UNKNOWN,
        "lines": dossier.lines(message, known, now),
        "options": [_offer(option, known, now) for option in reconcile.options(message, known, now)],
        "stamp": reconcile.stamp(message),
        "errors": errors or [],
        "kind": form["kind"].value() if form else "",
        "reason": form["reason"].value() if form else "",
        "is_sure": bool(form and form["is_sure"].value()),
        "section": "inbox",
        "view": "decision",
        "scope": message.pk,
        "q": reconcile.stamp(message),
    }
    return render(request, TEMPLATE, context, status=status)


def _offer(option: reconcile.Option, known: reconcile.Evidence, now: Any) -> dict[str, Any]:
    """One verdict as the page offers it, in the words of what it risks."""
    may_be_twice = option.kind == DecisionKind.SEND_AGAIN and bool(known.tries)
    labels = {
        DecisionKind.SEND_AGAIN: "Send again: the driver may see it twice" if may_be_twice else "Send it",
        DecisionKind.WAS_SENT: "It was sent",
        DecisionKind.LEAVE_UNSENT: "Leave it unsent",
        DecisionKind.SEND_NEXT: "Send the next one anyway",
    }
    hints = {
        DecisionKind.SEND_AGAIN: "It goes out once more.",
        DecisionKind.WAS_SENT: "The driver has it, for example because they said so.",
        DecisionKind.LEAVE_UNSENT: "Nothing more is sent. It stays in the conversation.",
        DecisionKind.SEND_NEXT: "This one stays open; the messages behind it go on.",
    }
    return {
        "kind": option.kind.value,
        "label": labels[option.kind],
        "hint": hints[option.kind],
        "available_at": option.available_at if option.available_at > now else None,
        "may_be_twice": may_be_twice,
    }


def paint_decision(request: PersonRequest, look: live.Glance, since: live.Cursor, scope: live.Scope) -> Paint:
    """Above the form, never in it: what happened since the page was read. The reason that is being typed stays."""
    message = _find(request.user, pk=scope.message_id)
    if message is None:
        return Paint(goes_on=False)
    badge = message_delivery(message, timezone.now(), look.gates)
    has_moved = reconcile.stamp(message) != request.GET.get("q", "")
    context = {"shown": message, "badge": badge, "has_moved": has_moved}
    return Paint(
        [render_to_string(f"{TEMPLATE}#changes", context, request)],
        polite=f"This has changed: {badge.long}" if has_moved else "",
        goes_on=not has_moved,
    )
