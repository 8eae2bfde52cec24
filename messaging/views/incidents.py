"""Incidents: the list, one incident with its timeline, and what people do about it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import messages as flashes
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.http import require_safe

from messaging import access, incidents, live
from messaging.forms import IncidentForm
from messaging.insight import outages
from messaging.insight.filtering import read_key, slug_of, write_key
from messaging.models import Incident, User
from messaging.views.desk import SeeOther
from messaging.views.person import PersonRequest
from messaging.views.replies import post_or_return

LIST = "messaging/incident_list.html"
DETAIL = "messaging/incident_detail.html"
DONE = {
    "take": "You look after this incident.",
    "give": "The incident has another owner.",
    "acknowledge": "Acknowledged. Colleagues see that you look at it.",
    "snooze": "Put aside for a while. It stays open.",
    "note": "Your note was added.",
    "resolve": "Resolved. Only new failures can open another one.",
}
IN_VAIN = "Nothing was changed: a colleague was quicker, or it is resolved. This is how it stands now."


@require_safe
def incident_list(request: PersonRequest) -> HttpResponse:
    """What is open, and what was resolved within 30 days."""
    request.glance = live.glance(request.user)
    return render(request, LIST, {**_list_context(request.user), "section": "operations", "view": "incidents"})


def _list_context(user: User) -> dict[str, Any]:
    rows = outages.listed(user, timezone.now())
    return {
        "open_rows": [row for row in rows if row["row"].is_open],
        "resolved_rows": [row for row in rows if not row["row"].is_open],
    }


@require_safe
def incident(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """One incident: state, timeline, whom it hit."""
    return _page(request, _found(request.user, uuid))


def _found(user: User, uuid: UUID) -> Incident:
    rows = Incident.objects.visible_to(user).select_related(
        "connection__fleet", "owner", "acknowledged_by", "resolved_by"
    )
    found = rows.filter(uuid=uuid).first()
    if found is None:
        raise Http404
    return found


def _page(request: PersonRequest, found: Incident, form: IncidentForm | None = None, status: int = 200) -> HttpResponse:
    request.glance = live.glance(request.user)
    now = timezone.now()
    page = outages.hit_messages(request.user, found, read_key(request.GET.get("before", "")), now, request.glance.gates)
    context = {
        **_state_context(request.user, found, now),
        "rows": page.rows,
        "older": write_key(page.rows[-1]) if page.has_more else "",
        "is_later_page": bool(request.GET.get("before")),
        "note": form.data.get("note", "") if form else "",
        "errors": [str(error) for errors in form.errors.values() for error in errors] if form else [],
        "longest_note": incidents.LONGEST_NOTE,
        "section": "operations",
        "view": "incidents",
        "q": str(found.uuid),
        # A provider's name in the operations list; its connections may come from a source of another name.
        "slug": slug_of(place) if (place := found.places.first()) else found.source_name,
    }
    return render(request, DETAIL, context, status=status)


def _state_context(user: User, found: Incident, now: datetime) -> dict[str, Any]:
    """What the poller repaints."""
    can_act = access.can_care(user)
    return {
        "incident": found,
        "one": outages.said(found, now, outages.seen_of(user, found)),
        "entries": outages.timeline(user, found),
        "drivers": outages.hit_drivers(user, found),
        "can_act": can_act,
        "people": _people(found) if can_act and found.is_open else [],
        "snoozes": list(incidents.SNOOZES.items()),
        "is_mine": found.owner_id == user.pk,
        "is_snoozed": found.snoozed_until is not None and found.snoozed_until > now,
    }


def _people(incident: Incident) -> list[tuple[str, str]]:
    return [("", "Nobody"), *((str(one.pk), one.label) for one in access.caretakers(incident.places))]


@post_or_return
def incident_act(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """One act of a person: `action`, and `owner`, `until` or `note` with it."""
    found = _found(request.user, uuid)
    if request.method != "POST":
        return SeeOther(found.get_absolute_url())
    if not access.can_care(request.user):
        raise PermissionDenied
    form = IncidentForm(found, request.POST)
    if not form.is_valid():
        return _page(request, found, form, status=422)
    action = form.cleaned_data["action"]
    if _act(found, action, form.cleaned_data, request.user, timezone.now()):
        flashes.success(request, DONE[action])
    else:
        flashes.warning(request, IN_VAIN)
    return SeeOther(found.get_absolute_url())


def _act(found: Incident, action: str, given: dict[str, Any], user: User, now: datetime) -> bool:
    match action:
        case "take":
            return incidents.give(found, user, user, now)
        case "give":
            return incidents.give(found, given["owner"], user, now)
        case "acknowledge":
            return incidents.acknowledge(found, user, now)
        case "snooze":
            return incidents.snooze(found, incidents.snoozed_until(given["until"], now), user, now)
        case "note":
            incidents.note(found, given["note"], user, now)
            return True
        case _:
            return incidents.resolve(found, user, now)


def paint_incidents(request: PersonRequest, look: live.Glance, since: live.Cursor, scope: live.Scope) -> list[str]:
    """The list, or with `q` naming one incident its page, when an incident changed."""
    if not look.has_incident_news:
        return []
    wanted = request.GET.get("q", "")
    if not wanted:
        return [render_to_string(f"{LIST}#changes", _list_context(request.user), request)]
    try:
        found = _found(request.user, UUID(wanted))
    except (ValueError, Http404):
        return []
    context = _state_context(request.user, found, timezone.now())
    return [render_to_string(f"{DETAIL}#changes", context, request)]
