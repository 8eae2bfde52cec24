"""What a person wants done with the subscriptions: asked for on a page, done by a worker, told on the page."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from messaging.catena.client import CatenaClient
from messaging.models import AuditEntry, User, WebhookWatch, WebhookWork
from messaging.models.subscriptions import hook_address
from messaging.sync.subscriptions import Report, check, ensure, remove, repair, rotate

logger = logging.getLogger(__name__)

WORKS: Mapping[WebhookWork, Callable[[CatenaClient, datetime], Report]] = {
    WebhookWork.CREATE: ensure,
    WebhookWork.CHECK: check,
    WebhookWork.REPAIR: repair,
    WebhookWork.ROTATE: rotate,
    WebhookWork.REMOVE: remove,
}
# A worker that was asked begins within seconds: after this, another wish may take the place of one that waits.
PATIENCE = timedelta(minutes=1)
TRY_AGAIN = timedelta(seconds=30)
# Some sixty requests at most.
LEASE = timedelta(minutes=2)
# Nobody waits longer for a button.
GIVE_UP = timedelta(minutes=15)


def want(work: WebhookWork, user: User, now: datetime) -> bool:
    """Asks a worker for it. False when something that was asked for a moment ago is still under way."""
    url = hook_address()
    with transaction.atomic():
        WebhookWatch.objects.get_or_create(url=url)
        free = WebhookWatch.objects.filter(Q(wanted="") | Q(wanted_at__lte=now - PATIENCE), url=url)
        if not free.update(wanted=work, wanted_at=now, wanted_by=user, next_at=None, outcome="", outcome_at=None):
            return False
        AuditEntry.objects.create(action=f"webhooks_{work}", user=user, detail={"url": url})
    logger.info("User %d asked to %s the webhook subscriptions", user.pk, work)
    return True


def fulfil(client: CatenaClient, now: datetime) -> Report | None:
    """Does what is wanted, if anything is; tries again while Catena does not answer, and gives up after 15 minutes.

    Harmless when it was done already. None when there was nothing to do, or another worker is at it.
    """
    due = WebhookWatch.objects.filter(Q(next_at=None) | Q(next_at__lte=now), url=hook_address()).exclude(wanted="")
    watch = due.first()
    if watch is None or watch.wanted_at is None:
        return None
    # Somebody may ask for something else meanwhile, and a worker that dies leaves it to others.
    mine = WebhookWatch.objects.filter(pk=watch.pk, wanted=watch.wanted, wanted_at=watch.wanted_at)
    if not mine.filter(next_at=watch.next_at).update(next_at=now + LEASE):
        return None
    report = WORKS[WebhookWork(watch.wanted)](client, now)
    told = {"outcome": outcome_of(report)[:500], "outcome_at": now, "is_outcome_good": report.is_good}
    if report.stopped and now < watch.wanted_at + GIVE_UP:
        mine.update(**told, next_at=now + TRY_AGAIN)
    elif mine.update(**told, wanted="", next_at=None):
        note(WebhookWork(watch.wanted), report)
    return report


def note(work: WebhookWork, report: Report) -> None:
    """Keeps in the audit what was done; a mere look is not kept."""
    if work != WebhookWork.CHECK:
        detail = {"url": hook_address(), "did": dict(report.did), "problems": len(report.problems)}
        AuditEntry.objects.create(action=f"webhooks_{work}_done", detail=detail)


def outcome_of(report: Report) -> str:
    """What was done and what was not, for a person who asked."""
    said = [report.words] if report.did or report.is_good else []
    said += [f"{problem}." for problem in report.problems[:3]]
    if len(report.problems) > 3:
        said.append(f"And {len(report.problems) - 3} more problems.")
    if report.stopped:
        said.append(f"{report.stopped}.")
    return " ".join(said)
