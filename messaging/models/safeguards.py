"""What keeps sending honest beyond one message: which database this is, what a restore left open, what may be asked of Catena."""

from django.conf import settings
from django.db import models
from django.db.models import Q


class SendEpoch(models.Model):
    """The database that sending has been allowed on: one row. Another identity means restored or promoted history.

    `place` is the number of the database within its server and of the table of attempts within it: a dump that is restored
    gets new ones, wherever it is restored to. Empty in a row of before they were noted.
    """

    system_identifier = models.CharField(max_length=20)
    timeline = models.PositiveBigIntegerField()
    place = models.CharField(max_length=40, default="")
    noted_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(models.Value(1), name="epoch_only_one")]

    def __str__(self) -> str:
        return f"{self.system_identifier}, timeline {self.timeline}, tables {self.place}"


class RestoreCause(models.TextChoices):
    IDENTITY = "identity", "The database is another one, or was promoted"
    HIGH_WATER = "high_water", "The database is behind what this machine has sent"
    BY_HAND = "by_hand", "An operator says so"


class Restore(models.Model):
    """One time that the database went back in history. While `unlocked_at` is null, nothing is sent.

    What was composed before `restored_to` may have been sent after the backup was taken. `since` is where the survey of
    Catena's operations begins. `survey` counts what it bound and what it put before a person, with the messages' uuids.
    `noticed_on` is the identity of the database: a restore that is open in a backup says nothing of the time after it.
    """

    cause = models.CharField(max_length=20, choices=RestoreCause)
    detail = models.CharField(max_length=300, blank=True)
    noticed_on = models.CharField(max_length=100, default="")
    detected_at = models.DateTimeField()
    restored_to = models.DateTimeField()
    since = models.DateTimeField()
    locked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    surveyed_at = models.DateTimeField(null=True)
    survey = models.JSONField(default=dict)
    problem = models.CharField(max_length=300, blank=True)
    unlocked_at = models.DateTimeField(null=True)
    unlocked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(models.Value(1), condition=Q(unlocked_at=None), name="restore_one_open"),
            models.CheckConstraint(condition=Q(cause__in=RestoreCause.values), name="restore_cause_is_known"),
            models.CheckConstraint(
                condition=Q(unlocked_at=None) | Q(surveyed_at__isnull=False), name="restore_unlocked_after_survey"
            ),
        ]

    def __str__(self) -> str:
        return f"restore noticed at {self.detected_at:%Y-%m-%d %H:%M}"


class RequestBudget(models.Model):
    """A token bucket of requests to Catena that all processes share: one row a class of calls (`share`)."""

    share = models.CharField(max_length=20, unique=True)
    tokens = models.FloatField()
    refilled_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.share}: {self.tokens:.1f}"


class Verification(models.Model):
    """One run of the invariant checker: when, how many rules, and the breaches it found, one line each."""

    at = models.DateTimeField()
    rule_count = models.PositiveIntegerField()
    breaches = models.JSONField(default=list)
    seconds = models.FloatField()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{len(self.breaches)} breaches at {self.at:%Y-%m-%d %H:%M}"
