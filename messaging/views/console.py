"""What the pages of the operations console share: the filter's form, what it left out, the saved views."""

from typing import Any

from django.http import QueryDict

from messaging.insight.filtering import (
    LABELS,
    canonical_query,
    choices_of,
    field_moment,
    read_filter,
    refusals,
    visible_connections,
    words_of,
)
from messaging.insight.listing import NONE
from messaging.models import SavedView
from messaging.views.person import PersonRequest

# Fields behind "More filters"; the others stand in the open.
MORE = ("from", "to", "error", "code", "priority", "sender", "driver")
ANY = {
    "status": "Any status", "fleet": "Any fleet", "connection": "Any connection", "provider": "Any provider", "range": "",
    "error": "Any error type", "priority": "Any priority",
}  # fmt: skip
# Saved views that the menu lists; the page of views lists them all.
MOST_VIEWS = 30


def console_context(request: PersonRequest) -> dict[str, Any]:
    """The filter that the address means, as `chosen`, with all that its form shows. Two queries."""
    query = request.GET
    connections = visible_connections(request.user, query)
    chosen = read_filter(query, connections)
    canonical = canonical_query(query)
    views = list(SavedView.objects.visible_to(request.user)[: MOST_VIEWS + 1])
    return {
        "chosen": chosen,
        "query": canonical,
        "left_out": refusals(query, chosen),
        "selects": _selects(query, choices_of(connections)),
        "typed": _typed(query),
        "is_more_open": any(words_of(query, name) for name in MORE),
        "cause": words_of(query, "cause"),
        "has_no_cause": words_of(query, "cause") == NONE,
        "without_cause": canonical_query(query, cause=""),
        "views": views[:MOST_VIEWS],
        "has_more_views": len(views) > MOST_VIEWS,
        "open_view": next((one for one in views if canonical and one.query == canonical), None),
    }


def _selects(query: QueryDict, choices: dict[str, list[tuple[str, str]]]) -> dict[str, dict[str, Any]]:
    """Each select by its field: name, label, the words for "everything", choices and the current one."""
    return {name: _select(name, words_of(query, name), listed) for name, listed in choices.items()}


def _select(name: str, current: str, choices: list[tuple[str, str]]) -> dict[str, Any]:
    if name == "range":
        current = current or "7d"
    # A word of Catena's that we do not know filters too: the form must not lose it.
    if name == "error" and current and current not in dict(choices):
        choices = [*choices, (current, current)]
    return {"name": name, "label": LABELS[name], "any": ANY[name], "choices": choices, "current": current}


def _typed(query: QueryDict) -> dict[str, str]:
    """What the fields of the form hold, word for word where it was refused."""
    typed = {name: words_of(query, name) for name in ("text", "code", "sender", "driver", "cause")}
    since, until = words_of(query, "from"), words_of(query, "to")
    return typed | {"since": field_moment(since), "until": field_moment(until, is_end=True)}
