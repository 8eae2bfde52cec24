"""The page of the webhooks and the notice on every other page: who sees what, who may do what, and how it is repainted."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messaging import models, sync
from messaging.catena.client import CatenaClient
from messaging.simulator import SimulatorServer
from messaging.sync import subscriptions
from tests import factories
from tests.messaging.hooked import delivered_ids, ours, status_at_catena, theirs, trip_the_breaker
from tests.messaging.test_views_live import Browser, targets
from tests.simulator.receiver import Receiver
from tests.stack import wait_for

pytestmark = pytest.mark.django_db
# A poll tells what other transactions have committed.
with_commits = pytest.mark.django_db(transaction=True)
NOW = timezone.now()
PAGE = "/ops/webhooks/"
BUTTON = "Re-activate and replay</button>"


@pytest.fixture
def adam() -> models.User:
    """An administrator by role alone."""
    return factories.UserFactory(username="adam", role=models.Role.ADMINISTRATOR, is_staff=True)


def page_of(client: Client, address: str = PAGE) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return str(answer.content.decode())


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def stale(count: int = 1) -> None:
    """As a check would leave it."""
    chosen = models.WebhookSubscription.objects.ours().values_list("pk", flat=True)[:count]
    models.WebhookSubscription.objects.filter(pk__in=list(chosen)).update(status="stale")
    models.WebhookWatch.objects.update(trouble=count)


def press(client: Client, action: str, **fields: str) -> int:
    return client.post(PAGE, {"action": action, **fields}).status_code


def wanted() -> str:
    return models.WebhookWatch.objects.get().wanted


# The notice


@pytest.mark.parametrize("address", ["/", "/compose/", "/ops/", "/connections/", "/settings/", "/c/{c}/"])
def test_while_all_deliver_no_page_says_anything(
    subscribed: Receiver, conversation: models.Conversation, sol: models.User, client_of: Any, address: str
) -> None:
    page = page_of(client_of(sol), address.format(c=conversation.uuid))
    assert 'id="hooks" role="status"' in page
    assert BUTTON not in page


@pytest.mark.parametrize("address", ["/", "/compose/", "/ops/", "/connections/", "/settings/", "/c/{c}/"])
@pytest.mark.parametrize("who", ["sol", "ada"])
def test_a_stale_subscription_is_a_red_banner_with_one_button_on_every_page_of_those_who_can_act(
    subscribed: Receiver, conversation: models.Conversation, client_of: Any, request: Any, who: str, address: str
) -> None:
    stale(2)
    page = page_of(client_of(request.getfixturevalue(who)), address.format(c=conversation.uuid))
    assert page.count(BUTTON) == 1
    assert 'class="banner alert-bad"' in page
    assert "2 webhook subscriptions do not deliver. Replies and receipts are read every 30 s meanwhile." in words(page)


def test_managers_are_told_calmly_how_late_news_may_be_and_have_no_button(
    subscribed: Receiver, mara: models.User, client_of: Any, settings: Any
) -> None:
    stale()
    settings.MESSAGE_SWEEP_SECONDS = 90
    page = page_of(client_of(mara), "/")
    assert "may take up to 1 min 30 s longer than usual to appear. Nothing is lost." in words(page)
    assert BUTTON not in page
    assert "alert-bad" not in page


def test_trouble_of_another_address_and_webhooks_that_are_off_are_nobodys_banner(
    subscribed: Receiver, sol: models.User, client_of: Any, settings: Any
) -> None:
    stale()
    here, settings.PUBLIC_URL = settings.PUBLIC_URL, "https://staging.example"
    assert BUTTON not in page_of(client_of(sol), "/")
    settings.PUBLIC_URL, settings.CATENA_WEBHOOK_SECRETS = here, []
    assert BUTTON not in page_of(client_of(sol), "/")


@with_commits
def test_an_open_page_is_told_when_it_begins_and_ends_without_a_further_query(
    subscribed: Receiver, sol: models.User, client_of: Any
) -> None:
    page = Browser(client_of(sol), "/settings/")
    assert page.poll() == ""
    stale()
    with CaptureQueriesContext(database) as queries:
        said = page.poll()
    assert len(queries) == 3  # session, person, look
    assert "#hooks" in targets(said)
    assert BUTTON in said
    assert 'name="csrfmiddlewaretoken"' in said
    assert page.poll() == ""
    sync.want(models.WebhookWork.REPAIR, sol, NOW)
    said = page.poll()
    assert "Being re-activated" in said
    assert BUTTON not in said
    models.WebhookWatch.objects.update(trouble=0, wanted="")
    assert '<hx-partial hx-target="#hooks" hx-swap="innerMorph"></hx-partial>' in page.poll()


@with_commits
def test_other_news_does_not_repaint_the_notice(
    subscribed: Receiver, conversation: models.Conversation, sol: models.User, client_of: Any
) -> None:
    stale()
    page = Browser(client_of(sol), "/settings/")
    factories.IncomingFactory(conversation=conversation)
    conversation.summarise()
    assert "#hooks" not in targets(page.poll())


# The page


@pytest.mark.parametrize("who", ["mara", "outsider"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_managers_find_no_such_page(subscribed: Receiver, client_of: Any, request: Any, who: str, method: str) -> None:
    answer = getattr(client_of(request.getfixturevalue(who)), method)(PAGE, {"action": "repair"})
    assert answer.status_code == 404
    assert wanted() == ""


@pytest.mark.parametrize("who", ["sol", "adam", "ada"])
def test_those_who_tend_webhooks_read_how_each_one_fares(
    subscribed: Receiver, client_of: Any, request: Any, who: str
) -> None:
    client = client_of(request.getfixturevalue(who))
    stale()
    models.WebhookSubscription.objects.filter(status="stale").update(dead_letters=7, problem="Catena refused <b>it</b>")
    with CaptureQueriesContext(database) as queries:
        page = page_of(client)
    assert len(queries) <= 7
    assert "1 of 20 do not deliver" in words(page)
    assert "Stopped by Catena 7" in words(page)
    assert "Catena refused &lt;b&gt;it" in page
    assert page.count(BUTTON) == 1  # the page has its own, and no banner
    assert ('value="rotate"' in page) == (who != "sol")
    assert 'href="/ops/webhooks/"' in page_of(client, "/ops/")


def test_support_may_mend_and_administrators_alone_may_change(
    subscribed: Receiver, sol: models.User, adam: models.User, client_of: Any
) -> None:
    for action in ("rotate", "create", "remove"):
        assert press(client_of(sol), action, is_sure="1") == 403
    assert wanted() == ""
    for who, action in ((sol, "check"), (sol, "repair"), (adam, "rotate"), (adam, "create"), (adam, "repair")):
        models.WebhookWatch.objects.update(wanted="")
        assert press(client_of(who), action) == 303
        assert wanted() == action
    assert press(client_of(sol), "explode") == 422


def test_removing_wants_a_tick(subscribed: Receiver, adam: models.User, client_of: Any) -> None:
    assert press(client_of(adam), "remove") == 422
    assert wanted() == ""
    assert press(client_of(adam), "remove", is_sure="1") == 303
    assert wanted() == "remove"


def test_pressing_twice_asks_once_and_says_so(subscribed: Receiver, sol: models.User, client_of: Any) -> None:
    client = client_of(sol)
    press(client, "repair")
    assert "still under way" not in page_of(client)
    press(client, "repair")
    page = words(page_of(client))
    assert "still under way" in page
    assert "Re-activate and replay: under way , asked for by Sol" in page
    assert models.AuditEntry.objects.filter(action="webhooks_repair", user=sol).count() == 1


def test_without_a_secret_the_page_says_what_to_set_and_asks_nobody(
    receiver: Receiver, ada: models.User, client_of: Any, settings: Any
) -> None:
    settings.CATENA_WEBHOOK_SECRETS = []
    assert "CATENA_WEBHOOK_SECRET is not set" in words(page_of(client_of(ada)))
    assert press(client_of(ada), "create") == 409
    assert not models.WebhookWatch.objects.exists()


def test_a_worker_that_does_not_come_is_asked_after(subscribed: Receiver, sol: models.User, client_of: Any) -> None:
    sync.want(models.WebhookWork.REPAIR, sol, NOW - timedelta(minutes=2))
    assert "Does one run, with the same PUBLIC_URL?" in words(page_of(client_of(sol)))


@with_commits
def test_from_the_banner_to_the_dead_letters(
    catena: SimulatorServer, catena_client: CatenaClient, subscribed: Receiver, sol: models.User, client_of: Any
) -> None:
    """The breaker trips, the worker's check sees it, a person presses, a worker mends, the open page tells."""
    client = client_of(sol)
    stuck = trip_the_breaker(catena, subscribed)
    subscriptions.check(catena_client, timezone.now())
    assert BUTTON in page_of(client, "/")

    assert press(client, "repair") == 303
    page = Browser(client, PAGE)
    assert (catena.world.posts_seen, status_at_catena(catena, "message.added")) == (0, "stale")
    sync.fulfil(catena_client, timezone.now())

    said = page.poll()
    assert "#hooks-state" in targets(said)
    assert "#hooks" not in targets(said)
    assert "1 re-activated, 2 replayed" in words(said)
    wait_for(lambda: delivered_ids(subscribed, "message.added") == set(stuck))
    assert BUTTON not in page_of(client, "/")
    assert (ours("message.added").status, ours("message.added").dead_letters) == ("active", 0)


def test_subscribing_and_removing_from_the_page(
    catena: SimulatorServer, catena_client: CatenaClient, receiver: Receiver, adam: models.User, client_of: Any
) -> None:
    client = client_of(adam)
    assert "Backhaul is not subscribed" in words(page_of(client))
    press(client, "create")
    sync.fulfil(catena_client, timezone.now())
    assert "All 20 subscriptions deliver" in words(page_of(client))
    press(client, "remove", is_sure="1")
    sync.fulfil(catena_client, timezone.now())
    assert "20 removed" in words(page_of(client))
    assert theirs(catena) == set()


def test_a_page_that_slept_offers_to_read_itself_again(subscribed: Receiver, sol: models.User, client_of: Any) -> None:
    page = Browser(client_of(sol), PAGE)
    page.address = re.sub(r"since=\d+", "since=1", page.address)
    assert "#live-news" in page.poll()
    assert 'id="live-news"' in page_of(client_of(sol))


@with_commits
def test_a_manager_who_asks_the_poll_for_the_page_is_told_nothing_of_it(
    subscribed: Receiver, mara: models.User, client_of: Any
) -> None:
    page = Browser(client_of(mara), "/settings/")
    page.address = page.address.replace("v=page", "v=subscriptions")
    stale()
    assert "hooks" not in page.poll()
