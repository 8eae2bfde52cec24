"""Sends the head of a conversation: claim, connect, intent, POST, outcome. Each step is callable by itself.

No transaction is open while anything is on the wire. A step that finds its claim gone does nothing.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from json import dumps
from typing import Any

from django.db import connection, transaction

from messaging.catena import types
from messaging.gates import OPEN_GATES_SQL
from messaging.mirror import fingerprint
from messaging.models import Decision, Message, SendAttempt
from messaging.models.statements import prepared_cursor
from messaging.outbox import verdict as verdicts
from messaging.outbox.claiming import Claim, Client, Sender, claim, due_conversations, lease
from messaging.outbox.clock import Clock, DatabaseClock
from messaging.outbox.epoch import epoch
from messaging.outbox.finish import Following, finish_surely, isolate, nothing_more, reject
from messaging.outbox.verdict import Hindrance, Verdict
from messaging.outbox.watchdog import watchdog
from messaging.states import PROVEN_UNSENT_OUTCOMES, AttemptOutcome, Authority, DecisionKind, MessageState

logger = logging.getLogger(__name__)

S = MessageState
SWEEP_LIMIT = 200
# The compare-and-set that lets a POST go, and its attempt, in one statement. From here a vanished worker is the POST's
# doing and not the preparation's, so the count of claims starts anew.
BEGIN_SQL = f"""
WITH moved AS (
    UPDATE messaging_message m
    SET state = 'posting', lease_until = %(lease_until)s, claim_count = 1, fingerprint = %(fingerprint)s
    WHERE m.id = %(message)s AND m.fence = %(fence)s AND m.state = %(claimed)s AND m.lease_until > %(now)s
      AND {OPEN_GATES_SQL}
      AND (%(newest)s::bigint = 0 OR EXISTS (SELECT 1 FROM messaging_sendattempt k WHERE k.id = %(newest)s::bigint))
    RETURNING m.id, m.fence)
INSERT INTO messaging_sendattempt (message_id, fence, authority, decision_id, prior_attempt_id, worker, posting_at,
    error_class, error_text, body_sha256, fingerprint)
SELECT moved.id, moved.fence, %(authority)s, %(decision_id)s::bigint, %(prior_attempt_id)s::bigint, %(worker)s,
    %(now)s, '', '', %(body_sha256)s, %(fingerprint)s
FROM moved RETURNING id
"""  # noqa: S608 (our own names)


class ClaimLost(Exception):
    """The claim is no longer ours, or a gate has closed: nothing may be sent."""


class NoAuthority(ClaimLost):
    """An earlier POST of this message may have been processed, and no person has decided to repeat it."""


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

    def following() -> Claim | None:
        return None if is_stopping() else claim(conversation_id, sender)

    claimed = following()
    while claimed is not None:
        began, claimed = _send(claimed, sender, following)
        posts += began
    return posts


def drain_due(client: Client, clock: Clock | None = None) -> int:
    """Drains every conversation that is due, one after the other; POSTs begun. A worker does it on all its threads."""
    now = (clock or DatabaseClock())()
    return sum(drain(conversation_id, client, clock) for conversation_id in due_conversations(now, SWEEP_LIMIT))


def send(claimed: Claim, sender: Sender) -> int:
    """One claimed message, to the end: 1 if its POST was begun, else 0. Raises nothing that Catena could cause."""
    return _send(claimed, sender, nothing_more)[0]


def _send(claimed: Claim, sender: Sender, following: Following) -> tuple[int, Claim | None]:
    """`send`, and what `following` has claimed when that is done."""
    if claimed.obstacle is not None:
        reject(claimed, claimed.obstacle, sender.clock())
        return 0, following()
    intent = _Intent(claimed, claimed.draft, sender)
    outcome = _post(intent)
    if outcome is None:
        return int(intent.is_recorded), following()
    return int(intent.is_recorded), finish_surely(claimed, outcome, sender.clock, sender.jitter, following)


@dataclass(slots=True)
class _Intent:
    """The hook that the client calls when everything is ready for the first byte."""

    claimed: Claim
    draft: types.MessageDraft
    sender: Sender
    is_recorded: bool = False
    guard: int | None = None

    def record(self) -> None:
        if self.sender.is_stopping():
            raise ClaimLost("the worker stops")
        self.guard = watchdog.arm()
        attempt = begin_post(self.claimed, self.draft, self.sender.worker, self.sender.clock())
        self.is_recorded = True
        try:
            epoch.note(attempt.pk, attempt.posting_at)
        except OSError as error:
            raise _Withheld("The attempt could not be noted on this machine") from error
        if time.monotonic() > self.claimed.ends_at:
            # Others may take the message for lost.
            raise _Withheld("Recording the attempt took too long")


class _Withheld(Exception):
    """Intent is recorded, and yet the POST must not leave; `str()` says why."""


def _post(intent: _Intent) -> Verdict | None:
    """POSTs and judges; None when the claim is gone and nothing was sent."""
    claimed = intent.claimed
    try:
        return verdicts.accepted(_created(intent), is_sync=claimed.is_test)
    except NoAuthority:
        isolate(claimed, intent.sender.clock())
        return None
    except ClaimLost as error:
        logger.info("Message %d goes back, nothing was sent: %s", claimed.message_id, error)
        epoch.check()
        return verdicts.unsent("")
    except _Withheld as error:
        logger.warning("Message %d was not sent: %s", claimed.message_id, error, exc_info=error.__cause__)
        return verdicts.unsent(str(error))
    except Exception as error:
        return _judged(error, intent)
    finally:
        watchdog.disarm(intent.guard)


def _created(intent: _Intent) -> types.Operation:
    client, draft = intent.sender.client, intent.draft
    if intent.claimed.is_test:
        return client.create_message(draft, is_sync=True, before_first_byte=intent.record)
    return client.create_message(draft, before_first_byte=intent.record)


def _judged(error: Exception, intent: _Intent) -> Verdict:
    if not intent.is_recorded:
        # The client asks before the first byte, so without recorded intent no byte has left, whatever went wrong.
        judged = verdicts.verdict_of(error)
        if judged.hindrance != Hindrance.BUDGET:
            logger.warning(
                "Message %d was not sent: %s", intent.claimed.message_id, type(error).__name__, exc_info=error
            )
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
    if claimed.fence == 1:
        # Every attempt and every decision needed a claim of its own, so the first claim has none before it.
        # One statement outside of a transaction: it is committed when it returns.
        _refuse_surrounding_transaction()
        return _record(claimed, draft, worker, now, {"authority": Authority.COMPOSE})
    with transaction.atomic(durable=True):
        return _record(claimed, draft, worker, now, _authority(claimed))


def _refuse_surrounding_transaction() -> None:
    """As `atomic(durable=True)` does: inside one, the intent would be committed after its POST. Tests may."""
    if any(not block._from_testcase for block in connection.atomic_blocks):  # type: ignore[attr-defined]
        raise RuntimeError("intent to send must not be part of a transaction")


def _record(
    claimed: Claim, draft: types.MessageDraft, worker: str, now: datetime, authority: dict[str, Any]
) -> SendAttempt:
    body = draft.body()
    values = {
        "message": claimed.message_id,
        "fence": claimed.fence,
        "claimed": S.CLAIMED.value,
        "worker": worker[:100],
        "now": now,
        "lease_until": now + lease(),
        "body_sha256": sha256(dumps(body, sort_keys=True).encode()).hexdigest(),
        "fingerprint": fingerprint(body),
        "newest": epoch.newest,
        "decision_id": None,
        "prior_attempt_id": None,
        **authority,
    }
    with prepared_cursor() as cursor:
        cursor.execute(BEGIN_SQL, values)
        row = cursor.fetchone()
    if row is None:
        raise ClaimLost("the claim has ended, a gate has closed, or history went back")
    return SendAttempt(pk=row[0], message_id=claimed.message_id, fence=claimed.fence, posting_at=now, **authority)


def _authority(claimed: Claim) -> dict[str, Any]:
    """What entitles another POST, looked up under the lock of its message. Raises `NoAuthority`."""
    held = Message.objects.filter(pk=claimed.message_id, fence=claimed.fence, state=S.CLAIMED)
    if not held.select_for_update().values_list("pk").first():
        raise ClaimLost("the claim has ended")
    prior = SendAttempt.objects.filter(message_id=claimed.message_id).order_by("-id").first()
    if prior is not None and prior.outcome in PROVEN_UNSENT_OUTCOMES:
        return {"authority": Authority.PROOF_NOT_SENT, "prior_attempt_id": prior.pk}
    # Only the newest decision counts: one that was never used must not entitle to a POST that nobody wants any more.
    decisions = Decision.objects.filter(message_id=claimed.message_id).exclude(kind=DecisionKind.SEND_NEXT)
    decision = decisions.order_by("-id").first()
    if decision is None or decision.kind != DecisionKind.SEND_AGAIN or hasattr(decision, "sendattempt"):
        if prior is None:
            return {"authority": Authority.COMPOSE}
        raise NoAuthority("an earlier attempt may have been processed")
    return {"authority": Authority.HUMAN, "decision_id": decision.pk}
