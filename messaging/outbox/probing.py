"""Finds out by reads whether sending can go on where a gate was closed without a time. Never by a message."""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from django.db import InterfaceError, OperationalError

from messaging import budget, gates
from messaging.budget import Share
from messaging.catena import errors, types
from messaging.models import Gate
from messaging.outbox.clock import Clock, DatabaseClock
from messaging.states import GateState

logger = logging.getLogger(__name__)

# What a probe asks for: little, because only the answer counts.
WINDOW = timedelta(minutes=1)
AT_ONCE = 50


class Reader(Protocol):
    """The part of `CatenaClient` that probes."""

    def forget_token(self) -> None: ...

    def list_fleets(self, *, on_bad: Any = None) -> Iterator[types.Fleet]: ...

    def list_operations(
        self, *, from_datetime: datetime, to_datetime: datetime, connection_id: UUID | None = None, on_bad: Any = None
    ) -> Iterator[types.Operation]: ...


def probe(client: Reader, clock: Clock | None = None) -> int:
    """Asks Catena for each gate whose probe has come, the longest due first; answers how many gates that opened.

    An answer opens the gate; none doubles its pause. Asks nothing while Catena wants to be left alone.
    """
    clock = clock or DatabaseClock()
    due = Gate.objects.filter(state=GateState.CLOSED, until=None, probe_at__lte=clock())
    opened = 0
    for gate in due.select_related("connection").order_by("probe_at")[:AT_ONCE]:
        if gates.reading_paused_until(clock()) is not None:
            break
        try:
            has_answered = _answers(client, gate, clock)
        except errors.OverBudget:
            # It was not asked, so its pause stays as it is.
            break
        if has_answered:
            opened += gates.open_probed(gate, clock())
        else:
            gates.postpone_probe(gate, clock())
    return opened


def _answers(client: Reader, gate: Gate, clock: Clock) -> bool:
    try:
        # What waits behind the gate spends nothing meanwhile.
        with budget.share(Share.SENDS):
            _ask(client, gate, clock())
    except errors.RateLimited as error:
        gates.slow_down(clock(), error.retry_after)
        return False
    except errors.OverBudget:
        raise
    except errors.CatenaError as error:
        logger.warning("Sending stays paused for %s: %s", gate.connection or "the credential", error)
        return False
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        logger.exception("The probe of gate %d met something unforeseen", gate.pk)
        return False
    return True


def _ask(client: Reader, gate: Gate, now: datetime) -> None:
    """One page. An item that cannot be read does not matter here."""
    listing: Iterator[object]
    if gate.connection is None:
        client.forget_token()
        listing = client.list_fleets(on_bad=_ignore)
    else:
        listing = client.list_operations(
            from_datetime=now - WINDOW, to_datetime=now, connection_id=gate.connection.catena_id, on_bad=_ignore
        )
    next(listing, None)


def _ignore(problem: errors.BadPayload) -> None:
    """Whatever it is, Catena answered."""
