"""What holds for every request: log-in, headers, theme, time zone, nothing left in caches."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import URLPattern, URLResolver, get_resolver, include, path
from django.utils import timezone

from dashboard import urls
from messaging import models

# Everything that a person may see without logging in; the webhook receiver checks signatures instead.
PUBLIC = {"healthz", "readyz", "login/", "admin/login/", "hooks/catena/"}
EXAMPLES = {"uuid": "0d9f1c3e-5a51-4c1e-9a43-1f8f5a3b2c11", "int": "1", "str": "x", "slug": "x", "path": "x"}
# Django admin's own address of its log-in form; it leads on to ours.
LOG_INS = ("/login/?next=", "/admin/login/?next=")


def echo(request: HttpRequest) -> HttpResponse:
    theme = request.theme  # type: ignore[attr-defined]
    return HttpResponse(f"{timezone.get_current_timezone_name()} {theme}")


def cached(request: HttpRequest) -> HttpResponse:
    return HttpResponse("picture", headers={"Cache-Control": "private, max-age=60"})


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("the view broke")


urlpatterns = [
    path("echo/", echo),
    path("cached/", cached),
    path("broken/", broken),
    path("", include(urls.urlpatterns)),
]
handler500 = urls.handler500
with_echo = override_settings(ROOT_URLCONF="tests.dashboard.test_middleware")


def routes(patterns: list[Any], before: str = "") -> Iterator[str]:
    """Every address of the site, its parameters filled with examples."""
    for entry in patterns:
        text = before + _filled(entry)
        if isinstance(entry, URLResolver):
            yield from routes(entry.url_patterns, text)
        else:
            yield text


def _filled(entry: URLPattern | URLResolver) -> str:
    text = re.sub(r"<(?:(\w+):)?\w+>", lambda found: EXAMPLES[found[1] or "str"], str(entry.pattern))
    return re.sub(r"\(\?P.*", "x/", text.lstrip("^").rstrip("$"))


ADDRESSES = sorted(set(routes(get_resolver("dashboard.urls").url_patterns)))


def test_the_walk_sees_the_whole_address_space() -> None:
    assert {"", "healthz", "login/", "logout/", "admin/", "admin/messaging/user/"} <= set(ADDRESSES)
    assert not [address for address in ADDRESSES if "<" in address]


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["get", "post"])
def test_everything_that_is_not_public_asks_for_a_log_in(method: str) -> None:
    answers = {
        address: getattr(Client(), method)(f"/{address}")  # each by a stranger who has not been here
        for address in ADDRESSES
        if address not in PUBLIC
    }

    assert len(answers) > 150
    assert {address: answer.status_code for address, answer in answers.items() if answer.status_code != 302} == {}
    assert [address for address, answer in answers.items() if not answer.headers["Location"].startswith(LOG_INS)] == []


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["no/such/page", "c/", ".env", "var/secret_key"])
def test_an_unknown_address_tells_a_stranger_nothing(client: Client, address: str) -> None:
    answer = client.get(f"/{address}")

    assert answer.status_code in {302, 404}
    assert b"Traceback" not in answer.content


@pytest.mark.django_db
def test_a_fragment_asked_for_after_the_session_ended_sends_the_whole_page_to_the_log_in(client: Client) -> None:
    answer = client.get(
        "/settings/",
        headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/c/1/?filter=unread&page=2"},
    )

    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["HX-Redirect"] == "/login/?next=%2Fc%2F1%2F%3Ffilter%3Dunread%26page%3D2&why=expired"


@pytest.mark.django_db
def test_a_fragment_that_does_not_say_where_it_is_returns_to_the_inbox(client: Client) -> None:
    answer = client.get("/settings/", headers={"HX-Request": "true"})

    assert answer.headers["HX-Redirect"] == "/login/?next=%2F&why=expired"


@pytest.mark.django_db
def test_a_page_to_return_to_on_another_site_is_not_followed(client: Client, mara: models.User) -> None:
    client.force_login(mara)

    answer = client.get("/login/?next=https://elsewhere.example/")

    assert answer.headers["Location"] == "/"


@pytest.mark.django_db
@with_echo
def test_what_a_signed_in_person_saw_is_kept_by_no_cache(client: Client, mara: models.User) -> None:
    client.force_login(mara)

    assert client.get("/echo/").headers["Cache-Control"] == "no-store"
    assert client.get("/cached/").headers["Cache-Control"] == "private, max-age=60", "a view may decide otherwise"
    assert "no-store" in client.get("/login/").headers["Cache-Control"]


def headers_of(address: str, method: str = "get") -> Any:
    return getattr(Client(raise_request_exception=False), method)(address).headers


@pytest.mark.django_db
@with_echo
@pytest.mark.parametrize(
    "address",
    [
        "/login/",
        "/healthz",
        "/readyz",
        "/echo/",
        "/no/such/page/",
        "/static/css/app.css",
        "/static/none.css",
        "/admin/",
    ],
)
def test_every_answer_tells_the_browser_what_it_may_do(address: str) -> None:
    check_headers(headers_of(address))


@pytest.mark.django_db
@with_echo
def test_a_failure_tells_the_browser_what_it_may_do(client: Client, mara: models.User) -> None:
    client.raise_request_exception = False
    client.force_login(mara)

    answer = client.get("/broken/")

    assert answer.status_code == 500
    check_headers(answer.headers)


def check_headers(headers: Any) -> None:
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' data:",
        "font-src": "'self'", "connect-src": "'self'", "form-action": "'self'", "base-uri": "'none'",
        "frame-ancestors": "'none'", "object-src": "'none'",
    }  # fmt: skip
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


@pytest.mark.django_db
@with_echo
@pytest.mark.parametrize(
    ("stored", "cookie", "theme"),
    [("dark", "light", "dark"), ("light", "dark", "light"), ("system", "dark", "")],
)
def test_the_person_decides_the_theme_and_the_cookie_does_not(
    client: Client, mara: models.User, stored: str, cookie: str, theme: str
) -> None:
    models.User.objects.filter(pk=mara.pk).update(theme=stored)
    client.force_login(mara)
    client.cookies["theme"] = cookie

    assert client.get("/echo/").content.decode() == f"UTC {theme}"


@pytest.mark.django_db
@pytest.mark.parametrize(("cookie", "theme"), [("dark", "dark"), ("light", "light"), ('"><script>', None), ("", None)])
def test_the_cookie_colours_the_log_in_page_when_it_holds_a_theme(
    client: Client, cookie: str, theme: str | None
) -> None:
    client.cookies["theme"] = cookie

    html = client.get("/login/").content.decode()

    assert ("data-theme=" in html) is (theme is not None)
    assert theme is None or f'data-theme="{theme}"' in html


@pytest.mark.django_db
@with_echo
@pytest.mark.parametrize(
    ("chosen", "active"), [("America/Chicago", "America/Chicago"), ("", "UTC"), ("Mars/Base", "UTC"), ("../x", "UTC")]
)
def test_times_are_told_in_the_zone_of_the_person(client: Client, mara: models.User, chosen: str, active: str) -> None:
    models.User.objects.filter(pk=mara.pk).update(time_zone=chosen)
    client.force_login(mara)

    assert client.get("/echo/").content.decode() == f"{active} "
    assert timezone.get_current_timezone_name() == settings.TIME_ZONE, "the next request starts without it"
