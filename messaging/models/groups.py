"""Messages to several people at once, as Catena reports them: one record, one state."""

from typing import Self

from django.db import models
from django.db.models import Q

from messaging.models.directory import Connection
from messaging.models.people import User
from messaging.states import Direction


class GroupMessageQuerySet(models.QuerySet["GroupMessage"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(connection__in=Connection.objects.visible_to(user))

    def waiting_for_recipients(self) -> Self:
        return self.filter(unplaced__gt=0)


class GroupMessage(models.Model):
    """Mirrored. Whom it was delivered to is not known: its state is the group's (contract section 16, question 22).

    Each conversation that it belongs to shows it by a `Message` whose `group` it is. `size` counts the people it is for,
    office people left out as far as they are known; `unplaced` those of them whom no user record describes yet.
    """

    catena_id = models.UUIDField(unique=True)
    connection = models.ForeignKey(Connection, on_delete=models.PROTECT, related_name="group_messages", db_index=False)
    direction = models.CharField(max_length=3, choices=Direction)
    sender = models.ForeignKey("FleetUser", on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    sender_name = models.CharField(max_length=300, blank=True)
    text = models.TextField(null=True)  # noqa: DJ001 (null means that the record carries no text)
    occurred_at = models.DateTimeField()
    recipient_ids = models.JSONField(default=list)
    source_recipient_ids = models.JSONField(default=list)
    size = models.PositiveSmallIntegerField(default=0)
    unplaced = models.PositiveSmallIntegerField(default=0)
    source_id = models.CharField(max_length=200, blank=True)
    group_id = models.UUIDField(null=True)
    source_group_id = models.CharField(max_length=200, blank=True)
    thread_id = models.UUIDField(null=True)
    record_status = models.CharField(max_length=50, blank=True)
    delivered_at = models.DateTimeField(null=True, help_text="As the provider dates it for the group as a whole.")
    catena_updated_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True)
    raw = models.JSONField(default=dict)
    first_seen_at = models.DateTimeField(auto_now_add=True)

    objects = GroupMessageQuerySet.as_manager()

    class Meta:
        ordering = ["-occurred_at", "-id"]
        indexes = [
            # mirror.complete_groups: what still waits for somebody on this connection
            models.Index(fields=["connection"], condition=Q(unplaced__gt=0), name="group_unplaced"),
        ]

    def __str__(self) -> str:
        return f"group message {self.catena_id}"
