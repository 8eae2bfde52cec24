"""Incidents and their timelines, to be read only: people look after them on the pages of support."""

from django.contrib import admin

from messaging.admin.reading import ReadOnlyAdmin, ReadOnlyInline, SearchByIdAdmin
from messaging.models import Incident, IncidentEntry


class IncidentEntryInline(ReadOnlyInline):
    model = IncidentEntry
    fields = ("at", "kind", "user", "text")
    verbose_name_plural = "timeline"


@admin.register(Incident)
class IncidentAdmin(SearchByIdAdmin, ReadOnlyAdmin):
    list_display = ("opened_at", "source_name", "connection", "error_type", "response_status_code", "failures", "owner")
    list_filter = ("error_type", "opened_at")
    list_select_related = ("connection__fleet", "owner")
    ordering = ("-opened_at", "-id")
    uuid_fields = ("uuid", "connection__catena_id")
    exact_fields = ("source_name", "error_type")
    inlines = (IncidentEntryInline,)


@admin.register(IncidentEntry)
class IncidentEntryAdmin(SearchByIdAdmin, ReadOnlyAdmin):
    list_display = ("at", "kind", "user", "incident", "text")
    list_filter = ("kind", "at")
    list_select_related = ("incident__connection__fleet", "user")
    ordering = ("-id",)
    uuid_fields = ("incident__uuid",)
    exact_fields = ("user__username",)
