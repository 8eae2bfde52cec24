"""History and plumbing, to be read only: audit, decisions, our requests, received events, group messages, sweeps, checks."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from messaging import inbox
from messaging.admin.reading import ReadOnlyAdmin, ReadOnlyInline, SearchByIdAdmin, link, pretty, table
from messaging.models import (
    AuditEntry,
    Decision,
    GroupMessage,
    Look,
    Message,
    RefusedDelivery,
    SendAttempt,
    SyncCursor,
    User,
    Verification,
    WebhookEvent,
)


@admin.register(AuditEntry)
class AuditEntryAdmin(SearchByIdAdmin, ReadOnlyAdmin):
    list_display = ("at", "action", "user", "message_link", "detail")
    list_filter = ("action", "at")
    list_select_related = ("user", "message")
    ordering = ("-id",)
    uuid_fields = ("message__uuid", "conversation__uuid", "connection__catena_id")
    exact_fields = ("action", "user__username")
    fields = ("at", "action", "user", "message_link", "conversation", "connection", "pretty_detail")
    readonly_fields = ("message_link", "pretty_detail")

    @admin.display(description="message")
    def message_link(self, obj: AuditEntry) -> SafeString | str:
        message = obj.message
        return link(reverse("admin:messaging_message_change", args=[message.pk]), str(message.uuid)) if message else "-"

    @admin.display(description="detail")
    def pretty_detail(self, obj: AuditEntry) -> SafeString:
        return pretty(obj.detail)


@admin.register(Decision)
class DecisionAdmin(SearchByIdAdmin, ReadOnlyAdmin):
    list_display = ("created_at", "kind", "user", "message", "reason")
    list_filter = ("kind",)
    list_select_related = ("user", "message")
    ordering = ("-id",)
    uuid_fields = ("message__uuid",)
    exact_fields = ("user__username",)
    fields = ("created_at", "message", "user", "kind", "reason", "pretty_evidence")
    readonly_fields = ("pretty_evidence",)

    @admin.display(description="what was known")
    def pretty_evidence(self, obj: Decision) -> SafeString:
        return pretty(obj.evidence)


class LookInline(ReadOnlyInline):
    model = Look
    fields = ("at", "window_from", "window_to", "is_complete", "read_count", "newest_at", "problem")
    verbose_name_plural = "searches in Catena's lists"


@admin.register(Look)
class LookAdmin(SearchByIdAdmin, ReadOnlyAdmin):
    list_display = ("at", "attempt", "is_complete", "read_count", "newest_at", "problem")
    list_filter = ("is_complete", "at")
    list_select_related = ("attempt",)
    ordering = ("-id",)
    uuid_fields = ("attempt__message__uuid",)
    fields = (
        "at",
        "attempt",
        "window_from",
        "window_to",
        "is_complete",
        "read_count",
        "newest_at",
        "problem",
        "pretty_nearest",
    )
    readonly_fields = ("pretty_nearest",)

    @admin.display(description="came closest")
    def pretty_nearest(self, obj: Look) -> SafeString:
        return pretty(obj.nearest)


@admin.register(SendAttempt)
class SendAttemptAdmin(SearchByIdAdmin, ReadOnlyAdmin):
    list_display = ("posting_at", "message", "fence", "authority", "outcome", "http_status", "error_class", "worker")
    list_filter = ("outcome", "authority", "http_status")
    list_select_related = ("message",)
    ordering = ("-id",)
    inlines = (LookInline,)
    uuid_fields = ("message__uuid", "message__operation__catena_id")
    exact_fields = ("worker", "body_sha256")


@admin.register(WebhookEvent)
class WebhookEventAdmin(SearchByIdAdmin, ReadOnlyAdmin):
    list_display = ("received_at", "event_name", "state", "tries", "next_at", "processed_at", "reason")
    list_filter = ("state", "event_name")
    ordering = ("-id",)
    actions = ("process_again",)
    uuid_fields = ("webhook_id",)
    exact_fields = ("key", "event_name", "body_sha256")
    fields = (
        "key", "event_name", "webhook_id", "state", "reason", "received_at", "tries", "next_at", "processed_at", "signed_by",
        "body_sha256", "pretty_body",
    )  # fmt: skip
    readonly_fields = ("pretty_body",)

    @admin.display(description="body")
    def pretty_body(self, obj: WebhookEvent) -> SafeString:
        return pretty(obj.body)

    @admin.action(description="Process again: those that are dead or parked")
    def process_again(self, request: HttpRequest, chosen: QuerySet[WebhookEvent]) -> None:
        """What is done stays done: applying it once more would change nothing."""
        count = inbox.process_again(list(chosen), timezone.now())
        AuditEntry.objects.create(
            user=request.user if isinstance(request.user, User) else None,
            action="events_processed_again",
            detail={"chosen": len(chosen), "again": count},
        )
        self.message_user(request, f"{count} of {len(chosen)} will be processed again within a second.")


@admin.register(RefusedDelivery)
class RefusedDeliveryAdmin(ReadOnlyAdmin):
    list_display = ("minute", "cause", "count")
    list_filter = ("cause",)
    fields = ("minute", "cause", "count")


class AppearanceInline(ReadOnlyInline):
    model = Message
    fk_name = "group"
    fields = ("conversation", "direction", "deleted_at")
    verbose_name_plural = "conversations that show it"


@admin.register(GroupMessage)
class GroupMessageAdmin(SearchByIdAdmin, ReadOnlyAdmin):
    list_display = (
        "occurred_at",
        "direction",
        "sender_name",
        "connection",
        "size",
        "unplaced",
        "record_status",
        "deleted_at",
    )
    list_filter = ("direction", "record_status", "connection__fleet")
    list_select_related = ("connection",)
    ordering = ("-occurred_at", "-id")
    inlines = (AppearanceInline,)
    uuid_fields = ("catena_id", "group_id", "thread_id", "connection__catena_id")
    exact_fields = ("source_id", "source_group_id")
    fields = (
        "catena_id", "connection", "direction", "sender", "sender_name", "text", "occurred_at", "size", "unplaced",
        "record_status", "delivered_at", "group_id", "source_group_id", "thread_id", "source_id", "catena_updated_at",
        "deleted_at", "first_seen_at", "pretty_recipients", "pretty_raw",
    )  # fmt: skip
    readonly_fields = ("pretty_recipients", "pretty_raw")

    @admin.display(description="recipients")
    def pretty_recipients(self, obj: GroupMessage) -> SafeString:
        return pretty({"by Catena": obj.recipient_ids, "by the provider": obj.source_recipient_ids})

    @admin.display(description="raw record")
    def pretty_raw(self, obj: GroupMessage) -> SafeString:
        return pretty(obj.raw)


@admin.register(SyncCursor)
class SyncCursorAdmin(ReadOnlyAdmin):
    list_display = (
        "name",
        "connection",
        "position",
        "started_at",
        "finished_at",
        "asked_at",
        "read_count",
        "last_error",
    )
    list_filter = ("name",)
    list_select_related = ("connection",)


@admin.register(Verification)
class VerificationAdmin(ReadOnlyAdmin):
    list_display = ("at", "rule_count", "found", "seconds")
    ordering = ("-id",)
    fields = ("at", "rule_count", "seconds", "lines")
    readonly_fields = ("lines",)

    @admin.display(description="breaches")
    def found(self, obj: Verification) -> int:
        return len(obj.breaches)

    @admin.display(description="breaches")
    def lines(self, obj: Verification) -> SafeString:
        return table(("Breach",), ((line,) for line in obj.breaches))
