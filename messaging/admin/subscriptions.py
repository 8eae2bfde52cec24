"""The mirrored webhook subscriptions, to be read only; they are tended on a page of the product."""

from django.contrib import admin
from django.urls import reverse

from messaging.admin.reading import ReadOnlyAdmin, SearchByIdAdmin
from messaging.models import WebhookSubscription, WebhookWatch


@admin.register(WebhookSubscription)
class WebhookSubscriptionAdmin(SearchByIdAdmin, ReadOnlyAdmin):
    list_display = ("event_name", "url", "status", "dead_letters", "secret_at", "checked_at", "problem")
    list_filter = ("status",)
    uuid_fields = ("catena_id",)
    exact_fields = ("event_name",)
    fields = (
        "catena_id", "event_name", "url", "status", "dead_letters", "secret_at", "catena_updated_at", "checked_at", "problem",
    )  # fmt: skip

    def view_on_site(self, obj: WebhookSubscription) -> str:
        return reverse("subscriptions")


@admin.register(WebhookWatch)
class WebhookWatchAdmin(ReadOnlyAdmin):
    list_display = ("url", "trouble", "dead_letters", "checked_at", "wanted", "wanted_by", "outcome")
    list_select_related = ("wanted_by",)

    def view_on_site(self, obj: WebhookWatch) -> str:
        return reverse("subscriptions")
