"""Who did what, and when. Append-only: a trigger refuses UPDATE and DELETE."""

from django.conf import settings
from django.db import models


class AuditEntry(models.Model):
    """One action of a person or of the system (`user` is null). `detail` holds ids and figures, never message text."""

    at = models.DateTimeField(auto_now_add=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    action = models.CharField(max_length=60)
    conversation = models.ForeignKey("Conversation", on_delete=models.PROTECT, null=True, related_name="audit_entries")
    message = models.ForeignKey("Message", on_delete=models.PROTECT, null=True, related_name="audit_entries")
    connection = models.ForeignKey("Connection", on_delete=models.PROTECT, null=True, related_name="audit_entries")
    detail = models.JSONField(default=dict)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.action} at {self.at:%Y-%m-%d %H:%M:%S}"
