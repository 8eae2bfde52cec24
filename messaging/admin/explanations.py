"""What failures mean, as entries that administrators edit and see the effect of before they save."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.admin import helpers
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from messaging.admin.directory import audit, plain
from messaging.admin.reading import AdministratorAdmin
from messaging.insight.explanations import REACH, groups, ranked, reach, spoken_counts
from messaging.insight.starting_set import FACTS
from messaging.models import Explanation, Message, User

TYPE_HELP = (
    "Catena's word (auth, validation, network, tsp); or ours: “rejected” for what Catena itself refused, “expired” for what"
    " became too old. Blank: any."
)
NO_DIGITS = (
    "Leave numbers and ids out: failures are told apart without them. For a status code there are the fields above."
)


# The stubs know this class as generic, Django does not.
if TYPE_CHECKING:
    PlainForm = forms.ModelForm[Explanation]
else:
    PlainForm = forms.ModelForm


class ExplanationForm(PlainForm):
    class Meta:
        model = Explanation
        fields = (
            "title", "what", "who", "again", "step", "advice", "source_name", "error_type", "code_from", "code_to", "words",
            "is_specific", "is_active",
        )  # fmt: skip
        help_texts = {"error_type": TYPE_HELP}
        widgets = {"what": forms.Textarea(attrs={"rows": 3}), "advice": forms.Textarea(attrs={"rows": 2})}

    def clean_source_name(self) -> str:
        return str(self.cleaned_data["source_name"]).strip().lower()

    def clean_words(self) -> str:
        words = str(self.cleaned_data["words"]).strip()
        if any(sign.isdigit() for sign in words):
            raise forms.ValidationError(NO_DIGITS)
        return words

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        low, high = given.get("code_from"), given.get("code_to")
        if high is not None and (low is None or high < low):
            self.add_error("code_to", "The last code cannot be below the first. Leave it empty for one code alone.")
        return given


@admin.register(Explanation)
class ExplanationAdmin(AdministratorAdmin):
    """An entry is switched off and not deleted, so that it can come back."""

    form = ExplanationForm
    change_form_template = "admin/messaging/explanation/change_form.html"
    list_display = (
        "title", "source_name", "error_type", "codes", "words", "again", "step", "is_specific", "is_active", "spoken",
    )  # fmt: skip
    list_filter = ("error_type", "is_specific", "is_active", "who", "again", "step", "source_name")
    search_fields = ("title", "what", "advice", "words")
    actions = None
    fieldsets = (
        ("What is said", {"fields": ("title", "what", "who", "again", "step", "advice")}),
        ("Of which failures", {"fields": (*FACTS, "is_specific", "is_active")}),
    )

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Explanation]":
        return super().get_queryset(request).select_related("changed_by")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        listed = super().get_changelist_instance(request)
        counts = spoken_counts(groups(timezone.now()), ranked(Explanation.objects.all()))
        for row in listed.result_list:
            vars(row)["spoken"] = counts.get(row.pk, 0)
        return listed

    @admin.display(description="codes")
    def codes(self, obj: Explanation) -> str:
        if obj.code_from is None:
            return ""
        return str(obj.code_from) if obj.code_to is None else f"{obj.code_from} to {obj.code_to}"

    @admin.display(description="failures in 30 days")
    def spoken(self, obj: Explanation) -> int:
        return int(vars(obj).get("spoken", 0))

    def save_model(self, request: HttpRequest, obj: Any, form: "forms.ModelForm[Any]", change: bool) -> None:
        obj.changed_by = request.user if isinstance(request.user, User) else None
        super().save_model(request, obj, form, change)
        changed = {name: plain(form.cleaned_data[name]) for name in form.changed_data}
        audit(request, "explanation_changed" if change else "explanation_added", obj, changed)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The form with what its entry does. The button "Preview" shows the same of unsaved edits, and saves nothing."""
        obj = self.get_object(request, object_id) if object_id else None
        if request.method == "POST" and "_preview" in request.POST:
            return self._previewed(request, obj, object_id, form_url)
        context = {**(extra_context or {})}
        if request.method == "GET":
            shown = obj or self._prefilled(request)
            context["preview"] = _preview(shown) if shown else None
        return super().changeform_view(request, object_id, form_url, context)

    def _prefilled(self, request: HttpRequest) -> Explanation | None:
        """The entry of an address of the worklist; None when it names no fact that can be read."""
        given = {name: str(value) for name, value in self.get_changeform_initial_data(request).items() if name in FACTS}
        if not given or not all(value.isascii() and value.isdigit() for name, value in given.items() if "code" in name):
            return None
        return Explanation(**{name: int(value) if "code" in name else value for name, value in given.items()})

    def _previewed(
        self, request: HttpRequest, obj: Explanation | None, object_id: str | None, form_url: str
    ) -> HttpResponse:
        if not (self.has_change_permission(request, obj) and (obj is not None or object_id is None)):
            raise Http404
        form = self.get_form(request, obj, change=obj is not None)(request.POST, instance=obj)
        is_good = form.is_valid()
        shown = helpers.AdminForm(form, _fieldsets(self.get_fieldsets(request, obj)), {}, (), model_admin=self)
        context = {
            **self.admin_site.each_context(request),
            "title": "Preview: nothing is saved yet",
            "subtitle": None,
            "adminform": shown,
            "object_id": object_id,
            "original": obj,
            "is_popup": False,
            "to_field": None,
            "media": self.media + shown.media,
            "inline_admin_formsets": [],
            "errors": helpers.AdminErrorList(form, []),
            "preserved_filters": self.get_preserved_filters(request),
            "preview": _preview(form.instance) if is_good else None,
        }
        return self.render_change_form(
            request, context, add=obj is None, change=obj is not None, form_url=form_url, obj=obj
        )


def _fieldsets(given: Any) -> list[Any]:
    # The stubs know two types of field sets that do not fit each other.
    return list(given)


def _preview(entry: Explanation) -> dict[str, Any]:
    """What an entry would do, saved or not, among those that are in force. Two or three queries."""
    found = reach(entry, groups(timezone.now()), Explanation.objects.filter(is_active=True))
    newest = Message.objects.in_bulk([group.newest_id for group in found.examples])
    return {
        "held": found.held,
        "spoken": found.spoken,
        "elsewhere": found.held - found.spoken,
        "days": REACH.days,
        "examples": [(group, _address(newest.get(group.newest_id))) for group in found.examples],
    }


def _address(message: Message | None) -> SafeString | str:
    return format_html('<a href="{}">newest</a>', message.get_absolute_url()) if message else ""
