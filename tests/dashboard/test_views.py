"""Site-wide pages: health, readiness, and the pages behind a refusal or a failure."""

import logging
from datetime import timedelta

import pytest
from django.contrib.auth.decorators import login_not_required
from django.db import connection as database
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import include, path
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from dashboard import urls
from messaging import heartbeat, models


@login_not_required
def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("the view broke")


urlpatterns = [path("broken/", broken), path("", include(urls.urlpatterns))]
handler500 = urls.handler500


def test_a_process_that_answers_is_healthy_without_a_database(client: Client) -> None:
    answer = client.get("/healthz")  # no django_db mark: a query would fail the test

    assert (answer.status_code, answer.content) == (200, b"ok\n")
    assert "no-cache" in answer.headers["Cache-Control"]


@pytest.mark.django_db
def test_an_installation_with_a_living_worker_is_ready(client: Client) -> None:
    heartbeat.beat(timezone.now())

    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json() == {"database": "ok", "migrations": "ok", "worker": "ok"}


@pytest.mark.django_db
@pytest.mark.parametrize("beaten", [None, timedelta(minutes=2)])
def test_an_installation_without_a_worker_is_not_ready_and_says_so(client: Client, beaten: timedelta | None) -> None:
    if beaten:
        heartbeat.beat(timezone.now() - beaten)

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json() == {"database": "ok", "migrations": "ok", "worker": "no recent heartbeat"}


@pytest.mark.django_db
def test_an_installation_that_was_not_migrated_is_not_ready_and_says_so(client: Client) -> None:
    heartbeat.beat(timezone.now())
    [newest] = MigrationLoader(database).graph.leaf_nodes("messaging")
    MigrationRecorder(database).record_unapplied(*newest)

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["migrations"] == "1 not applied"


@pytest.mark.django_db(transaction=True)
def test_an_installation_whose_database_is_gone_is_not_ready_but_healthy(client: Client) -> None:
    gone = {**database.settings_dict, "PORT": "1", "HOST": "127.0.0.1"}
    kept, database.settings_dict = database.settings_dict, gone
    database.close()
    try:
        ready, healthy = client.get("/readyz"), client.get("/healthz")
    finally:
        database.settings_dict = kept

    assert ready.status_code == 503
    assert ready.json() == {"database": "no answer", "migrations": "not known", "worker": "not known"}
    assert healthy.status_code == 200


@override_settings(ROOT_URLCONF="tests.dashboard.test_views")
def test_a_failure_shows_a_page_without_a_query_and_its_id_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    client = Client(raise_request_exception=False)
    client.cookies["theme"] = "dark"

    with caplog.at_level(logging.ERROR):
        answer = client.get("/broken/")

    html = answer.content.decode()
    assert answer.status_code == 500
    assert "Something broke on our side" in html
    assert 'data-theme="dark"' in html
    [line] = [record.getMessage() for record in caplog.records if record.name == "dashboard.views"]
    request_id = line.split()[1]
    assert f'<span class="mono">{request_id}</span>' in html
    assert line == f"request {request_id} broke: GET /broken/"


@pytest.mark.django_db
def test_the_page_for_a_wrong_form_token_keeps_what_was_written_safe(mara: models.User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(mara)

    answer = client.post("/logout/")

    assert answer.status_code == 403
    assert "This page was open too long" in answer.content.decode()


@pytest.mark.django_db
def test_an_unknown_address_shows_the_missing_page_with_few_queries(
    client: Client, mara: models.User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client.force_login(mara)

    with django_assert_max_num_queries(3):
        answer = client.get("/no/such/page/")

    assert answer.status_code == 404
    assert "Nothing here" in answer.content.decode()
