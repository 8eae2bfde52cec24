"""What Catena pushed to us, stored before it is applied, and how far each sweep has read."""

from django.db import models

from messaging.states import EventState


class WebhookEvent(models.Model):
    """One authentic event. `key` (the signed envelope id, or a digest of the body) makes a repeated delivery one row."""

    key = models.CharField(max_length=100, unique=True)
    webhook_id = models.UUIDField(null=True)
    event_name = models.CharField(max_length=100)
    body = models.JSONField(default=dict)
    body_sha256 = models.CharField(max_length=64)
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
            models.Index(fields=["next_at"], condition=models.Q(state=EventState.NEW), name="event_due"),
        ]
        constraints = [
            models.CheckConstraint(condition=models.Q(state__in=EventState.values), name="event_state_is_known")
        ]

    def __str__(self) -> str:
        return f"{self.event_name} {self.key}"


class SyncCursor(models.Model):
    """How far one sweep has read: `name` says which, `connection` narrows it, `position` is the end of the last whole window."""

    name = models.CharField(max_length=50)
    connection = models.ForeignKey(
        "Connection", on_delete=models.CASCADE, null=True, blank=True, related_name="cursors"
    )
    position = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    read_count = models.PositiveIntegerField(default=0)
    last_error = models.TextField(blank=True)

    class Meta:
        ordering = ["name", "connection_id"]
        constraints = [
            models.UniqueConstraint(fields=["name", "connection"], nulls_distinct=False, name="cursor_once"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.connection or ''}".strip()
