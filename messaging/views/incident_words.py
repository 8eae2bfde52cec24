"""What people who are about to write are told of open incidents, on their page and by its poller."""

from collections.abc import Sequence

from django.template.loader import render_to_string

from messaging import live
from messaging.insight.outages import Notice, open_count, warning
from messaging.models import Connection, Conversation, User
from messaging.models.directory import sees_every_fleet

TEMPLATE = "messaging/includes/incident_words.html"
BAR = "messaging/includes/incident_bar.html"
# Above the form for any driver, the newest of these many; each driver's line says whether it is hit.
MOST_NAMED = 3


def of_connection(user: User, look: live.Glance, connection: Connection) -> list[Notice]:
    """The open incidents of a connection whose fleet is loaded. No query."""
    fleet = connection.fleet.name if connection.fleet else connection.label
    return [warning(user, one, fleet) for one in look.incidents if one.concerns(connection.pk, connection.source_name)]


def of_person(user: User, look: live.Glance) -> list[Notice]:
    """Those of any connection that this person sees. One query, and none while nothing is open."""
    if not look.incidents:
        return []
    keys = [one.connection_id for one in look.incidents if one.connection_id]
    names = [one.source_name for one in look.incidents if one.connection_id is None]
    visible = Connection.objects.visible_to(user).select_related("fleet")
    seen = list((visible.filter(pk__in=keys) | visible.filter(source_name__in=names)).order_by("pk"))
    return [notice for one in look.incidents for notice in _notice(user, one, seen)][:MOST_NAMED]


def _notice(user: User, incident: live.OpenIncident, seen: Sequence[Connection]) -> list[Notice]:
    for one in seen:
        if incident.concerns(one.pk, one.source_name):
            return [warning(user, incident, one.fleet.name if one.fleet else one.label)]
    return []


def bar_context(user: User, look: live.Glance) -> dict[str, int]:
    """What the operations page says of open incidents. A query only for those who see some fleets, while some are open."""
    is_known = sees_every_fleet(user) or not look.incidents
    return {"open_incidents": len(look.incidents) if is_known else open_count(user)}


def paint_incident_words(user: User, look: live.Glance, view: str, scope: live.Scope) -> str:
    """The partial that repaints what a page for writing, or operations, says of incidents; empty for other pages."""
    if view == "ops":
        inner = render_to_string(BAR, bar_context(user, look))
        return f'<hx-partial hx-target="#incident-bar" hx-swap="outerHTML">{inner}</hx-partial>'
    if view == "conversation" and scope.conversation_id is not None:
        open_ = look.incidents and _connection(user, scope.conversation_id)
        notices = of_connection(user, look, open_) if open_ else []
    elif view == "compose":
        notices = of_person(user, look)
    else:
        return ""
    inner = render_to_string(TEMPLATE, {"incident_notices": notices})
    return f'<hx-partial hx-target="#incident-words" hx-swap="innerMorph">{inner}</hx-partial>'


def _connection(user: User, conversation_id: int) -> Connection | None:
    found = Conversation.objects.visible_to(user).select_related("connection__fleet").filter(pk=conversation_id).first()
    return found.connection if found else None
