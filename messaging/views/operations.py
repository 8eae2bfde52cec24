"""The operations list: every outgoing message with its fate, failures first, and the figures of the day."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from messaging import live
from messaging.access import can_review, is_administrator, may_export, tends_webhooks
from messaging.insight import listing
from messaging.insight.checked import last_check
from messaging.insight.figures import MOST_COUNTED, Figures, figures, parse
from messaging.insight.hooks import turned_away
from messaging.insight.listing import RANGES, Key, OperationFilter, Row
from messaging.insight.meanings import ERROR_TYPES, span
from messaging.insight.reading import sweeps
from messaging.insight.situations import ATTENTION, PENDING, WORDS
from messaging.mirror.redaction import storable_text
from messaging.models import Connection, User
from messaging.models.outlook import ClosedGates
from messaging.states import SITUATIONS, Priority
from messaging.views.person import PersonRequest

TEMPLATE = "messaging/operation_list.html"
EPOCH = datetime.fromtimestamp(0, UTC)
# The filter's selects list at most this many connections.
MOST_CHOICES = 300
STATUS_CHOICES = [
    (ATTENTION, "Needs attention"),
    (PENDING, "Pending"),
    *[(word, SITUATIONS[word].short or "Unknown status") for word in WORDS],
]
RANGE_CHOICES = [("24h", "Last 24 hours"), ("7d", "Last 7 days"), ("30d", "Last 30 days"), ("all", "Any time")]


@require_safe
def operations(request: PersonRequest) -> HttpResponse:
    """The page: figures, filter and one page of rows."""
    request.glance = live.glance(request.user)
    context = {**_list_context(request), **_figures_context(figures(request.user)), **_watch_context(request.user)}
    return render(request, TEMPLATE, {**context, "section": "operations"})


def _watch_context(user: User) -> dict[str, Any]:
    """What the invariant checker found, which webhooks brought no news, and how far the sweeps have read: for those who can
    act on it.
    """
    now = timezone.now()
    found: dict[str, Any] = {"shows_check": True, "check": last_check(now)} if can_review(user) else {}
    if tends_webhooks(user):
        found |= {"turned": turned_away(now), "has_panel": is_administrator(user)}
        found |= {"shows_sweeps": True, "sweeps": sweeps(now)}
    return found


@require_safe
def operations_rows(request: PersonRequest) -> HttpResponse:
    """The rows alone, for a filter that changed. Without htmx it is the page."""
    query = _canonical_query(request.GET)
    address = reverse("operations") + (f"?{query}" if query else "")
    if not request.htmx:
        return redirect(address)
    request.glance = live.glance(request.user)
    response = render(request, f"{TEMPLATE}#fragment", _list_context(request))
    response["HX-Push-Url"] = address
    return response


def _list_context(request: PersonRequest) -> dict[str, Any]:
    now, gates = timezone.now(), request.glance.gates
    connections = _connections(request.user)
    chosen = read_filter(request.GET, connections)
    rows, has_more = listing.page(request.user, chosen, now, gates)
    urgent = _urgent(request.user, chosen, now, gates)
    return {
        "chosen": chosen,
        "query": _canonical_query(request.GET),
        "rows": rows,
        "may_export": may_export(request.user),
        "urgent": urgent[: listing.MOST_ATTENTION],
        "more_urgent": len(urgent) > listing.MOST_ATTENTION,
        "attention_total": request.glance.failed,
        **_pager(request.GET, chosen, rows, has_more=has_more),
        "selects": _selects(request.GET, chosen, connections),
        "newest": _micros(max((row["occurred_at"] for row in [*rows, *urgent]), default=now)),
    }


def _urgent(user: User, chosen: OperationFilter, now: datetime, gates: ClosedGates) -> list[Row]:
    """The failures on top: on the first page of the unfiltered list only."""
    if not chosen.is_usual or chosen.before or chosen.after:
        return []
    return listing.attention(user, now, gates)


def _connections(user: User) -> list[Connection]:
    return list(Connection.objects.visible_to(user).select_related("fleet")[:MOST_CHOICES])


def _selects(query: QueryDict, chosen: OperationFilter, connections: Sequence[Connection]) -> list[dict[str, Any]]:
    """The filter's selects: name, label, the words for "everything", choices and the current one."""
    fleets = {str(one.fleet.catena_id): one.fleet.name for one in connections if one.fleet}
    listed = {str(one.catena_id): one.label for one in connections}
    rows = [
        ("status", "Status", "Any status", STATUS_CHOICES, chosen.status),
        ("fleet", "Fleet", "Any fleet", list(fleets.items()), query.get("fleet", "")),
        ("connection", "Connection", "Any connection", list(listed.items()), query.get("connection", "")),
        ("priority", "Priority", "Any priority", Priority.choices, chosen.priority),
        ("error", "Error type", "Any error", list(ERROR_TYPES.items()), chosen.error),
        ("range", "Time", "", RANGE_CHOICES, chosen.span),
    ]
    names = ("name", "label", "any", "choices", "current")
    return [dict(zip(names, row, strict=True)) for row in rows]


def read_filter(query: QueryDict, connections: Sequence[Connection]) -> OperationFilter:
    """The filter that a URL means. What it does not understand, or the person may not see, counts as not chosen."""
    by_id = {str(one.catena_id): one.pk for one in connections}
    fleets = {str(one.fleet.catena_id): one.fleet.pk for one in connections if one.fleet}
    code = query.get("code", "").strip()
    return OperationFilter(
        status=_known(query.get("status", ""), {word for word, _ in STATUS_CHOICES}),
        fleet_id=fleets.get(query.get("fleet", "")),
        connection_id=by_id.get(query.get("connection", "")),
        priority=_known(query.get("priority", ""), set(Priority.values)),
        error=storable_text(query.get("error", ""))[:50],
        code=int(code) if code.isascii() and code.isdigit() and len(code) <= 4 else None,
        span=_known(query.get("range", ""), set(RANGES)) or listing.USUAL_RANGE,
        before=read_key(query.get("before", "")),
        after=read_key(query.get("after", "")),
    )


def _known(word: str, words: set[str]) -> str:
    return word if word in words else ""


def read_key(text: str) -> Key | None:
    """The keyset `microseconds.id` of a URL; None for anything else."""
    micros, _, pk = text.partition(".")
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in (micros, pk)):
        return None
    try:
        return EPOCH + timedelta(microseconds=int(micros)), int(pk)
    except OverflowError:
        return None


def write_key(row: Row) -> str:
    return f"{_micros(row['occurred_at'])}.{row['id']}"


def _micros(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


FILTER_NAMES = ("status", "fleet", "connection", "priority", "error", "code", "range")


def _canonical_query(query: QueryDict, **page: str) -> str:
    """The filter as a query string without empty fields and without a page, unless one is given."""
    chosen = {name: query.get(name, "") for name in FILTER_NAMES}
    if chosen["range"] == listing.USUAL_RANGE:
        del chosen["range"]
    return urlencode({name: value for name, value in {**chosen, **page}.items() if value})


def _pager(query: QueryDict, chosen: OperationFilter, rows: Sequence[Row], *, has_more: bool) -> dict[str, str]:
    """`newer` and `older`: query strings of the neighbouring pages, empty where there is none."""
    has_newer = has_more if chosen.after else chosen.before is not None
    has_older = True if chosen.after else has_more
    return {
        "newer": _canonical_query(query, after=write_key(rows[0])) if rows and has_newer else "",
        "older": _canonical_query(query, before=write_key(rows[-1])) if rows and has_older else "",
    }


def _figures_context(found: Figures) -> dict[str, Any]:
    return {
        "figures": found,
        "figures_cap": MOST_COUNTED,
        "oldest": span(found.oldest_pending) if found.oldest_pending is not None else "",
        "median": span(found.median) if found.median is not None else "",
        "p95": span(found.p95) if found.p95 is not None else "",
    }


def paint_operations(request: PersonRequest, look: live.Glance, since: live.Cursor, scope: live.Scope) -> list[str]:
    """What the open list repaints: the rows that changed, the figures, and an offer to load what is new. One query.

    Raises StaleCursor when too many rows changed to repaint them one by one.
    """
    now = timezone.now()
    found = listing.outgoing(request.user, OperationFilter(span="all"), now, look.gates).filter(live.news(since))
    rows = listing.read_changed(request.user, found, live.MOST_CHANGES + 1, now, look.gates)
    if len(rows) > live.MOST_CHANGES:
        raise live.StaleCursor
    if not rows:
        return []
    arrivals = _arrivals(rows, request.GET.get("newest", ""))
    context = {"rows": rows, "arrivals": arrivals, **_figures_context(parse(rows[0]["figures"]))}
    return [render_to_string(f"{TEMPLATE}#changes", context, request)]


def _arrivals(rows: Sequence[Row], newest: str) -> int:
    """How many of the changed rows are younger than the youngest on the page (`newest`, epoch microseconds)."""
    if not (newest.isascii() and newest.isdigit() and len(newest) < 20):
        return 0
    return sum(_micros(row["occurred_at"]) > int(newest) for row in rows)
