"""Mirrored fleets, connections and users. Ours, and so changeable: hours until expiry, and who a connection sends as."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from messaging.admin.reading import ReadOnlyAdmin, SearchByIdAdmin, link, pretty
from messaging.models import AuditEntry, Connection, Fleet, FleetUser, User


class MirroredAdmin(SearchByIdAdmin):
    """Rows that Catena makes and takes away; of their columns only `ours` may be changed, and each change is audited."""

    ours: tuple[str, ...] = ()
    audit_action = ""
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        shown = [name for group in self.get_fieldsets(request, obj) for name in group[1]["fields"]]
        return [name for name in map(str, shown) if name not in self.ours]

    def save_model(self, request: HttpRequest, obj: Any, form: "forms.ModelForm[Any]", change: bool) -> None:
        changed = {name: form.cleaned_data[name] for name in form.changed_data}
        if not changed:
            return
        obj.save(update_fields=list(changed))
        audit(request, self.audit_action, obj, {name: plain(value) for name, value in changed.items()})


def plain(value: object) -> object:
    """A value for the audit: figures as they are, rows by their key."""
    return value if isinstance(value, int | str | bool | None) else getattr(value, "pk", str(value))


def audit(request: HttpRequest, action: str, obj: object, detail: dict[str, object]) -> None:
    connection = obj if isinstance(obj, Connection) else None
    row = {"model": type(obj).__name__, "id": getattr(obj, "pk", None), **detail}
    user = request.user if isinstance(request.user, User) else None
    AuditEntry.objects.create(user=user, action=action, connection=connection, detail=row)


@admin.register(Fleet)
class FleetAdmin(MirroredAdmin):
    ours = ("expires_high_hours", "expires_other_hours")
    audit_action = "fleet_hours"
    list_display = ("name", "fleet_ref", "expires_high_hours", "expires_other_hours", "withdrawn_at", "synced_at")
    uuid_fields = ("catena_id",)
    exact_fields = ("fleet_ref",)
    name_fields = ("name", "fleet_ref")
    fields = (
        "name", "catena_id", "fleet_ref", "expires_high_hours", "expires_other_hours", "catena_created_at", "catena_updated_at",
        "withdrawn_at", "synced_at", "pretty_raw",
    )  # fmt: skip

    @admin.display(description="raw record")
    def pretty_raw(self, obj: Fleet) -> SafeString:
        return pretty(obj.raw)


@admin.register(Connection)
class ConnectionAdmin(MirroredAdmin):
    ours = ("pinned_sender",)
    audit_action = "pin_sender"
    list_display = (
        "label",
        "fleet",
        "source_name",
        "status",
        "share_level",
        "last_successful_execution_at",
        "dashboard",
    )
    list_filter = ("status", "share_level", "source_name", "fleet")
    list_select_related = ("fleet",)
    uuid_fields = ("catena_id", "tsp_id", "fleet__catena_id")
    exact_fields = ("source_name",)
    name_fields = ("description", "fleet__name", "source_name")
    fields = (
        "fleet", "description", "catena_id", "tsp_id", "source_name", "tsp_slug", "status", "share_level", "obstacle",
        "pinned_sender", "message_support", "group_share_level", "group_support", "schedule_status",
        "last_successful_execution_at", "next_execution_at", "catena_created_at", "catena_updated_at",
        "withdrawn_at", "synced_at", "pretty_raw",
    )  # fmt: skip

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        field = form.base_fields.get("pinned_sender")
        if isinstance(field, forms.ModelChoiceField):
            field.queryset = FleetUser.objects.filter(connection=obj).senders()
            field.widget = forms.Select()
            field.widget.choices = field.choices
        return form

    def view_on_site(self, obj: Connection) -> str:
        return reverse("connection", args=[obj.catena_id])

    @admin.display(description="dashboard")
    def dashboard(self, obj: Connection) -> SafeString:
        return link(self.view_on_site(obj), "Open")

    @admin.display(description="obstacle to sending")
    def obstacle(self, obj: Connection) -> str:
        return obj.sending_obstacle or "None"

    @admin.display(description="raw record")
    def pretty_raw(self, obj: Connection) -> SafeString:
        return pretty(obj.raw)


@admin.register(FleetUser)
class FleetUserAdmin(SearchByIdAdmin, ReadOnlyAdmin):
    list_display = ("name", "connection", "is_driver", "is_active", "user_designation", "source_id", "deleted_at")
    list_filter = ("is_driver", "is_active", "connection__fleet")
    list_select_related = ("connection",)
    uuid_fields = ("catena_id", "connection__catena_id")
    exact_fields = ("source_id",)
    name_fields = ("name", "username")
    fields = (
        "name", "username", "catena_id", "source_id", "connection", "is_driver", "user_designation", "is_active", "status",
        "phone_number", "catena_created_at", "catena_updated_at", "deleted_at", "synced_at", "pretty_raw",
    )  # fmt: skip
    readonly_fields = ("pretty_raw",)

    @admin.display(description="raw record")
    def pretty_raw(self, obj: FleetUser) -> SafeString:
        return pretty(obj.raw)
