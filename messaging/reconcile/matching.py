"""Which operation is which lost POST: one to one, by what was sent, where and when. Asks Catena nothing."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from messaging import outbox
from messaging.mirror import CREATED_AFTER, CREATED_BEFORE
from messaging.models import Message, Operation, SendAttempt
from messaging.states import UNSETTLED_OUTCOMES, MessageState, Question

logger = logging.getLogger(__name__)

S = MessageState
SEVERAL_REASON = "Several operations at Catena could be this message"
# Of one text to one driver, more than this many lost POSTs at once are nobody's ordinary day.
AT_ONCE = 1000
NEAREST = 3
# Of operations that share a driver or a text with what is looked for, more are not weighed.
MOST_NEAR = 5000
# How long after a POST an operation still counts as near it, for the evidence.
NEAR = timedelta(minutes=30)


def unsettled() -> QuerySet[SendAttempt]:
    """POSTs of which nobody knows what became."""
    return SendAttempt.objects.filter(outcome__in=UNSETTLED_OUTCOMES, operation=None)


def window_of(attempt: SendAttempt) -> tuple[datetime, datetime]:
    """When the operation of this POST was created, if there is one."""
    ended = attempt.finished_at or attempt.posting_at
    return attempt.posting_at - CREATED_BEFORE, ended + CREATED_AFTER


def match(now: datetime) -> int:
    """Binds every lost POST to the stored operation that it became; answers how many were bound.

    Uses what any door has brought in: listings, webhooks, answers. One statement when there is nothing to do. Idempotent.
    """
    prints = _prints_with_candidates()
    return sum(_match_group(connection_id, print_, now) for connection_id, print_ in prints)


def match_attempt(attempt: SendAttempt, now: datetime) -> int:
    """The same for the text of one POST."""
    connection_id = Message.objects.values_list("connection_id", flat=True).get(pk=attempt.message_id)
    return _match_group(connection_id, attempt.fingerprint, now) if attempt.fingerprint else 0


def _prints_with_candidates() -> list[tuple[int, str]]:
    free = unbound(Operation.objects.filter(fingerprint=OuterRef("fingerprint"))).filter(
        connection_id=OuterRef("message__connection_id"),
        catena_created_at__gte=OuterRef("posting_at") - CREATED_BEFORE,
    )
    found = unsettled().exclude(fingerprint="").filter(Exists(free))
    return list(found.order_by().values_list("message__connection_id", "fingerprint").distinct()[:AT_ONCE])


def unbound(operations: QuerySet[Operation]) -> QuerySet[Operation]:
    """Operations that are no POST of ours yet."""
    return operations.filter(
        ~Exists(Message.objects.filter(operation_id=OuterRef("pk"))),
        ~Exists(SendAttempt.objects.filter(operation_id=OuterRef("pk"))),
    )


def _match_group(connection_id: int, print_: str, now: datetime) -> int:
    """All lost POSTs of one text to one driver, against all free operations of the same."""
    if Message.objects.filter(connection_id=connection_id, state=S.POSTING, fingerprint=print_).exists():
        # Its operation may be listed before its answer is in; the next round tells them apart.
        return 0
    attempts = list(
        unsettled().filter(fingerprint=print_, message__connection_id=connection_id).order_by("posting_at", "id")
    )
    operations = _candidates(connection_id, print_, attempts)
    if len(operations) > len(attempts):
        _ask_about_several(attempts)
        return 0
    return sum(outbox.settle(attempt, operation, now) for attempt, operation in pairs(attempts, operations))


def _candidates(connection_id: int, print_: str, attempts: Sequence[SendAttempt]) -> list[Operation]:
    free = unbound(Operation.objects.filter(connection_id=connection_id, fingerprint=print_))
    windows = [window_of(attempt) for attempt in attempts]
    return [
        operation
        for operation in free.order_by("catena_created_at", "id")[:AT_ONCE]
        if any(since <= operation.catena_created_at <= until for since, until in windows)
    ]


def pairs(attempts: Sequence[SendAttempt], operations: Sequence[Operation]) -> list[tuple[SendAttempt, Operation]]:
    """Oldest to oldest, each in its window: POSTs of the same text to the same driver are interchangeable."""
    left, found = list(attempts), []
    for operation in operations:
        for attempt in left:
            since, until = window_of(attempt)
            if since <= operation.catena_created_at <= until:
                found.append((attempt, operation))
                left.remove(attempt)
                break
    return found


def _ask_about_several(attempts: Iterable[SendAttempt]) -> None:
    looked_for = Message.objects.filter(pk__in={attempt.message_id for attempt in attempts}, state=S.UNKNOWN)
    for message_id in looked_for.values_list("pk", flat=True):
        ask(message_id, Question.SEVERAL, SEVERAL_REASON)


def ask(message_id: int, question: Question, reason: str) -> bool:
    """Puts a message of which nothing more will be found before a person. False when it has moved on."""
    conversation_id = Message.objects.values_list("conversation_id", flat=True).get(pk=message_id)
    with transaction.atomic():
        conversation = outbox.lock(conversation_id)
        asked = Message.objects.filter(pk=message_id, state=S.UNKNOWN).update(
            state=S.NEEDS_DECISION, question=question, reason=reason
        )
        if asked:
            conversation.summarise()
    if asked:
        logger.error("Message %d needs a decision: %s", message_id, question)
    return bool(asked)


def nearest(attempts: Sequence[SendAttempt]) -> dict[int, list[dict[str, Any]]]:
    """For each POST of one connection, by its id: the free operations near it that share its driver or its text without
    being it, the closest first, with the fields that differ. One query for all of them.
    """
    ours = {attempt.pk: outbox.draft_of(attempt.message).body() for attempt in attempts}
    around = {attempt.pk: _around(attempt) for attempt in attempts}
    rows = unbound(
        Operation.objects.filter(connection_id=attempts[0].message.connection_id, resource="message")
    ).filter(
        Q(payload__recipient_id__in={body["recipient_id"] for body in ours.values()})
        | Q(payload__message_text__in={body["message_text"] for body in ours.values()}),
        catena_created_at__range=(
            min(since for since, _ in around.values()),
            max(until for _, until in around.values()),
        ),
    )
    shown = list(
        rows.order_by("catena_created_at").values("catena_id", "catena_created_at", "payload", "fingerprint")[
            :MOST_NEAR
        ]
    )
    return {attempt.pk: _nearest(attempt, ours[attempt.pk], around[attempt.pk], shown) for attempt in attempts}


def _around(attempt: SendAttempt) -> tuple[datetime, datetime]:
    return attempt.posting_at - CREATED_BEFORE, (attempt.finished_at or attempt.posting_at) + NEAR


def _nearest(
    attempt: SendAttempt, ours: Mapping[str, Any], around: tuple[datetime, datetime], shown: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    found = []
    for row in shown:
        created = row["catena_created_at"]
        if row["fingerprint"] == attempt.fingerprint or not around[0] <= created <= around[1]:
            continue
        differing = [name for name in ours if str(row["payload"].get(name) or "") != str(ours[name] or "")]
        if "recipient_id" not in differing or "message_text" not in differing:
            found.append((abs(created - attempt.posting_at), row, differing))
    found.sort(key=lambda one: one[0])
    return [
        {"id": str(row["catena_id"]), "created_at": row["catena_created_at"].isoformat(), "differs": differing}
        for _, row, differing in found[:NEAREST]
    ]
