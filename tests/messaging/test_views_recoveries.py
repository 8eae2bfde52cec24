"""The pages of bulk recovery: the dry run of a filter, a cause or an incident, start and stop, and a report that adds up."""

import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from messaging import live, models, recovery
from messaging.insight import recoveries as told
from messaging.models import Recovery
from messaging.states import MessageState
from tests import factories
from tests.messaging.test_recovery import REFUSED, conversations, end, freeze, fresh, refused, resent

pytestmark = pytest.mark.django_db
LIST = "/ops/recoveries/"


@pytest.fixture
def failures(connection: models.Connection, mara: models.User) -> list[models.Message]:
    made = [refused(one, mara) for one in conversations(connection, 6)]
    made.append(factories.failed(conversations(connection, 1)[0], author=mara, error_type="network"))
    return made


def text_of(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def make(client: Client, **fields: str) -> Any:
    return client.post(LIST, fields)


def counts(frozen: Recovery) -> dict[str, int]:
    return {line.key: line.count for line in told.lines(fresh(frozen))}


def test_recover_freezes_the_filter_and_shows_what_would_be_sent(
    failures: list[models.Message], mara: models.User, client_of: Any
) -> None:
    client = client_of(mara)
    assert 'name="query" value="code=422"' in client.get("/ops/?code=422").content.decode()
    answer = make(client, query="code=422")
    assert answer.status_code == 303
    made = Recovery.objects.get()
    assert (made.query, made.about, made.items.count()) == ("code=422", "Provider code: 422", 6)
    assert "6 of 6 will be sent again. Nothing has been sent yet" in text_of(client, answer["Location"])
    assert resent() == 0


def test_every_cause_offers_its_own_dry_run(failures: list[models.Message], mara: models.User, client_of: Any) -> None:
    client = client_of(mara)
    page = client.get("/ops/causes/").content.decode()
    queries = re.findall(r'name="query" value="([^"]+cause=[^"]+)"', page)
    assert len(queries) == 2
    for query in queries:
        make(client, query=query.replace("&amp;", "&"))
    assert sorted(one.items.count() for one in Recovery.objects.all()) == [1, 6]


def test_an_incident_recovers_the_failures_of_its_cause_place_and_time(
    failures: list[models.Message], mara: models.User, client_of: Any, outsider: models.User
) -> None:
    incident = models.Incident.objects.create(
        source_name="samsara", connection=failures[0].connection, error_type="validation", response_status_code=422,
        opened_at=timezone.now(), first_failed_at=failures[0].settled_at, last_failed_at=timezone.now(),
    )  # fmt: skip
    assert make(client_of(mara), incident=str(incident.uuid)).status_code == 303
    made = Recovery.objects.get()
    assert (made.incident, made.items.count()) == (incident, 6)
    assert make(client_of(outsider), incident=str(incident.uuid)).status_code == 404
    assert make(client_of(mara), incident="nonsense").status_code == 404


def test_a_filter_without_failures_goes_back_and_says_so(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    client = client_of(mara)
    answer = make(client, query="code=422")
    assert (answer.status_code, answer["Location"], Recovery.objects.count()) == (303, "/ops/?code=422", 0)
    assert "No failure is in this filter" in text_of(client, answer["Location"])


def test_others_find_no_trace_of_it(
    failures: list[models.Message], mara: models.User, sol: models.User, outsider: models.User, client_of: Any
) -> None:
    frozen = freeze(mara)
    address = frozen.get_absolute_url()
    assert client_of(sol).get(address).status_code == 200
    stranger = client_of(outsider)
    assert stranger.get(address).status_code == 404
    assert stranger.post(f"{address}start/").status_code == 404
    assert stranger.post(f"{address}stop/").status_code == 404
    assert fresh(frozen).state == "draft"
    assert address not in stranger.get(LIST).content.decode()


def test_a_colleague_is_told_why_they_cannot_start_it(
    failures: list[models.Message], mara: models.User, sol: models.User, client_of: Any
) -> None:
    frozen = freeze(mara)
    answer = client_of(sol).post(f"{frozen.get_absolute_url()}start/")
    assert answer.status_code == 409
    assert "Only the person who made this dry run can start it" in answer.content.decode()


def test_it_is_started_and_stopped_by_plain_forms(
    failures: list[models.Message], mara: models.User, client_of: Any
) -> None:
    frozen, client = freeze(mara), client_of(mara)
    address = frozen.get_absolute_url()
    for _ in range(2):
        assert client.post(f"{address}start/").status_code == 303
    assert fresh(frozen).state == "canary"
    assert "Trying three first" in text_of(client, address)
    for _ in range(2):
        assert client.post(f"{address}stop/").status_code == 303
    assert f"Stopped by {mara.label}" in text_of(client, address)
    assert "6 were not sent again" in text_of(client, address)
    assert [one.action for one in models.AuditEntry.objects.filter(action__startswith="recovery")] == [
        "recovery_stopped",
        "recovery_started",
    ]


def test_the_report_adds_up_at_every_moment(failures: list[models.Message], mara: models.User, client_of: Any) -> None:
    frozen, now = freeze(mara), timezone.now()
    recovery.start(frozen, mara, now)
    assert counts(frozen) == {"due": 6, "may_have_arrived": 1}
    recovery.advance(now)
    assert counts(frozen) == {"moving": 3, "due": 3, "may_have_arrived": 1}
    states = [MessageState.REJECTED, MessageState.CANCELLED, MessageState.UNKNOWN]
    for item, state in zip(frozen.items.exclude(resent=None), states, strict=True):
        models.Message.objects.filter(pk=item.resent_id).update(state=state, unknown_since=now)
    frozen.items.filter(verdict="safe", resent=None).update(problem="Something")
    assert counts(frozen) == {"unclear": 1, "failed": 1, "withdrawn": 1, "problem": 3, "may_have_arrived": 1}
    client = client_of(mara)
    for line, count in counts(frozen).items():
        rows, _ = told.rows(mara, frozen, line, 0)
        assert len(rows) == count
        assert all(
            f"/m/{row['uuid']}/" in client.get(f"{frozen.get_absolute_url()}?line={line}").content.decode()
            for row in rows
        )


def test_pages_ask_the_same_number_of_queries_however_many_rows(
    connection: models.Connection, sol: models.User, client_of: Any, django_assert_max_num_queries: Any
) -> None:
    for one in conversations(connection, 60):
        refused(one, sol)
    frozen, client = freeze(sol), client_of(sol)
    for address in (LIST, frozen.get_absolute_url(), f"{frozen.get_absolute_url()}?line=due"):
        client.get(address)
        with django_assert_max_num_queries(10):
            client.get(address)
    page = client.get(frozen.get_absolute_url()).content.decode()
    following = re.search(r'rel="next" href="\?([^"#]+)#', page)
    assert following
    rest = client.get(f"{frozen.get_absolute_url()}?{following[1].replace('&amp;', '&')}").content.decode()
    assert (page.count("data-row"), rest.count("data-row")) == (50, 10)


@pytest.mark.django_db(transaction=True)
def test_the_open_page_is_told_when_it_is_stopped(
    failures: list[models.Message], mara: models.User, client_of: Any
) -> None:
    frozen = freeze(mara)
    recovery.start(frozen, mara, timezone.now())
    client, since = client_of(mara), str(live.glance(mara).cursor)
    asked = {"v": "recovery", "scope": frozen.pk, "since": since, "every": str(live.IDLE_POLL_MS)}
    recovery.stop(frozen, mara, timezone.now(), "Stopped by Mara")
    answer = client.get("/_f/live/", asked, headers={"HX-Request": "true"})
    assert "Stopped by Mara" in answer.content.decode()
    assert "Will be sent again" not in answer.content.decode()
    assert answer.content.decode().count("Not sent again") == 8  # bar, line, six messages
    assert "v=page" in answer.content.decode()


def test_a_message_of_another_fleet_is_not_listed_to_one_who_lost_it(
    failures: list[models.Message], mara: models.User, client_of: Any
) -> None:
    frozen = freeze(mara)
    models.FleetMembership.objects.all().delete()
    page = client_of(mara).get(frozen.get_absolute_url()).content.decode()
    assert str(failures[0].uuid) not in page
    assert failures[0].text not in page


def test_a_finished_one_says_so(connection: models.Connection, mara: models.User, client_of: Any) -> None:
    assert REFUSED["response_status_code"] == 422
    refused(conversations(connection, 1)[0], mara)
    frozen, now = freeze(mara), timezone.now()
    recovery.start(frozen, mara, now)
    for _ in range(3):
        recovery.advance(now)
        end(MessageState.SUCCEEDED)
    page = text_of(client_of(mara), frozen.get_absolute_url())
    assert "Finished" in page
    assert "1 was sent again" in page


STRANGER = "5b6a1c1e-7f0e-4a55-9d6a-0f2f3f1f2e4d"


@pytest.mark.parametrize(
    "query",
    ["code=abc", "status=faild", f"connection={STRANGER}", "text=" + "%20dock" * 200],
    ids=["code", "status", "connection", "length"],
)
def test_a_filter_that_means_more_than_it_says_is_not_frozen(
    conversation: models.Conversation, mara: models.User, client_of: Any, query: str
) -> None:
    factories.failed(conversation, author=mara, error_type="auth", response_status_code=401)

    answer = client_of(mara).post("/ops/recoveries/", {"query": query}, follow=True)

    assert not models.Recovery.objects.exists()
    assert "was not understood, so nothing was done" in answer.content.decode()
