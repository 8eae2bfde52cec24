"""The operations list: failures first, honest filters, pages of constant cost, and a quiet live refresh."""

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from messaging import live, models
from messaging.insight.checked import MOST_LINES
from messaging.insight.listing import MOST_ATTENTION, PAGE_SIZE
from messaging.states import MessageState
from messaging.views.operations import read_key
from tests import factories

S = MessageState
HTMX = {"HX-Request": "true"}
ROW = re.compile(r'<tr id="op-([0-9a-f-]{36})"')
pytestmark = pytest.mark.django_db


def fresh(connection: models.Connection, **columns: Any) -> models.Conversation:
    return factories.ConversationFactory(driver=factories.FleetUserFactory(connection=connection, **columns))


def listed(client: Any, query: str = "") -> list[str]:
    answer = client.get(reverse("operations") + query)
    assert answer.status_code == 200
    return ROW.findall(answer.content.decode())


def ids(*messages: models.Message) -> list[str]:
    return [str(message.uuid) for message in messages]


def test_unhandled_failures_stand_on_top_of_newer_successes(
    connection: models.Connection, mara: models.User, client_of: Any
) -> None:
    now = timezone.now()
    failed = factories.failed(fresh(connection), occurred_at=now - timedelta(days=20))
    handled = factories.failed(fresh(connection), occurred_at=now - timedelta(hours=2), handled_at=now)
    sent = factories.accepted(fresh(connection), state=S.SUCCEEDED, operation_status="success")
    factories.accepted(fresh(connection), occurred_at=now - timedelta(days=8))
    factories.IncomingFactory(conversation=fresh(connection))
    client = client_of(mara)
    assert listed(client) == ids(failed, sent, handled)
    page = client.get(reverse("operations")).content.decode()
    assert "Needs attention" in page
    assert "Samsara answered 503 (unavailable)" in page


def test_more_failures_than_fit_on_top_are_one_link_away(
    connection: models.Connection, mara: models.User, client_of: Any
) -> None:
    for _ in range(MOST_ATTENTION + 2):
        factories.failed(fresh(connection))
    client = client_of(mara)
    assert len(listed(client)) == MOST_ATTENTION
    assert f">{MOST_ATTENTION + 2}</span>" in client.get(reverse("operations")).content.decode()
    assert "?status=attention&amp;range=all" in client.get(reverse("operations")).content.decode()
    assert len(listed(client, "?status=attention&range=all")) == MOST_ATTENTION + 2


def test_each_filter_narrows_the_list_and_survives_in_the_page(
    connection: models.Connection, sol: models.User, client_of: Any
) -> None:
    other = factories.ConnectionFactory()
    high = factories.failed(fresh(connection), priority="high")
    low = factories.failed(fresh(other), priority="low", error_type="network", response_status_code=None)
    client = client_of(sol)
    assert other.fleet is not None
    for query, expected in {
        "?priority=high": high, "?error=network": low, "?code=503": high, f"?connection={other.catena_id}": low,
        f"?fleet={other.fleet.catena_id}": low,
    }.items():  # fmt: skip
        assert listed(client, query) == ids(expected), query
    assert sorted(listed(client, "?status=failed&range=24h")) == sorted(ids(high, low))
    assert listed(client, "?status=sent") == []
    page = client.get(reverse("operations") + "?priority=high&code=404").content.decode()
    assert '<option value="high" selected>' in page
    assert 'value="404"' in page
    assert "No message matches this filter" in page


def test_nonsense_in_the_address_counts_as_not_chosen(
    connection: models.Connection, mara: models.User, client_of: Any
) -> None:
    message = factories.accepted(fresh(connection))
    query = f"?status=x&priority=y&code=-1&range=z&fleet=q&connection={uuid4()}&before=1&after={'9' * 40}.1"
    assert listed(client_of(mara), query) == ids(message)


def test_the_fleet_of_others_is_no_filter(connection: models.Connection, mara: models.User, client_of: Any) -> None:
    other = factories.ConnectionFactory(description="Foreign account")
    factories.failed(fresh(other))
    mine = factories.failed(fresh(connection))
    client = client_of(mara)
    assert listed(client, f"?connection={other.catena_id}") == ids(mine)
    assert "Foreign account" not in client.get(reverse("operations")).content.decode()


def test_an_outsider_sees_an_empty_list(connection: models.Connection, outsider: models.User, client_of: Any) -> None:
    factories.failed(fresh(connection))
    answer = client_of(outsider).get(reverse("operations")).content.decode()
    assert "Nothing was sent in the last 7 days" in answer
    assert not ROW.search(answer)


def test_walking_the_pages_meets_every_message_once(
    connection: models.Connection, mara: models.User, client_of: Any
) -> None:
    talk, now, client = fresh(connection), timezone.now(), client_of(mara)
    made = [
        str(factories.accepted(talk, occurred_at=now - timedelta(minutes=n // 3)).uuid) for n in range(PAGE_SIZE + 5)
    ]
    first = client.get(reverse("operations")).content.decode()
    older = re.search(r'rel="next" href="[^"]*(\?[^"]+)"', first)
    assert older
    second = client.get(reverse("operations") + older[1]).content.decode()
    assert sorted(ROW.findall(first) + ROW.findall(second)) == sorted(made)
    newer = re.search(r'rel="prev" href="[^"]*(\?[^"]+)"', second)
    assert newer
    assert listed(client, newer[1]) == ROW.findall(first)
    assert 'rel="next"' not in second
    assert 'rel="prev"' not in first


def test_the_page_costs_the_same_with_three_rows_and_with_sixty(
    connection: models.Connection, mara: models.User, client_of: Any
) -> None:
    client, costs = client_of(mara), []
    listed(client)
    for more in (3, 57):
        for _ in range(more):
            factories.accepted(fresh(connection), author=mara)
            factories.failed(fresh(connection))
        with CaptureQueriesContext(database) as queries:
            listed(client)
        costs.append(len(queries))
    assert costs[0] == costs[1] <= 12


def checked(hours: float = 1, *breaches: str) -> None:
    at = timezone.now() - timedelta(hours=hours)
    models.Verification.objects.create(at=at, rule_count=44, breaches=list(breaches), seconds=0.4)


def test_support_reads_when_the_rules_were_checked_and_that_they_hold(sol: models.User, client_of: Any) -> None:
    client = client_of(sol)
    assert "have not been checked yet" in client.get(reverse("operations")).content.decode()
    checked()
    page = client.get(reverse("operations")).content.decode()
    assert ("44 rules, no breach" in page, "alert-bad" in page) == (True, False)


def test_support_reads_the_breaches_escaped_and_not_without_end(sol: models.User, client_of: Any) -> None:
    checked(2)
    checked(1, *(f"one_head: conversation {n} <i>" for n in range(MOST_LINES + 3)))
    page = client_of(sol).get(reverse("operations")).content.decode()
    assert "alert-bad" in page
    assert f"44 rules, {MOST_LINES + 3} breaches." in page
    assert page.count("&lt;i&gt;</li>") == MOST_LINES
    assert "and 3 more" in page


def test_support_reads_when_nobody_checks_the_rules_any_more(sol: models.User, client_of: Any) -> None:
    checked(27)
    page = client_of(sol).get(reverse("operations")).content.decode()
    assert ("have not been checked since" in page, "no breach" in page) == (True, False)


def test_a_fleet_manager_is_not_told_of_the_rules(mara: models.User, client_of: Any) -> None:
    checked(1, "one_head: conversation 1")
    page = client_of(mara).get(reverse("operations")).content.decode()
    assert ("one_head" in page, "checked" in page) == (False, False)


def turned_away() -> None:
    now = timezone.now()
    models.RefusedDelivery.objects.create(cause="signature", minute=now - timedelta(hours=2), count=7)
    models.RefusedDelivery.objects.create(cause="signature", minute=now - timedelta(hours=25), count=90)
    models.WebhookEvent.objects.create(key="k", event_name="message.added", state="dead", reason="odd")


def test_webhooks_that_brought_no_news_are_told_to_those_who_can_act(
    mara: models.User, sol: models.User, ada: models.User, client_of: Any
) -> None:
    def page_of(person: models.User) -> str:
        return client_of(person).get(reverse("operations")).content.decode()

    assert "webhook" not in page_of(sol).partition("<main")[2].replace("/ops/webhooks/", "")
    turned_away()
    told, panel = page_of(sol), reverse("admin:messaging_webhookevent_changelist")
    assert "7 webhooks refused in 24 hours" in told
    assert "1 event of Catena could not be used in 24 hours." in told
    assert (panel in told, panel in page_of(ada)) == (False, True)
    assert "webhooks refused" not in page_of(mara)


def test_what_support_is_told_beside_the_list_keeps_the_page_within_its_budget(
    connection: models.Connection, sol: models.User, client_of: Any, django_assert_max_num_queries: Any
) -> None:
    factories.failed(fresh(connection))
    checked(1, "one_head: conversation 1")
    turned_away()
    client = client_of(sol)
    listed(client)
    with django_assert_max_num_queries(12):
        listed(client)


def test_a_deep_page_starts_in_the_index_where_it_begins(connection: models.Connection, mara: models.User) -> None:
    factories.accepted(fresh(connection))
    with database.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off")
        found = (
            models.Message.objects.outgoing().filter(occurred_at__lte=timezone.now()).order_by("-occurred_at", "-id")
        )
        plan = found.explain()
    assert "message_outgoing" in plan
    assert "Index Cond: (occurred_at <=" in plan


def test_the_fragment_answers_rows_a_poller_and_the_canonical_address(
    connection: models.Connection, mara: models.User, client_of: Any
) -> None:
    failed, client = factories.failed(fresh(connection)), client_of(mara)
    answer = client.get(reverse("operations_rows") + "?status=failed&priority=&range=7d", headers=HTMX)
    assert answer["HX-Push-Url"] == "/ops/?status=failed"
    body = answer.content.decode()
    assert ROW.findall(body) == ids(failed)
    assert '<hx-partial hx-target="#live" hx-swap="outerHTML">' in body
    assert "<html" not in body


def test_the_fragment_without_htmx_is_the_page(mara: models.User, client_of: Any) -> None:
    answer = client_of(mara).get(reverse("operations_rows") + "?status=failed&before=1.2")
    assert (answer.status_code, answer["Location"]) == (302, "/ops/?status=failed")


@pytest.mark.django_db(transaction=True)
def test_a_poll_repaints_changed_rows_and_offers_new_ones(
    connection: models.Connection, mara: models.User, client_of: Any
) -> None:
    old = factories.accepted(fresh(connection))
    client, since = client_of(mara), live.glance(mara).cursor
    newest = re.search(r'name="newest" value="(\d+)"', client.get(reverse("operations")).content.decode())
    assert newest
    models.Message.objects.filter(pk=old.pk).update(state=S.FAILED, operation_status="failed", reason="Not allowed")
    young = factories.accepted(fresh(connection), occurred_at=timezone.now() + timedelta(seconds=1))
    asked = {"v": "ops", "since": str(since), "every": live.IDLE_POLL_MS, "newest": newest[1]}
    with CaptureQueriesContext(database) as queries:
        answer = client.get("/_f/live/", asked, headers=HTMX).content.decode()
    targets = re.findall(r'hx-target="#op-([0-9a-f-]{36})"', answer)
    assert "Not allowed" in answer
    assert "1 new message<" in answer
    assert 'hx-target="#ops-figures"' in answer
    assert len(queries) <= 4  # session, person, look, rows
    assert sorted(targets) == sorted(ids(old, young))


@pytest.mark.django_db(transaction=True)
def test_too_many_changes_ask_for_a_fresh_list(
    connection: models.Connection, mara: models.User, client_of: Any
) -> None:
    talk, since = fresh(connection), live.glance(mara).cursor
    for _ in range(live.MOST_CHANGES + 1):
        factories.accepted(talk)
    asked = {"v": "ops", "since": str(since), "every": live.IDLE_POLL_MS}
    answer = client_of(mara).get("/_f/live/", asked, headers=HTMX).content.decode()
    assert "The list has changed" in answer
    assert "op-" not in answer.replace("#ops-news", "")


@pytest.mark.parametrize("text", ["", ".", "1", "1.", ".1", "-1.1", "1.1.1", "x.y", "1e3.1", f"{10**17}0.1", "²³.1"])
def test_only_keys_that_we_wrote_are_read(text: str) -> None:
    assert read_key(text) is None
