"""What Catena pushed to us, stored before it is applied, what was refused at the door, and how far each sweep has read."""

from datetime import timedelta
from typing import Self

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from messaging.states import EventState

# An event in one of these states is not done with: the worker comes back to it.
OPEN_STATES = (EventState.NEW, EventState.PARKED)


class WebhookEvent(models.Model):
    """One authentic event. `key` (the signed envelope id, or a digest of the body) makes a repeated delivery one row.

    `body` is redacted; it goes after a month, the rest of the row stays longer than Catena can replay. `signed_by` tells
    which secret signed it, without telling the secret.
    """

    key = models.CharField(max_length=100, unique=True)
    webhook_id = models.UUIDField(null=True)
    event_name = models.CharField(max_length=100)
    body = models.JSONField(default=dict)
    body_sha256 = models.CharField(max_length=64)
    signed_by = models.CharField(max_length=16, default="", db_default="")
    state = models.CharField(max_length=10, choices=EventState, default=EventState.NEW)
    reason = models.TextField(blank=True)
    received_at = models.DateTimeField(auto_now_add=True)
    tries = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(null=True)
    processed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            # The worker's question: what is due?
            models.Index(fields=["next_at"], condition=Q(state__in=["new", "parked"]), name="event_due"),
            # What may be forgotten, and what came in lately.
            models.Index(fields=["received_at"], name="event_by_age"),
            # What could not be used lately: the operations page tells.
            models.Index(fields=["received_at"], condition=Q(state="dead"), name="event_dead"),
        ]
        constraints = [models.CheckConstraint(condition=Q(state__in=EventState.values), name="event_state_is_known")]

    def __str__(self) -> str:
        return f"{self.event_name} {self.key}"


class RefusedDelivery(models.Model):
    """How many deliveries were refused in one minute for one cause: Catena will not repeat any of them."""

    cause = models.CharField(max_length=40)
    minute = models.DateTimeField()
    count = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["-minute", "cause"]
        constraints = [models.UniqueConstraint(fields=["cause", "minute"], name="refused_once_a_minute")]

    def __str__(self) -> str:
        return f"{self.count} at {self.minute:%Y-%m-%d %H:%M}: {self.cause}"


class SyncCursorQuerySet(models.QuerySet["SyncCursor"]):
    def ask(self, sweep: str) -> None:
        """Wants a sweep of the whole installation to run soon, out of turn. Once or often, it runs once."""
        row, _ = self.get_or_create(name=f"{ROUND}{sweep}", connection=None)
        if not row.is_asked:
            self.filter(pk=row.pk).update(asked_at=Now() + AHEAD)

    def asked(self) -> Self:
        """The sweeps that somebody wants and that have not begun since."""
        return self.filter(asked_at__isnull=False).filter(Q(started_at=None) | Q(asked_at__gt=F("started_at")))


# What the row of a sweep's turns is called, before the name of the sweep.
ROUND = "round "
# However often it is asked for, a sweep that has just begun is not begun again within this.
ASKED_GAP = timedelta(seconds=10)
# A sweep that begins before the asking transaction has ended has not seen what that wrote: it does not count.
AHEAD = timedelta(milliseconds=250)


class SyncCursor(models.Model):
    """How far one sweep has read: `name` says which, `connection` narrows it, `position` is the end of the last whole window.

    `asked_at` is when somebody last wanted it to run out of turn.
    """

    name = models.CharField(max_length=50)
    connection = models.ForeignKey(
        "Connection", on_delete=models.CASCADE, null=True, blank=True, related_name="cursors"
    )
    position = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    asked_at = models.DateTimeField(null=True)
    read_count = models.PositiveIntegerField(default=0)
    last_error = models.TextField(blank=True)

    objects = SyncCursorQuerySet.as_manager()

    class Meta:
        ordering = ["name", "connection_id"]
        constraints = [
            models.UniqueConstraint(fields=["name", "connection"], nulls_distinct=False, name="cursor_once"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.connection or ''}".strip()

    @property
    def is_asked(self) -> bool:
        return self.asked_at is not None and (self.started_at is None or self.asked_at > self.started_at)
