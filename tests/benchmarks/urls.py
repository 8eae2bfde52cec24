"""The product's addresses and the anchors that every ratio is taken against."""

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.urls import include, path


@login_not_required
def plain(request: HttpRequest) -> HttpResponse:
    """Full middleware, nobody signed in."""
    return HttpResponse("ok")


def bare(request: HttpRequest) -> HttpResponse:
    """Full middleware, session and user read: what any page of a signed-in person costs at least."""
    return HttpResponse(request.user.pk)


urlpatterns = [
    path("_bench/plain", plain),
    path("_bench/bare", bare),
    path("", include("dashboard.urls")),
]
