"""What people decide about a send that may have arrived. One decision buys at most one POST."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery

from messaging import outbox
from messaging.models import AuditEntry, Conversation, Decision, Message, SendAttempt, User
from messaging.outbox.compose import PATIENCE, lifetime
from messaging.reconcile.evidence import Evidence, evidence
from messaging.reconcile.matching import match_attempt, unsettled
from messaging.states import HEAD_STATES, UNDECIDED_STATES, DecisionKind, MessageState, Priority

logger = logging.getLogger(__name__)

S = MessageState
# After so long without an end, nobody expects that Catena still says one.
OVERDUE_AFTER = timedelta(hours=24)
VERDICT_STATES = {DecisionKind.WAS_SENT: S.CLOSED_SENT, DecisionKind.LEAVE_UNSENT: S.CLOSED_NOT_SENT}


class NotDecidable(Exception):
    """The decision does not fit the message as it stands now. `str()` is one sentence for people."""


class AlreadyDecided(NotDecidable):
    """A colleague was first, or the same person clicked twice: `decision` says what was decided."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(f"{decision.user.label} has decided already: {decision.get_kind_display().lower()}.")
        self.decision = decision


@dataclass(frozen=True, slots=True)
class Option:
    """One verdict on offer. `available_at` lies in the future while it must not be taken yet."""

    kind: DecisionKind
    available_at: datetime


def with_stamp(found: QuerySet[Message]) -> QuerySet[Message]:
    """Lets `stamp` do without a query of its own."""
    latest = Decision.objects.filter(message_id=OuterRef("pk")).order_by("-id")
    return found.annotate(latest_decision=Subquery(latest.values("id")[:1]))


def stamp(message: Message) -> str:
    """What a dialog was built on, as short text: any move of the message and any decision changes it."""
    if "latest_decision" in vars(message):
        latest = vars(message)["latest_decision"]
    else:
        latest = Decision.objects.filter(message=message).order_by("-id").values_list("id", flat=True).first()
    return f"{message.state}.{message.fence}.{int(message.detached)}.{latest or 0}"


def options(message: Message, known: Evidence, now: datetime) -> list[Option]:
    """What may be decided about a message now, in the order of the dialog. Empty when nothing is open.

    `known` is its evidence; a message without any try costs one query more.
    """
    found = []
    if message.state == S.NEEDS_DECISION:
        found = [
            Option(DecisionKind.SEND_AGAIN, repeatable_at(known, now)),
            Option(DecisionKind.WAS_SENT, now),
            Option(DecisionKind.LEAVE_UNSENT, now),
        ]
        if not known.tries and not SendAttempt.objects.filter(message=message).exists():
            # It never left, so nobody can have seen it arrive.
            found = [one for one in found if one.kind != DecisionKind.WAS_SENT]
    if is_overdue(message, now):
        found = [Option(DecisionKind.WAS_SENT, now)]
    if message.state in UNDECIDED_STATES and not message.detached and known.waiting:
        found.append(Option(DecisionKind.SEND_NEXT, now))
    return found


def is_overdue(message: Message, now: datetime) -> bool:
    """Catena has had it for so long that a person may close it; it is never closed by itself."""
    return message.state == S.ACCEPTED and message.accepted_at is not None and message.accepted_at < now - OVERDUE_AFTER


def repeatable_at(known: Evidence, now: datetime) -> datetime:
    """From when a POST without an answer may be repeated: no frozen worker can still be holding it then."""
    if not known.tries:
        return now
    latest = known.tries[-1]
    held_until = max(latest.posting_at + timedelta(seconds=settings.LEASE_SECONDS), latest.finished_at or now)
    return held_until + timedelta(seconds=settings.DECISION_DELAY_SECONDS)


def decide(message: Message, user: User, kind: DecisionKind, reason: str, *, seen: str, now: datetime) -> Decision:
    """Records a person's verdict and moves the message accordingly, in one transaction.

    `seen` is the `stamp` that the person's dialog showed. Raises `AlreadyDecided` when somebody was first, and
    `NotDecidable` when the message has moved since or the verdict does not fit it; then nothing has changed. The caller
    has checked `access.can_decide`.
    """
    for attempt in unsettled().filter(message=message):
        match_attempt(attempt, now)  # what has come in since the last look counts before any verdict
    with transaction.atomic():
        conversation = outbox.lock(message.conversation_id)
        current = Message.objects.select_related("connection__fleet").get(pk=message.pk)
        known = evidence(current)
        _check(current, known, kind, seen, now)
        decision = Decision.objects.create(
            message=current, user=user, kind=kind, reason=reason, evidence=known.as_json()
        )
        _move(current, conversation, decision, now)
        _audit(current, decision)
        outbox.promote(conversation)
        conversation.summarise()
    logger.info("Message %s: %s decided %s", current.uuid, user.pk, kind)
    return decision


def _check(current: Message, known: Evidence, kind: DecisionKind, seen: str, now: datetime) -> None:
    if stamp(current) != seen:
        latest = Decision.objects.select_related("user").filter(message=current).order_by("-id").first()
        if latest is not None and str(latest.pk) != seen.rpartition(".")[2]:
            raise AlreadyDecided(latest)
        raise NotDecidable("The message has changed meanwhile. Look at it again before you decide.")
    offered = {option.kind: option.available_at for option in options(current, known, now)}
    if kind not in offered:
        raise NotDecidable("This can no longer be decided about this message. Look at it again.")
    if offered[kind] > now:
        raise NotDecidable("It is too early to send it again: the first try could still be under way. Wait a little.")


def _move(current: Message, conversation: Conversation, decision: Decision, now: datetime) -> None:
    own = Message.objects.filter(pk=current.pk, state=current.state, fence=current.fence, detached=current.detached)
    match decision.kind:
        case DecisionKind.SEND_NEXT:
            moved = own.update(detached=True)
        case DecisionKind.SEND_AGAIN:
            moved = _send_again(own, current, now)
        case kind:
            moved = own.update(
                state=VERDICT_STATES[DecisionKind(kind)], question="", settled_at=now, settled_by=decision.user
            )
    if not moved:
        raise NotDecidable("The message has changed meanwhile. Look at it again before you decide.")


def _send_again(own: QuerySet[Message], current: Message, now: datetime) -> int:
    """Back to the queue, or to the line when the next one was let past it meanwhile."""
    heads = Message.objects.filter(conversation_id=current.conversation_id, state__in=HEAD_STATES, detached=False)
    is_behind = heads.exclude(pk=current.pk).exists()
    priority = Priority(current.priority or Priority.MEDIUM)
    moved = own.update(
        state=S.WAITING if is_behind else S.QUEUED,
        detached=False,
        question="",
        reason="",
        claim_count=0,
        not_before=now,
        send_by=now + PATIENCE[priority],
        expires_at=now + lifetime(current.connection, priority),
    )
    if moved and not is_behind:
        current.not_before = now
        outbox.ring(current)
    return moved


def _audit(current: Message, decision: Decision) -> None:
    AuditEntry.objects.create(
        user=decision.user,
        action="decide",
        message=current,
        conversation_id=current.conversation_id,
        connection_id=current.connection_id,
        detail={"decision": decision.pk, "kind": decision.kind},
    )
