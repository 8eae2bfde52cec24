"""Incidents on the pages: who reads, who acts, and what somebody who writes is told."""

import re
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messaging import incidents, live, models, recovery
from tests import factories
from tests.messaging import test_incidents
from tests.messaging.test_incidents import talks

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def fail(connection: models.Connection, number: int, **columns: Any) -> list[models.Message]:
    """The last one at this moment, so that the watch still sees them however late the test comes."""
    return test_incidents.fail(connection, number, timezone.now(), **columns)


@pytest.fixture
def one(connection: models.Connection) -> models.Incident:
    fail(connection, 6, error_type="auth", response_status_code=401, reason="Token expired")
    incidents.watch(timezone.now())
    return models.Incident.objects.get()


@pytest.fixture
def wide(connection: models.Connection) -> models.Incident:
    """Of the whole provider: five failures in mara's fleet, seven in another one."""
    fail(connection, 5)
    fail(factories.ConnectionFactory(), 7)
    incidents.watch(timezone.now())
    return models.Incident.objects.get()


def page_of(client: Any, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return str(answer.content.decode())


def queries_of(client: Any, address: str) -> int:
    with CaptureQueriesContext(database) as queries:
        page_of(client, address)
    return len(queries)


def act(client: Any, incident: models.Incident, action: str, **given: Any) -> Any:
    return client.post(f"{incident.get_absolute_url()}act/", {"action": action, **given})


def poll(client: Any, user: models.User, view: str, since: live.Cursor, **given: Any) -> str:
    asked = {"v": view, "since": str(since), "every": "1", **given}
    answer = client.get("/_f/live/", asked, headers=HTMX)
    return str(answer.content.decode())


@pytest.mark.parametrize("who", ["sol", "ada", "mara"])
def test_the_list_and_the_page_say_where_what_and_how_many(
    one: models.Incident, who: str, client_of: Any, request: pytest.FixtureRequest
) -> None:
    client = client_of(request.getfixturevalue(who))
    for address in ("/ops/incidents/", one.get_absolute_url()):
        page = page_of(client, address)
        for words in ("Samsara, Northern Haulage", "ign-in rejected", "6 messages to 2 drivers failed"):
            assert words in page, (address, words)


def test_an_outsider_finds_neither_page_nor_line(one: models.Incident, outsider: models.User, client_of: Any) -> None:
    client = client_of(outsider)
    assert "No open incident" in page_of(client, "/ops/incidents/")
    assert client.get(one.get_absolute_url()).status_code == 404
    assert act(client, one, "resolve").status_code == 404


def test_a_manager_reads_and_does_not_act(one: models.Incident, mara: models.User, client_of: Any) -> None:
    client = client_of(mara)
    page = page_of(client, one.get_absolute_url())
    assert "Acknowledge</button>" not in page
    assert "incident-note" not in page
    assert act(client, one, "resolve").status_code == 403
    one.refresh_from_db()
    assert one.is_open


def test_a_manager_sees_of_a_provider_what_lies_in_the_own_fleets(
    wide: models.Incident, mara: models.User, sol: models.User, client_of: Any
) -> None:
    for address in ("/ops/incidents/", wide.get_absolute_url()):
        assert "12 messages to 4 drivers failed" in page_of(client_of(sol), address)
        page = page_of(client_of(mara), address)
        assert "5 messages to 2 drivers failed" in page
        assert "12 messages" not in page
    talk = models.Conversation.objects.filter(connection__fleet__name="Northern Haulage").first()
    assert talk is not None
    page = page_of(client_of(mara), talk.get_absolute_url())
    assert "Samsara, every fleet" in page
    assert "12 messages" not in page


def test_support_takes_gives_acknowledges_snoozes_notes_and_resolves(
    one: models.Incident, sol: models.User, ada: models.User, client_of: Any
) -> None:
    client = client_of(sol)
    for action, given in (
        ("take", {}), ("give", {"owner": ada.pk}), ("acknowledge", {}), ("snooze", {"until": "4h"}),
        ("note", {"note": "Called Samsara.\nTicket 11"}), ("resolve", {}),
    ):  # fmt: skip
        assert act(client, one, action, **given).status_code in {302, 303}
    one.refresh_from_db()
    assert (one.owner, one.acknowledged_by, one.resolved_by) == (ada, sol, sol)
    assert one.snoozed_until is not None
    told = list(one.entries.order_by("id").values_list("kind", "user__username"))
    by_sol = ("owned", "owned", "acknowledged", "snoozed", "noted", "resolved")
    assert told == [("opened", None), *((kind, "sol") for kind in by_sol)]
    audited = models.AuditEntry.objects.filter(user=sol).order_by("id")
    assert [entry.action for entry in audited] == [
        "incident_owned", "incident_owned", "incident_acknowledged", "incident_snoozed", "incident_noted", "incident_resolved",
    ]  # fmt: skip
    assert {entry.detail["incident"] for entry in audited} == {str(one.uuid)}
    assert "Ticket" not in str([entry.detail for entry in audited])
    assert "Called Samsara.\nTicket 11" in page_of(client, one.get_absolute_url())


def test_an_act_that_came_too_late_says_so(
    one: models.Incident, sol: models.User, ada: models.User, client_of: Any
) -> None:
    incidents.resolve(one, ada, timezone.now())
    answer = client_of(sol).post(f"{one.get_absolute_url()}act/", {"action": "acknowledge"}, follow=True)
    assert "a colleague was quicker" in answer.content.decode()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"action": "note", "note": "x" * 2001}, "too long"), ({"action": "note", "note": "  "}, "Write the note first"),
        ({"action": "snooze", "note": "kept"}, "Choose for how long"),
        ({"action": "explode", "note": "kept"}, "Choose what to do"),
        ({"action": "give", "owner": "0", "note": "kept"}, "Choose somebody of support"),
    ],
)  # fmt: skip
def test_a_refusal_says_why_and_keeps_the_note(
    one: models.Incident, sol: models.User, client_of: Any, given: dict[str, str], said: str
) -> None:
    answer = client_of(sol).post(f"{one.get_absolute_url()}act/", given)
    page = answer.content.decode()
    assert (answer.status_code, said in page) == (422, True)
    assert f"{given['note']}</textarea>" in page
    assert one.entries.count() == 1


def test_an_incident_is_given_to_support_and_administrators_alone(
    one: models.Incident, sol: models.User, mara: models.User, client_of: Any
) -> None:
    assert act(client_of(sol), one, "give", owner=mara.pk).status_code == 422
    assert f'value="{mara.pk}"' not in page_of(client_of(sol), one.get_absolute_url())


def test_what_is_open_comes_before_what_was_resolved_and_what_is_put_aside_below(
    connection: models.Connection, sol: models.User, client_of: Any
) -> None:
    for code in (500, 501, 502):
        fail(connection, 5, response_status_code=code)
    incidents.watch(timezone.now())
    found = {one.response_status_code: one for one in models.Incident.objects.all()}
    incidents.resolve(found[500], sol, timezone.now())
    incidents.snooze(found[502], incidents.snoozed_until("1h", timezone.now()), sol, timezone.now())
    page = page_of(client_of(sol), "/ops/incidents/")
    codes = re.findall(r"answers (\d+)", page)
    assert codes == ["501", "502", "500"]


def test_its_messages_come_in_pages_that_hold_each_once(
    connection: models.Connection, sol: models.User, client_of: Any
) -> None:
    fail(connection, 60)
    fail(connection, 3, error_type="network", response_status_code=None)
    incidents.watch(timezone.now())
    one = models.Incident.objects.get(error_type="tsp")
    client, address, seen = client_of(sol), one.get_absolute_url(), []
    while address:
        page = page_of(client, address)
        seen += re.findall(r'href="/m/([0-9a-f-]{36})/" data-row', page)
        older = re.search(r'rel="next"\s+href="([^"#]+)', page)
        address = older[1] if older else ""
    expected = {str(uuid) for uuid in models.Message.objects.filter(error_type="tsp").values_list("uuid", flat=True)}
    assert (len(seen), set(seen)) == (60, expected)


@pytest.mark.parametrize("who", ["sol", "mara"])
@pytest.mark.parametrize("place", ["list", "page"])
def test_pages_ask_a_constant_number_of_queries(
    one: models.Incident,
    connection: models.Connection,
    who: str,
    place: str,
    client_of: Any,
    request: pytest.FixtureRequest,
) -> None:
    client = client_of(request.getfixturevalue(who))
    address = "/ops/incidents/" if place == "list" else one.get_absolute_url()
    counts = [queries_of(client, address)]
    fail(connection, 20, error_type="auth", response_status_code=401)
    for code in (500, 501, 502, 503):
        fail(connection, 5, response_status_code=code)
        fail(factories.ConnectionFactory(fleet=connection.fleet), 5, response_status_code=code)
    incidents.watch(timezone.now())
    counts.append(queries_of(client, address))
    # A provider's incidents cost a manager one more, however many there are.
    assert counts[1] - counts[0] <= (1 if (who, place) == ("mara", "list") else 0), counts
    assert max(counts) <= 12, counts


def test_somebody_who_writes_is_warned_before_sending(one: models.Incident, mara: models.User, client_of: Any) -> None:
    client = client_of(mara)
    talk = models.Conversation.objects.first()
    assert talk is not None
    driver = talk.driver
    told = "Samsara, Northern Haulage: sign-in rejected (401)."
    page = page_of(client, talk.get_absolute_url())
    assert told in page
    assert page.index(told) < page.index('id="id_message_text"')
    assert "6 messages to 2 drivers failed since" in page
    assert "signing in at Samsara again" in page
    page = page_of(client, f"/compose/?recipient={driver.catena_id}")
    assert told in page
    assert "Sign-in rejected (401): 6 messages to 2 drivers failed since" in page


def test_nobody_is_warned_of_another_connection(
    one: models.Incident, fleet: models.Fleet, mara: models.User, outsider: models.User, client_of: Any
) -> None:
    healthy = talks(factories.ConnectionFactory(fleet=fleet), 1)[0]
    assert "sign-in rejected" not in page_of(client_of(mara), healthy.get_absolute_url())
    assert "sign-in rejected" not in page_of(client_of(outsider), "/compose/")


@pytest.mark.django_db(transaction=True)
def test_the_warning_comes_and_goes_live_and_leaves_the_composer_alone(
    connection: models.Connection, mara: models.User, sol: models.User, client_of: Any
) -> None:
    talk = talks(connection, 1)[0]
    client = client_of(mara)
    since = live.glance(mara).cursor
    fail(connection, 5, error_type="auth", response_status_code=401)
    incidents.watch(timezone.now())
    scope = {"scope": str(talk.pk), "seen": "0"}
    for view, given in (("conversation", scope), ("compose", {})):
        news = poll(client, mara, view, since, **given)
        assert '<hx-partial hx-target="#incident-words" hx-swap="innerMorph">' in news
        assert "sign-in rejected" in news
        assert "<textarea" not in news
    assert "incident-words" not in poll(client, mara, "inbox", since)
    since = live.glance(mara).cursor
    incidents.resolve(models.Incident.objects.get(), sol, timezone.now())
    for view, given in (("conversation", scope), ("compose", {})):
        news = poll(client, mara, view, since, **given)
        assert "sign-in rejected" not in news
        assert '<hx-partial hx-target="#incident-words" hx-swap="innerMorph">' in news


def test_incidents_elsewhere_are_no_news(
    one: models.Incident, outsider: models.User, sol: models.User, client_of: Any
) -> None:
    since = live.glance(outsider).cursor
    incidents.resolve(one, sol, timezone.now())
    look = live.glance(outsider, since=since)
    assert (look.changed, look.has_incident_news) == (False, False)


@pytest.mark.django_db(transaction=True)
def test_the_page_and_the_list_repaint_themselves(one: models.Incident, sol: models.User, client_of: Any) -> None:
    since = live.glance(sol).cursor
    incidents.note(one, "Called the provider", sol, timezone.now())
    client = client_of(sol)
    assert "Called the provider" in poll(client, sol, "incidents", since, q=str(one.uuid))
    assert "incident-note" not in poll(client, sol, "incidents", since, q=str(one.uuid))
    assert 'hx-target="#incidents"' in poll(client, sol, "incidents", since)
    assert "1 open incident" in poll(client, sol, "ops", since)


def test_its_history_leads_those_who_may_see_them_to_its_recoveries(
    one: models.Incident, sol: models.User, mara: models.User, client_of: Any
) -> None:
    made = recovery.freeze(sol, models.Message.objects.all(), timezone.now(), incident=one)
    models.Message.objects.update(error_type="validation", response_status_code=422)
    recovery.start(
        recovery.freeze(sol, models.Message.objects.all(), timezone.now(), incident=one), sol, timezone.now()
    )
    page = page_of(client_of(sol), one.get_absolute_url())
    kept = models.Recovery.objects.exclude(pk=made.pk).get()
    assert f'<a href="{kept.get_absolute_url()}">See the recovery</a>' in page
    assert str(kept.uuid) not in page_of(client_of(mara), one.get_absolute_url())


def test_operations_and_the_connection_lead_to_it(one: models.Incident, sol: models.User, client_of: Any) -> None:
    client = client_of(sol)
    assert "1 open incident" in page_of(client, "/ops/")
    assert one.connection is not None
    assert one.get_absolute_url() in page_of(client, f"/connections/{one.connection.catena_id}/")


def test_hostile_words_of_a_provider_are_shown_as_words(
    connection: models.Connection, sol: models.User, client_of: Any
) -> None:
    fail(connection, 5, reason="<script>alert(1)</script>", error_type="<b>x")
    incidents.watch(timezone.now())
    for address in ("/ops/incidents/", models.Incident.objects.get().get_absolute_url(), "/compose/"):
        page = page_of(client_of(sol), address)
        assert "<script>alert" not in page
        assert "<b>x" not in page
