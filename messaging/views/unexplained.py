"""The worklist of failures that nobody has explained yet, for support and administrators."""

from urllib.parse import urlencode

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from messaging import live
from messaging.access import can_review, is_administrator
from messaging.insight.explanations import REACH, Group, current, filled, groups, telling_facts, unexplained
from messaging.insight.meanings import error_type_words
from messaging.views.person import PersonRequest

TEMPLATE = "messaging/unexplained_list.html"
MOST_SHOWN = 100


@require_safe
def worklist(request: PersonRequest) -> HttpResponse:
    """Failures of thirty days in all fleets for which no specific explanation speaks, the biggest cause first."""
    user = request.user
    if not (can_review(user) or is_administrator(user)):
        raise Http404
    request.glance = live.glance(user)
    found = groups(timezone.now())
    open_ones = unexplained(found, current())
    total, left = sum(group.count for group in found), sum(group.count for group, _ in open_ones)
    may_write = is_administrator(user) and user.is_staff
    context = {
        "rows": [
            {
                "group": group,
                "type": error_type_words(group.failure.error_type),
                "said": filled(entry.title, group.provider, "the driver") if entry else "",
                "write": _address(group) if may_write else "",
            }
            for group, entry in open_ones[:MOST_SHOWN]
        ],
        "more": max(len(open_ones) - MOST_SHOWN, 0),
        "total": total,
        "left": left,
        # Rounded down: 100 is only said when nothing is left.
        "share": 100 * (total - left) // total if total else None,
        "days": REACH.days,
        "may_write": may_write,
        "section": "operations",
        "view": "page",
    }
    return render(request, TEMPLATE, context)


def _address(group: Group) -> str:
    return f"{reverse('admin:messaging_explanation_add')}?{urlencode(telling_facts(group))}"
