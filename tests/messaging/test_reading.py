"""How far each sweep has read, in the words that support and administrators see."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from messaging import models
from messaging.insight.reading import Sweep, sweeps
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def cursor(name: str, connection: models.Connection | None = None, ago: float | None = 30, **columns: Any) -> None:
    finished_at = None if ago is None else NOW - timedelta(seconds=ago)
    models.SyncCursor.objects.create(
        name=name, connection=connection, finished_at=finished_at, started_at=finished_at, **columns
    )


def told(connection: models.Connection | None = None) -> dict[str, Sweep]:
    return {sweep.what: sweep for sweep in sweeps(NOW, connection)}


def test_a_sweep_says_how_long_ago_it_read(connection: models.Connection) -> None:
    cursor("messages", connection)
    cursor("message_import", connection)
    assert told() == {"Messages": Sweep("Messages", "read up to 30 s ago", "", is_late=False)}
    assert told(connection) == told()


def test_the_connection_that_is_furthest_behind_counts(connection: models.Connection) -> None:
    cursor("messages", connection, ago=20)
    cursor("messages", factories.ConnectionFactory(), ago=7200, last_error="Catena answered 403")
    sweep = told()["Messages"]
    assert (sweep.words, sweep.problem, sweep.is_late) == (
        "read up to 2 h ago",
        "Catena answered 403 (1 of 2 connections)",
        True,
    )
    assert told(connection)["Messages"].is_well


def test_a_connection_that_is_no_longer_listed_makes_no_sweep_late(connection: models.Connection) -> None:
    cursor("messages", connection, ago=20)
    cursor("messages", factories.ConnectionFactory(withdrawn_at=NOW), ago=86_400)
    cursor("messages", factories.ConnectionFactory(status="deleted"), ago=86_400)
    assert told()["Messages"].words == "read up to 20 s ago"


def test_pending_operations_are_told_by_the_timetable_that_all_workers_share() -> None:
    models.SyncCursor.objects.create(name="round operations", started_at=NOW - timedelta(seconds=4))
    assert told() == {"Pending operations": Sweep("Pending operations", "read up to 4 s ago", "", is_late=False)}
    models.SyncCursor.objects.update(started_at=NOW - timedelta(minutes=5))
    assert told()["Pending operations"].is_late


def test_the_page_stands_while_the_very_first_round_is_asked_for_and_has_not_begun(
    sol: models.User, client_of: Any
) -> None:
    models.SyncCursor.objects.ask("operations")
    assert told() == {"Pending operations": Sweep("Pending operations", "not read yet", "", is_late=False)}
    assert client_of(sol).get(reverse("operations")).status_code == 200


def test_a_first_import_is_told_in_days(connection: models.Connection) -> None:
    cursor("messages", connection, ago=None)
    cursor("message_import", connection, ago=None, position=NOW - timedelta(days=33))
    assert told()["Messages"].words == "first import: 12 of 45 days"
    cursor("message_import", factories.ConnectionFactory())
    assert told()["Messages"].words == "first import: 12 of 45 days on the last of 2 connections"


def test_an_import_that_failed_at_once_says_why(connection: models.Connection) -> None:
    cursor("messages", connection, ago=None, last_error="Catena could not be reached")
    cursor("message_import", connection, ago=None)
    sweep = told()["Messages"]
    assert (sweep.words, sweep.problem) == ("first import: 0 of 45 days", "Catena could not be reached")


@pytest.mark.parametrize("name", ["sol", "ada"])
def test_support_and_administrators_see_it_on_both_pages(
    request: pytest.FixtureRequest, name: str, connection: models.Connection, client_of: Any
) -> None:
    cursor("messages", connection, last_error="Catena answered 403 <b>")
    client: Client = client_of(request.getfixturevalue(name))
    for page in (reverse("operations"), reverse("connection", args=[connection.catena_id])):
        body = client.get(page).content.decode()
        assert "Reading from Catena" in body
        assert "Last error: Catena answered 403 &lt;b&gt;" in body


def test_a_fleet_manager_does_not(connection: models.Connection, mara: models.User, client_of: Any) -> None:
    cursor("messages", connection)
    for page in (reverse("operations"), reverse("connection", args=[connection.catena_id])):
        assert "Reading from Catena" not in client_of(mara).get(page).content.decode()


def test_both_pages_stay_within_twelve_queries(
    connection: models.Connection, ada: models.User, client_of: Any, django_assert_max_num_queries: Any
) -> None:
    for name in ("messages", "users", "group_messages", "message_import"):
        for one in (connection, factories.ConnectionFactory()):
            cursor(name, one)
    client = client_of(ada)
    for page in (reverse("operations"), reverse("connection", args=[connection.catena_id])):
        client.get(page)
        with django_assert_max_num_queries(12):
            client.get(page)


def test_nothing_read_yet_asks_for_a_worker(sol: models.User, client_of: Any) -> None:
    assert "Nothing has been read yet. Does a worker run?" in client_of(sol).get(reverse("operations")).content.decode()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"share_level": "read_write", "group_share_level": "read_write"}, "Read and write"),
        ({"share_level": "read_write", "group_share_level": "read"}, "Read only"),
        ({"share_level": "read_write", "group_share_level": ""}, "Not shared"),
        ({"share_level": None}, "Not reported"),
        ({"group_support": "not_implemented"}, "Not offered through Samsara"),
    ],
)
def test_the_connection_page_says_what_may_be_done_with_group_messages(
    fleet: models.Fleet, mara: models.User, client_of: Any, columns: dict[str, Any], words: str
) -> None:
    connection = factories.ConnectionFactory(fleet=fleet, **columns)
    body = client_of(mara).get(reverse("connection", args=[connection.catena_id])).content.decode()
    assert words in body.split("<dt>Group messages</dt>")[1].split("</dd>")[0]
