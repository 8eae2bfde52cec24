"""What people do to a recovery: start it and stop it. Each is one conditional UPDATE, so pressing twice does nothing more."""

import logging
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import QuerySet

from messaging.models import AuditEntry, IncidentEntry, Recovery, RecoveryItem, User

logger = logging.getLogger(__name__)

S = Recovery.State
UNDER_WAY = (S.CANARY, S.RUNNING)
CANARIES = 3
# After this a dry run says too little about now: another one is a press away.
DRY_RUN_HOLDS = timedelta(hours=1)
# One of each connection first, then a second one of each, in the order of the set.
CANARY_SQL = """
UPDATE messaging_recoveryitem SET is_canary = TRUE WHERE id IN (
    SELECT id FROM (SELECT i.id, row_number() OVER (PARTITION BY m.connection_id ORDER BY i.id) AS place
        FROM messaging_recoveryitem i JOIN messaging_message m ON m.id = i.message_id
        WHERE i.recovery_id = %s AND i.verdict = 'safe' AND i.resent_at IS NULL AND i.problem = '' AND NOT i.is_canary) due
    ORDER BY place, id LIMIT %s)
"""


class Refused(Exception):
    """The recovery cannot be started; `str()` is one sentence for people."""


def due_items(recovery: Recovery) -> "QuerySet[RecoveryItem]":
    """What is still to be sent again, in the order of the set."""
    safe = RecoveryItem.objects.filter(recovery=recovery, verdict=RecoveryItem.Verdict.SAFE)
    return safe.filter(resent_at=None, problem="").order_by("id")


def start(recovery: Recovery, user: User, now: datetime) -> bool:
    """Lets the worker begin with the canary. True when this call started it, False when an earlier one had.

    Only whoever made the dry run may start it, because it goes out in their name. Raises `Refused`; nothing has changed then.
    """
    with transaction.atomic():
        own = Recovery.objects.filter(pk=recovery.pk, author=user, state=S.DRAFT)
        if not own.filter(created_at__gt=now - DRY_RUN_HOLDS).update(state=S.CANARY, started_at=now):
            return _started_before(recovery, user)
        chosen = choose_canary(recovery, CANARIES)
        if not chosen:
            raise Refused("Nothing in this set is safe to send again.")
        _note("recovery_started", recovery, user, {"due": due_items(recovery).count()})
        if recovery.incident_id is not None:
            IncidentEntry.objects.create(
                incident_id=recovery.incident_id, at=now, user=user, kind=IncidentEntry.Kind.RECOVERY,
                text=f"/ops/recoveries/{recovery.uuid}/",
            )  # fmt: skip
    logger.info("Recovery %s was started by user %d", recovery.uuid, user.pk)
    return True


def _started_before(recovery: Recovery, user: User) -> bool:
    recovery.refresh_from_db(fields=["state", "author"])
    if recovery.state != S.DRAFT:
        return False
    if recovery.author_id != user.pk:
        raise Refused("Only the person who made this dry run can start it. Make your own from the same filter.")
    raise Refused("This dry run is more than an hour old. Make a new one from the same filter.")


def choose_canary(recovery: Recovery, count: int) -> int:
    """Marks up to `count` more items as canaries, over different connections where there are; how many it found."""
    with connection.cursor() as cursor:
        cursor.execute(CANARY_SQL, [recovery.pk, count])
        return int(cursor.rowcount)


def stop(recovery: Recovery, user: User | None, now: datetime, reason: str) -> bool:
    """Stops it for good: when this returns, nothing more is put in the queue; what is on its way stays. `user` None: itself.

    False when it was not under way any more.
    """
    with transaction.atomic():
        stopped = Recovery.objects.filter(pk=recovery.pk, state__in=UNDER_WAY).update(
            state=S.STOPPED, ended_at=now, stopped_by=user, stop_reason=reason[:300]
        )
        if stopped:
            _note("recovery_stopped", recovery, user, {"left": due_items(recovery).count()})
    if stopped:
        logger.warning("Recovery %s was stopped (%s)", recovery.uuid, "by a person" if user else "by itself")
    return bool(stopped)


def _note(action: str, recovery: Recovery, user: User | None, detail: dict[str, int]) -> None:
    AuditEntry.objects.create(action=action, user=user, detail={"recovery": str(recovery.uuid), **detail})
