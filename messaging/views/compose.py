"""Writing to a driver who is looked up across all connections."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db.models import F, Func, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe
from django_htmx.http import HttpResponseClientRedirect

from messaging import live, outbox, threads
from messaging.forms import ComposeForm
from messaging.mirror.redaction import storable_text
from messaging.models import FleetUser, Message, User
from messaging.states import Priority
from messaging.views import incident_words
from messaging.views.desk import SeeOther
from messaging.views.person import PersonRequest
from messaging.views.replies import SPENT

TEMPLATE = "messaging/message_compose.html"
MOST_RESULTS = 20
# A search looks at this many words; fewer digits than this are no phone number.
MOST_WORDS, FEWEST_DIGITS = 6, 4
# The same words to the same driver within this time are asked about once.
TWICE_WITHIN = timedelta(minutes=2)
TWICE = "{who} sent exactly this to {name} {seconds} s ago. Tick “Send it again” if you mean it."


@require_http_methods(["GET", "HEAD", "POST"])
def compose(request: PersonRequest) -> HttpResponse:
    """An empty form, or the sending; a refusal shows the form with everything that was typed."""
    request.glance = live.glance(request.user)
    if request.method != "POST":
        return render(request, TEMPLATE, _empty(request))
    form = ComposeForm(request.user, request.POST)
    form.is_valid()
    driver = form.cleaned_data.get("recipient")
    if driver is not None:
        _check(request.user, form, driver)
    if driver is None or not form.is_valid():
        return _refused(request, form)
    given = form.cleaned_data
    found = outbox.open_conversation(driver)
    message = outbox.compose(
        request.user, found, given["message_text"], given["priority"], None, given["client_token"], timezone.now()
    )
    if (message.conversation_id, message.text) != (found.pk, given["message_text"]):
        form.add_error("client_token", SPENT)
        return _refused(request, form)
    return _sent(request, f"{found.get_absolute_url()}#m-{message.uuid}")


def _sent(request: PersonRequest, address: str) -> HttpResponse:
    if request.htmx:
        return HttpResponseClientRedirect(address)
    return SeeOther(address)


def _check(user: User, form: ComposeForm, driver: FleetUser) -> None:
    """What only the rows can tell: whether this driver can be written to, and whether it was just done."""
    obstacle = threads.obstacle(user, driver)
    if obstacle is not None:
        form.add_error("recipient", obstacle)
    elif not form.cleaned_data.get("is_confirmed") and not form.errors:
        twin = _twin(user, driver, form.cleaned_data, timezone.now())
        if twin is not None:
            ago = max(0, int((timezone.now() - twin.occurred_at).total_seconds()))
            form.add_error("is_confirmed", TWICE.format(who=_who(user, twin), name=driver.name, seconds=ago))


def _who(user: User, message: Message) -> str:
    if message.author_id == user.pk:
        return "You"
    return message.author.label if message.author else message.sender_name or "Somebody"


def _twin(user: User, driver: FleetUser, given: dict[str, Any], now: datetime) -> Message | None:
    """The same text to the same driver a moment ago, unless it is this very form, sent twice by an impatient click."""
    same = Message.objects.visible_to(user).filter(recipient=driver, direction="out", text=given["message_text"])
    recent = same.filter(occurred_at__gt=now - TWICE_WITHIN).exclude(client_token=given["client_token"])
    return recent.exclude(state="cancelled").select_related("author").order_by("-occurred_at").first()


def _empty(request: PersonRequest) -> dict[str, Any]:
    chosen = _driver(request.user, request.GET.get("recipient", ""))
    return {
        **_page(request, request.GET.get("q", ""), chosen),
        "form": ComposeForm(request.user),
        "text": request.GET.get("message_text", ""),
        "priority": _known(request.GET.get("priority", "")),
        "client_token": uuid4(),
    }


def _refused(request: PersonRequest, form: ComposeForm) -> HttpResponse:
    chosen = _driver(request.user, form.data.get("recipient", ""))
    is_spent = "client_token" in form.errors
    context = {
        **_page(request, form.data.get("q", ""), chosen),
        "form": form,
        "errors": _summary(form),
        "text": form.data.get("message_text", ""),
        "priority": _known(form.data.get("priority", "")),
        "client_token": uuid4() if is_spent else form.data.get("client_token"),
        "is_spent": is_spent,
    }
    name = f"{TEMPLATE}#refused" if request.htmx else TEMPLATE
    return render(request, name, context, status=422)


def _summary(form: ComposeForm) -> list[tuple[str, str]]:
    """Each mistake once, with the id of the field that mends it."""
    fields = {"recipient": "recipient-search", "is_confirmed": "id_is_confirmed", "priority": "priority"}
    return [
        (fields.get(name, "id_message_text"), str(error))
        for name, errors in form.errors.items()
        for error in dict.fromkeys(errors)
    ]


def _known(word: str) -> str:
    return word if word in Priority.values else Priority.MEDIUM.value


def _page(request: PersonRequest, words: str, chosen: FleetUser | None) -> dict[str, Any]:
    return {
        **_results(request, words, chosen),
        "incident_notices": incident_words.of_person(request.user, request.glance),
        "text_limit": settings.MESSAGE_TEXT_LIMIT,
        "section": "inbox",
        "view": "compose",
    }


@require_safe
def recipients(request: PersonRequest) -> HttpResponse:
    """The drivers that match `q`, for the search field; without htmx it is the page with the same search."""
    words = request.GET.get("q", "")
    if not request.htmx:
        return redirect(f"{reverse('compose')}?{request.GET.urlencode()}")
    chosen = _driver(request.user, request.GET.get("recipient", ""))
    request.glance = live.glance(request.user)
    return render(request, f"{TEMPLATE}#picker", _results(request, words, chosen))


def _driver(user: User, key: str) -> FleetUser | None:
    try:
        wanted = UUID(key)
    except ValueError:
        return None
    drivers = FleetUser.objects.visible_to(user).reachable().select_related("connection__fleet")
    return drivers.filter(catena_id=wanted).first()


def _results(request: PersonRequest, words: str, chosen: FleetUser | None) -> dict[str, Any]:
    """The chosen driver first, then those whose name, user name or phone holds every word; each with what fails there."""
    user, look = request.user, request.glance
    found = list(_search(user, words)[: MOST_RESULTS + 1])
    shown = [one for one in found[:MOST_RESULTS] if chosen is None or one.pk != chosen.pk]
    rows = [*([chosen] if chosen else []), *shown]
    fleets = _writable_fleets(user)
    return {
        "drivers": [
            {
                "row": one,
                "obstacle": _obstacle(user, one, fleets),
                "incidents": incident_words.of_connection(user, look, one.connection),
            }
            for one in rows
        ],
        "chosen": chosen,
        "words": words,
        "is_cut": len(found) > MOST_RESULTS,
        "most": MOST_RESULTS,
    }


def _search(user: User, words: str) -> "QuerySet[FleetUser]":
    found = FleetUser.objects.visible_to(user).reachable().select_related("connection__fleet")
    # A phone number is found whatever stands between its digits.
    digits_of = Func(F("phone_number"), Value(r"\D"), Value(""), Value("g"), function="regexp_replace")
    found = found.annotate(digits=Cast(digits_of, TextField()))
    for word in storable_text(words).split()[:MOST_WORDS]:
        digits = "".join(char for char in word if char.isascii() and char.isdigit())
        matches = Q(name__icontains=word) | Q(username__icontains=word) | Q(phone_number__icontains=word)
        found = found.filter(matches | Q(digits__contains=digits) if len(digits) >= FEWEST_DIGITS else matches)
    return found.order_by("name", "id")


def _writable_fleets(user: User) -> frozenset[int | None] | None:
    """The fleets that this person may write to; None means all."""
    if user.is_superuser:
        return None
    return frozenset(user.memberships.values_list("fleet_id", flat=True))


def _obstacle(user: User, driver: FleetUser, fleets: frozenset[int | None] | None) -> str | None:
    """The part of `threads.obstacle` that costs no query; the rest is asked when the form is sent."""
    if driver.connection.sending_obstacle is not None:
        return driver.connection.sending_obstacle
    if fleets is not None and driver.connection.fleet_id not in fleets:
        return "You may read this fleet's messages, not write them."
    return None
