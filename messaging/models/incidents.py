"""Incidents: failures on one connection, or one provider, that share a cause; who looks after them and what was done."""

import uuid

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.urls import reverse

from messaging.models.directory import Connection, provider_name
from messaging.models.people import User


class IncidentQuerySet(models.QuerySet["Incident"]):
    def visible_to(self, user: User) -> "IncidentQuerySet":
        """Those in which a connection that this person sees has failures: its own, or one of its provider."""
        seen = Connection.objects.visible_to(user)
        return self.filter(Q(connection__in=seen) | Q(connection=None, source_name__in=seen.values("source_name")))

    def open(self) -> "IncidentQuerySet":
        return self.filter(resolved_at=None)


class Incident(models.Model):
    """One cause of failures in one place. `connection` null: the whole provider `source_name`.

    A cause is Catena's `error_type` and the provider's status code, as `Message` repeats them. Its messages are not listed
    here: they are the failures of that cause and place between `first_failed_at` and `last_failed_at`. `failures` and `drivers`
    repeat their numbers; the watch in `messaging/incidents` is their only writer.
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    source_name = models.CharField(max_length=100)
    connection = models.ForeignKey(
        Connection, on_delete=models.CASCADE, null=True, blank=True, related_name="incidents"
    )
    error_type = models.CharField(max_length=50, blank=True)
    response_status_code = models.IntegerField(null=True, blank=True)
    cause = models.CharField(max_length=200, blank=True, help_text="What the failures say, without ids and numbers.")

    opened_at = models.DateTimeField()
    first_failed_at = models.DateTimeField()
    last_failed_at = models.DateTimeField()
    failures = models.PositiveIntegerField(default=0)
    drivers = models.PositiveIntegerField(default=0)
    closing_proposed_at = models.DateTimeField(null=True, blank=True, help_text="Since when sends succeed again.")

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    snoozed_until = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    alerted_at = models.DateTimeField(null=True, blank=True, help_text="When people were last told outside Backhaul.")
    alert_due_at = models.DateTimeField(null=True, blank=True, help_text="When people are to be told next.")
    alert_tries = models.PositiveSmallIntegerField(default=0, db_default=0)
    alert_left = ArrayField(
        models.CharField(max_length=20), default=list, db_default=[], blank=True, help_text="The ways not yet gone."
    )
    changed_xid = models.BigIntegerField(default=0, editable=False)

    objects = IncidentQuerySet.as_manager()

    class Meta:
        ordering = [F("resolved_at").desc(nulls_first=True), "-opened_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["source_name", "connection", "error_type", "response_status_code"],
                condition=Q(resolved_at=None),
                nulls_distinct=False,
                name="incident_open_once",
            ),
        ]
        indexes = [
            models.Index(fields=["-opened_at", "-id"], name="incident_by_age"),
            models.Index(fields=["changed_xid"], name="incident_changed"),  # live.glance
        ]

    def __str__(self) -> str:
        return f"{self.connection or self.provider}: {self.error_type} {self.response_status_code or ''}".strip()

    def get_absolute_url(self) -> str:
        return reverse("incident", args=[self.uuid])

    @property
    def provider(self) -> str:
        return provider_name(self.source_name)

    @property
    def places(self) -> "models.QuerySet[Connection]":
        """The connection, or all of the provider."""
        where = Q(pk=self.connection_id) if self.connection_id is not None else Q(source_name=self.source_name)
        return Connection.objects.filter(where)

    @property
    def is_open(self) -> bool:
        return self.resolved_at is None


class IncidentEntry(models.Model):
    """One line of an incident's timeline. Append-only; `user` null: Backhaul itself."""

    class Kind(models.TextChoices):
        OPENED = "opened", "Opened"
        WIDENED = "widened", "Widened to the provider"
        OWNED = "owned", "Owner changed"
        ACKNOWLEDGED = "acknowledged", "Acknowledged"
        SNOOZED = "snoozed", "Snoozed"
        NOTED = "noted", "Note"
        ALERTED = "alerted", "Told by e-mail or webhook"
        ALERT_FAILED = "alert_failed", "Alert could not be sent"
        RECOVERING = "recovering", "Seems over"
        RELAPSED = "relapsed", "Failures returned"
        RECOVERY = "recovery", "Recovery started"
        RESOLVED = "resolved", "Resolved"

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="entries")
    at = models.DateTimeField()
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    kind = models.CharField(max_length=20, choices=Kind)
    text = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "incident entries"

    def __str__(self) -> str:
        return f"{self.kind} at {self.at:%Y-%m-%d %H:%M:%S}"
