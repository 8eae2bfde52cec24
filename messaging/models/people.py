"""The people who log in here: their role and their preferences, in one row so that a request reads them once."""

from django.contrib.auth.models import AbstractUser
from django.db import models


class Role(models.TextChoices):
    MANAGER = "manager", "Fleet manager"
    SUPPORT = "support", "Support"
    ADMINISTRATOR = "administrator", "Administrator"


class Theme(models.TextChoices):
    SYSTEM = "system", "Like the system"
    LIGHT = "light", "Light"
    DARK = "dark", "Dark"


class User(AbstractUser):
    """A person who logs in. A superuser counts as an administrator who may also read and write every fleet."""

    class UndoTime(models.IntegerChoices):
        OFF = 0, "Off"
        SHORT = 8, "8 seconds"
        LONG = 20, "20 seconds"

    role = models.CharField(max_length=20, choices=Role, default=Role.MANAGER)
    time_zone = models.CharField(max_length=64, blank=True, help_text="Blank means the time zone of the installation.")
    theme = models.CharField(max_length=10, choices=Theme, default=Theme.SYSTEM)
    undo_seconds = models.PositiveSmallIntegerField(choices=UndoTime, default=UndoTime.SHORT)
    has_shortcuts = models.BooleanField(default=True, verbose_name="single-key shortcuts")

    class Meta(AbstractUser.Meta):
        constraints = [
            models.CheckConstraint(
                condition=models.Q(undo_seconds__in=(0, 8, 20)), name="user_undo_seconds_is_offered"
            ),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="user_role_is_known"),
        ]

    @property
    def label(self) -> str:
        """The name that colleagues read."""
        return self.get_full_name() or self.username


def name_sql(alias: str) -> str:
    """`User.label` of the person whose row is `alias`, as an SQL expression."""
    return f"coalesce(nullif(btrim({alias}.first_name || ' ' || {alias}.last_name), ''), {alias}.username)"


class LogInAttempt(models.Model):
    """One try to log in that did not succeed (yet); kept for the minutes in which it counts against further tries.

    `account` is a digest: what people type into the name field is now and then their password.
    """

    account = models.CharField(max_length=64)
    address = models.CharField(max_length=45)
    at = models.DateTimeField()

    class Meta:
        # Both serve the counts before a password is looked at.
        indexes = [
            models.Index(fields=["account", "at"], name="log_in_attempt_by_account"),
            models.Index(fields=["address", "at"], name="log_in_attempt_by_address"),
        ]

    def __str__(self) -> str:
        return f"{self.address} at {self.at:%Y-%m-%d %H:%M:%S}"
