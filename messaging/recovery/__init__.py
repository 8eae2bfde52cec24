"""Bulk recovery: freezes a set of failures, judges each, and sends the safe ones again, three first, then at a safe rate.

Nothing is sent twice: each failure goes out through `outbox.resend`, in the transaction that notes it here. Sends of which
nobody knows what became are never in the set.
"""

from messaging.recovery.freezing import MOST, NothingToRecover, TooMuch, forget_drafts, freeze
from messaging.recovery.moves import Refused, start, stop
from messaging.recovery.rounds import BEAT, advance
from messaging.recovery.verdicts import judge

__all__ = [
    "BEAT", "MOST", "NothingToRecover", "Refused", "TooMuch", "advance", "forget_drafts", "freeze", "judge", "start", "stop",
]  # fmt: skip
