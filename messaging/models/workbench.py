"""What support staff keep beside the messages: saved views, internal notes, who looks after a failure, and search words."""

from typing import Self

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models import Q

from messaging.models.people import User


class SavedViewQuerySet(models.QuerySet["SavedView"]):
    def visible_to(self, user: User) -> Self:
        """One's own, and what others share. A view is a question: whoever opens it is answered with what they may see."""
        return self.filter(Q(user_id=user.pk) | Q(is_shared=True)) if user.is_active else self.none()


class SavedView(models.Model):
    """A filter of the operations list under a name. `query` is its canonical query string. Shared ones are everybody's."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_views")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=1000)
    is_shared = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = SavedViewQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="saved_view_once")]

    def __str__(self) -> str:
        return self.name


class MessageNote(models.Model):
    """An internal note on a message. Never leaves Backhaul; append-only."""

    message = models.ForeignKey("Message", on_delete=models.PROTECT, related_name="notes")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False)
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"note by {self.author} on {self.message_id}"


class MessageCare(models.Model):
    """Who looks after a message. A table of its own: a message on its way is not touched by it."""

    message = models.OneToOneField("Message", on_delete=models.PROTECT, related_name="care")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "message care"

    def __str__(self) -> str:
        return f"{self.owner} looks after {self.message_id}"


class MessageWords(models.Model):
    """The words of a message for full-text search. Written by triggers when its text is, and never by hand.

    A table of its own, because a message on its way is written four times, each time with all its indexes.
    """

    message = models.OneToOneField("Message", on_delete=models.CASCADE, primary_key=True, related_name="words")
    vector = SearchVectorField()
    occurred_at = models.DateTimeField()
    connection = models.ForeignKey("Connection", on_delete=models.CASCADE, related_name="+", db_index=False)

    class Meta:
        verbose_name_plural = "message words"
        indexes = [GinIndex(fields=["vector"], name="words_vector")]

    def __str__(self) -> str:
        return f"words of {self.message_id}"
