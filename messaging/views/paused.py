"""What keeps messages from going out, told above the pages where people write: which gate, why, until when. And what keeps
news from coming in at once.
"""

from datetime import timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.template.loader import render_to_string

from messaging import access, live
from messaging.insight.meanings import span
from messaging.models import Connection, Conversation, Message, User
from messaging.models.outlook import ClosedGate, ClosedGates
from messaging.states import GateCause
from messaging.views.person import PersonRequest

HOOKS_TEMPLATE = "includes/hooks.html"
TEMPLATE = "includes/paused.html"
# More than this many connections are counted and not named.
MOST_NAMED = 3


class Notice(NamedTuple):
    """A closed gate; `connection` is None when it stops all sending."""

    gate: ClosedGate
    connection: Connection | None = None


class Notices(NamedTuple):
    named: list[Notice]
    more: int = 0

    @property
    def is_locked(self) -> bool:
        """Nothing goes out until support has looked at what was sent before a restore."""
        return any(notice.gate.cause == GateCause.RESTORE for notice in self.named)


def of_connection(gates: ClosedGates, connection: Connection | None) -> Notices:
    """The gate in the way of one connection. No query."""
    if None in gates:
        return Notices([Notice(gates[None])])
    if connection is None or connection.pk not in gates:
        return Notices([])
    return Notices([Notice(gates[connection.pk], connection)])


def of_person(user: User, gates: ClosedGates) -> Notices:
    """The gates in the way of anything this person may see. A query only while a connection's gate is closed."""
    if None in gates or not gates:
        return of_connection(gates, None)
    found = list(
        Connection.objects.visible_to(user)
        .filter(pk__in=[key for key in gates if key])
        .select_related("fleet")
        .order_by("fleet__name", "id")
    )
    named = [Notice(gates[one.pk], one) for one in found[:MOST_NAMED]]
    return Notices(named, len(found) - len(named))


def paint_paused(user: User, look: live.Glance, scope: live.Scope) -> str:
    """The partial that repaints the notices of a page with this scope."""
    is_scoped = scope != live.Scope()
    paused = of_connection(look.gates, _connection(user, look, scope)) if is_scoped else of_person(user, look.gates)
    inner = render_to_string(TEMPLATE, {"paused": paused, "can_unlock": access.can_review(user)})
    return f'<hx-partial hx-target="#paused" hx-swap="innerMorph">{inner}</hx-partial>'


def hook_context(user: User) -> dict[str, Any]:
    """What the notice about webhooks prints besides `hooks`. No query."""
    every = timedelta(seconds=max(settings.MESSAGE_SWEEP_SECONDS, settings.OPERATION_SWEEP_SECONDS))
    return {"can_tend": access.tends_webhooks(user), "sweep_every": span(every)}


def paint_hooks(request: PersonRequest, look: live.Glance) -> str:
    """The partial that repaints the notice about webhooks."""
    context = {"hooks": look.hooks, **hook_context(request.user)}
    inner = render_to_string(HOOKS_TEMPLATE, context, request) if look.hooks else ""
    return f'<hx-partial hx-target="#hooks" hx-swap="innerMorph">{inner}</hx-partial>'


def _connection(user: User, look: live.Glance, scope: live.Scope) -> Connection | None:
    if None in look.gates or not look.gates:
        return None
    found: Conversation | Message | None = None
    if scope.conversation_id is not None:
        conversations = Conversation.objects.visible_to(user).select_related("connection__fleet")
        found = conversations.filter(pk=scope.conversation_id).first()
    elif scope.message_id is not None:
        found = Message.objects.visible_to(user).select_related("connection__fleet").filter(pk=scope.message_id).first()
    return found.connection if found else None
