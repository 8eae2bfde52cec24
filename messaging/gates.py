"""Gates: what pauses sending for one connection or for the whole credential, why, and until when. Asks Catena nothing.

A gate opens as it was closed: after a 429 by time; after refused credentials or too many sends without a clear answer by a
read that succeeds (`outbox.probe`); when a person closed it by a person; when it is locked by the restore's own unlock. A
closed gate whose `until` has passed counts as open at once; the sweep only tidies up so that pages see it.
"""

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from messaging.models import AuditEntry, Gate, Message, SyncCursor, User
from messaging.states import GateCause, GateState, MessageState

logger = logging.getLogger(__name__)

# Only a read that succeeds says that these are over.
PROBED_CAUSES = frozenset({GateCause.LOGIN, GateCause.AMBIGUITY})
# The row of `SyncCursor` whose position says until when nothing may be read.
READING_PAUSED = "reading_paused"
LONGEST_REASON = 300
# `open_gates` for a statement written by hand: a message `m`, at the moment `now`.
OPEN_GATES_SQL = """NOT EXISTS (
        SELECT 1 FROM messaging_gate g WHERE (g.connection_id IS NULL OR g.connection_id = m.connection_id)
        AND (g.state = 'locked' OR g.state = 'closed' AND (g.until IS NULL OR g.until > %(now)s)))"""


def open_gates(now: datetime) -> Q:
    """The messages with no closed gate in their way, as a condition for a query."""
    closed = Gate.objects.closed(now).filter(Q(connection=None) | Q(connection_id=OuterRef("connection_id")))
    return ~Q(Exists(closed))


def first_pause() -> timedelta:
    return timedelta(seconds=settings.GATE_FIRST_PAUSE_SECONDS)


def longest_pause() -> timedelta:
    return timedelta(seconds=settings.GATE_LONGEST_PAUSE_SECONDS)


def close_gate(
    connection_id: int | None, cause: GateCause, now: datetime, pause: timedelta | None = None, reason: str = ""
) -> datetime:
    """Pauses a connection, or with None the credential; answers when trying again makes sense.

    Never shortens a pause, and leaves alone what is locked or was closed by a person. Without `pause`, a gate that closes
    soon after it opened stays closed twice as long as before. `reason` is for people; the cause's own words without it.
    """
    with transaction.atomic():
        gate = _locked(connection_id)
        again = now + (pause if pause is not None else _next_pause(gate, now))
        if _is_closed(gate, now):
            kept = _kept(gate, cause, again, is_told=pause is not None)
            if kept is not None:
                return kept
            again = max(again, gate.until or again)
        gate.cause, gate.reason, gate.changed_by = cause, (reason or cause.label)[:LONGEST_REASON], None
        gate.until, gate.probe_at = (None, again) if cause in PROBED_CAUSES else (again, None)
        gate.pause_seconds = (again - now).total_seconds()
        _close(gate, now)
    logger.warning("Sending is paused until %s for %s: %s", again, _name(gate), gate.reason)
    return again


def _kept(gate: Gate, cause: GateCause, again: datetime, *, is_told: bool) -> datetime | None:
    """When a gate that is closed already lets things go on; None when the new cause must replace what it says."""
    if gate.until is not None:
        # What was on its way when the gate closed says nothing new, unless Catena names a later time.
        is_enough = cause == GateCause.RATE_LIMIT and (gate.until >= again or not is_told)
        return gate.until if is_enough else None
    if gate.state == GateState.LOCKED or gate.probe_at is None:
        return again
    if cause == GateCause.RATE_LIMIT and gate.probe_at < again:
        Gate.objects.filter(pk=gate.pk).update(probe_at=again)
        touch(_scope(gate))
        return again
    return gate.probe_at


def _locked(connection_id: int | None) -> Gate:
    own = _of(connection_id)
    Gate.objects.filter(own).get_or_create(defaults={"connection_id": connection_id})
    return Gate.objects.select_for_update(of=("self",)).get(own)


def _of(connection_id: int | None) -> Q:
    return Q(connection=None) if connection_id is None else Q(connection_id=connection_id)


def _is_closed(gate: Gate, now: datetime) -> bool:
    if gate.state == GateState.CLOSED:
        return gate.until is None or gate.until > now
    return gate.state == GateState.LOCKED


def _next_pause(gate: Gate, now: datetime) -> timedelta:
    last = max(timedelta(seconds=gate.pause_seconds), first_pause())
    opened = gate.until if gate.state == GateState.CLOSED and gate.until else gate.changed_at
    is_first = _is_closed(gate, now) or not gate.pause_seconds or now >= opened + 2 * last
    return first_pause() if is_first else min(2 * last, longest_pause())


def _close(gate: Gate, now: datetime, state: GateState = GateState.CLOSED) -> None:
    gate.state, gate.changed_at = state, now
    columns = ("state", "cause", "reason", "until", "probe_at", "pause_seconds", "changed_at", "changed_by_id")
    Gate.objects.filter(pk=gate.pk).update(**{name: getattr(gate, name) for name in columns})
    again = gate.until or gate.probe_at
    detail = {"cause": gate.cause, "reason": gate.reason, "until": again.isoformat() if again else ""}
    _audit("gate_closed", gate, gate.changed_by, detail)
    touch(_scope(gate))


def slow_down(now: datetime, seconds: float | None) -> datetime:
    """A 429, whoever met it: sending and reading both wait as long as Catena said, else a while. Answers until when."""
    asked = None if seconds is None else timedelta(seconds=max(seconds, 1.0))
    until = close_gate(None, GateCause.RATE_LIMIT, now, asked)
    pause_reading(until)
    return until


def pause_reading(until: datetime) -> None:
    """No worker reads before this moment. Never shortens."""
    row, _ = SyncCursor.objects.get_or_create(name=READING_PAUSED, connection=None)
    SyncCursor.objects.filter(Q(position=None) | Q(position__lt=until), pk=row.pk).update(position=until)


def reading_paused_until(now: datetime) -> datetime | None:
    """Until when nothing may be read; None when reading may go on."""
    found = SyncCursor.objects.filter(name=READING_PAUSED, connection=None, position__gt=now)
    return found.values_list("position", flat=True).first()


def open_due_gates(now: datetime) -> int:
    """Opens the closed gates whose time has come; answers how many."""
    due = Gate.objects.filter(state=GateState.CLOSED, until__lte=now)
    return sum(_open(gate, due, now, None, {}) for gate in due)


def open_probed(gate: Gate, now: datetime) -> bool:
    """Opens a gate after a read that succeeded. False when it has moved since it was read."""
    return _open(gate, _as_read(gate), now, None, {"cause": gate.cause})


def postpone_probe(gate: Gate, now: datetime) -> datetime | None:
    """Doubles the pause of a gate after a read that failed; answers when to try again, None when the gate has moved."""
    last = max(timedelta(seconds=gate.pause_seconds), first_pause())
    pause = min(2 * last, longest_pause())
    with transaction.atomic():
        if not _as_read(gate).update(probe_at=now + pause, pause_seconds=pause.total_seconds()):
            return None
        touch(_scope(gate))
    return now + pause


def close_by_hand(connection_id: int | None, user: User, reason: str, now: datetime) -> bool:
    """Pauses sending until a person lets it go on. False when a person has paused it already, or it is locked."""
    with transaction.atomic():
        gate = _locked(connection_id)
        if gate.state == GateState.LOCKED or (gate.state == GateState.CLOSED and gate.cause == GateCause.OPERATOR):
            return False
        gate.cause, gate.reason, gate.changed_by = GateCause.OPERATOR, reason[:LONGEST_REASON], user
        gate.until = gate.probe_at = None
        gate.pause_seconds = 0
        _close(gate, now)
    logger.warning("Sending was paused by user %d for %s", user.pk, _name(gate))
    return True


def open_by_hand(connection_id: int | None, user: User, reason: str, now: datetime) -> bool:
    """Lets sending go on, whatever had paused it. False when it is open, or locked: that has its own way out."""
    closed = Gate.objects.closed(now).filter(_of(connection_id), state=GateState.CLOSED)
    with transaction.atomic():
        found = closed.select_for_update(of=("self",)).first()
        return found is not None and _open(found, closed, now, user, {"cause": found.cause, "reason": reason})


def lock(reason: str, now: datetime) -> None:
    """Stops all sending until `unlock`: neither time, nor a read, nor a press of the ordinary button opens it."""
    with transaction.atomic():
        gate = _locked(None)
        gate.cause, gate.reason, gate.changed_by = GateCause.RESTORE, reason[:LONGEST_REASON], None
        gate.until = gate.probe_at = None
        _close(gate, now, GateState.LOCKED)


def unlock(user: User | None, now: datetime) -> bool:
    """Ends a lock; a pause that a person had set before it stands again. False when there is none."""
    with transaction.atomic():
        gate = _locked(None)
        locked = Gate.objects.filter(connection=None, state=GateState.LOCKED)
        if not _open(gate, locked, now, user, {"cause": gate.cause}):
            return False
        pause = _pause_by_hand()
        if pause is not None and pause.user is not None:
            close_by_hand(None, pause.user, pause.detail["reason"], now)
        return True


def _pause_by_hand() -> AuditEntry | None:
    """What a person last said of the credential, when that was a pause: locks write over it, but the audit remembers."""
    moves = AuditEntry.objects.filter(action__in=["gate_closed", "gate_opened"], connection=None)
    last = moves.exclude(detail__cause=GateCause.RESTORE).select_related("user").order_by("-id").first()
    is_pause = last is not None and last.action == "gate_closed" and last.detail.get("cause") == GateCause.OPERATOR
    return last if is_pause else None


def _as_read(gate: Gate) -> "QuerySet[Gate]":
    return Gate.objects.filter(state=GateState.CLOSED, cause=gate.cause, probe_at=gate.probe_at, pk=gate.pk)


def _open(gate: Gate, still: "QuerySet[Gate]", now: datetime, user: User | None, detail: dict[str, str]) -> bool:
    """`pause_seconds` stays: a gate that closes again soon stays closed for longer."""
    with transaction.atomic():
        opened = still.filter(pk=gate.pk).update(
            state=GateState.OPEN, cause="", reason="", until=None, probe_at=None, changed_at=now, changed_by=user
        )
        if opened:
            _audit("gate_opened", gate, user, detail)
            touch(_scope(gate))
    if opened:
        logger.info("Sending goes on for %s", _name(gate))
    return bool(opened)


def touch(scope: Q) -> int:
    """Re-writes the queued messages of a scope, so that pages see them again; rows in use change by themselves."""
    with transaction.atomic():
        free = list(
            Message.objects.filter(scope, state=MessageState.QUEUED)
            .select_for_update(skip_locked=True)
            .values_list("pk", flat=True)
        )
        return Message.objects.filter(pk__in=free, state=MessageState.QUEUED).update(worker=F("worker"))


def _scope(gate: Gate) -> Q:
    return Q() if gate.connection_id is None else Q(connection_id=gate.connection_id)


def _name(gate: Gate) -> str:
    return "the credential" if gate.connection_id is None else f"connection {gate.connection_id}"


def _audit(action: str, gate: Gate, user: User | None, detail: dict[str, str]) -> None:
    AuditEntry.objects.create(action=action, user=user, connection_id=gate.connection_id, detail=detail)
