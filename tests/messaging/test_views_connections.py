"""Connections say whether one can send, why not, and how it fares, to those who may know."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from messaging import live, models
from messaging.insight.trend import trend, with_trend
from messaging.views.connections import share_words
from tests import factories

HTMX = {"HX-Request": "true"}
ROW = re.compile(r'<tr id="cn-([0-9a-f-]{36})"')
pytestmark = pytest.mark.django_db


def page_of(client: Any, address: str = "/connections/") -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return str(answer.content.decode())


def ended(connection: models.Connection, status: str, times: int = 1) -> None:
    factories.OperationFactory.create_batch(times, connection=connection, status=status)


def test_the_list_names_health_cure_permission_and_freshness(
    connection: models.Connection, mara: models.User, client_of: Any
) -> None:
    now = timezone.now()
    models.Connection.objects.filter(pk=connection.pk).update(
        status="stale", share_level="read_write", last_successful_execution_at=now - timedelta(seconds=50),
        next_execution_at=now + timedelta(minutes=10, seconds=30),
    )  # fmt: skip
    page = page_of(client_of(mara))
    for words in ("Northern Haulage", "Disabled", "The fleet must sign in again.", "Read and write", "next in 10 min"):
        assert words in page
    assert re.search(r"Synced 5\d s ago", page)


@pytest.mark.parametrize(
    ("failed", "accepted", "word"), [(0, 0, "No data"), (0, 3, "Healthy"), (1, 9, "Degraded"), (5, 0, "Failing")]
)
def test_health_is_derived_from_what_ended(
    connection: models.Connection, mara: models.User, client_of: Any, failed: int, accepted: int, word: str
) -> None:
    ended(connection, "failed", failed)
    ended(connection, "success", accepted)
    page = page_of(client_of(mara))
    assert f"<span>{word}</span>" in page
    assert "How this is decided" in page


def test_a_closed_gate_shows_beside_the_health(
    connection: models.Connection, mara: models.User, client_of: Any
) -> None:
    models.Gate.objects.create(connection=connection, state="closed", reason="Samsara asks us to slow down")
    client = client_of(mara)
    for address in ("/connections/", reverse("connection", args=[connection.catena_id])):
        page = page_of(client, address)
        assert "aused" in page
        assert "Samsara asks us to slow down" in page


def test_people_see_the_connections_of_their_fleets_only(
    connection: models.Connection, mara: models.User, sol: models.User, outsider: models.User, client_of: Any
) -> None:
    other = factories.ConnectionFactory()
    assert ROW.findall(page_of(client_of(mara))) == [str(connection.catena_id)]
    assert sorted(ROW.findall(page_of(client_of(sol)))) == sorted([str(connection.catena_id), str(other.catena_id)])
    assert "No connection yet" in page_of(client_of(outsider))
    assert client_of(outsider).get(reverse("connection", args=[connection.catena_id])).status_code == 404


def test_the_search_narrows_by_every_word(connection: models.Connection, sol: models.User, client_of: Any) -> None:
    factories.ConnectionFactory(source_name="motive", tsp_slug="motive", description="Yard")
    client = client_of(sol)
    assert ROW.findall(page_of(client, "/connections/?q=northern+samsara")) == [str(connection.catena_id)]
    assert "No connection matches “&lt;b&gt;”" in page_of(client, "/connections/?q=<b>")


def test_the_page_of_a_connection_lists_its_failures_drivers_and_gate(
    connection: models.Connection, mara: models.User, client_of: Any
) -> None:
    driver = factories.FleetUserFactory(connection=connection, name="Luis Ortega")
    factories.FleetUserFactory(connection=connection, deleted_at=timezone.now())
    failed = factories.failed(factories.ConversationFactory(driver=driver))
    elsewhere = factories.failed(factories.ConversationFactory())
    page = page_of(client_of(mara), reverse("connection", args=[connection.catena_id]))
    assert f"/m/{failed.uuid}/" in page
    assert f"/m/{elsewhere.uuid}/" not in page
    assert re.search(r"<dt>Drivers</dt>\s*<dd>\s*1\s*</dd>", page)
    assert str(connection.catena_id) in page
    assert "An office user, chosen by Backhaul" in page


def test_the_pages_cost_the_same_with_three_connections_and_with_sixty(
    connection: models.Connection, sol: models.User, client_of: Any
) -> None:
    client = client_of(sol)
    page_of(client)
    for address in ("/connections/", reverse("connection", args=[connection.catena_id])):
        costs = []
        for more in (3, 57):
            for _ in range(more if address == "/connections/" else 1):
                ended(factories.ConnectionFactory(), "success")
            for _ in range(3):
                factories.failed(
                    factories.ConversationFactory(driver=factories.FleetUserFactory(connection=connection))
                )
            with CaptureQueriesContext(database) as queries:
                page_of(client, address)
            costs.append(len(queries))
        assert costs[0] == costs[1] <= 12


@pytest.mark.django_db(transaction=True)
def test_a_poll_repaints_the_list_or_the_one_page(
    connection: models.Connection, mara: models.User, client_of: Any
) -> None:
    client, since = client_of(mara), live.glance(mara).cursor
    models.Connection.objects.filter(pk=connection.pk).update(status="paused")
    asked = {"v": "connections", "since": str(since), "every": live.IDLE_POLL_MS}
    with CaptureQueriesContext(database) as queries:
        whole = client.get("/_f/live/", asked, headers=HTMX).content.decode()
    one = client.get("/_f/live/", {**asked, "q": str(connection.catena_id)}, headers=HTMX).content.decode()
    assert f'hx-target="#cn-{connection.catena_id}"' in whole
    assert 'hx-target="#cn-state"' in one
    assert "Ask Catena or the fleet to resume it." in whole
    assert "Ask Catena or the fleet to resume it." in one
    assert len(queries) <= 4  # session, person, look, connections


@pytest.mark.django_db(transaction=True)
def test_a_poll_that_names_no_connection_paints_nothing(
    connection: models.Connection, mara: models.User, outsider: models.User, client_of: Any
) -> None:
    since = live.glance(mara).cursor
    models.Connection.objects.filter(pk=connection.pk).update(status="paused")
    asked = {"v": "connections", "since": str(since), "every": live.IDLE_POLL_MS}
    assert "cn-" not in client_of(mara).get("/_f/live/", {**asked, "q": "x"}, headers=HTMX).content.decode()
    foreign = client_of(outsider).get("/_f/live/", {**asked, "q": str(connection.catena_id)}, headers=HTMX)
    assert "cn-" not in foreign.content.decode()


@pytest.mark.parametrize(
    ("level", "words"),
    [(None, "Not reported"), ("read_write", "Read and write"), ("read", "Read only"), ("odd", "odd")],
)
def test_a_share_level_reads_as_words(level: str | None, words: str) -> None:
    assert share_words(level) == words


def took(connection: models.Connection, seconds: float, hours_ago: float = 0, status: str = "success") -> None:
    """A message that Catena took `hours_ago` and the provider so many seconds later."""
    driver = factories.FleetUserFactory(connection=connection)
    at = timezone.now() - timedelta(hours=hours_ago, minutes=5)
    state = "succeeded" if status == "success" else "failed"
    message = factories.accepted(
        factories.ConversationFactory(driver=driver), operation_status=status, state=state, occurred_at=at,
        accepted_at=at, settled_at=at + timedelta(seconds=seconds),
    )  # fmt: skip
    models.Operation.objects.filter(pk=message.operation_id).update(catena_created_at=at, catena_updated_at=at)


def test_the_page_of_a_connection_tells_how_long_the_provider_takes_hour_by_hour(
    connection: models.Connection, mara: models.User, client_of: Any
) -> None:
    for seconds in (1, 2, 3):
        took(connection, seconds)
    took(connection, 8, hours_ago=2)
    took(connection, 60, hours_ago=2, status="failed")
    took(connection, 90, hours_ago=30)
    took(factories.ConnectionFactory(), 90)
    told = trend(with_trend(models.Connection.objects.filter(pk=connection.pk)).get())
    assert told.failed_hours == [0] * 21 + [1, 0, 0]
    assert list(told.p95_hours) == [0] * 21 + [8.0, 0, 2.9]
    assert (told.median, told.p95) == (timedelta(seconds=2.5), timedelta(seconds=7.25))
    page = page_of(client_of(mara), reverse("connection", args=[connection.catena_id]))
    for words in ("80.0 %", "7.2 s", "half within 2.5 s", "4 accepted", "1 failed"):
        assert words in page
    assert 'aria-label="Failed per hour: 0 last, 1 at most"' in page


@pytest.mark.parametrize(
    ("schedule", "cure"),
    [
        ("inactive", "Ask Catena to start again."),
        ("stale", "until the fleet signs in again"),
        ("cancelled_insufficient_scope", "Ask the fleet to share its messages."),
        ("odd", "Catena&#x27;s schedule for replies is odd."),
    ],
)
def test_a_schedule_that_stopped_is_told_with_its_cure_wherever_replies_are_awaited(
    connection: models.Connection, conversation: models.Conversation, mara: models.User, client_of: Any,
    schedule: str, cure: str,
) -> None:  # fmt: skip
    client = client_of(mara)
    addresses = (reverse("connection", args=[connection.catena_id]), f"/c/{conversation.uuid}/")
    for address in addresses:
        assert cure not in page_of(client, address)
    models.Connection.objects.filter(pk=connection.pk).update(schedule_status=schedule)
    for address in addresses:
        assert cure in page_of(client, address)
    assert "No new replies" in page_of(client)


@pytest.mark.django_db(transaction=True)
def test_an_open_conversation_hears_that_its_connection_can_no_longer_send(
    connection: models.Connection, conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    client, since = client_of(mara), live.glance(mara).cursor
    now = timezone.now()
    models.Connection.objects.filter(pk=connection.pk).update(
        status="stale", last_successful_execution_at=now, next_execution_at=now + timedelta(minutes=10, seconds=30)
    )
    asked = {"v": "conversation", "scope": conversation.pk, "since": str(since), "seen": "0"}
    with CaptureQueriesContext(database) as queries:
        told = client.get("/_f/live/", asked, headers=HTMX).content.decode()
    assert len(queries) <= 4  # session, person, look, changes
    assert "The fleet must sign in again." in told
    assert re.search(r"Replies from Samsara synced \d s ago, next in 10 min\.</hx-partial>", told)
    # Where nothing could be written before, the page says why already.
    assert "sign in" not in client.get("/_f/live/", {**asked, "seen": ""}, headers=HTMX).content.decode()
    models.Connection.objects.filter(pk=connection.pk).update(status="active")
    told = client.get("/_f/live/", asked, headers=HTMX).content.decode()
    assert 'hx-target="#composer-news" hx-swap="innerHTML"></hx-partial>' in told
