"""The connections: whether each can send, how it fares, and what is wrong with it."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from messaging import live
from messaging.access import can_review, is_administrator
from messaging.forms import GateForm, TrialForm
from messaging.insight import listing, trials
from messaging.insight.health import (
    DEGRADED_BELOW,
    FAILING_RUN,
    NEWEST_OPERATIONS,
    SILENT_TRIES,
    counts,
    health,
    with_counts,
)
from messaging.insight.meanings import rough_span, span
from messaging.insight.reading import sweeps
from messaging.insight.trend import trend, with_trend
from messaging.mirror.redaction import storable_text
from messaging.models import Connection, User
from messaging.models.outlook import ClosedGates
from messaging.states import GateCause
from messaging.views.desk import synced
from messaging.views.person import PersonRequest

LIST = "messaging/connection_list.html"
DETAIL = "messaging/connection_detail.html"
MOST_SHOWN = 200
TRIAL_TEXT = "Test from the office. No action is needed."
RECENT_FAILURES = 10
SHARE_WORDS = {"read_write": "Read and write", "read": "Read only", "read_only": "Read only"}
RULES = {
    "run": FAILING_RUN,
    "tries": SILENT_TRIES,
    "percent": round(100 * DEGRADED_BELOW),
    "newest": NEWEST_OPERATIONS,
}


@require_safe
def connections(request: PersonRequest) -> HttpResponse:
    """Every visible connection with its health, narrowed by the words in `q`."""
    return render_connections(request)


def render_connections(request: PersonRequest, form: GateForm | None = None, status: int = 200) -> HttpResponse:
    """The list, with the form for the gate of all sending as it was filled in."""
    request.glance = live.glance(request.user)
    words = request.GET.get("q", "").strip()[:100]
    found = list(_found(request.user, words)[: MOST_SHOWN + 1])
    now = timezone.now()
    rows = [row(one, request.glance.gates, now) for one in found[:MOST_SHOWN]]
    context = {
        "rows": rows,
        "words": words,
        "is_cut": len(found) > MOST_SHOWN,
        "most": MOST_SHOWN,
        "rules": RULES,
        "gate": request.glance.gates.get(None),
        **_gate_form(request, reverse("credential_gate"), None, form),
    }
    return render(request, LIST, {**context, "section": "connections"}, status=status)


@require_safe
def connection(request: PersonRequest, uuid: UUID) -> HttpResponse:
    """One connection: facts, health, gate, drivers and its recent failures."""
    return render_connection(request, find_connection(request.user, uuid))


def find_connection(user: User, uuid: UUID) -> Connection:
    """Raises Http404 for a connection that this person may not see."""
    one = with_trend(_found(user, "")).filter(catena_id=uuid).annotate(drivers=_drivers()).first()
    if one is None:
        raise Http404
    return one


def render_connection(
    request: PersonRequest,
    one: Connection,
    form: GateForm | None = None,
    status: int = 200,
    trial: TrialForm | None = None,
) -> HttpResponse:
    """The page of a connection from `find_connection`, with the forms for its gate and for a test as they were filled in."""
    request.glance = live.glance(request.user)
    now = timezone.now()
    gates = request.glance.gates
    context = {
        "row": row(one, gates, now),
        "trend": _trend(one),
        "drivers": vars(one)["drivers"],
        "failures": _failures(request.user, one, now, gates),
        **_sweeps(request.user, one, now),
        "rules": RULES,
        **_gate_form(request, reverse("connection_gate", args=[one.catena_id]), one.pk, form),
        **_trial_form(request, one, trial, now),
    }
    return render(request, DETAIL, {**context, "section": "connections"}, status=status)


def _sweeps(user: User, one: Connection, now: datetime) -> dict[str, Any]:
    """How far Backhaul has read here: for those who can act on it."""
    return {"shows_sweeps": True, "sweeps": sweeps(now, one)} if can_review(user) or is_administrator(user) else {}


def _gate_form(
    request: PersonRequest, address: str, connection_id: int | None, form: GateForm | None
) -> dict[str, Any]:
    """What the form for a gate prints; for those who may not use it, that there is none."""
    own = request.glance.gates.get(connection_id)
    return {
        "can_gate": can_review(request.user),
        "gate_address": address,
        "gate_is_closed": own is not None,
        "gate_is_locked": own is not None and own.cause == GateCause.RESTORE,
        "gate_is_by_hand": own is not None and own.cause == GateCause.OPERATOR,
        "gate_reason": form.data.get("reason", "") if form else "",
        "gate_errors": [str(error) for errors in form.errors.values() for error in errors] if form else [],
    }


def _trial_form(request: PersonRequest, one: Connection, form: TrialForm | None, now: datetime) -> dict[str, Any]:
    """What the form for a test message prints, and what came of the last ones; nothing for those who may not send any."""
    if not can_review(request.user):
        return {"can_test": False}
    drivers = trials.drivers_of(one)
    errors = form.errors.values() if form else []
    return {
        "can_test": one.sending_obstacle is None or form is not None,
        "trial_drivers": drivers[: trials.MOST_DRIVERS],
        "trial_is_cut": len(drivers) > trials.MOST_DRIVERS,
        "trial_most": trials.MOST_DRIVERS,
        # The refused form sends with its own token: should it be there already, it is not sent again.
        "trial_token": (form.data.get("client_token") if form else None) or uuid4(),
        "trial_recipient": form.data.get("recipient", "") if form else "",
        "trial_text": form.data.get("text", "") if form else TRIAL_TEXT,
        "trial_errors": [str(error) for listed in errors for error in listed],
        "tests": trials.tests_of(request.user, one, now, request.glance.gates),
    }


def _found(user: User, words: str) -> "QuerySet[Connection]":
    found = with_counts(Connection.objects.visible_to(user).select_related("fleet", "pinned_sender"))
    for word in storable_text(words).split():
        names = ("fleet__name", "fleet__fleet_ref", "description", "source_name", "tsp_slug")
        matches = Q()
        for name in names:
            matches |= Q(**{f"{name}__icontains": word})
        found = found.filter(matches)
    return found.order_by("fleet__name", "source_name", "id")


def _drivers() -> Count:
    reachable = Q(fleet_users__deleted_at=None) & ~Q(fleet_users__is_active=False) & ~Q(fleet_users__is_driver=False)
    return Count("fleet_users", filter=reachable)


def _failures(user: User, one: Connection, now: datetime, gates: ClosedGates) -> list[listing.Row]:
    chosen = listing.OperationFilter(status="failed", connection_id=one.pk, span="all")
    found = listing.outgoing(user, chosen, now, gates).order_by("-occurred_at", "-id")
    return listing.read_rows(found, RECENT_FAILURES, now, gates)


def row(one: Connection, gates: ClosedGates, now: datetime) -> dict[str, Any]:
    """What the templates print of a connection that came through `with_counts`. No query."""
    found, obstacle = counts(one), one.sending_obstacle
    return {
        "uuid": str(one.catena_id),
        "url": f"/connections/{one.catena_id}/",
        "connection": one,
        "fleet": one.fleet.name if one.fleet else "No fleet",
        "obstacle": obstacle,
        "health": health(obstacle, found),
        "counts": found,
        "gate": gates.get(None) or gates.get(one.pk),
        "share": share_words(one.share_level),
        "groups": group_words(one),
        "synced": _ago(one.last_successful_execution_at, now),
        "next": _due(one.next_execution_at, now),
        "freshness": synced(one, now),
        "reading_obstacle": one.reading_obstacle,
    }


def share_words(level: str | None) -> str:
    """Catena's share level in words; a level that we do not know stays as it is, None is not known."""
    return "Not reported" if level is None else SHARE_WORDS.get(level, level)


def group_words(one: Connection) -> str:
    """What may be done with group messages there (contract section 16, question 23)."""
    if not one.has_groups:
        return "Not shared" if one.group_share_level == "" else f"Not offered through {one.provider}"
    if one.share_level is None and one.group_share_level is None:
        return share_words(None)
    return "Read and write" if one.may_send_groups else "Read only"


def _ago(at: datetime | None, now: datetime) -> str:
    return f"Synced {rough_span(now - at)} ago" if at else ""


def _due(at: datetime | None, now: datetime) -> str:
    if at is None:
        return ""
    return f"next in {rough_span(at - now)}" if at > now else f"next was due {rough_span(now - at)} ago"


def paint_connections(request: PersonRequest, look: live.Glance, since: live.Cursor, scope: live.Scope) -> list[str]:
    """What the list, or with `q` naming one connection its page, repaints. One query, and one more for tests; `since` and
    `scope` narrow nothing.
    """
    now = timezone.now()
    wanted = request.GET.get("q", "")
    found = _found(request.user, "")
    try:
        found = with_trend(found.filter(catena_id=UUID(wanted))) if wanted else found
    except ValueError:
        return []
    rows = [row(one, look.gates, now) for one in found[:MOST_SHOWN]]
    template = DETAIL if wanted else LIST
    if not rows:
        return []
    context: dict[str, Any] = {"rows": rows, "row": rows[0], "gate": look.gates.get(None)}
    if wanted:
        context["trend"] = _trend(rows[0]["connection"])
        if can_review(request.user):
            context["shows_tests"] = True
            context["tests"] = trials.tests_of(request.user, rows[0]["connection"], now, look.gates)
    return [render_to_string(f"{template}#changes", context, request)]


def _trend(one: Connection) -> dict[str, Any]:
    """The day of a connection that came through `with_trend`, its spans in words."""
    found = trend(one)
    median, p95 = (span(took) if took is not None else "" for took in (found.median, found.p95))
    return {"failed_hours": found.failed_hours, "p95_hours": found.p95_hours, "median": median, "p95": p95}
