"""Sends the head of a conversation: claim, connect, intent, POST, outcome. Each step is callable by itself.

No transaction is open while anything is on the wire. A step that finds its claim gone does nothing.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from json import dumps
from typing import Protocol

from django.conf import settings
from django.db import connection, transaction

from messaging import access
from messaging.catena import types
from messaging.mirror import fingerprint
from messaging.models import Decision, Message, SendAttempt
from messaging.outbox import verdict as verdicts
from messaging.outbox.clock import Clock, DatabaseClock
from messaging.outbox.compose import draft_of
from messaging.outbox.finish import Claim, finish_surely, isolate, reject
from messaging.outbox.gates import open_gates
from messaging.outbox.verdict import Verdict
from messaging.states import PROVEN_UNSENT_OUTCOMES, AttemptOutcome, Authority, DecisionKind, MessageState

logger = logging.getLogger(__name__)

S = MessageState
NO_LONGER_ALLOWED = "The author may no longer write to this fleet"
SWEEP_LIMIT = 200
# MATERIALIZED, or the planner may run the locking query again for each row and claim more than it locked.
CLAIM_SQL = """
WITH head AS MATERIALIZED (
    SELECT m.id FROM messaging_message m
    WHERE m.conversation_id = %(conversation)s AND m.state = 'queued' AND m.not_before <= %(now)s
      AND m.expires_at > %(now)s AND NOT EXISTS (
        SELECT 1 FROM messaging_gate g WHERE (g.connection_id IS NULL OR g.connection_id = m.connection_id)
        AND (g.state = 'locked' OR g.state = 'closed' AND (g.until IS NULL OR g.until > %(now)s)))
    FOR UPDATE OF m SKIP LOCKED)
UPDATE messaging_message m
SET state = 'claimed', fence = m.fence + 1, claim_count = m.claim_count + 1, worker = %(worker)s,
    lease_until = %(lease_until)s
FROM head WHERE m.id = head.id AND m.state = 'queued' RETURNING m.id, m.fence
"""


# A message and all that sending it asks for, without the bulk of its row.
SENT = Message.objects.select_related("connection", "author", "sender", "recipient", "reply_to").only(
    "uuid", "text", "priority", "conversation_id",
    "connection__catena_id", "connection__fleet_id", "connection__status", "connection__share_level",
    "connection__message_support", "connection__withdrawn_at", "connection__tsp_slug", "connection__source_name",
    "author__is_active", "author__is_superuser", "author__role",
    "sender__catena_id", "recipient__catena_id", "reply_to__catena_id",
)  # fmt: skip


class Client(Protocol):
    """The part of `CatenaClient` that sends."""

    def create_message(
        self, draft: types.MessageDraft, *, before_first_byte: Callable[[], None] | None = None
    ) -> types.Operation: ...


class ClaimLost(Exception):
    """The claim is no longer ours, or a gate has closed: nothing may be sent."""


class NoAuthority(ClaimLost):
    """An earlier POST of this message may have been processed, and no person has decided to repeat it."""


@dataclass(frozen=True, slots=True)
class Sender:
    """What sending needs from outside: Catena, the time, a name for the log, chance, and whether to stop."""

    client: Client
    clock: Clock
    worker: str = ""
    is_stopping: Callable[[], bool] = field(default=lambda: False)
    jitter: Callable[[float, float], float] = random.uniform


def drain(
    conversation_id: int,
    client: Client,
    clock: Clock | None = None,
    *,
    worker: str = "",
    is_stopping: Callable[[], bool] = lambda: False,
    jitter: Callable[[float, float], float] = random.uniform,
) -> int:
    """Sends what is due in one conversation, one after the other, and answers how many POSTs were begun.

    Safe at any time and in any number of places at once: whoever claims the head sends it. Messages that are not due
    yet have rung for themselves. `jitter` draws a number of seconds between two bounds.
    """
    sender = Sender(client, clock or DatabaseClock(), worker, is_stopping, jitter)
    posts = 0
    while not is_stopping():
        claimed = claim(conversation_id, sender)
        if claimed is None:
            break
        posts += send(claimed, sender)
    return posts


def due_conversations(now: datetime, limit: int) -> list[int]:
    """Conversations with a head that may be claimed now, the most urgent first: also those whose doorbell was lost."""
    heads = Message.objects.due(now).filter(open_gates(now), expires_at__gt=now)
    return list(heads.values_list("conversation_id", flat=True)[:limit])


def drain_due(client: Client, clock: Clock | None = None) -> int:
    """Drains every conversation that is due, one after the other; POSTs begun. A worker does it on all its threads."""
    now = (clock or DatabaseClock())()
    return sum(drain(conversation_id, client, clock) for conversation_id in due_conversations(now, SWEEP_LIMIT))


def lease() -> timedelta:
    return timedelta(seconds=settings.LEASE_SECONDS)


def claim(conversation_id: int, sender: Sender) -> Claim | None:
    """Takes the head of a conversation if it is due, not expired and no gate is in its way; else None.

    Touches the message row alone and waits for nobody. The lease counts from here.
    """
    now = sender.clock()
    values: dict[str, int | str | datetime] = {
        "conversation": conversation_id,
        "now": now,
        "worker": sender.worker[:100],
        "lease_until": now + lease(),
    }
    with connection.cursor() as cursor:
        cursor.execute(CLAIM_SQL, values)
        row = cursor.fetchone()
    if row is None:
        return None
    message_id, fence = row
    return Claim(message_id, conversation_id, fence, time.monotonic() + settings.LEASE_SECONDS)


def send(claimed: Claim, sender: Sender) -> int:
    """One claimed message, to the end: 1 if its POST was begun, else 0. Raises nothing that Catena could cause."""
    message = SENT.get(pk=claimed.message_id)
    obstacle = _obstacle(message)
    if obstacle is not None:
        reject(claimed, obstacle, sender.clock())
        return 0
    intent = _Intent(claimed, draft_of(message), sender)
    outcome = _post(intent)
    if isinstance(outcome, Verdict):
        finish_surely(claimed, outcome, sender.clock, sender.jitter, message)
    return int(intent.is_recorded)


def _obstacle(message: Message) -> str | None:
    """Why this message must not go out any more, asked at the last moment."""
    if message.author is None or not access.can_send(message.author, message.connection):
        return NO_LONGER_ALLOWED
    return message.connection.sending_obstacle


@dataclass(slots=True)
class _Intent:
    """The hook that the client calls when everything is ready for the first byte."""

    claimed: Claim
    draft: types.MessageDraft
    sender: Sender
    is_recorded: bool = False

    def record(self) -> None:
        if self.sender.is_stopping():
            raise ClaimLost("the worker stops")
        begin_post(self.claimed, self.draft, self.sender.worker, self.sender.clock())
        self.is_recorded = True
        if time.monotonic() > self.claimed.ends_at:
            raise _TooLate


class _TooLate(Exception):
    """Recording intent took longer than the lease: others may take the message for lost, so it must not leave."""


def _post(intent: _Intent) -> Verdict | None:
    """POSTs and judges; None when the claim is gone and nothing was sent."""
    claimed = intent.claimed
    try:
        return verdicts.accepted(intent.sender.client.create_message(intent.draft, before_first_byte=intent.record))
    except NoAuthority:
        isolate(claimed, intent.sender.clock())
        return None
    except ClaimLost as error:
        logger.info("Message %d goes back, nothing was sent: %s", claimed.message_id, error)
        return verdicts.unsent("")
    except _TooLate:
        return verdicts.unsent("Recording the attempt took too long")
    except Exception as error:
        return _judged(error, intent)


def _judged(error: Exception, intent: _Intent) -> Verdict:
    if not intent.is_recorded:
        # The client asks before the first byte, so without recorded intent no byte has left, whatever went wrong.
        logger.warning("Message %d was not sent: %s", intent.claimed.message_id, type(error).__name__, exc_info=error)
        judged = verdicts.verdict_of(error)
        return judged if judged.outcome == AttemptOutcome.UNSENT else verdicts.unsent("Sending failed before it began")
    judged = verdicts.verdict_of(error)
    logger.log(
        logging.ERROR if judged.outcome == AttemptOutcome.AMBIGUOUS else logging.WARNING,
        "POST of message %d, attempt %d: %s (%s)",
        intent.claimed.message_id, intent.claimed.fence, judged.outcome, judged.error_text or judged.error_class,
    )  # fmt: skip
    return judged


def begin_post(claimed: Claim, draft: types.MessageDraft, worker: str, now: datetime) -> SendAttempt:
    """Commits the intent to send, durably, just before the first byte. Raises `ClaimLost`: then nothing may be sent.

    Whoever returns from here with a commit owns the only open attempt of this message.
    """
    body = draft.body()
    print_ = fingerprint(body)
    with transaction.atomic(durable=True):
        moved = Message.objects.filter(
            open_gates(now), pk=claimed.message_id, fence=claimed.fence, state=S.CLAIMED, lease_until__gt=now
        ).update(
            state=S.POSTING,
            lease_until=now + lease(),
            # From here a vanished worker is the POST's doing and not the preparation's.
            claim_count=1,
            fingerprint=print_,
        )
        if not moved:
            raise ClaimLost("the claim has ended or a gate has closed")
        return SendAttempt.objects.create(
            message_id=claimed.message_id,
            fence=claimed.fence,
            worker=worker[:100],
            posting_at=now,
            body_sha256=sha256(dumps(body, sort_keys=True).encode()).hexdigest(),
            fingerprint=print_,
            **_authority(claimed),
        )


def _authority(claimed: Claim) -> dict[str, object]:
    """What entitles this POST. Raises `NoAuthority`."""
    message_id = claimed.message_id
    # Every attempt and every decision needed a claim of its own, so the first claim has none before it.
    if claimed.fence == 1:
        return {"authority": Authority.COMPOSE}
    prior = SendAttempt.objects.filter(message_id=message_id).order_by("-id").first()
    if prior is not None and prior.outcome in PROVEN_UNSENT_OUTCOMES:
        return {"authority": Authority.PROOF_NOT_SENT, "prior_attempt": prior}
    # Only the newest decision counts: one that was never used must not entitle to a POST that nobody wants any more.
    decision = (
        Decision.objects.filter(message_id=message_id).exclude(kind=DecisionKind.SEND_NEXT).order_by("-id").first()
    )
    if decision is None or decision.kind != DecisionKind.SEND_AGAIN or hasattr(decision, "sendattempt"):
        if prior is None:
            return {"authority": Authority.COMPOSE}
        raise NoAuthority("an earlier attempt may have been processed")
    return {"authority": Authority.HUMAN, "decision": decision}
