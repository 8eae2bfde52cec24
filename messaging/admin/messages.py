"""Messages and conversations: found by any id, filtered by what is failed or stuck, with every attempt below."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from messaging.admin.reading import (
    ReadOnlyAdmin,
    ReadOnlyInline,
    SearchByIdAdmin,
    badge_of,
    carry_gates,
    link,
    pretty,
    table,
)
from messaging.insight.situations import ATTENTION, PENDING, situation_q
from messaging.models import Conversation, Decision, Look, Message, SendAttempt, closed_gates
from messaging.states import LEASED_STATES, SITUATIONS, SLOW_AFTER, MessageState
from messaging.templatetags.delivery import exact

# A lost request is looked for some thirty times in a day.
MOST_LOOKS = 100


class SituationFilter(admin.SimpleListFilter):
    """The words of the badges."""

    title = "situation"
    parameter_name = "situation"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        words = [(word, row.short or "Unknown status") for word, row in SITUATIONS.items()]
        return [(ATTENTION, "Needs attention"), (PENDING, "Pending"), *words]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Message]") -> "QuerySet[Message]":
        word = self.value()
        if word not in dict(self.lookup_choices):
            return queryset
        now = timezone.now()
        return queryset.filter(situation_q(str(word), now, closed_gates(now)))


class StuckFilter(admin.SimpleListFilter):
    """What an engine should have moved on by now."""

    title = "stuck"
    parameter_name = "stuck"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("pending", "Pending over 10 minutes"), ("lease", "Lease expired"), ("unknown", "Outcome unknown")]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Message]") -> "QuerySet[Message]":
        now = timezone.now()
        conditions = {
            "pending": Q(state=MessageState.ACCEPTED, accepted_at__lt=now - SLOW_AFTER),
            "lease": Q(state__in=sorted(LEASED_STATES), lease_until__lt=now),
            "unknown": Q(state=MessageState.UNKNOWN),
        }
        return queryset.filter(conditions.get(str(self.value()), Q()))


class SendAttemptInline(ReadOnlyInline):
    model = SendAttempt
    fk_name = "message"
    fields = (
        "fence",
        "authority",
        "posting_at",
        "finished_at",
        "outcome",
        "operation",
        "looks",
        "next_look_at",
        "http_status",
        "error_class",
        "error_text",
        "worker",
    )
    verbose_name_plural = "our requests to Catena"


class DecisionInline(ReadOnlyInline):
    model = Decision
    fields = ("created_at", "user", "kind", "reason")


@admin.register(Message)
class MessageAdmin(SearchByIdAdmin, ReadOnlyAdmin):
    list_display = (
        "occurred_at",
        "delivery",
        "direction",
        "driver",
        "connection",
        "priority",
        "attempt_count",
        "dashboard",
    )
    list_display_links = ("occurred_at",)
    list_filter = (SituationFilter, StuckFilter, "direction", "state", "question", "priority", "error_type")
    list_select_related = ("connection", "conversation__driver", "settled_by")
    ordering = ("-occurred_at", "-id")
    inlines = (SendAttemptInline, DecisionInline)
    uuid_fields = (
        "uuid", "catena_id", "operation__catena_id", "operation__resource_id", "client_token", "thread_id",
        "conversation__uuid", "connection__catena_id", "conversation__driver__catena_id",
    )  # fmt: skip
    exact_fields = ("source_id", "operation__source_id", "source_thread_id")
    name_fields = ("conversation__driver__name", "author__username")
    fieldsets = (
        (None, {"fields": ("delivery", "uuid", "conversation", "connection", "direction", "occurred_at", "created_at")}),
        ("What was said", {"fields": (
            "author", "sender", "recipient", "sender_name", "text", "priority", "reply_to", "retry_of",
        )}),
        ("Our sending", {"fields": (
            "state", "seq", "detached", "send_by", "not_before", "expires_at", "claim_count", "fence", "lease_until", "worker",
            "unknown_since", "question", "searches", "looks", "client_token", "fingerprint",
        )}),
        ("What Catena says", {"fields": (
            "operation_link", "operation_status", "accepted_at", "next_poll_at", "attempt_count", "failed_attempts", "reason",
            "error_type", "response_status_code", "catena_attempts", "catena_id", "source_id", "group", "record_status",
            "delivered_at", "read_at", "thread_id", "source_thread_id", "reply_to_catena_id", "catena_updated_at",
            "deleted_at", "pretty_raw",
        )}),
        ("How it ended", {"fields": ("settled_at", "settled_by", "handled_at", "handled_by", "handled_note", "escalated_at",
                                     "corrected_at", "is_sent_twice")}),
    )  # fmt: skip
    readonly_fields = ("delivery", "operation_link", "catena_attempts", "searches", "pretty_raw")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        listed = super().get_changelist_instance(request)
        carry_gates(listed.result_list)
        return listed

    def view_on_site(self, obj: Message) -> str:
        return obj.get_absolute_url()

    @admin.display(description="status")
    def delivery(self, obj: Message) -> SafeString:
        return badge_of(obj)

    @admin.display(description="driver", ordering="conversation__driver__name")
    def driver(self, obj: Message) -> str:
        return obj.conversation.driver.name

    @admin.display(description="dashboard")
    def dashboard(self, obj: Message) -> SafeString:
        return link(obj.get_absolute_url(), "Open")

    @admin.display(description="operation")
    def operation_link(self, obj: Message) -> SafeString | str:
        if obj.operation is None:
            return "-"
        return link(reverse("admin:messaging_operation_change", args=[obj.operation.pk]), str(obj.operation.catena_id))

    @admin.display(description="attempts of Catena")
    def catena_attempts(self, obj: Message) -> SafeString:
        logs = obj.operation.logs.all() if obj.operation else []
        heads = ("When", "Status", "Code", "Error type", "Error", "Headers")
        return table(
            heads,
            (
                (exact(log.catena_created_at), log.status, log.response_status_code or "", log.error_type, log.error_details,
                 pretty(log.response_headers))
                for log in logs
            ),
        )  # fmt: skip

    @admin.display(description="searches for lost requests")
    def searches(self, obj: Message) -> SafeString:
        heads = ("When", "Listed from", "to", "Complete", "Operations", "Newest", "Problem")
        looks = Look.objects.filter(attempt__message=obj).order_by("-id")[:MOST_LOOKS]
        return table(
            heads,
            (
                (exact(one.at), exact(one.window_from), exact(one.window_to), "Yes" if one.is_complete else "No",
                 one.read_count, exact(one.newest_at), one.problem)
                for one in looks
            ),
        )  # fmt: skip

    @admin.display(description="raw record")
    def pretty_raw(self, obj: Message) -> SafeString:
        return pretty(obj.raw)


@admin.register(Conversation)
class ConversationAdmin(SearchByIdAdmin, ReadOnlyAdmin):
    list_display = ("driver", "connection", "last_at", "attention_count", "dashboard")
    list_filter = ("connection__fleet",)
    list_select_related = ("driver", "connection")
    ordering = ("-last_at", "-id")
    uuid_fields = ("uuid", "thread_id", "driver__catena_id", "connection__catena_id")
    exact_fields = ("driver__source_id",)
    name_fields = ("driver__name",)

    def view_on_site(self, obj: Conversation) -> str:
        return obj.get_absolute_url()

    @admin.display(description="dashboard")
    def dashboard(self, obj: Conversation) -> SafeString:
        return link(obj.get_absolute_url(), "Open")
