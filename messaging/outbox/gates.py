"""Pauses sending for one connection or for the whole credential, and lifts the pause when its time has come.

A closed gate whose `until` has passed counts as open at once; the sweep only tidies up so that pages see it.
"""

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from messaging.models import AuditEntry, Gate
from messaging.outbox.queue import touch
from messaging.states import GateState

logger = logging.getLogger(__name__)

FIRST_PAUSE = timedelta(seconds=15)
LONGEST_PAUSE = timedelta(minutes=15)
# `open_gates` for a statement written by hand: a message `m`, at the moment `now`.
OPEN_GATES_SQL = """NOT EXISTS (
        SELECT 1 FROM messaging_gate g WHERE (g.connection_id IS NULL OR g.connection_id = m.connection_id)
        AND (g.state = 'locked' OR g.state = 'closed' AND (g.until IS NULL OR g.until > %(now)s)))"""


def open_gates(now: datetime) -> Q:
    """The messages with no closed gate in their way, as a condition for a query."""
    closed = Gate.objects.closed(now).filter(Q(connection=None) | Q(connection_id=OuterRef("connection_id")))
    return ~Q(Exists(closed))


def close_gate(connection_id: int | None, reason: str, now: datetime, pause: timedelta | None = None) -> datetime:
    """Pauses a connection, or with None the credential; answers until when. Never shortens a pause or lifts a lock.

    Without `pause`, a gate that closes soon after it opened stays closed twice as long as before, up to 15 minutes.
    """
    with transaction.atomic():
        own = Q(connection=None) if connection_id is None else Q(connection_id=connection_id)
        Gate.objects.filter(own).get_or_create(defaults={"connection_id": connection_id})
        gate = Gate.objects.select_for_update().get(own)
        until = now + (pause if pause is not None else _longer_pause(gate, now))
        if _is_stricter(gate, until, now):
            return gate.until or until
        Gate.objects.filter(pk=gate.pk).update(
            state=GateState.CLOSED, reason=reason[:300], until=until, changed_at=now, changed_by=None
        )
        _audit("gate_closed", gate, {"reason": reason[:300], "until": until.isoformat()})
        touch(_scope(gate))
    logger.warning("Sending is paused until %s for %s: %s", until, _name(gate), reason)
    return until


def _is_stricter(gate: Gate, until: datetime, now: datetime) -> bool:
    if gate.state == GateState.LOCKED:
        return True
    return gate.state == GateState.CLOSED and (gate.until is None or gate.until >= max(until, now))


def _longer_pause(gate: Gate, now: datetime) -> timedelta:
    if gate.until is None:
        return FIRST_PAUSE
    last = max(gate.until - gate.changed_at, FIRST_PAUSE)
    return min(2 * last, LONGEST_PAUSE) if now < gate.until + 2 * last else FIRST_PAUSE


def open_due_gates(now: datetime) -> int:
    """Opens the closed gates whose time has come; answers how many. `until` stays as the memory of the last pause."""
    opened = 0
    for gate in Gate.objects.filter(state=GateState.CLOSED, until__lte=now):
        with transaction.atomic():
            if not Gate.objects.filter(pk=gate.pk, state=GateState.CLOSED, until__lte=now).update(state=GateState.OPEN):
                continue
            _audit("gate_opened", gate, {})
            touch(_scope(gate))
        opened += 1
        logger.info("Sending goes on for %s", _name(gate))
    return opened


def _scope(gate: Gate) -> Q:
    return Q() if gate.connection_id is None else Q(connection_id=gate.connection_id)


def _name(gate: Gate) -> str:
    return "the credential" if gate.connection_id is None else f"connection {gate.connection_id}"


def _audit(action: str, gate: Gate, detail: dict[str, str]) -> None:
    AuditEntry.objects.create(action=action, connection_id=gate.connection_id, detail=detail)
