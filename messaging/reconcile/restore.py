"""After the database went back in history: what was sent since the backup is found, what may have been goes to people.

Sending stays locked until a person has read what the survey found and unlocks it (reliability plan 2.8).
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import batched
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from messaging import gates, mirror, outbox
from messaging.catena import errors
from messaging.catena.client import CatenaClient
from messaging.models import AuditEntry, Connection, Decision, Message, Restore, SendAttempt, User
from messaging.outbox.finish import RESTORE_WORKER
from messaging.reconcile.matching import match
from messaging.states import (
    PROVEN_UNSENT_OUTCOMES,
    AttemptOutcome,
    Authority,
    DecisionKind,
    Direction,
    MessageState,
    Question,
)

logger = logging.getLogger(__name__)

S = MessageState
# What the database believes not to have been posted, or not again.
BELIEVED_UNSENT = (S.WAITING, S.QUEUED, S.CLAIMED)
WINDOW = timedelta(days=30)
RECORDS_AT_ONCE = 500
ERROR_TEXT = "The database was restored; this may have been sent after the backup was taken."
REASON = "The database was restored, and this may have been sent before"
# So many messages are named on the page; the rest is counted.
MOST_NAMED = 200


class NotUnlockable(Exception):
    """The lock stays. `str()` is one sentence for people."""


@dataclass(slots=True)
class _Survey:
    """What is kept of a survey: how much was read, where Catena refused to be read, and which messages were bound, asked
    about, and left waiting.
    """

    operations: int = 0
    unread: list[str] = field(default_factory=list)
    bound: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        lists = {"bound": self.bound, "asked": self.asked, "waiting": self.waiting}
        return {
            "operations": self.operations,
            "unread": self.unread,
            **{f"{name}_count": len(uuids) for name, uuids in lists.items()},
            **{name: uuids[:MOST_NAMED] for name, uuids in lists.items()},
        }


def open_restore() -> Restore | None:
    return Restore.objects.select_related("locked_by").filter(unlocked_at=None).first()


def survey_open(client: CatenaClient, now: datetime) -> Restore | None:
    """Surveys the open restore if that has not been done; None when there is nothing to do, or Catena asked to wait."""
    restore = open_restore()
    if restore is None or restore.surveyed_at is not None or gates.reading_paused_until(now) is not None:
        return None
    return survey(client, restore, now)


def survey(client: CatenaClient, restore: Restore, now: datetime) -> Restore:
    """Reads every operation since the backup, binds what was sent, and puts the rest before people.

    Idempotent and resumable: a survey that stops keeps the reason in `problem`, and the next one goes on at the connection
    where it stopped. Sends nothing, and nothing that it touches can be sent without a person's decision afterwards.
    """
    found = _Survey()
    try:
        _read_all(client, restore, found, now)
    except errors.CatenaError as error:
        if isinstance(error, errors.RateLimited):
            gates.slow_down(now, error.retry_after)
        restore.problem = str(error)[:300]
        restore.save(update_fields=["problem"])
        logger.warning("The survey after the restore stopped: %s", error)
        return restore
    doubted = [
        _doubt(message_id, restore, now) for message_id in _believed_unsent(restore).values_list("pk", flat=True)
    ]
    logger.info("After the restore %d messages may have been sent before", len(doubted))
    while match(now):
        pass  # it takes a thousand texts at a time
    _ask(restore)
    _sort(found, restore)
    restore.survey, restore.surveyed_at, restore.problem = found.as_json(), now, ""
    restore.save(update_fields=["survey", "surveyed_at", "problem"])
    AuditEntry.objects.create(
        action="restore_surveyed",
        detail={"restore": restore.pk, **{k: v for k, v in restore.survey.items() if "_count" in k}},
    )
    return restore


def _read_all(client: CatenaClient, restore: Restore, found: _Survey, now: datetime) -> None:
    """Reads one connection after the other, and keeps which are done.

    One that Catena refuses to list is passed over and named: its messages count as not found, so they go to people.
    """
    done: dict[str, int] = restore.survey.get("done", {})
    refused: dict[str, str] = restore.survey.get("refused", {})
    for connection in Connection.objects.filter(withdrawn_at=None).order_by("id"):
        key = str(connection.pk)
        if key in done or key in refused:
            continue
        try:
            done[key] = _read(client, connection, restore.since, now)
        except (errors.Refused, errors.NotSupported) as error:
            logger.warning("The survey after the restore passes connection %d over: %s", connection.pk, error)
            refused[key] = f"{connection}: {error}"[:300]
        restore.survey = {"done": done, "refused": refused}
        restore.save(update_fields=["survey"])
    found.operations, found.unread = sum(done.values()), list(refused.values())


def _read(client: CatenaClient, connection: Connection, since: datetime, until: datetime) -> int:
    """How many were read. What cannot be read counts as not found: its message goes to a person."""
    read, unreadable = 0, list[errors.BadPayload]()
    for start, end in _windows(since, until):
        listing = client.list_operations(
            from_datetime=start, to_datetime=end, connection_id=connection.catena_id, resource="message",
            operation="create", on_bad=unreadable.append,
        )  # fmt: skip
        for page in batched(listing, RECORDS_AT_ONCE):
            mirror.apply_listed(page, until)
            read += len(page)
    if unreadable:
        logger.error("%d operations of connection %d could not be read", len(unreadable), connection.pk)
    return read


def _windows(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    while since < until:
        end = min(since + WINDOW, until)
        yield since, end
        since = end


def _believed_unsent(restore: Restore) -> QuerySet[Message]:
    """Composed before the backup and not posted, as far as the database knows, and not yet doubted by this survey."""
    doubted = SendAttempt.objects.filter(
        message_id=OuterRef("pk"), worker=RESTORE_WORKER, finished_at__gte=restore.detected_at
    )
    composed = Message.objects.filter(direction=Direction.OUT, state__in=BELIEVED_UNSENT, seq__isnull=False)
    return composed.filter(~Exists(doubted), created_at__lte=restore.restored_to).order_by("id")


def _doubt(message_id: int, restore: Restore, now: datetime) -> int:
    """Records the POST that may have happened, so that by every other rule this message is never sent by itself."""
    with transaction.atomic():
        message = Message.objects.select_for_update(of=("self",)).get(pk=message_id)
        if message.state in BELIEVED_UNSENT:
            began = max(message.not_before or message.created_at, message.created_at)
            authority = _authority(message)
            if authority is None:
                return message_id
            fence = message.fence + 1
            Message.objects.filter(pk=message_id).update(fence=fence)
            SendAttempt.objects.create(
                message=message, fence=fence, worker=RESTORE_WORKER, posting_at=min(began, restore.detected_at),
                finished_at=now, outcome=AttemptOutcome.LOST, error_text=ERROR_TEXT, body_sha256="",
                fingerprint=_print_of(message), next_look_at=now, **authority,
            )  # fmt: skip
    return message_id


def _print_of(message: Message) -> str:
    """As it was composed: what was posted since the backup was drafted from the same columns."""
    return message.fingerprint or mirror.fingerprint(outbox.draft_of(message).body())


def _authority(message: Message) -> dict[str, Any] | None:
    """What would have entitled that POST; it is used up by it. None when nothing did: it waits for a person anyway."""
    prior = SendAttempt.objects.filter(message=message).order_by("-id").first()
    if prior is None:
        return {"authority": Authority.COMPOSE}
    if prior.outcome in PROVEN_UNSENT_OUTCOMES:
        return {"authority": Authority.PROOF_NOT_SENT, "prior_attempt": prior}
    decision = Decision.objects.filter(message=message, kind=DecisionKind.SEND_AGAIN, sendattempt=None).first()
    return None if decision is None else {"authority": Authority.HUMAN, "decision": decision}


def _doubted(restore: Restore) -> QuerySet[Message]:
    ours = SendAttempt.objects.filter(worker=RESTORE_WORKER, finished_at__gte=restore.detected_at)
    return Message.objects.filter(Exists(ours.filter(message_id=OuterRef("pk")))).order_by("id")


def _ask(restore: Restore) -> None:
    """Heads that were not found go to a person at once; the others do when they become heads (`outbox.isolate`)."""
    heads = _doubted(restore).filter(state__in=[S.QUEUED, S.CLAIMED])
    for message_id, conversation_id in heads.values_list("pk", "conversation_id"):
        with transaction.atomic():
            conversation = outbox.lock(conversation_id)
            asked = Message.objects.filter(pk=message_id, state__in=[S.QUEUED, S.CLAIMED]).update(
                state=S.NEEDS_DECISION, question=Question.RESTORED, reason=REASON, lease_until=None
            )
            if asked:
                conversation.summarise()


def _sort(found: _Survey, restore: Restore) -> None:
    for uuid, state in _doubted(restore).values_list("uuid", "state"):
        kept = found.asked if state == S.NEEDS_DECISION else found.waiting if state == S.WAITING else found.bound
        kept.append(str(uuid))


def unlock(user: User | None, reason: str, now: datetime) -> Restore:
    """Lets sending go on, on this database. Raises `NotUnlockable` when nothing is locked or the survey is not done."""
    with transaction.atomic():
        restore = Restore.objects.select_for_update().filter(unlocked_at=None).first()
        if restore is None:
            raise NotUnlockable("Sending is not locked.")
        if restore.surveyed_at is None:
            raise NotUnlockable("What was sent since the backup has not been read yet. Wait for the survey to end.")
        if restore.noticed_on != str(outbox.identity()):
            raise NotUnlockable("The database has changed once more since. Wait for a worker to read what was sent.")
        outbox.accept_identity(now)
        gates.unlock(user, now)
        restore.unlocked_at, restore.unlocked_by = now, user
        restore.save(update_fields=["unlocked_at", "unlocked_by"])
        AuditEntry.objects.create(
            user=user, action="sending_unlocked", detail={"restore": restore.pk, "reason": reason}
        )
    logger.warning("Sending is unlocked after restore %d", restore.pk)
    return restore
