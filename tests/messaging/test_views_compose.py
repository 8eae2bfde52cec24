"""A new message: finding the driver, and sending once."""

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messaging import models
from messaging.views import compose
from tests import factories

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def driver(connection: models.Connection) -> models.FleetUser:
    return factories.FleetUserFactory(
        connection=connection, name="Mei-Ling Wu", username="mlwu", phone_number="+1 (555) 010-4412"
    )


def send(client: Client, driver: models.FleetUser | None, headers: Any = None, **given: Any) -> HttpResponse:
    data = {
        "recipient": driver.catena_id if driver else "", "message_text": "Use the south gate", "priority": "low",
        "client_token": str(uuid.uuid4()), **given,
    }  # fmt: skip
    return client.post("/compose/", data, headers=headers)  # type: ignore[return-value]


def found(html: str) -> list[str]:
    """The drivers offered, in order."""
    return [name.strip() for name in re.findall(r"<span>([^<]+)<span class=\"muted small\">", html)]


@pytest.mark.parametrize("words", ["mei", "WU ling", "mlw", "5550104412", "555-0104", "010-4412", "+1 (555)"])
def test_a_driver_is_found_by_any_part_of_name_user_name_or_phone(
    client_of: Any, mara: models.User, driver: models.FleetUser, words: str
) -> None:
    factories.FleetUserFactory(connection=driver.connection, name="John O'Connor")
    html = client_of(mara).get("/_f/recipients/", {"q": words}, headers=HTMX).content.decode()
    assert found(html) == ["Mei-Ling Wu"]
    assert driver.connection.label in html
    assert "Samsara" in html


def test_only_reachable_drivers_of_visible_fleets_are_offered(
    client_of: Any, mara: models.User, driver: models.FleetUser
) -> None:
    factories.FleetUserFactory(connection=driver.connection, name="Gone", deleted_at=timezone.now())
    factories.FleetUserFactory(connection=driver.connection, name="Inactive", is_active=False)
    factories.FleetUserFactory(name="Elsewhere")
    html = client_of(mara).get("/compose/").content.decode()
    assert found(html) == ["Mei-Ling Wu"]


def test_a_long_list_asks_for_more_letters(client_of: Any, mara: models.User, connection: models.Connection) -> None:
    factories.FleetUserFactory.create_batch(compose.MOST_RESULTS + 1, connection=connection)
    html = client_of(mara).get("/compose/").content.decode()
    assert len(found(html)) == compose.MOST_RESULTS
    assert "Type more of the name" in html


def test_no_match_says_what_to_try(client_of: Any, mara: models.User, driver: models.FleetUser) -> None:
    html = client_of(mara).get("/compose/?q=zzz").content.decode()
    assert "No driver matches “zzz”" in html


def test_without_script_the_search_is_a_page(client_of: Any, mara: models.User, driver: models.FleetUser) -> None:
    client = client_of(mara)
    away = client.get("/_f/recipients/?q=mei")
    assert (away.status_code, away["Location"]) == (302, "/compose/?q=mei")
    html = client.get("/compose/?q=mei&message_text=Half+a+sentence&priority=high").content.decode()
    assert found(html) == ["Mei-Ling Wu"]
    assert ">Half a sentence</textarea>" in html
    assert 'value="high" checked' in html
    assert 'formmethod="get"' in html


def test_drivers_who_cannot_be_written_to_are_shown_with_the_reason(
    client_of: Any, mara: models.User, sol: models.User, driver: models.FleetUser
) -> None:
    html = client_of(sol).get("/compose/").content.decode()
    assert "You may read this fleet&#x27;s messages, not write them." in html
    assert re.search(r'value="[^"]+" disabled', html)
    models.Connection.objects.update(status="stale")
    html = client_of(mara).get(f"/compose/?recipient={driver.catena_id}").content.decode()
    assert "The fleet must sign in again." in html
    assert " checked disabled" not in html


def test_a_driver_named_in_the_address_is_chosen(client_of: Any, mara: models.User, driver: models.FleetUser) -> None:
    factories.FleetUserFactory.create_batch(compose.MOST_RESULTS + 1, connection=driver.connection, name="Aaron")
    html = client_of(mara).get(f"/compose/?recipient={driver.catena_id}").content.decode()
    assert f'value="{driver.catena_id}" checked' in html
    for nonsense in ("x", str(uuid.uuid4())):
        assert client_of(mara).get(f"/compose/?recipient={nonsense}").status_code == 200


def test_a_message_opens_its_conversation_and_leads_to_its_bubble(
    client_of: Any, mara: models.User, driver: models.FleetUser
) -> None:
    answer = send(client_of(mara), driver)
    message = models.Message.objects.get()
    address = f"/c/{message.conversation.uuid}/#m-{message.uuid}"
    assert (answer.status_code, answer["Location"]) == (303, address)
    assert (message.recipient, message.priority, message.text) == (driver, "low", "Use the south gate")
    again = send(client_of(mara), driver, HTMX, message_text="And close it")
    second = models.Message.objects.latest("id")
    assert again["HX-Redirect"] == f"/c/{message.conversation.uuid}/#m-{second.uuid}"
    assert models.Conversation.objects.count() == 1


def test_the_same_form_twice_makes_one_message(client_of: Any, mara: models.User, driver: models.FleetUser) -> None:
    client, token = client_of(mara), str(uuid.uuid4())
    answers = [send(client, driver, client_token=token) for _ in range(2)]
    assert answers[0]["Location"] == answers[1]["Location"]
    assert models.Message.objects.count() == 1


def test_the_same_text_of_a_colleague_is_asked_about_with_their_name(
    client_of: Any, mara: models.User, fleet: models.Fleet, driver: models.FleetUser
) -> None:
    send(client_of(factories.UserFactory(first_name="Noor", last_name="Haddad", fleets=[fleet])), driver)
    asked = send(client_of(mara), driver)
    assert asked.status_code == 422
    assert "Noor Haddad sent exactly this to Mei-Ling Wu" in asked.content.decode()


def test_the_same_text_within_two_minutes_is_asked_about_once(
    client_of: Any, mara: models.User, driver: models.FleetUser
) -> None:
    client = client_of(mara)
    send(client, driver)
    asked = send(client, driver)
    html = asked.content.decode()
    assert asked.status_code == 422
    assert re.search(r"You sent exactly this to Mei-Ling Wu \d s ago", html)
    assert 'name="is_confirmed"' in html
    assert ">Use the south gate</textarea>" in html
    assert send(client, driver, is_confirmed="1").status_code == 303
    models.Message.objects.update(occurred_at=timezone.now() - timedelta(minutes=3))
    assert send(client, driver).status_code == 303
    assert models.Message.objects.count() == 3


REFUSED = {
    "no driver": ({"recipient": ""}, "Choose a driver."),
    "nonsense driver": ({"recipient": "x"}, "Choose a driver from the list."),
    "unknown driver": ({"recipient": str(uuid.uuid4())}, "Choose a driver from the list."),
    "another connection": ({"connection": str(uuid.uuid4())}, "This driver is on another connection."),
    "blank": ({"message_text": " "}, "Write a message first."),
    "too long": ({"message_text": "x" * 1001}, "1 characters too long"),
    "unknown priority": ({"priority": "urgent"}, "Choose Low, Medium or High."),
    "bad token": ({"client_token": "1"}, "This form was damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("headers", [None, HTMX], ids=["plain", "htmx"])
def test_a_refusal_says_why_and_keeps_what_was_typed(
    client_of: Any, mara: models.User, driver: models.FleetUser, name: str, headers: Any
) -> None:
    given, said = REFUSED[name]
    answer = send(client_of(mara), driver, headers, **given)
    html = answer.content.decode()
    assert answer.status_code == 422
    assert said in html
    if headers is None:
        assert f">{given.get('message_text', 'Use the south gate')}</textarea>" in html
    else:
        assert "textarea" not in html
    assert not models.Message.objects.exists()
    assert not models.Conversation.objects.exists()


def test_a_stale_connection_refuses_and_keeps_the_text(
    client_of: Any, mara: models.User, driver: models.FleetUser
) -> None:
    models.Connection.objects.update(status="stale")
    answer = send(client_of(mara), driver)
    assert answer.status_code == 422
    assert "The fleet must sign in again." in answer.content.decode()


def test_nobody_writes_to_a_fleet_that_is_not_theirs(
    client_of: Any, sol: models.User, outsider: models.User, driver: models.FleetUser
) -> None:
    assert "Choose a driver from the list." in send(client_of(outsider), driver).content.decode()
    assert "not write them" in send(client_of(sol), driver).content.decode()
    assert not models.Message.objects.exists()


def test_a_token_that_sent_another_text_sends_nothing(
    client_of: Any, mara: models.User, driver: models.FleetUser
) -> None:
    client, token = client_of(mara), str(uuid.uuid4())
    send(client, driver, client_token=token)
    answer = send(client, driver, client_token=token, message_text="Something new")
    assert answer.status_code == 422
    assert f'value="{token}"' not in answer.content.decode()
    assert models.Message.objects.count() == 1


def test_the_form_costs_the_same_number_of_queries_at_any_length(
    client_of: Any, mara: models.User, connection: models.Connection
) -> None:
    def count(drivers: int) -> int:
        factories.FleetUserFactory.create_batch(drivers, connection=connection)
        client = client_of(mara)
        with CaptureQueriesContext(database) as queries:
            client.get("/compose/")
        return len(queries)

    assert count(3) == count(57) <= 12
