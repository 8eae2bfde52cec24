"""A person's own settings, their password, and the list of keys."""

from copy import copy
from typing import Any

from django.contrib import messages as flashes
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.views import PasswordChangeView
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse_lazy
from django.views.decorators.http import require_http_methods, require_safe

from messaging import live
from messaging.forms import SettingsForm
from messaging.views.desk import SeeOther
from messaging.views.person import PersonRequest

SETTINGS = "messaging/settings_form.html"
THEME_COOKIE_AGE = 400 * 24 * 3600


@require_http_methods(["GET", "HEAD", "POST"])
def settings(request: PersonRequest) -> HttpResponse:
    """Time zone, theme, undo time, shortcuts. The theme is also kept in a cookie, for the log-in page."""
    request.glance = live.glance(request.user)
    if request.method != "POST":
        return render(request, SETTINGS, _context(SettingsForm(instance=request.user)))
    # A form writes into its instance even when it refuses: the page around it must go on with what is stored.
    form = SettingsForm(request.POST, instance=copy(request.user))
    if not form.is_valid():
        return render(request, SETTINGS, _context(form), status=422)
    person = form.save(commit=False)
    person.save(update_fields=list(form.cleaned_data))
    flashes.success(request, "Your settings are saved.")
    response = SeeOther(request.path)
    response.set_cookie(
        "theme", person.theme, max_age=THEME_COOKIE_AGE, samesite="Lax", secure=request.is_secure(), httponly=True
    )
    return response


def _context(form: SettingsForm) -> dict[str, object]:
    return {"form": form, "section": "settings", "view": "page"}


@require_safe
def keys(request: PersonRequest) -> HttpResponse:
    """The keyboard help as a page; with script it opens as a dialog."""
    request.glance = live.glance(request.user)
    return render(request, "messaging/keys.html", {"section": "settings", "view": "page"})


class ChangePassword(PasswordChangeView):
    """Django's own, in our frame; leads back to the settings."""

    template_name = "messaging/password_form.html"
    success_url = reverse_lazy("settings")
    extra_context = {"section": "settings", "view": "page"}

    def get_context_data(self, **extra: Any) -> dict[str, Any]:
        request: Any = self.request
        request.glance = live.glance(request.user)
        return super().get_context_data(**extra)

    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        flashes.success(self.request, "Your password is changed.")
        return super().form_valid(form)
