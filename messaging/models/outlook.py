"""From a row to the badge that a person sees: one reading of the columns for pages, fragments, admin and exports."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from messaging.models.conversation import Message
from messaging.models.delivery import Gate
from messaging.models.directory import provider_name
from messaging.states import RECEIVED, Badge, Direction, Facts, MessageState, accepted_by, delivery

# What `.values(*DELIVERY_COLUMNS)` must fetch for `delivery_of`; prefix them when the message is joined.
DELIVERY_COLUMNS = (
    "direction",
    "state",
    "operation_status",
    "reason",
    "failed_attempts",
    "occurred_at",
    "accepted_at",
    "not_before",
    "claim_count",
    "delivered_at",
    "read_at",
    "record_status",
    "escalated_at",
    "corrected_at",
    "is_sent_twice",
    "group_size",
    "settled_by__first_name",
    "settled_by__last_name",
    "settled_by__username",
    "connection_id",
    "connection__tsp_slug",
    "connection__source_name",
)


class ClosedGate(NamedTuple):
    """Why sending waits, and until when; without `until` it is tried again at `probe_at`, without either a person opens it."""

    reason: str
    until: datetime | None
    probe_at: datetime | None = None
    cause: str = ""


# Closed gates by connection id; the credential's gate under None.
ClosedGates = Mapping[int | None, ClosedGate]


def closed_gates(now: datetime) -> ClosedGates:
    """Every gate that stops sending now. One query."""
    rows = Gate.objects.closed(now).values_list("connection_id", *ClosedGate._fields)
    return {connection_id: ClosedGate(*fields) for connection_id, *fields in rows}


def delivery_columns(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}{column}" for column in DELIVERY_COLUMNS)


@lru_cache(maxsize=8)
def _picker(prefix: str) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    return itemgetter(*delivery_columns(prefix))


def delivery_of(row: Mapping[str, Any], now: datetime, gates: ClosedGates, prefix: str = "") -> Badge:
    """The badge of a `.values()` row that holds DELIVERY_COLUMNS under `prefix`. No query."""
    if row[f"{prefix}direction"] == Direction.IN and row[f"{prefix}state"] == MessageState.MIRRORED:
        return RECEIVED  # half of all rows
    # One pick for all columns, in the order of DELIVERY_COLUMNS: this runs for each row of every list.
    (
        direction, state, operation_status, reason, failed_attempts, composed_at, accepted_at, not_before, claim_count,
        delivered_at, read_at, record_status, escalated_at, corrected_at, is_sent_twice, group_size,
        first_name, last_name, username, connection_id, tsp_slug, source_name,
    ) = _picker(prefix)(row)  # fmt: skip
    provider = provider_name(tsp_slug or source_name or "")
    if state == MessageState.SUCCEEDED and not (
        read_at or delivered_at or record_status or corrected_at or is_sent_twice
    ):
        return accepted_by(provider)  # most of the other half
    gate = (gates.get(None) or gates.get(connection_id)) if gates else None
    facts = Facts(
        direction=direction,
        state=state,
        operation_status=operation_status or None,
        provider=provider,
        reason=reason,
        failed_attempts=failed_attempts,
        composed_at=composed_at,
        accepted_at=accepted_at,
        not_before=not_before,
        is_held=claim_count == 0,
        delivered_at=delivered_at,
        read_at=read_at,
        record_status=record_status or None,
        settled_by=f"{first_name or ''} {last_name or ''}".strip() or username or "",
        escalated_at=escalated_at,
        corrected_at=corrected_at,
        is_sent_twice=is_sent_twice,
        group_size=group_size,
        gate_reason=gate.reason if gate else None,
        gate_until=gate.until if gate else None,
        gate_probe_at=gate.probe_at if gate else None,
    )
    return delivery(facts, now)


def message_delivery(message: Message, now: datetime, gates: ClosedGates) -> Badge:
    """The same for a model instance; reads its connection and `settled_by` (select_related them)."""
    by, connection = message.settled_by, message.connection
    row = {
        **{name: getattr(message, name) for name in DELIVERY_COLUMNS if "__" not in name},
        "settled_by__first_name": by.first_name if by else "",
        "settled_by__last_name": by.last_name if by else "",
        "settled_by__username": by.username if by else "",
        "connection__tsp_slug": connection.tsp_slug,
        "connection__source_name": connection.source_name,
    }
    return delivery_of(row, now, gates)
