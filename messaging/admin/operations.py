"""Catena's operations with their logs, and the gates that pause sending."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
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
from messaging.models import Gate, Message, Operation, OperationLog
from messaging.templatetags.delivery import exact


class OperationLogInline(ReadOnlyInline):
    model = OperationLog
    fields = ("catena_created_at", "status", "response_status_code", "error_type", "error_details", "response_headers")
    verbose_name_plural = "attempts of Catena"


@admin.register(Operation)
class OperationAdmin(SearchByIdAdmin, ReadOnlyAdmin):
    list_display = ("catena_created_at", "catena_id", "status", "delivery", "connection", "resource", "dashboard")
    list_display_links = ("catena_created_at", "catena_id")
    list_filter = ("status", "resource", "connection__fleet")
    list_select_related = ("connection", "message__connection", "message__settled_by")
    ordering = ("-catena_created_at", "-id")
    inlines = (OperationLogInline,)
    uuid_fields = (
        "catena_id",
        "resource_id",
        "logs__catena_id",
        "message__uuid",
        "message__catena_id",
        "connection__catena_id",
    )
    exact_fields = ("source_id",)
    name_fields = ("message__conversation__driver__name",)
    fields = (
        "catena_id", "delivery", "message_link", "our_requests", "connection", "resource", "operation_type", "status",
        "resource_id", "source_id", "catena_created_at", "catena_updated_at", "first_seen_at", "pretty_payload", "pretty_raw",
    )  # fmt: skip
    readonly_fields = fields

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Operation]", search_term: str
    ) -> tuple["QuerySet[Operation]", bool]:
        found, _ = super().get_search_results(request, queryset, search_term)
        return found, True  # a log's id joins many rows

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        listed = super().get_changelist_instance(request)
        carry_gates([message for one in listed.result_list if (message := message_of(one))])
        return listed

    def view_on_site(self, obj: Operation) -> str | None:
        message = message_of(obj)
        return message.get_absolute_url() if message else None

    @admin.display(description="message")
    def delivery(self, obj: Operation) -> SafeString | str:
        message = message_of(obj)
        return badge_of(message) if message else "Not ours"

    @admin.display(description="dashboard")
    def dashboard(self, obj: Operation) -> SafeString | str:
        message = message_of(obj)
        return link(message.get_absolute_url(), "Open") if message else "-"

    @admin.display(description="message row")
    def message_link(self, obj: Operation) -> SafeString | str:
        message = message_of(obj)
        return link(reverse("admin:messaging_message_change", args=[message.pk]), str(message.uuid)) if message else "-"

    @admin.display(description="our requests")
    def our_requests(self, obj: Operation) -> SafeString:
        message = message_of(obj)
        attempts = message.send_attempts.all() if message else []
        rows = ((exact(one.posting_at), one.get_outcome_display() or "Open", one.http_status or "") for one in attempts)
        return table(("When", "Outcome", "Code"), rows)

    @admin.display(description="payload")
    def pretty_payload(self, obj: Operation) -> SafeString:
        return pretty(obj.payload)

    @admin.display(description="raw record")
    def pretty_raw(self, obj: Operation) -> SafeString:
        return pretty(obj.raw)


def message_of(operation: Operation) -> Message | None:
    """The message of ours that the operation belongs to; None when somebody else began it."""
    try:
        return operation.message
    except ObjectDoesNotExist:
        return None


@admin.register(Gate)
class GateAdmin(ReadOnlyAdmin):
    list_display = ("gate", "state", "cause", "reason", "until", "probe_at", "changed_at", "changed_by")
    list_filter = ("state", "cause")
    list_select_related = ("connection", "changed_by")
    ordering = ("connection_id",)

    @admin.display(description="gate")
    def gate(self, obj: Gate) -> SafeString:
        return format_html("{}", obj.connection or "The whole credential")
