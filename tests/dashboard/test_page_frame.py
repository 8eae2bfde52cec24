"""The frame of every page: log-in, errors, and what a browser is told about them."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.template.loader import render_to_string
from django.test import Client

ERROR_PAGES = ["403.html", "403_csrf.html", "404.html", "500.html", "503.html"]


@pytest.mark.parametrize("name", ERROR_PAGES)
def test_an_error_page_needs_no_request_and_no_query(name: str) -> None:
    html = render_to_string(name)

    assert html.count("<h1>") == 1
    assert re.search(r'class="btn btn-primary"', html)
    assert not re.search(r"<title>\s*-", html)


@pytest.mark.parametrize("name", ERROR_PAGES)
def test_an_error_page_names_its_request_when_it_knows_it(name: str) -> None:
    assert '<span class="mono">8f3a21c0</span>' in render_to_string(name, {"request_id": "8f3a21c0"})


@pytest.mark.django_db
def test_a_signed_out_person_sees_a_log_in_form_and_no_navigation(client: Client) -> None:
    html = client.get("/login/").content.decode()

    assert 'autocomplete="current-password"' in html
    assert 'class="side"' not in html
    assert "You were signed out" not in html


@pytest.mark.django_db
def test_an_expired_session_is_explained_at_the_log_in(client: Client) -> None:
    assert "your session ended" in client.get("/login/?why=expired&next=/").content.decode()


@pytest.mark.django_db
def test_the_page_to_return_to_survives_the_log_in_form(client: Client) -> None:
    assert (
        '<input type="hidden" name="next" value="/c/1/?a=1&amp;b=2">'
        in client.get("/login/", {"next": "/c/1/?a=1&b=2"}).content.decode()
    )


def refused_log_in(client: Client, name: str) -> HttpResponse:
    return client.post("/login/", {"username": name, "password": "wrong"})  # type: ignore[return-value]


@pytest.mark.django_db
def test_a_refused_log_in_does_not_tell_whether_the_name_exists(client: Client) -> None:
    get_user_model().objects.create_user("mara", password="right-horse-battery")

    known, unknown = (refused_log_in(client, name).content.decode() for name in ("mara", "nobody"))

    assert "do not belong together" in known
    hidden = re.compile(r'value="[^"]*"|"X-CSRFToken": "[^"]*"')
    assert hidden.sub("", known) == hidden.sub("", unknown)


@pytest.mark.django_db
def test_the_chosen_theme_is_on_the_page_before_any_script_runs(client: Client) -> None:
    client.cookies["theme"] = "dark"

    assert re.search(r'<html lang="en" data-theme="dark"', client.get("/login/").content.decode())


@pytest.mark.django_db
def test_a_theme_that_nobody_offers_is_ignored(client: Client) -> None:
    client.cookies["theme"] = '"><script>'

    assert "data-theme" not in client.get("/login/").content.decode()
