"""Our webhook subscriptions, as Catena answers about them (contract section 11).

Every function is idempotent. Only subscriptions that we made or took over have a row: Catena lists addresses masked, so a
strange one cannot be told from ours by its record.
"""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.db.models import Q, Sum

from messaging.catena import types
from messaging.mirror.changes import Change, cut, differing
from messaging.models import WebhookSubscription, WebhookWatch
from messaging.models.subscriptions import ACTIVE, DELETED, known_marks


def apply_webhook(record: types.Webhook) -> Change:
    """What a listing or an answer says of a subscription that we know; never overwrites newer word.

    A `webhook.*` event carries no time, so that a late one would go backwards: it changes nothing and is a reason to check.
    """
    row = WebhookSubscription.objects.filter(catena_id=record.id).first()
    if row is None or record.updated_at is None:
        return Change.SKIPPED
    columns = {"status": cut(WebhookSubscription, "status", record.status), "catena_updated_at": record.updated_at}
    changes = differing(row, columns)
    if "status" in changes:
        # What piled up, or was sent since, has to be counted anew.
        changes["dead_letters"] = None
    not_newer = Q(catena_updated_at=None) | Q(catena_updated_at__lte=record.updated_at)
    mine = WebhookSubscription.objects.filter(not_newer, pk=row.pk)
    return Change.CHANGED if changes and mine.update(**changes) else Change.SAME


def apply_subscribed(
    record: types.WebhookCreated | types.Webhook, url: str, mark: str = "", since: datetime | None = None
) -> Change:
    """Notes a subscription as ours: one that was just made, which has no dead letters, or one found at our address.

    `mark` and `since`: which secret it signs with, and from when; blank and None when that is not known. The secret in the
    answer is dropped. Raises `ValueError` for a record without an id.
    """
    if record.id is None:
        raise ValueError("a subscription without an id cannot be kept")
    columns = {
        "event_name": cut(WebhookSubscription, "event_name", record.event_name),
        "url": url,
        "status": cut(WebhookSubscription, "status", record.status or ACTIVE),
        "secret_mark": mark,
        "secret_at": since,
        "catena_updated_at": record.updated_at,
        "dead_letters": 0 if isinstance(record, types.WebhookCreated) else None,
        "problem": "",
    }
    _, is_new = WebhookSubscription.objects.update_or_create(catena_id=record.id, defaults=columns)
    return Change.NEW if is_new else Change.CHANGED


def apply_webhook_metrics(record: types.WebhookMetrics, now: datetime) -> None:
    mine = WebhookSubscription.objects.filter(catena_id=record.webhook_id)
    mine.update(dead_letters=max(0, record.dlq_count), checked_at=now, problem="")


def note_secret(row: WebhookSubscription, mark: str, now: datetime) -> None:
    """Catena has taken a secret for this subscription: from now on it signs with that one alone."""
    WebhookSubscription.objects.filter(pk=row.pk).update(secret_mark=mark, secret_at=now, problem="")


def note_webhook_problem(row: WebhookSubscription, problem: str) -> None:
    WebhookSubscription.objects.filter(pk=row.pk).update(problem=cut(WebhookSubscription, "problem", problem))


def withdraw_webhooks(gone: Collection[UUID]) -> int:
    """Marks as deleted what a complete listing no longer contained; answers how many."""
    rows = WebhookSubscription.objects.filter(catena_id__in=gone).alive()
    return rows.update(status=DELETED, dead_letters=None)


def forget_webhook(row: WebhookSubscription) -> None:
    """We have removed it, so it is nobody's trouble any more."""
    WebhookSubscription.objects.filter(pk=row.pk).delete()


def summarise_webhooks(url: str, now: datetime) -> None:
    """Brings the watch of an address up to date; writes nothing that pages would see when nothing has changed."""
    rows = WebhookSubscription.objects.filter(url=url)
    trouble = rows.filter(~Q(status=ACTIVE) | ~Q(secret_mark__in=known_marks())).count()
    dead = rows.aggregate(total=Sum("dead_letters"))["total"] or 0
    columns = {"trouble": trouble, "dead_letters": dead, "checked_at": now}
    WebhookWatch.objects.update_or_create(url=url, defaults=columns)
