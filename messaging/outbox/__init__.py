"""Sends what people compose: never lost, never twice (reliability plan, section 2).

The message row is the queue entry; doorbells only wake a worker. Intent is committed just before the first byte of a
POST; after that nothing is sent again without proof that nothing left, or a person's decision.
"""

from messaging.gates import close_gate, open_due_gates, open_gates
from messaging.mirror import fingerprint
from messaging.outbox.attention import escalate, handled, waive_answer, want_answer
from messaging.outbox.claiming import Claim, Sender, claim, due_conversations
from messaging.outbox.clock import DatabaseClock, database_clock
from messaging.outbox.compose import MovedOn, NoSender, compose, draft_of, open_conversation, ring, sender_of
from messaging.outbox.epoch import accept_identity, epoch, identity, lock_sending
from messaging.outbox.finish import finish, finish_surely, isolate, reject
from messaging.outbox.probing import probe
from messaging.outbox.queue import cancel, expire, lock, promote, promote_stranded, reap
from messaging.outbox.resend import MayHaveArrived, NotResendable, Resend, can_be_resent, doubt_about, resend, resent_as
from messaging.outbox.sending import ClaimLost, begin_post, drain, drain_due, send
from messaging.outbox.settling import settle
from messaging.outbox.trial import TooManyTests, send_test
from messaging.outbox.verdict import Verdict
from messaging.outbox.watchdog import watchdog

__all__ = [
    "Claim",
    "ClaimLost",
    "DatabaseClock",
    "MayHaveArrived",
    "MovedOn",
    "NoSender",
    "NotResendable",
    "Resend",
    "Sender",
    "TooManyTests",
    "Verdict",
    "accept_identity",
    "begin_post",
    "can_be_resent",
    "cancel",
    "claim",
    "close_gate",
    "compose",
    "database_clock",
    "doubt_about",
    "draft_of",
    "drain",
    "drain_due",
    "due_conversations",
    "epoch",
    "escalate",
    "expire",
    "fingerprint",
    "finish",
    "finish_surely",
    "handled",
    "identity",
    "isolate",
    "lock",
    "lock_sending",
    "open_conversation",
    "open_due_gates",
    "open_gates",
    "probe",
    "promote",
    "promote_stranded",
    "reap",
    "reject",
    "resend",
    "resent_as",
    "ring",
    "send",
    "send_test",
    "sender_of",
    "settle",
    "waive_answer",
    "want_answer",
    "watchdog",
]
