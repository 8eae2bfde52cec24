"""Site-wide pages: health, readiness and what a person sees when something is refused."""

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from messaging import heartbeat


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
    """The page was open across a log-in: reload, the text is kept."""
    return render(request, "403_csrf.html", status=403)
