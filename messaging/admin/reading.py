"""Who may open the panel, what read-only means, and how ids, badges and JSON look in it."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from messaging.access import is_administrator
from messaging.models import Message, User, closed_gates, message_delivery
from messaging.models.outlook import ClosedGates
from messaging.states import Badge
from messaging.templatetags.delivery import badge

# The stubs know these classes as generic, Django does not.
if TYPE_CHECKING:
    PlainAdmin = admin.ModelAdmin[Any]
    PlainInline = admin.TabularInline[Any, Any]
else:
    PlainAdmin, PlainInline = admin.ModelAdmin, admin.TabularInline


def may_administer(request: HttpRequest) -> bool:
    return isinstance(request.user, User) and is_administrator(request.user)


class AdministratorAdmin(PlainAdmin):
    """Open to administrators by their role, whatever Django's own permission tables hold."""

    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Without its filters when one holds a NUL: no row does, and Django would hand it to the database."""
        filters = [word for name, words in request.GET.lists() if name != SEARCH_VAR for word in words]
        if any("\x00" in word for word in filters):
            return redirect(request.path)
        return super().changelist_view(request, extra_context)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_administer(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may_administer(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_administer(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may_administer(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ReadOnlyAdmin(AdministratorAdmin):
    """Rows that only Catena, the engines or history itself may write."""

    actions: Sequence[str] | None = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ReadOnlyInline(PlainInline):
    extra = 0
    can_delete = False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [str(name) for name in self.fields or ()]

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may_administer(request)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class SearchByIdAdmin(AdministratorAdmin):
    """A search box that takes any id: a UUID is looked up in `uuid_fields`, other words in `exact_fields` and `name_fields`."""

    uuid_fields: tuple[str, ...] = ()
    exact_fields: tuple[str, ...] = ()
    name_fields: tuple[str, ...] = ()
    search_fields = ("pk",)  # shows the box; `get_search_results` decides

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str
    ) -> tuple["QuerySet[Any]", bool]:
        term = search_term.strip()[:200].replace("\x00", "")
        return (queryset.filter(self.matching(term)) if term else queryset), False

    def matching(self, term: str) -> Q:
        wanted = as_uuid(term)
        if wanted is not None:
            return _any_of(self.uuid_fields, "", wanted)
        return _any_of(self.exact_fields, "", term) | _any_of(self.name_fields, "__icontains", term)


def as_uuid(term: str) -> UUID | None:
    try:
        return UUID(term)
    except ValueError:
        return None


def _any_of(fields: tuple[str, ...], lookup: str, value: object) -> Q:
    found = Q(pk__in=[])
    for name in fields:
        found |= Q(**{name + lookup: value})
    return found


def badge_of(message: Message, gates: ClosedGates | None = None) -> SafeString:
    """The registry's word for a message. Reads the gates unless the list has read them already: see `carry_gates`."""
    known = gates if gates is not None else vars(message).get("gates")
    now = timezone.now()
    told: Badge = message_delivery(message, now, closed_gates(now) if known is None else known)
    return badge(told, "chip")


def carry_gates(messages: list[Message]) -> None:
    """Reads the closed gates once for all the messages of a list."""
    gates = closed_gates(timezone.now())
    for message in messages:
        vars(message)["gates"] = gates


def pretty(value: object) -> SafeString:
    return format_html("<pre>{}</pre>", json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True))


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> SafeString:
    """A small table for a field; a dash when there are no rows."""
    body = [format_html("<tr>{}</tr>", format_html_join("", "<td>{}</td>", ((cell,) for cell in row))) for row in rows]
    if not body:
        return SafeString("-")
    head = format_html_join("", '<th scope="col">{}</th>', ((word,) for word in heads))
    return format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", head, SafeString("".join(body)))


def link(address: str, words: str) -> SafeString:
    return format_html('<a href="{}">{}</a>', address, words)
