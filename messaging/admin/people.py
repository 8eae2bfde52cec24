"""The people who log in: their role, their fleets, their preferences. Nobody is deleted; history names them."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import UserChangeForm
from django.contrib.auth.models import Permission
from django.db.models import Model
from django.http import HttpRequest

from messaging.access import EXPORT, may_export
from messaging.admin.directory import audit
from messaging.admin.reading import AdministratorAdmin, PlainInline, may_administer
from messaging.models import FleetMembership, Role, User

_EXPORT = {"codename": EXPORT, "content_type__app_label": "messaging"}
_NAMES = ("username", "first_name", "last_name", "email")


class MembershipInline(PlainInline):
    model = FleetMembership
    extra = 1
    verbose_name_plural = "fleets"

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may_administer(request)

    has_add_permission = has_change_permission = has_delete_permission = has_view_permission


# The stubs know this class as generic, Django does not.
if TYPE_CHECKING:
    PlainPersonForm = UserChangeForm[User]
else:
    PlainPersonForm = UserChangeForm


class PersonForm(PlainPersonForm):
    """The one permission that goes to single people, as a tick instead of Django's list of all."""

    may_export = forms.BooleanField(
        required=False, label="May export messages", help_text="As CSV, of the fleets they see. A superuser always may."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["may_export"] = self.instance.user_permissions.filter(**_EXPORT).exists()


@admin.register(User)
class PersonAdmin(AdministratorAdmin, UserAdmin):  # type: ignore[type-arg]
    """Only a superuser makes superusers or touches one, or an administrator could raise himself."""

    form = PersonForm
    list_display = ("username", "first_name", "last_name", "role", "is_active", "is_superuser", "last_login")
    list_filter = ("role", "is_active", "is_superuser", "memberships__fleet")
    ordering = ("username",)
    inlines = (MembershipInline,)
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": (*_NAMES, "password")}),
        ("Access", {"fields": ("role", "is_active", "is_superuser", "may_export")}),
        ("Preferences", {"fields": ("time_zone", "theme", "undo_seconds", "has_shortcuts")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (
            None,
            {"fields": ("username", "first_name", "last_name", "role", "usable_password", "password1", "password2")},
        ),
    )
    readonly_fields = ("last_login", "date_joined")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        is_above = isinstance(obj, User) and obj.is_superuser and not _is_superuser(request)
        return may_administer(request) and not is_above

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        fixed = (*self.readonly_fields,)
        return fixed if _is_superuser(request) else (*fixed, "is_superuser")

    def save_model(self, request: HttpRequest, obj: Any, form: "forms.ModelForm[Any]", change: bool) -> None:
        # The role opens the panel; Django asks its own flag at the door.
        obj.is_staff = obj.is_superuser or obj.role == Role.ADMINISTRATOR
        super().save_model(request, obj, form, change)
        if change:
            allow = obj.user_permissions.add if form.cleaned_data.get("may_export") else obj.user_permissions.remove
            allow(Permission.objects.get(**_EXPORT))
        # Field names only: a password must not reach the audit, nor a name that can be looked up.
        changed = sorted(form.changed_data)
        audit(request, "person_changed" if change else "person_added", obj, {"changed": changed, "role": obj.role})

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        super().save_formset(request, form, formset, change)
        added = [row.fleet_id for row in formset.new_objects] + [row.fleet_id for row, _ in formset.changed_objects]
        gone = [row.fleet_id for row in formset.deleted_objects]
        if added or gone:
            audit(request, "fleets_changed", form.instance, {"added": added, "removed": gone})

    @admin.display(description="May export messages", boolean=True)
    def may_export(self, obj: User) -> bool:
        """What the form's tick says, for those who may only read it."""
        return may_export(obj)


def _is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))


@admin.register(FleetMembership)
class FleetMembershipAdmin(AdministratorAdmin):
    list_display = ("user", "fleet")
    list_filter = ("fleet",)
    list_select_related = ("user", "fleet")
    search_fields = ("user__username", "user__last_name", "fleet__name")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may_administer(request)

    def save_model(self, request: HttpRequest, obj: Any, form: "forms.ModelForm[Any]", change: bool) -> None:
        super().save_model(request, obj, form, change)
        audit(request, "fleets_changed", obj.user, {"added": [obj.fleet_id], "removed": []})

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        audit(request, "fleets_changed", obj.user, {"added": [], "removed": [obj.fleet_id]})
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for row in queryset.select_related("user"):
            self.delete_model(request, row)
