"""Sends what people compose: never lost, never twice (reliability plan, section 2).

The message row is the queue entry; doorbells only wake a worker. Intent is committed just before the first byte of a
POST; after that nothing is sent again without proof that nothing left, or a person's decision.
"""

from messaging.outbox.compose import NoSender, compose, fingerprint, open_conversation, sender_of
from messaging.outbox.queue import cancel, expire, handled, promote, promote_stranded, reap

__all__ = [
    "NoSender",
    "cancel",
    "compose",
    "expire",
    "fingerprint",
    "handled",
    "open_conversation",
    "promote",
    "promote_stranded",
    "reap",
    "sender_of",
]
