"""The registry's situations as database conditions, so that a filter finds exactly the rows whose badge says the word.

The mirror image of `states.delivery`; a test holds the two against each other for every state.
"""

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Q

from messaging.models.conversation import needs_attention_q
from messaging.models.outlook import ClosedGates
from messaging.states import (
    CAUSED_STATES,
    HOLD_MARGIN,
    LIVELY_STATES,
    SITUATIONS,
    SLOW_AFTER,
    TAKEN_STATES,
    Direction,
    MessageState,
    OperationStatus,
)

S = MessageState
# Wider words that gather several situations; they are no badges.
ATTENTION = "attention"
PENDING = "pending"
FAILURES = "failures"
# What an operations list can hold: everything but what drivers wrote.
WORDS = tuple(word for word in SITUATIONS if word != "received")


def situation_q(word: str, now: datetime, gates: ClosedGates) -> Q:
    """The messages whose badge has the key `word`, or that belong to one of the wider words. Raises KeyError for others."""
    surprises = _surprises()
    late = Q(escalated_at__isnull=False, state__in=sorted(LIVELY_STATES))
    surprised = surprises["sent_twice"] | surprises["sent_after_all"]
    plain = _of_outbox(now, gates) | _of_operations(now)
    if word in plain:
        return plain[word] & ~late & ~surprised
    if word in _of_receipts():
        return _of_receipts()[word] & ~surprised
    return (_wide() | surprises | {"late": late & ~surprised})[word]


def _surprises() -> dict[str, Q]:
    taken = Q(state__in=sorted(TAKEN_STATES))
    return {
        "sent_twice": taken & Q(is_sent_twice=True),
        "sent_after_all": taken & Q(is_sent_twice=False, corrected_at__isnull=False),
    }


def _wide() -> dict[str, Q]:
    return {
        ATTENTION: needs_attention_q(),
        PENDING: Q(state__in=sorted(LIVELY_STATES)),
        FAILURES: Q(state__in=sorted(CAUSED_STATES)),
    }


def _of_outbox(now: datetime, gates: ClosedGates) -> dict[str, Q]:
    held = Q(state=S.QUEUED, claim_count=0, not_before__gt=now + HOLD_MARGIN)
    paused = Q(state=S.QUEUED) & _behind(gates) & ~held
    sending = (Q(state=S.QUEUED) & ~held & ~_behind(gates)) | Q(state__in=[S.CLAIMED, S.POSTING])
    handed = Q(state=S.ACCEPTED) & _is_pending() & ~_is_slow(now) & Q(failed_attempts=0)
    return {
        "waiting": Q(state=S.WAITING),
        "held": held,
        "paused": paused,
        "sending": sending | handed | _written_elsewhere("pending"),
        "not_sent": Q(state=S.REJECTED),
        "checking": Q(state=S.UNKNOWN),
        "needs_you": Q(state=S.NEEDS_DECISION),
        "cancelled": Q(state=S.CANCELLED),
        "expired": Q(state=S.EXPIRED),
        "marked_sent": Q(state=S.CLOSED_SENT),
        "left_unsent": Q(state=S.CLOSED_NOT_SENT),
    }


def _behind(gates: ClosedGates) -> Q:
    if None in gates:
        return Q(pk__isnull=False)
    return Q(connection_id__in=_ids(gates))


def _ids(gates: Iterable[int | None]) -> list[int]:
    return sorted(pk for pk in gates if pk is not None)


def _is_pending() -> Q:
    return Q(operation_status__in=["", OperationStatus.PENDING])


def _is_slow(now: datetime) -> Q:
    return Q(accepted_at__isnull=False, accepted_at__lt=now - SLOW_AFTER)


def _of_operations(now: datetime) -> dict[str, Q]:
    accepted = Q(state=S.ACCEPTED)
    return {
        "failed": Q(state=S.FAILED),
        "unknown_status": accepted & ~_is_pending()
        | (_written_elsewhere() & ~_written_elsewhere("", "sent", "pending")),
        "slow": accepted & _is_pending() & _is_slow(now),
        "retrying": accepted & _is_pending() & ~_is_slow(now) & Q(failed_attempts__gt=0),
    }


def _written_elsewhere(*words: str) -> Q:
    """Messages of the provider's own screen without a receipt, with one of these words or, without any, all."""
    found = Q(state=S.MIRRORED, direction=Direction.OUT, group=None, delivered_at=None, read_at=None)
    found &= ~Q(record_status__in=["delivered", "read"])
    return found & Q(record_status__in=words) if words else found


def _of_receipts() -> dict[str, Q]:
    taken = Q(state=S.SUCCEEDED) | Q(state=S.MIRRORED, direction=Direction.OUT, group=None)
    read = Q(read_at__isnull=False) | Q(record_status="read")
    delivered = Q(delivered_at__isnull=False) | Q(record_status="delivered")
    return {
        "read": taken & read,
        "delivered": taken & delivered & ~read,
        "sent": (Q(state=S.SUCCEEDED) & ~delivered & ~read) | _written_elsewhere("", "sent"),
        "group": Q(group__isnull=False, direction=Direction.OUT),
        "received": Q(state=S.MIRRORED, direction=Direction.IN),
    }
