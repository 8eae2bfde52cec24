"""Site-wide pages: log-in, health, readiness and what a person sees when something is refused."""

import logging
from datetime import timedelta
from math import ceil
from urllib.parse import urlencode
from uuid import uuid4

from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render, resolve_url
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from dashboard import throttle
from messaging import heartbeat

logger = logging.getLogger(__name__)


class LogIn(LoginView):
    """The only door: Django admin's own form leads here too, so that no form escapes the throttle."""

    redirect_authenticated_user = True

    def post(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        wait = throttle.reserve(throttle.caller_of(request), timezone.now())
        return self._refuse(wait) if wait else super().post(request, *args, **kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        throttle.forget(throttle.caller_of(self.request))
        return super().form_valid(form)

    def _refuse(self, wait: timedelta) -> HttpResponse:
        """Says how long, and does not look at the password."""
        seconds = ceil(wait.total_seconds())
        form = AuthenticationForm(self.request, initial={"username": self.request.POST.get("username", "")})
        context = self.get_context_data(form=form, wait_minutes=ceil(seconds / 60))
        return self.render_to_response(context, status=429, headers={"Retry-After": str(seconds)})


@login_not_required
@require_safe
def admin_log_in(request: HttpRequest) -> HttpResponse:
    """Where Django admin sends people it does not know: to the one log-in page."""
    if request.user.is_authenticated:
        raise PermissionDenied  # signed in but no administrator: logging in again would lead back here
    back = request.GET.get(REDIRECT_FIELD_NAME) or resolve_url("admin:index")
    return HttpResponseRedirect(f"{resolve_url('login')}?{urlencode({REDIRECT_FIELD_NAME: back})}")


@login_not_required
@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """200 while this process can answer at all. Touches nothing else."""
    return HttpResponse("ok\n", content_type="text/plain")


@login_not_required
@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when the database answers, its migrations are applied and a worker was alive lately; else 503 saying what is not."""
    report = _readiness()
    return JsonResponse(report, status=200 if all(word == "ok" for word in report.values()) else 503)


def _readiness() -> dict[str, str]:
    try:
        executor = MigrationExecutor(connection)
        pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
        report = {"database": "ok", "migrations": "ok" if not pending else f"{len(pending)} not applied"}
        report["worker"] = "ok" if not pending and heartbeat.is_fresh(timezone.now()) else "no recent heartbeat"
    except DatabaseError:
        return {"database": "no answer", "migrations": "not known", "worker": "not known"}
    return report


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The page was open across a log-in: reload, the text is kept. A fragment says so beside the text."""
    is_fragment = "HX-Request" in request.headers
    return render(request, "includes/csrf_failure.html" if is_fragment else "403_csrf.html", status=403)


def server_error(request: HttpRequest) -> HttpResponse:
    """The page after an unexpected failure. Needs no database; its id is in the log beside the traceback."""
    request_id = uuid4().hex[:8]
    logger.error("request %s broke: %s %s", request_id, request.method, request.path)
    return HttpResponse(render_to_string("500.html", {"request_id": request_id, "request": request}), status=500)
