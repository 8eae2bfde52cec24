"""What Catena pushes to us: received (verified, stored, acknowledged) in the web process, applied in the worker.

Webhooks make the screen fast; sweeps make it true. Everything here may be lost, doubled, late or out of order.
"""

from messaging.inbox.processing import process_again, process_due, release_parked
from messaging.inbox.receiving import Cause, NotUsable, Refused, forget_old, note_refusal, receive

__all__ = [
    "Cause",
    "NotUsable",
    "Refused",
    "forget_old",
    "note_refusal",
    "process_again",
    "process_due",
    "receive",
    "release_parked",
]
