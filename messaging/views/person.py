"""What a view may rely on: the signed-in person, htmx's particulars, and the page's one look at the news."""

from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails

from messaging import live
from messaging.models import User


class PersonRequest(HttpRequest):
    """The request of a signed-in person, as the middleware hands it to every view that does not opt out.

    A page view sets `glance` before it reads rows; the navigation's counts come from it.
    """

    user: User
    htmx: HtmxDetails
    glance: live.Glance


def asking_address(request: PersonRequest) -> str:
    """Path and query of the page that an htmx request comes from; empty when it names none of this site."""
    try:
        return request.htmx.current_url_abs_path or ""
    except ValueError:
        return ""
