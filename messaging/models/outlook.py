"""From a row to the badge that a person sees: one reading of the columns for pages, fragments, admin and exports."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from messaging.models.conversation import Message
from messaging.models.delivery import Gate
from messaging.models.directory import provider_name
from messaging.states import Badge, Facts, delivery

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
    "settled_by__first_name",
    "settled_by__last_name",
    "settled_by__username",
    "connection_id",
    "connection__tsp_slug",
    "connection__source_name",
)


class ClosedGate(NamedTuple):
    """Why sending waits, and until when (None: until a person opens it)."""

    reason: str
    until: datetime | None


# Closed gates by connection id; the credential's gate under None.
ClosedGates = Mapping[int | None, ClosedGate]


def closed_gates(now: datetime) -> ClosedGates:
    """Every gate that stops sending now. One query."""
    rows = Gate.objects.closed(now).values_list("connection_id", "reason", "until")
    return {connection_id: ClosedGate(reason, until) for connection_id, reason, until in rows}


def delivery_columns(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}{column}" for column in DELIVERY_COLUMNS)


def delivery_of(row: Mapping[str, Any], now: datetime, gates: ClosedGates, prefix: str = "") -> Badge:
    """The badge of a `.values()` row that holds DELIVERY_COLUMNS under `prefix`. No query."""

    def column(name: str) -> Any:
        return row[prefix + name]

    gate = gates.get(None) or gates.get(column("connection_id"))
    by = f"{column('settled_by__first_name') or ''} {column('settled_by__last_name') or ''}".strip()
    facts = Facts(
        direction=column("direction"),
        state=column("state"),
        operation_status=column("operation_status") or None,
        provider=provider_name(column("connection__tsp_slug") or column("connection__source_name") or ""),
        reason=column("reason"),
        failed_attempts=column("failed_attempts"),
        composed_at=column("occurred_at"),
        accepted_at=column("accepted_at"),
        not_before=column("not_before"),
        is_held=column("claim_count") == 0,
        delivered_at=column("delivered_at"),
        read_at=column("read_at"),
        record_status=column("record_status") or None,
        settled_by=by or column("settled_by__username") or "",
        gate_reason=gate.reason if gate else None,
        gate_until=gate.until if gate else None,
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
