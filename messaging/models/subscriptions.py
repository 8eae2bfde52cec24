"""Our webhook subscriptions at Catena as mirrored rows, how they fare as a whole, and what a person wants done with them."""

from typing import Self
from urllib.parse import urlsplit

from django.conf import settings
from django.db import models
from django.utils.crypto import salted_hmac

from messaging.models.people import Role, User

HOOK_PATH = "/hooks/catena/"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
ACTIVE = "active"
DELETED = "deleted"
MARK_LENGTH = 16


def hook_address() -> str:
    """Where Catena delivers to this installation."""
    return f"{settings.PUBLIC_URL}{HOOK_PATH}"


def hook_obstacle() -> str:
    """Why this installation cannot be subscribed, as a sentence with its cure; empty when it can."""
    if not settings.CATENA_WEBHOOK_SECRETS:
        return (
            "CATENA_WEBHOOK_SECRET is not set. Set it (or CATENA_WEBHOOK_SECRET_FILE) to a secret of 32 or more random"
            " characters for web and worker, and restart both."
        )
    address = urlsplit(settings.PUBLIC_URL)
    if address.scheme != "https" and address.hostname not in LOOPBACK:
        return (
            f"PUBLIC_URL is {settings.PUBLIC_URL}. Catena delivers to https:// addresses only: set PUBLIC_URL to one."
        )
    return ""


def secret_mark(secret: str) -> str:
    """Tells one secret from another without being one: a keyed digest, worthless without SECRET_KEY."""
    return salted_hmac("messaging.webhook_secret", secret, algorithm="sha256").hexdigest()[:MARK_LENGTH]


def known_marks() -> list[str]:
    """The marks of the secrets that the receiver takes, in their order."""
    return [secret_mark(secret) for secret in settings.CATENA_WEBHOOK_SECRETS]


def tends_webhooks(user: User) -> bool:
    return user.is_active and (user.is_superuser or user.role in {Role.SUPPORT, Role.ADMINISTRATOR})


class WebhookSubscriptionQuerySet(models.QuerySet["WebhookSubscription"]):
    def ours(self) -> Self:
        """Those that deliver to this installation. A copy of its database on another address has none."""
        return self.filter(url=hook_address())

    def alive(self) -> Self:
        return self.exclude(status=DELETED)


class WebhookSubscription(models.Model):
    """Mirrored: one event that Catena delivers to one address. Status words are Catena's and stay as they come.

    `url` is what we subscribed, because Catena lists it masked. `dead_letters` is null while it is not known. `secret_mark`
    says which secret of ours it signs with, `secret_at` since when.
    """

    catena_id = models.UUIDField(unique=True)
    event_name = models.CharField(max_length=100)
    url = models.CharField(max_length=2083)
    status = models.CharField(max_length=50)
    dead_letters = models.PositiveIntegerField(null=True)
    secret_mark = models.CharField(max_length=MARK_LENGTH, blank=True)
    secret_at = models.DateTimeField(null=True)
    catena_updated_at = models.DateTimeField(null=True)
    checked_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True)

    objects = WebhookSubscriptionQuerySet.as_manager()

    class Meta:
        ordering = ["event_name", "id"]

    def __str__(self) -> str:
        return self.event_name


class WebhookWork(models.TextChoices):
    CREATE = "create", "Subscribe to what is missing"
    CHECK = "check", "Check now"
    REPAIR = "repair", "Re-activate and replay"
    ROTATE = "rotate", "Change the secret"
    REMOVE = "remove", "Remove all subscriptions"


class WebhookWatch(models.Model):
    """How the subscriptions of one address fare as a whole, and what a person wants done with them. One row an address.

    `trouble` counts those that should deliver and do not. `wanted` is done by a worker at the next `next_at`; empty when
    nothing waits. `outcome` says in a sentence what came of the last work.
    """

    url = models.CharField(max_length=2083, unique=True)
    trouble = models.PositiveIntegerField(default=0)
    dead_letters = models.PositiveIntegerField(default=0)
    checked_at = models.DateTimeField(null=True)
    wanted = models.CharField(max_length=10, choices=WebhookWork, blank=True)
    wanted_at = models.DateTimeField(null=True)
    wanted_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    next_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=500, blank=True)
    outcome_at = models.DateTimeField(null=True)
    is_outcome_good = models.BooleanField(default=True)
    changed_xid = models.BigIntegerField(default=0, editable=False)

    class Meta:
        verbose_name_plural = "webhook watches"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(wanted="") | models.Q(wanted__in=WebhookWork.values, wanted_at__isnull=False),
                name="watch_wanted_is_known",
            )
        ]

    def __str__(self) -> str:
        return self.url
