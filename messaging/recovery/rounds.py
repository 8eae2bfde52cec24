"""One beat of the recoveries under way: sends the next few again, watches how they fare, stops when failures return.

Safe at any moment: each item is marked in the transaction that queues its message, so a killed worker leaves neither a
message without its mark nor a mark without its message, and the next beat goes on where it ended.
"""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from math import floor

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Max, Q, QuerySet, Window
from django.db.models.functions import RowNumber

from messaging import access, outbox
from messaging.models import Connection, Gate, Message, Recovery, RecoveryItem
from messaging.recovery.moves import CANARIES, UNDER_WAY, choose_canary, due_items, stop
from messaging.recovery.verdicts import judge
from messaging.states import LIVELY_STATES, GateState, MessageState

logger = logging.getLogger(__name__)

S = Recovery.State
V = RecoveryItem.Verdict
# How often a worker comes by; a connection that rested for longer may still send no more at once.
BEAT = timedelta(seconds=2)
# What a recovery that has ended sent within this time still counts against the rate of its connections.
REMEMBERED = timedelta(minutes=30)
# On one connection so many may be on their way at once: failures must show before hundreds have followed.
MOST_ON_THE_WAY = 20
LOOKED_BACK, FAILURES_TO_STOP = 20, 3
FAILED_STATES = frozenset(
    {MessageState.FAILED, MessageState.REJECTED, MessageState.EXPIRED, MessageState.NEEDS_DECISION}
)
SINCE_WORDS = {
    V.DONE: "Meanwhile it was sent again or handled.",
    V.MAY_HAVE_ARRIVED: "It turned out that it may have arrived.",
    V.SUPERSEDED: "Meanwhile a later message was written to the driver.",
    V.TOO_OLD: "Meanwhile it became too old to be of use.",
}


def advance(now: datetime) -> int:
    """One beat of every recovery that is under way; how many items were dealt with."""
    under_way = Recovery.objects.filter(state__in=UNDER_WAY).select_related("author").order_by("id")
    return sum(_advance(recovery, now) for recovery in under_way)


def _advance(recovery: Recovery, now: datetime) -> int:
    obstacle = _obstacle(recovery)
    if obstacle:
        stop(recovery, None, now, obstacle)
        return 0
    sent = _canary(recovery, now) if recovery.state == S.CANARY else _rest(recovery, now)
    if sent:
        # The mark of change for the open page
        Recovery.objects.filter(pk=recovery.pk).update(state=F("state"))
    return sent


def _obstacle(recovery: Recovery) -> str:
    """Why it must not go on; empty when it may."""
    if Gate.objects.filter(connection=None, state=GateState.LOCKED).exists():
        return "Sending is locked until the restored database has been checked."
    places = due_items(recovery).order_by().values("message__connection_id").distinct()
    for connection in Connection.objects.filter(pk__in=places):
        if not access.can_resend(recovery.author, connection):
            return f"{recovery.author.label} may no longer write to {connection.label}."
    return ""


def _canary(recovery: Recovery, now: datetime) -> int:
    chosen = RecoveryItem.objects.filter(recovery=recovery, is_canary=True, problem="").select_related("resent")
    items = list(chosen)
    lost = next((item.resent for item in items if item.resent and _has_failed(item.resent)), None)
    if lost is not None:
        stop(recovery, None, now, f"The canary failed: {_what_became(lost)}")
        return 0
    missing = CANARIES - len(items)
    if missing > 0 and choose_canary(recovery, missing):
        items = list(chosen.all())
    if all(item.resent and item.resent.state == MessageState.SUCCEEDED for item in items):
        Recovery.objects.filter(pk=recovery.pk, state=S.CANARY).update(state=S.RUNNING)
        return 0
    return _send(recovery, due_items(recovery).filter(is_canary=True), now)


def _has_failed(message: Message) -> bool:
    """Ended in any other way than being accepted by the provider."""
    return message.state != MessageState.SUCCEEDED and message.state not in LIVELY_STATES


def _what_became(message: Message) -> str:
    return message.reason or MessageState(message.state).label


def _rest(recovery: Recovery, now: datetime) -> int:
    trouble = _returning_failures(recovery)
    if trouble:
        stop(recovery, None, now, trouble)
        return 0
    due = due_items(recovery)
    if not due.exists():
        Recovery.objects.filter(pk=recovery.pk, state=S.RUNNING).update(state=S.FINISHED, ended_at=now)
        return 0
    return _send(recovery, due, now)


def _returning_failures(recovery: Recovery) -> str:
    """What is said when too many of the last ones failed again; three in a row are among them. Else empty."""
    resent = Message.objects.filter(pk__in=recovery.items.exclude(resent=None).values("resent_id"))
    settled = resent.exclude(state__in=sorted(LIVELY_STATES)).order_by(F("settled_at").desc(nulls_first=True), "-id")
    failed = [message for message in settled[:LOOKED_BACK] if message.state in FAILED_STATES]
    if len(failed) < FAILURES_TO_STOP:
        return ""
    return f"Failures returned, {len(failed)} of the last {LOOKED_BACK}: {_what_became(failed[0])}"


def _send(recovery: Recovery, due: "QuerySet[RecoveryItem]", now: datetime) -> int:
    return sum(_send_one(recovery, item, now) for item in _allowed(due, now))


def _allowed(due: "QuerySet[RecoveryItem]", now: datetime) -> Iterator[RecoveryItem]:
    """What may go out in this beat: nothing behind a closed gate, and on each connection no more than its rate."""
    closed = set(Gate.objects.closed(now).values_list("connection_id", flat=True))
    if None in closed:
        return
    usual, others = _allowances(now)
    place = Window(RowNumber(), partition_by="message__connection_id", order_by="id")
    listed = due.exclude(message__connection_id__in=closed).annotate(place=place).filter(place__lte=usual)
    for item in listed.select_related("message").order_by("id"):
        if item.place <= others.get(item.message.connection_id, usual):
            yield item


def _allowances(now: datetime) -> tuple[int, dict[int, int]]:
    """How many a rested connection may send in this beat, and how many those may that recoveries have used lately."""
    per_second = settings.RECOVERY_PER_MINUTE / 60
    longest = max(BEAT.total_seconds(), 1 / per_second)
    # One that was stopped a moment ago counts too: another that starts on its heels goes no faster.
    lately = Q(recovery__state__in=UNDER_WAY) | Q(recovery__ended_at__gt=now - REMEMBERED)
    used = RecoveryItem.objects.filter(lately).exclude(resent=None).order_by()
    moving = Count("pk", filter=Q(resent__state__in=sorted(LIVELY_STATES)))
    found = used.values_list("message__connection_id").annotate(last=Max("resent_at"), moving=moving)
    return _in(longest, per_second), {
        connection: min(_in(min(longest, (now - last).total_seconds()), per_second), MOST_ON_THE_WAY - count)
        for connection, last, count in found
    }


def _in(seconds: float, per_second: float) -> int:
    return floor(seconds * per_second + 1e-6)


def _send_one(recovery: Recovery, item: RecoveryItem, now: datetime) -> bool:
    """Sends one failure again and marks it, or notes why not, in one transaction. False when it is not to be sent any more."""
    with transaction.atomic():
        held = Recovery.objects.select_for_update().filter(pk=recovery.pk, state__in=UNDER_WAY)
        if held.values_list("pk").first() is None:
            return False
        outbox.lock(item.message.conversation_id)
        own = due_items(recovery).filter(pk=item.pk)
        if not own.exists():
            return False
        made, problem = _sent_again(recovery, item.message_id, now)
        return bool(own.update(resent=made, resent_at=now if made else None, problem=problem[:300]))


def _sent_again(recovery: Recovery, message_id: int, now: datetime) -> tuple[Message | None, str]:
    """The new message, or why there is none: all is looked at anew, under the conversation's lock."""
    message = Message.objects.select_related("connection", "recipient", "reply_to").get(pk=message_id)
    verdict = judge([message_id], now)[message_id]
    problem = SINCE_WORDS.get(V(verdict), "") or _unreachable(message)
    if problem:
        return None, problem
    try:
        sent = outbox.resend(message, recovery.author, now, is_sure=False)
    except (outbox.NotResendable, outbox.NoSender) as refusal:
        return None, str(refusal)
    return (sent.message, "") if sent.is_new else (None, SINCE_WORDS[V.DONE])


def _unreachable(message: Message) -> str:
    obstacle, driver = message.connection.sending_obstacle, message.recipient
    if obstacle is None and driver is not None and (driver.deleted_at is not None or driver.is_active is False):
        return f"{message.connection.provider} no longer lists {driver.name} as active."
    return obstacle or ""
