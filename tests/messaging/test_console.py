"""The operations console: every filter alone, what an address says in vain, and failures by cause."""

import re
from datetime import timedelta
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection as database
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from messaging import live, models
from messaging.insight import filtering, listing
from messaging.insight.causes import groups
from messaging.insight.filtering import canonical_query, read_filter, read_moment, told_filter, visible_connections
from messaging.states import MessageState
from tests import factories
from tests.messaging.test_views_operations import HTMX, ROW, fresh, ids, listed

S = MessageState
pytestmark = pytest.mark.django_db


@pytest.fixture
def pair(connection: models.Connection) -> tuple[models.Message, models.Message]:
    """Two failures that differ in all that a filter can ask for; the second one is older."""
    other = factories.ConnectionFactory(source_name="motive", tsp_slug="")
    first = factories.failed(
        fresh(connection, name="Luis Ortega"),
        author=factories.UserFactory(username="berta", first_name="Berta", last_name="Ek"),
        text="Dock 7 is closed",
        reason="Timed out after 3000 ms",
        response_status_code=503,
        error_type="tsp",
        priority="high",
    )
    second = factories.failed(
        fresh(other, name="Ana Souza"),
        author=factories.UserFactory(username="olaf", first_name="Olaf", last_name="Ek"),
        text="Use the north gate",
        reason="",
        response_status_code=None,
        error_type="",
        priority="low",
        occurred_at=timezone.now() - timedelta(days=2),
    )
    return first, second


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("text=dock+clos", 0), ("text=NORTH", 1), ("provider=samsara", 0), ("provider=motive", 1), ("code=503", 0),
        ("code=none", 1), ("error=tsp", 0), ("error=none", 1), ("priority=high", 0), ("priority=low", 1), ("sender=berta", 0),
        ("sender=ek+olaf", 1), ("driver=ortega", 0), ("driver=souza+ana", 1), ("cause=Timed+out+after+%23+ms", 0),
        ("cause=none", 1), ("range=24h", 0),
    ],
)  # fmt: skip
def test_each_filter_alone_finds_exactly_its_message(
    pair: tuple[models.Message, models.Message], sol: models.User, client_of: Any, query: str, place: int
) -> None:
    page = client_of(sol).get(f"{reverse('operations')}?{query}").content.decode()
    assert ROW.findall(page) == ids(pair[place])
    assert "Left out of the filter" not in page


@pytest.mark.parametrize("status", ["failures", "failed"])
def test_failures_are_failed_or_not_sent(
    connection: models.Connection, sol: models.User, client_of: Any, status: str
) -> None:
    factories.accepted(fresh(connection))
    failed = factories.failed(fresh(connection))
    refused = factories.OutgoingFactory(conversation=fresh(connection), state=S.REJECTED)
    expected = [failed, refused] if status == "failures" else [failed]
    assert sorted(listed(client_of(sol), f"?status={status}")) == sorted(ids(*expected))


def test_a_window_of_ones_own_has_two_ends_and_sets_the_range_aside(
    pair: tuple[models.Message, models.Message], sol: models.User, client_of: Any
) -> None:
    first, second = pair
    client, border = client_of(sol), (timezone.now() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
    assert listed(client, f"?range=24h&from={border}Z") == ids(first)
    assert listed(client, f"?range=24h&to={border}Z") == ids(second)
    day = second.occurred_at.date()
    assert listed(client, f"?from={day}&to={day}") == ids(second)  # both days count whole


def test_a_moment_without_a_zone_is_one_of_the_person_and_an_address_to_share_is_in_utc(
    sol: models.User, client_of: Any
) -> None:
    sol.time_zone = "Asia/Tokyo"
    sol.save()
    page = client_of(sol).get(reverse("operations") + "?from=2026-05-12T09:00&to=2026-05-13").content.decode()
    assert "from=2026-05-12T00%3A00%3A00Z&amp;to=2026-05-13T15%3A00%3A00Z" in page
    assert 'type="datetime-local" value="2026-05-12T09:00"' in re.sub(r"\s+", " ", page)
    shared = canonical_query(QueryDict("from=2026-05-12T00:00:00Z"))
    assert shared == canonical_query(QueryDict(shared)) == "from=2026-05-12T00%3A00%3A00Z"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("status=x", "Status: “x” is not known here."),
        ("code=5x3", "Provider code: “5x3” is no status code."),
        ("from=yesterday", "From: “yesterday” is no date."),
        ("from=2026-05-12&to=2026-05-11", "To: “2026-05-11” is not after the beginning."),
        ("text=!!!", "Text: “!!!” holds no word to look for."),
        ("provider=acme", "Provider: “acme” is none that you can see."),
        ("priority=<b>", "Priority: “<b>” is not known here."),
        ("range=1y", "Time: “1y” is not known here."),
    ],
)
def test_what_an_address_says_in_vain_is_named_and_left_out(
    pair: tuple[models.Message, models.Message], sol: models.User, client_of: Any, query: str, words: str
) -> None:
    page = client_of(sol).get(f"{reverse('operations')}?{query}").content.decode()
    assert words in unescape(page)
    assert "<b>”" not in page
    assert len(ROW.findall(page)) == 2


def test_the_connection_of_another_fleet_is_left_out_and_never_named(
    pair: tuple[models.Message, models.Message], mara: models.User, client_of: Any
) -> None:
    foreign = pair[1].connection
    page = client_of(mara).get(f"{reverse('operations')}?connection={foreign.catena_id}").content.decode()
    assert ROW.findall(page) == ids(pair[0])
    assert "is none that you can see" in page
    assert foreign.description not in page
    for query in ("?driver=souza", "?sender=olaf", "?text=north", "?cause=none"):
        assert listed(client_of(mara), query) == [], query


HOSTILE = [
    "%00",
    "'",
    "\\",
    "%F0%9F%9A%9A",
    "%ED%A0%80",
    "a%26%7C!",
    "%25",
    "_",
    "x" * 3000,
    "9999-12-31",
    "0001-01-01",
    "-1",
]


@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_no_word_in_an_address_breaks_the_pages(sol: models.User, client_of: Any, word: str) -> None:
    names = "text status fleet connection provider range from to error code priority sender driver cause before after"
    client = client_of(sol)
    for name in names.split():
        assert client.get(f"{reverse('operations')}?{name}={word}").status_code == 200, name
    everything = "&".join(f"{name}={word}" for name in names.split())
    for page in ("causes", "saved_views"):  # what they read is read as above
        assert client.get(f"{reverse(page)}?{everything}").status_code == 200, page


@pytest.mark.parametrize("query", ["text=dock", "text=dock&range=all", "text=dock&sender=berta&driver=ortega"])
def test_words_that_stand_for_too_many_keys_find_the_same(
    pair: tuple[models.Message, models.Message], sol: models.User, client_of: Any, monkeypatch: Any, query: str
) -> None:
    monkeypatch.setattr(listing, "MOST_KEYS", 0)
    assert listed(client_of(sol), f"?{query}") == ids(pair[0])
    assert [group.count for group in grouped(sol, query)] == [1]


def test_the_form_keeps_what_was_typed(sol: models.User, client_of: Any) -> None:
    query = "text=a+%22b%22&code=5x3&sender=ek&driver=ort&error=weird&from=2026-05-12T09:00"
    page = re.sub(r"\s+", " ", client_of(sol).get(f"{reverse('operations')}?{query}").content.decode())
    for kept in ('value="a &quot;b&quot;"', 'value="5x3"', 'value="ek"', 'value="ort"', 'value="2026-05-12T09:00"'):
        assert kept in page
    assert '<option value="weird" selected>' in page
    assert '<details class="filter-more more" open>' in page


@pytest.mark.parametrize("page", ["operations", "causes"])
def test_a_filtered_page_costs_the_same_with_few_rows_and_with_many(
    connection: models.Connection, sol: models.User, client_of: Any, page: str
) -> None:
    client, costs = client_of(sol), []
    address = reverse(page) + "?text=dock&sender=mara&driver=driver&provider=samsara&status=failures&code=503"
    client.get(address)
    for more in (2, 30):
        for number in range(more):
            factories.failed(
                fresh(connection), author=factories.UserFactory(), text="Dock", reason=f"Kind {'x' * number}"
            )
            models.SavedView.objects.create(user=sol, name=f"{more} {number}", query="code=503")
        with CaptureQueriesContext(database) as queries:
            assert client.get(address).status_code == 200
        costs.append(len(queries))
    assert costs[0] == costs[1] <= 12


def grouped(user: models.User, query: str = "") -> list[Any]:
    asked = QueryDict(query)
    chosen = read_filter(asked, visible_connections(user, asked))
    return groups(user, asked, chosen, timezone.now(), {})[0]


def test_failures_gather_by_connection_and_cause_with_ids_and_numbers_aside(
    connection: models.Connection, sol: models.User
) -> None:
    other, now = factories.ConnectionFactory(), timezone.now()
    talk = fresh(connection)
    for hours, where in ((5, talk), (3, talk), (1, fresh(connection))):
        factories.failed(
            where,
            reason=f"Timed out after {hours}000 ms",
            occurred_at=now - timedelta(hours=hours),
            error_type="network",
        )
    factories.failed(
        fresh(connection), reason="Session of account 7 expired", error_type="auth", response_status_code=401
    )
    factories.failed(fresh(other), reason="Timed out after 9 ms", error_type="network")
    factories.failed(fresh(connection), occurred_at=now - timedelta(days=9))  # outside the usual time
    factories.accepted(fresh(connection))
    found = grouped(sol)
    first = found[0]
    assert (first.connection_id, first.cause, first.count, first.drivers) == (
        connection.pk,
        "Timed out after # ms",
        3,
        2,
    )
    assert (found[0].first_at, found[0].last_at) == (now - timedelta(hours=5), now - timedelta(hours=1))
    assert (found[0].sample, found[0].error_type) == ("Timed out after 1000 ms", "network")
    assert sorted((one.connection_id, one.error_type, one.count) for one in found[1:]) == sorted(
        [(connection.pk, "auth", 1), (other.pk, "network", 1)]
    )


@pytest.mark.parametrize("query", ["", "range=24h", "status=failed", "priority=medium&text=a"])
def test_the_link_of_each_group_lists_exactly_its_messages(
    connection: models.Connection, sol: models.User, client_of: Any, query: str
) -> None:
    kinds = [
        ("Refused 1", "auth", 401), ("Refused 2", "auth", 403), ("", "auth", 401), ("", "", None), ("Refused 3", "", None),
        ("Weird & wonderful? +%", "odd type", 200), ("  blanks  ", "tsp", 503), ("none", "none", 0),
    ]  # fmt: skip
    for number, (reason, error_type, code) in enumerate(kinds):
        for _ in range(1 + number % 3):
            factories.failed(
                fresh(connection), reason=reason, error_type=error_type, response_status_code=code, text="A word",
                priority="medium", occurred_at=timezone.now() - timedelta(hours=30 * (number == 0)),
            )  # fmt: skip
    client, found = client_of(sol), grouped(sol, query)
    assert len(found) > 5
    for group in found:
        if "none" not in (group.cause, group.error_type):  # Catena would have to call its error "none"
            assert len(listed(client, f"?{group.query}")) == group.count, group


def test_the_page_of_causes_shows_the_groups_and_what_can_be_done(
    connection: models.Connection, mara: models.User, client_of: Any
) -> None:
    failed = factories.failed(
        fresh(connection), reason="<i>Refused</i> 17", error_type="auth", response_status_code=401
    )
    factories.failed(fresh(factories.ConnectionFactory()), reason="Foreign trouble")
    page = client_of(mara).get(reverse("causes")).content.decode()
    assert "&lt;i&gt;Refused&lt;/i&gt; #" in page
    assert "Foreign trouble" not in page
    assert "Credentials refused" in page
    assert failed.get_absolute_url() in page
    assert "1 failure in 1 group" in page


def test_the_page_of_causes_without_a_failure_says_so(mara: models.User, client_of: Any) -> None:
    client = client_of(mara)
    assert "Nothing failed in the last 7 days" in client.get(reverse("causes")).content.decode()
    assert "No failure matches this filter" in client.get(reverse("causes") + "?code=404").content.decode()


def test_the_fragments_answer_with_tools_of_the_new_filter(sol: models.User, client_of: Any) -> None:
    for page in ("operations", "causes"):
        answer = client_of(sol).get(reverse(f"{page}_rows") + "?code=503&text=", headers=HTMX)
        body = answer.content.decode()
        assert answer["HX-Push-Url"] == f"{reverse(page)}?code=503"
        assert '<hx-partial hx-target="#ops-tools"' in body
        assert f"{reverse('causes')}?code=503" in body
        assert "<html" not in body


def test_the_fragment_of_causes_without_htmx_is_the_page(sol: models.User, client_of: Any) -> None:
    answer = client_of(sol).get(reverse("causes_rows") + "?code=503&before=1.2")
    assert (answer.status_code, answer["Location"]) == (302, "/ops/causes/?code=503")


def test_a_connection_beyond_those_that_the_form_lists_can_still_be_asked_for(
    connection: models.Connection,
    fleet: models.Fleet,
    sol: models.User,
    client_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filtering, "MOST_CHOICES", 1)
    talks = [
        factories.ConversationFactory(driver=factories.FleetUserFactory(connection=one))
        for one in (factories.ConnectionFactory(fleet=fleet), factories.ConnectionFactory())
    ]
    for number, talk in enumerate(talks):
        factories.failed(talk, text=f"number {number}")
    last = talks[1].connection
    for asked in (f"connection={last.catena_id}", f"fleet={last.fleet.catena_id}"):
        page = client_of(sol).get(f"/ops/?{asked}").content.decode()
        assert "none that you can see" not in page
        assert ("number 0" in page, "number 1" in page) == (False, True)


@pytest.mark.django_db(transaction=True)
def test_only_new_messages_of_the_filter_are_offered(
    connection: models.Connection, sol: models.User, client_of: Any
) -> None:
    client, since = client_of(sol), live.glance(sol).cursor
    asked = {"v": "ops", "since": str(since), "every": live.IDLE_POLL_MS, "newest": "1", "q": "text=dock"}
    factories.accepted(fresh(connection), text="The gate is open")
    assert "new message" not in client.get("/_f/live/", asked, headers=HTMX).content.decode()
    factories.accepted(fresh(connection), text="The dock is closed")
    assert "1 new message<" in client.get("/_f/live/", asked, headers=HTMX).content.decode()


@pytest.mark.django_db(transaction=True)
def test_the_page_of_causes_offers_to_count_again_and_moves_no_row(
    connection: models.Connection, sol: models.User, client_of: Any
) -> None:
    client, since = client_of(sol), live.glance(sol).cursor
    asked = {"v": "causes", "since": str(since), "every": live.IDLE_POLL_MS, "q": "code=503"}
    factories.failed(fresh(connection), response_status_code=404)
    answer = client.get("/_f/live/", asked, headers=HTMX).content.decode()
    assert ("count again" in answer, 'hx-target="#ops-figures"' in answer) == (False, True)
    factories.failed(fresh(connection), response_status_code=503)
    answer = client.get("/_f/live/", asked, headers=HTMX).content.decode()
    assert "count again" in answer
    assert "table-causes" not in answer


def test_a_filter_is_told_in_words(connection: models.Connection, sol: models.User) -> None:
    told = told_filter(
        QueryDict(
            f"status=failures&connection={connection.catena_id}&code=503&from=2026-05-12T00:00Z&text=dock&range=7d"
        ),
        visible_connections(sol, QueryDict()),
    )
    assert told == (
        f"Text: dock, Status: Failed or not sent, Connection: {connection.label}, From: 2026-05-12 00:00 UTC,"
        " Provider code: 503"
    )
    assert told_filter(QueryDict(""), []) == ""


@pytest.mark.parametrize(
    "word", ["", "x", "2026-13-01", "2026-05-12T25:00", "0001-01-01", "9999-12-31", "20260512T", "²"]
)
def test_what_is_no_moment_is_none(word: str) -> None:
    assert read_moment(word) is None


def test_the_usual_list_stays_usual_with_the_usual_range_named() -> None:
    assert read_filter(QueryDict("range=7d"), []) == listing.OperationFilter()
    assert read_filter(QueryDict(f"fleet={uuid4()}"), []).is_usual
