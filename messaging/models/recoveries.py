"""Bulk recovery: a frozen set of failures, what was found of each, and what became of those that were sent again."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from messaging.models.directory import sees_every_fleet
from messaging.models.incidents import Incident
from messaging.models.people import User


class RecoveryQuerySet(models.QuerySet["Recovery"]):
    def visible_to(self, user: User) -> "RecoveryQuerySet":
        """All for those who see every fleet; one's own for others, because a set may hold more fleets than a colleague's."""
        if not user.is_active:
            return self.none()
        return self if sees_every_fleet(user) else self.filter(author=user)


class Recovery(models.Model):
    """One recovery: frozen as a draft with its counts, started by a person, carried on by the worker, kept as a report.

    `query` is the filter of the operations list that it was made from, `about` that filter in words.
    """

    class State(models.TextChoices):
        DRAFT = "draft", "Not started"
        CANARY = "canary", "Trying three first"
        RUNNING = "running", "Sending"
        STOPPED = "stopped", "Stopped"
        FINISHED = "finished", "Finished"

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False)
    incident = models.ForeignKey(Incident, on_delete=models.SET_NULL, null=True, blank=True, related_name="recoveries")
    query = models.CharField(max_length=1000, blank=True)
    about = models.CharField(max_length=300, blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.DRAFT)
    stop_reason = models.CharField(max_length=300, blank=True)
    stopped_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    changed_xid = models.BigIntegerField(default=0, editable=False)

    objects = RecoveryQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name_plural = "recoveries"
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=("draft", "canary", "running", "stopped", "finished")),
                name="recovery_state_is_known",
            ),
        ]
        indexes = [
            models.Index(fields=["id"], condition=Q(state__in=("canary", "running")), name="recovery_under_way"),
        ]

    def __str__(self) -> str:
        return f"{self.about or 'recovery'} ({self.state})"

    def get_absolute_url(self) -> str:
        return reverse("recovery", args=[self.uuid])

    @property
    def is_under_way(self) -> bool:
        return self.state in {self.State.CANARY, self.State.RUNNING}


class RecoveryItem(models.Model):
    """One failure of the frozen set. Only `safe` ones are ever sent again; `problem` says why one was not after all."""

    class Verdict(models.TextChoices):
        SAFE = "safe", "Will be sent again"
        MAY_HAVE_ARRIVED = "may_have_arrived", "May have arrived"
        SUPERSEDED = "superseded", "A later message says more"
        TOO_OLD = "too_old", "Too old to be of use"
        DONE = "done", "Sent again or handled already"

    recovery = models.ForeignKey(Recovery, on_delete=models.CASCADE, related_name="items", db_index=False)
    message = models.ForeignKey("Message", on_delete=models.PROTECT, related_name="recovery_items")
    verdict = models.CharField(max_length=20, choices=Verdict)
    is_canary = models.BooleanField(default=False)
    resent = models.ForeignKey(
        "Message", on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    resent_at = models.DateTimeField(null=True, blank=True)
    problem = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["recovery", "id"]
        constraints = [models.UniqueConstraint(fields=["recovery", "message"], name="recovery_item_once")]
        indexes = [
            models.Index(
                fields=["recovery", "id"],
                condition=Q(verdict="safe", resent_at=None, problem=""),
                name="recovery_item_due",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verdict} {self.message_id}"
