"""Hands out the filtered operations as a file. A POST, because each one is audited."""

from dataclasses import replace

from django.contrib import messages as flashes
from django.core.exceptions import PermissionDenied
from django.http import QueryDict, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from messaging import exports
from messaging.access import may_export
from messaging.insight.filtering import (
    LONGEST_QUERY,
    MISREAD,
    canonical_query,
    is_misread,
    read_filter,
    visible_connections,
)
from messaging.insight.meanings import span
from messaging.mirror.redaction import storable_text
from messaging.models import closed_gates
from messaging.views.desk import SeeOther
from messaging.views.person import PersonRequest


@require_POST
def export(request: PersonRequest) -> HttpResponseBase:
    """The rows of the filter in the form as CSV, at most 50,000. A refusal goes back to the list with its filter."""
    if not may_export(request.user):
        raise PermissionDenied
    now, asked = timezone.now(), QueryDict(storable_text(request.POST.get("filter", ""))[:LONGEST_QUERY])
    connections = visible_connections(request.user, asked)
    typed = read_filter(asked, connections)
    if is_misread(request.POST.get("filter", ""), asked, typed):
        flashes.error(request, MISREAD)
        return SeeOther(f"{reverse('operations')}?{canonical_query(asked)}")
    chosen, query = replace(typed, before=None, after=None), asked.urlencode()
    gates = closed_gates(now)
    found = exports.chosen_messages(request.user, chosen, now, gates)
    rows = exports.count(found)
    detail = {"filter": query, "rows": min(rows, exports.MOST_ROWS), "is_cut": rows > exports.MOST_ROWS}
    wait = exports.reserve(request.user, detail, now)
    if wait is not None:
        words = f"{exports.MOST_EXPORTS} files an hour are the most. The next one can be made in {span(wait)}."
        flashes.error(request, f"{words} Your filter is kept.")
        return SeeOther(reverse("operations") + (f"?{query}" if query else ""))
    response = StreamingHttpResponse(exports.lines(found, now, gates), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{exports.file_name(rows, now)}"'
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "no-store"
    return response
