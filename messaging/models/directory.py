"""Catena's fleets, connections and users as mirrored rows, and who may see which fleet."""

from typing import Self

from django.conf import settings
from django.db import models

from messaging.models.people import Role, User

# How a provider's slug reads; an unknown one is shown with its words capitalised.
PROVIDER_NAMES = {
    "samsara": "Samsara",
    "motive": "Motive",
    "geotab": "Geotab",
    "verizon_connect": "Verizon Connect",
    "omnitracs": "Omnitracs",
    "platform_science": "Platform Science",
    "isaac": "ISAAC",
    "eroad": "EROAD",
    "catena_simulator": "Catena Simulator",
}


def provider_name(slug: str) -> str:
    return PROVIDER_NAMES.get(slug) or slug.replace("_", " ").replace("-", " ").title()


def sees_every_fleet(user: User) -> bool:
    return user.is_superuser or user.role == Role.SUPPORT


class FleetQuerySet(models.QuerySet["Fleet"]):
    def visible_to(self, user: User) -> Self:
        if not user.is_active:
            return self.none()
        if sees_every_fleet(user):
            return self
        return self.filter(id__in=FleetMembership.objects.filter(user_id=user.pk).values("fleet_id"))


class Fleet(models.Model):
    """Mirrored. Times with the prefix `catena_` are Catena's; hours until a message expires are ours."""

    catena_id = models.UUIDField(unique=True)
    name = models.CharField(max_length=200)
    fleet_ref = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001 (null means that Catena has none)
    catena_created_at = models.DateTimeField()
    catena_updated_at = models.DateTimeField()
    withdrawn_at = models.DateTimeField(null=True, blank=True, help_text="Catena no longer lists this fleet.")
    expires_high_hours = models.PositiveSmallIntegerField(default=4)
    expires_other_hours = models.PositiveSmallIntegerField(default=24)
    raw = models.JSONField(default=dict)
    synced_at = models.DateTimeField(auto_now=True)

    objects = FleetQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name


class FleetMembership(models.Model):
    """A fleet manager reads and writes exactly the fleets that have such a row."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    fleet = models.ForeignKey(Fleet, on_delete=models.CASCADE, related_name="memberships")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "fleet"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user} in {self.fleet}"


class ConnectionQuerySet(models.QuerySet["Connection"]):
    def visible_to(self, user: User) -> Self:
        if not user.is_active:
            return self.none()
        if sees_every_fleet(user):
            return self
        return self.filter(fleet_id__in=FleetMembership.objects.filter(user_id=user.pk).values("fleet_id"))


VISIBLE_IDS_SQL = (
    "ARRAY(SELECT v.id FROM messaging_connection v JOIN messaging_fleetmembership f"
    " ON f.fleet_id = v.fleet_id WHERE f.user_id = %(user)s)"
)


def visible_connections_sql(user: User, column: str, ids: str = VISIBLE_IDS_SQL) -> str:
    """`ConnectionQuerySet.visible_to` as an SQL condition on a connection id; takes the parameter `user`.

    An array and not a join: a statement that asks several times then plans in a fraction of the time. One that asks often
    may read `VISIBLE_IDS_SQL` once and name the result in `ids`.
    """
    if not user.is_active:
        return "FALSE"
    if sees_every_fleet(user):
        return "TRUE"
    return f"{column} = ANY({ids})"


class Connection(models.Model):
    """Mirrored: one fleet at one provider. Status, share level and schedule words are Catena's and stay as they come."""

    catena_id = models.UUIDField(unique=True)
    fleet = models.ForeignKey(Fleet, on_delete=models.PROTECT, null=True, blank=True, related_name="connections")
    tsp_id = models.UUIDField()
    source_name = models.CharField(max_length=100)
    tsp_slug = models.CharField(max_length=100, blank=True)
    description = models.CharField(max_length=300, blank=True)
    status = models.CharField(max_length=50)
    # Data freshness of the resource `message` (contract section 5); null means that Catena reported none.
    share_level = models.CharField(max_length=50, null=True, blank=True)  # noqa: DJ001
    schedule_status = models.CharField(max_length=50, null=True, blank=True)  # noqa: DJ001
    last_successful_execution_at = models.DateTimeField(null=True, blank=True)
    next_execution_at = models.DateTimeField(null=True, blank=True)
    # What Catena implements for this provider: implemented, not_implemented, not_supported; null means not known.
    message_support = models.CharField(max_length=50, null=True, blank=True)  # noqa: DJ001
    # The same of the resource `group_message`; a blank share level means an entry that shares nothing.
    group_share_level = models.CharField(max_length=50, null=True, blank=True)  # noqa: DJ001
    group_support = models.CharField(max_length=50, null=True, blank=True)  # noqa: DJ001
    # Receipts count only where there are any: a provider that never reported one is told apart from an unread message.
    first_receipt_at = models.DateTimeField(null=True, blank=True, help_text="When a receipt was first seen here.")
    pinned_sender = models.ForeignKey(
        "FleetUser",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="Messages on this connection go out in this user's name. Blank lets Backhaul choose an office user.",
    )
    catena_created_at = models.DateTimeField()
    catena_updated_at = models.DateTimeField()
    withdrawn_at = models.DateTimeField(null=True, blank=True, help_text="Catena no longer lists this connection.")
    raw = models.JSONField(default=dict)
    synced_at = models.DateTimeField(auto_now=True)
    changed_xid = models.BigIntegerField(default=0, editable=False)

    objects = ConnectionQuerySet.as_manager()

    class Meta:
        ordering = ["fleet__name", "source_name", "id"]
        indexes = [models.Index(fields=["changed_xid"], name="connection_changed")]  # live.changes_since

    def __str__(self) -> str:
        return self.label

    @property
    def provider(self) -> str:
        return provider_name(self.tsp_slug or self.source_name)

    @property
    def label(self) -> str:
        return self.description or self.provider

    @property
    def has_groups(self) -> bool:
        """Whether group messages can be read here, as far as anybody has said."""
        return self.group_support not in {"not_supported", "not_implemented"} and self.group_share_level != ""

    @property
    def may_send_groups(self) -> bool:
        """Writing to a group needs the right to write messages, and group messages where those are shared apart (contract
        section 16, question 23).
        """
        levels = {self.share_level, self.share_level if self.group_share_level is None else self.group_share_level}
        return self.has_groups and levels == {"read_write"}

    @property
    def sending_obstacle(self) -> str | None:
        """Why nothing can be sent here, as a sentence with its cure; None when sending is allowed."""
        if self.withdrawn_at is not None:
            return "Catena no longer lists this connection. Ask the fleet to share it again."
        if self.status != "active":
            return CONNECTION_CURES.get(self.status, f"The connection is {self.status}. Ask support what that means.")
        if self.share_level is not None and self.share_level != "read_write":
            return "The fleet shares its messages read-only. Ask it to grant read and write."
        if self.message_support in {"not_supported", "not_implemented"}:
            return f"Catena cannot send messages through {self.provider}."
        return None

    @property
    def reading_obstacle(self) -> str | None:
        """Why Catena reads no replies here, as a sentence with its cure; None while it reads, or when nobody knows."""
        if self.schedule_status in {None, "", "active"}:
            return None
        unknown = f"Catena's schedule for replies is {self.schedule_status}. Ask support what that means."
        return SCHEDULE_CURES.get(self.schedule_status or "", unknown)


# What can be done about each schedule status (contract section 5: a schedule stops itself after errors in a row).
SCHEDULE_CURES = {
    "inactive": "Catena has stopped reading replies here, as it does after many errors in a row. Ask Catena to start again.",
    "paused": "Reading replies is paused here. Ask Catena or the fleet to resume it.",
    "stale": "Catena reads no replies here until the fleet signs in again.",
    "deleted": "Catena no longer reads replies here. The fleet must connect again.",
    "cancelled": "Catena no longer reads replies here. The fleet must connect again.",
    "cancelled_insufficient_scope": "Catena may not read replies here. Ask the fleet to share its messages.",
}
# What can be done about each connection status (contract section 5).
CONNECTION_CURES = {
    "stale": "The provider refuses the stored credentials. The fleet must sign in again.",
    "failed": "The connection has failed. The fleet must set it up again.",
    "cancelled": "The connection was cancelled. The fleet must connect again.",
    "paused": "The connection is paused. Ask Catena or the fleet to resume it.",
    "deleted": "The connection was deleted. The fleet must connect again.",
}


class FleetUserQuerySet(models.QuerySet["FleetUser"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(connection__in=Connection.objects.visible_to(user))

    def reachable(self) -> Self:
        """Drivers whom a message can still be addressed to. What Catena does not say counts in their favour."""
        return self.filter(deleted_at=None).exclude(is_active=False).exclude(is_driver=False)

    def senders(self) -> Self:
        """Users a message may go out from, the fittest first (contract section 16, question 9)."""
        return (
            self.filter(deleted_at=None)
            .exclude(is_active=False)
            .order_by(models.F("is_driver").asc(nulls_last=True), "id")
        )


class FleetUser(models.Model):
    """Mirrored: Catena's `user` on one connection. `name` is what is shown, never empty."""

    catena_id = models.UUIDField(unique=True)
    connection = models.ForeignKey(Connection, on_delete=models.PROTECT, related_name="fleet_users")
    source_id = models.CharField(max_length=200)
    name = models.CharField(max_length=300)
    username = models.CharField(max_length=200, blank=True)
    phone_number = models.CharField(max_length=50, blank=True)
    is_driver = models.BooleanField(null=True)
    user_designation = models.CharField(max_length=100, blank=True)
    is_active = models.BooleanField(null=True)
    status = models.CharField(max_length=100, blank=True)
    catena_created_at = models.DateTimeField()
    catena_updated_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True, blank=True)
    raw = models.JSONField(default=dict)
    synced_at = models.DateTimeField(auto_now=True)

    objects = FleetUserQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        indexes = [
            models.Index(fields=["connection", "name"], name="fleetuser_by_name")
        ]  # driver search, sender choice

    def __str__(self) -> str:
        return self.name
