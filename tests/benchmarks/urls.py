"""The product's addresses and the anchors that every ratio is taken against."""

from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST


@login_not_required
def plain(request: HttpRequest) -> HttpResponse:
    """Full middleware, nobody signed in."""
    return HttpResponse("ok")


def bare(request: HttpRequest) -> HttpResponse:
    """Full middleware, session and user read: what any page of a signed-in person costs at least."""
    return HttpResponse(request.user.pk)


@csrf_exempt
@login_not_required
@require_POST
def insert(request: HttpRequest) -> HttpResponse:
    """Full middleware, the body as it came, one INSERT: the least that stores anything for nobody signed in."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO bench_bare (body) VALUES (%s)", [request.body])
    return HttpResponse(status=202)


urlpatterns = [
    path("_bench/plain", plain),
    path("_bench/bare", bare),
    path("_bench/insert", insert),
    path("", include("dashboard.urls")),
]
