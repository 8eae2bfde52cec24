"""The list of conversations: what stands on it, for whom, and page by page."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messaging import models
from messaging.views import desk
from tests import factories

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def talk(connection: models.Connection, name: str, minutes_ago: int = 5, **columns: Any) -> models.Conversation:
    """A conversation whose driver wrote last."""
    driver = factories.FleetUserFactory(connection=connection, name=name)
    conversation = factories.ConversationFactory(driver=driver)
    at = timezone.now() - timedelta(minutes=minutes_ago)
    factories.IncomingFactory(conversation=conversation, occurred_at=at, **columns)
    conversation.summarise()
    conversation.refresh_from_db()
    return conversation


def names(html: str) -> list[str]:
    return re.findall(r'class="row-name">(?:<span class="row-dot"></span>)?([^<]+)<', html)


def page(client_of: Any, user: models.User, address: str = "/") -> str:
    response = client_of(user).get(address)
    assert response.status_code == 200
    return str(response.content.decode())


def test_the_newest_conversation_stands_first(client_of: Any, mara: models.User, connection: models.Connection) -> None:
    talk(connection, "Older", minutes_ago=50)
    talk(connection, "Newer", minutes_ago=5)
    html = page(client_of, mara)
    assert names(html) == ["Newer", "Older"]
    assert "No conversation is open" in html
    assert "<title>" in html
    assert "(2) Inbox - Backhaul" in html


def test_a_manager_sees_the_conversations_of_their_own_fleets_only(
    client_of: Any,
    mara: models.User,
    sol: models.User,
    ada: models.User,
    outsider: models.User,
    connection: models.Connection,
) -> None:
    talk(connection, "Luis Ortega")
    talk(factories.ConnectionFactory(), "Somebody Else", minutes_ago=9)
    assert names(page(client_of, mara)) == ["Luis Ortega"]
    assert names(page(client_of, outsider)) == []
    assert names(page(client_of, sol)) == names(page(client_of, ada)) == ["Luis Ortega", "Somebody Else"]


def test_a_person_without_a_fleet_is_told_whom_to_ask(client_of: Any) -> None:
    html = page(client_of, factories.UserFactory())
    assert "You have no fleet yet" in html
    assert "Ask an administrator" in html


def test_an_empty_inbox_offers_to_write(client_of: Any, mara: models.User) -> None:
    html = page(client_of, mara)
    assert "No messages yet" in html
    assert 'href="/compose/"' in html


def test_unread_shows_only_what_this_person_has_not_read(
    client_of: Any, mara: models.User, connection: models.Connection
) -> None:
    read = talk(connection, "Read")
    assert read.last_incoming_id is not None
    models.ReadMark.advance(mara, read, read.last_incoming_id)
    talk(connection, "Unread", minutes_ago=9)
    html = page(client_of, mara, "/?show=unread")
    assert names(html) == ["Unread"]
    assert html.count("row-dot") == 1


def test_failures_are_pinned_above_the_unfiltered_list_and_stand_there_once(
    client_of: Any, mara: models.User, connection: models.Connection
) -> None:
    trouble = talk(connection, "Trouble", minutes_ago=90)
    factories.failed(trouble, occurred_at=timezone.now() - timedelta(minutes=60))
    talk(connection, "Fine", minutes_ago=5)
    html = page(client_of, mara)
    assert names(html) == ["Trouble", "Fine"]
    assert re.search(r'Needs attention <span class="count count-bad">1</span>', html)
    assert names(page(client_of, mara, "/?show=attention")) == ["Trouble"]


def test_a_handled_failure_is_pinned_no_longer(
    client_of: Any, mara: models.User, connection: models.Connection
) -> None:
    trouble = talk(connection, "Trouble", minutes_ago=90)
    message = factories.failed(trouble)
    client = client_of(mara)
    assert client.post(f"/m/{message.uuid}/handled/").status_code == 303
    assert 'id="pinned"' not in client.get("/").content.decode()


def test_more_failures_than_fit_on_top_are_one_link_away(
    client_of: Any, mara: models.User, connection: models.Connection
) -> None:
    for number in range(desk.MOST_PINNED + 2):
        factories.failed(talk(connection, f"Trouble {number}"))
    html = page(client_of, mara)
    pinned = html[html.index('id="pinned"') : html.index('id="rows"')]
    assert len(names(pinned)) == desk.MOST_PINNED
    assert 'href="/?show=attention">Show all' in html
    assert len(names(html)) == desk.MOST_PINNED + 2


def test_fleet_and_priority_narrow_the_list(
    client_of: Any, mara: models.User, fleet: models.Fleet, connection: models.Connection
) -> None:
    second = factories.FleetFactory()
    models.FleetMembership.objects.create(user=mara, fleet=second)
    talk(connection, "Here", priority="high")
    talk(factories.ConnectionFactory(fleet=second), "There", priority="low")
    assert names(page(client_of, mara, f"/?fleet={fleet.pk}")) == ["Here"]
    assert names(page(client_of, mara, "/?priority=low")) == ["There"]
    html = page(client_of, mara, f"/?fleet={fleet.pk}&priority=low")
    assert "No conversation matches" in html
    assert f"Filter: {fleet.name}, low priority" in html
    assert '<a class="btn" href="/">Clear filters</a>' in html


@pytest.mark.parametrize(
    "query",
    ["show=nonsense", "fleet=abc", "fleet=999999", "priority=urgent", "before=x", "before=1.2.3", "after=9" * 9],
)
def test_what_a_url_says_in_error_counts_as_not_said(
    client_of: Any, mara: models.User, connection: models.Connection, query: str
) -> None:
    talk(connection, "Luis Ortega")
    assert names(page(client_of, mara, f"/?{query}")) == ["Luis Ortega"]


def test_pages_follow_each_other_without_gap_or_repetition(
    client_of: Any, mara: models.User, connection: models.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "LIST_SIZE", 3)
    for number in range(8):
        talk(connection, f"Driver {number}", minutes_ago=number + 1)
    seen, address, backwards = [], "/", []
    for _ in range(3):
        html = page(client_of, mara, address)
        seen += names(html)
        older = re.search(r'rel="next" href="([^"]+)"', html)
        newer = re.search(r'rel="prev" href="([^"]+)"', html)
        backwards.append(newer[1] if newer else None)
        address = older[1].replace("&amp;", "&") if older else ""
    assert seen == [f"Driver {number}" for number in range(8)]
    assert address == ""
    assert backwards[0] is None
    assert names(page(client_of, mara, str(backwards[2]))) == ["Driver 3", "Driver 4", "Driver 5"]
    assert names(page(client_of, mara, str(backwards[1]))) == ["Driver 0", "Driver 1", "Driver 2"]


def test_the_rows_alone_are_only_for_htmx(client_of: Any, mara: models.User, connection: models.Connection) -> None:
    talk(connection, "Luis Ortega", priority="low")
    client = client_of(mara)
    away = client.get("/_f/inbox/rows/?priority=low")
    assert (away.status_code, away["Location"]) == (302, "/?priority=low")
    answer = client.get("/_f/inbox/rows/?priority=low", headers={**HTMX, "HX-Current-URL": "http://testserver/"})
    assert answer["HX-Push-Url"] == "/?priority=low"
    assert "<html" not in answer.content.decode()
    assert names(answer.content.decode()) == ["Luis Ortega"]
    assert "v=inbox" in answer.content.decode()


def test_a_filter_beside_an_open_conversation_leaves_it_open(
    client_of: Any, mara: models.User, connection: models.Connection
) -> None:
    opened = talk(connection, "Luis Ortega")
    headers = {**HTMX, "HX-Current-URL": f"http://testserver/c/{opened.uuid}/"}
    answer = client_of(mara).get("/_f/inbox/rows/?show=unread", headers=headers)
    html = answer.content.decode()
    assert "HX-Push-Url" not in answer
    assert f"v=conversation&amp;scope={opened.pk}" in html
    assert 'aria-current="true" hx-get' in html


def test_the_inbox_costs_the_same_number_of_queries_at_any_length(
    client_of: Any, mara: models.User, connection: models.Connection
) -> None:
    def count(rows: int) -> int:
        for number in range(rows):
            factories.failed(talk(connection, f"Driver {number}", minutes_ago=number + 1))
        client = client_of(mara)
        with CaptureQueriesContext(database) as queries:
            client.get("/")
        return len(queries)

    assert count(3) == count(57) <= 12


def test_what_drivers_are_called_and_write_stays_text(client_of: Any, mara: models.User, fleet: models.Fleet) -> None:
    evil = '<img src=x onerror="alert(1)">\'&'
    connection = factories.ConnectionFactory(fleet=fleet, description=evil)
    talk(connection, evil, text=evil)
    html = page(client_of, mara)
    assert "<img" not in html
    assert html.count("&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&#x27;&amp;") >= 3
