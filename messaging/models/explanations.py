"""What failures mean and what to do about them, as entries that administrators edit."""

from django.conf import settings
from django.db import models
from django.db.models import Q


class Explanation(models.Model):
    """One entry. It holds for a failure when all that it names agrees; a blank or empty field names nothing.

    `words` is looked for in the failure's text without regard to case. Among several that hold, the one that names the most
    telling facts wins (`insight.explanations` says in which order).
    """

    class Who(models.TextChoices):
        SENDER = "sender", "You, who wrote it"
        FLEET = "fleet", "The fleet"
        PROVIDER = "provider", "The provider"
        US = "us", "Your administrator"

    class Again(models.TextChoices):
        YES = "yes", "Safe to send again"
        LATER = "later", "Safe to send again, later"
        POINTLESS = "pointless", "Would fail again"
        CHECK = "check", "May have arrived: ask first"

    class Step(models.TextChoices):
        RESEND = "resend", "Send again"
        SHORTEN = "shorten", "Edit and send again"
        CONNECTION = "connection", "Look at the connection"
        OTHER_CONNECTION = "other_connection", "Use the driver's other connection"
        CALL = "call", "Call the driver"
        WAIT = "wait", "Wait"
        ESCALATE = "escalate", "Write to the provider's support"

    title = models.CharField(max_length=120)
    what = models.TextField(
        verbose_name="what happened", help_text="In plain words. {provider} and {driver} are filled in."
    )
    who = models.CharField(max_length=10, choices=Who, verbose_name="who can mend it")
    again = models.CharField(max_length=10, choices=Again, verbose_name="sending again")
    step = models.CharField(max_length=20, choices=Step, verbose_name="next step")
    advice = models.TextField(blank=True, help_text="What to do, in one or two sentences.")

    source_name = models.CharField(max_length=100, blank=True, verbose_name="provider", help_text="Blank: any.")
    error_type = models.CharField(max_length=50, blank=True, help_text="Catena's word; blank: any.")
    code_from = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Empty: any code, or none.")
    code_to = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Empty: only that one code.")
    words = models.CharField(max_length=200, blank=True, help_text="In the failure's text; blank: any text.")
    is_specific = models.BooleanField(
        default=True, help_text="Off for what is said when nothing better is known: such failures stay on the worklist."
    )
    is_active = models.BooleanField(default=True)
    changed_at = models.DateTimeField(auto_now=True)
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )

    class Meta:
        ordering = ["error_type", "code_from", "source_name", "words", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(code_to=None) | Q(code_from__isnull=False, code_to__gte=models.F("code_from")),
                name="explanation_codes_ascend",
            ),
        ]

    def __str__(self) -> str:
        return self.title


# Changes whenever an entry comes, goes or is saved: kept entries are as good as their stamp. Not the newest change alone,
# because of two that are saved at the same time the older may be committed last.
STAMP_SQL = (
    "(SELECT count(*) || ' ' || coalesce(sum(extract(epoch FROM x.changed_at)), 0) FROM messaging_explanation x"
    " WHERE x.is_active)"
)
