"""Our webhook subscriptions, against the simulated Catena over HTTP and a real receiver."""

import re
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection as database
from django.utils import timezone

from messaging import gates, mirror, models, sync
from messaging.catena.client import CatenaClient
from messaging.catena.types import Webhook
from messaging.insight.hooks import overview
from messaging.models.subscriptions import hook_obstacle, secret_mark
from messaging.simulator import Fault, SimulatorServer
from messaging.simulator.events import NAMES
from messaging.sync import subscriptions
from tests.messaging.conftest import client_of_server
from tests.messaging.hooked import (
    CURRENT,
    NEXT,
    delivered_ids,
    drivers_write,
    ours,
    signed_by,
    status_at_catena,
    theirs,
    trip_the_breaker,
)
from tests.simulator.receiver import Receiver
from tests.stack import wait_for

pytestmark = pytest.mark.django_db
NOW = timezone.now()
HOOKS = "/v2/notifications/webhooks"


def marks() -> list[Any]:
    return list(models.WebhookWatch.objects.values_list("changed_xid", flat=True))


# Subscribing


def test_every_event_of_the_contract_is_subscribed_once_however_often_it_is_asked(
    catena: SimulatorServer, catena_client: CatenaClient, receiver: Receiver
) -> None:
    first = subscriptions.ensure(catena_client, NOW)
    assert (first.did["subscribed"], first.problems, first.stopped) == (len(NAMES), [], "")
    made = theirs(catena)
    again = subscriptions.ensure(catena_client, NOW)
    assert (again.did["subscribed"], again.problems, theirs(catena)) == (0, [], made)
    rows = models.WebhookSubscription.objects.ours()
    assert {(row.event_name, row.status, row.url, row.dead_letters) for row in rows} == {
        (name, "active", receiver.url, 0) for name in NAMES
    }
    assert {row.catena_id for row in rows} == made
    assert overview(NOW).is_good


def test_what_is_delivered_is_signed_with_our_secret(catena: SimulatorServer, subscribed: Receiver) -> None:
    (said,) = drivers_write(catena, 1)
    wait_for(lambda: delivered_ids(subscribed, "message.added") == {said})
    assert signed_by(subscribed.named("message.added")[0], CURRENT) == 0


def test_only_what_is_missing_is_made_again(
    catena: SimulatorServer, catena_client: CatenaClient, subscribed: Receiver
) -> None:
    before = theirs(catena)
    lost = ours("user.modified").catena_id
    catena_client.delete_webhook(lost)
    report = subscriptions.ensure(catena_client, NOW)
    assert (report.did["subscribed"], report.problems) == (1, [])
    assert len(theirs(catena) - before) == 1
    assert ours("user.modified").catena_id in theirs(catena) - before


def test_subscriptions_that_the_database_has_forgotten_are_found_and_given_our_secret(
    catena: SimulatorServer, catena_client: CatenaClient, subscribed: Receiver
) -> None:
    made = theirs(catena)
    models.WebhookSubscription.objects.exclude(event_name="message.modified").delete()
    for one in catena.world.subscriptions.values():
        one.secret = "of-another-time-and-not-known-here"
    report = subscriptions.ensure(catena_client, NOW)
    assert (report.problems, report.did["subscribed"], theirs(catena)) == ([], 0, made)
    assert report.did["found and taken over"] == len(NAMES) - 1
    assert ours("message.added").dead_letters is None
    (said,) = drivers_write(catena, 1)
    wait_for(lambda: delivered_ids(subscribed, "message.added") == {said})
    assert signed_by(subscribed.named("message.added")[0], CURRENT) == 0


def test_an_answer_that_is_lost_leaves_nothing_double(
    catena: SimulatorServer, catena_client: CatenaClient, receiver: Receiver
) -> None:
    catena.world.faults.add(Fault("reset_after_accept", f"POST {HOOKS}", times=1))
    assert subscriptions.ensure(catena_client, NOW).stopped
    assert subscriptions.ensure(catena_client, NOW).is_good
    names = [one.event_name for one in catena.world.subscriptions.values()]
    assert sorted(names) == sorted(NAMES)


def test_what_belongs_to_another_address_is_never_touched(
    catena: SimulatorServer, catena_client: CatenaClient, subscribed: Receiver, settings: Any
) -> None:
    """A copy of the database that is brought up elsewhere must not steal what production lives on."""
    production = theirs(catena)
    settings.PUBLIC_URL = "https://staging.example"
    for work in (subscriptions.ensure, subscriptions.rotate, subscriptions.repair, subscriptions.remove):
        assert work(catena_client, NOW).problems == []
    assert theirs(catena) == production
    assert {one.url for one in catena.world.subscriptions.values()} == {subscribed.url}
    assert {one.secret for one in catena.world.subscriptions.values()} == {CURRENT}
    assert (overview(NOW).strays, overview(NOW).is_subscribed) == (len(NAMES), False)


def test_a_neighbour_on_the_same_host_is_not_mistaken_for_us(
    catena: SimulatorServer, catena_client: CatenaClient, receiver: Receiver, settings: Any
) -> None:
    """Catena masks the path, so the list alone cannot tell the two; what has delivered here can."""
    theirs_first = catena_client.create_webhook(f"{settings.PUBLIC_URL}/other/", "schedule.deactivated", "x" * 32)[0]
    mine = catena_client.create_webhook(receiver.url, "schedule.deactivated", "y" * 32)[0]
    report = subscriptions.ensure(catena_client, NOW)
    assert [problem.partition(":")[0] for problem in report.problems] == ["schedule.deactivated"]
    models.WebhookEvent.objects.create(key="k", webhook_id=mine.id, event_name="schedule.deactivated", body_sha256="0")
    assert subscriptions.ensure(catena_client, NOW).problems == []
    assert ours("schedule.deactivated").catena_id == mine.id
    assert catena.world.subscriptions[str(theirs_first.id)].secret == "x" * 32


def test_an_event_that_catena_does_not_offer_is_told_and_is_no_trouble(
    catena: SimulatorServer, catena_client: CatenaClient, receiver: Receiver
) -> None:
    catena.world.faults.add(Fault("refused", f"POST {HOOKS}", times=1, status=422))
    report = subscriptions.ensure(catena_client, NOW)
    assert (report.problems, report.did["not offered by Catena"]) == ([], 1)
    assert overview(NOW).missing == ["resource_operation"]


def test_an_address_that_catena_does_not_take_is_a_problem(
    catena: SimulatorServer, catena_client: CatenaClient, receiver: Receiver
) -> None:
    catena.world.faults.add(Fault("refused", f"POST {HOOKS}", status=422))
    assert len(subscriptions.ensure(catena_client, NOW).problems) == len(sync.FAMILIES)


# Secrets


def test_during_a_rotation_both_secrets_sign_and_afterwards_the_last_alone(
    catena: SimulatorServer, catena_client: CatenaClient, subscribed: Receiver, settings: Any
) -> None:
    settings.CATENA_WEBHOOK_SECRETS = [CURRENT, NEXT]
    drivers_write(catena, 1)
    wait_for(lambda: subscribed.named("message.added"))
    assert signed_by(subscribed.deliveries[0], CURRENT, NEXT) == 0
    assert overview(NOW).rotation.endswith("20 of 20 do not sign with it yet.")
    assert {line.secret for line in overview(NOW).lines} == {"Current"}
    subscribed.deliveries.clear()

    assert subscriptions.rotate(catena_client, NOW).did["given the last secret"] == len(NAMES)

    assert "until a delivery has come in" in overview(NOW).rotation
    assert {line.secret for line in overview(NOW).lines} == {"Next"}
    drivers_write(catena, 1)
    wait_for(lambda: subscribed.named("message.added"))
    assert signed_by(subscribed.deliveries[0], CURRENT, NEXT) == 1
    webhook_id = ours("message.added").catena_id
    models.WebhookEvent.objects.create(
        key="k", webhook_id=webhook_id, event_name="message.added", signed_by=secret_mark(NEXT)
    )
    assert "a delivery has come in since" in overview(NOW).rotation
    settings.CATENA_WEBHOOK_SECRETS = [NEXT]
    assert (overview(NOW).rotation, overview(NOW).is_good) == ("", True)


def test_a_secret_that_was_replaced_and_not_rotated_is_trouble_that_mending_ends(
    catena: SimulatorServer, catena_client: CatenaClient, subscribed: Receiver, settings: Any
) -> None:
    settings.CATENA_WEBHOOK_SECRETS = [NEXT]
    subscriptions.check(catena_client, NOW)
    assert (overview(NOW).trouble, models.WebhookWatch.objects.get().trouble) == (len(NAMES), len(NAMES))
    subscriptions.repair(catena_client, NOW)
    assert (overview(NOW).is_good, models.WebhookWatch.objects.get().trouble) == (True, 0)
    assert {one.secret for one in catena.world.subscriptions.values()} == {NEXT}


def test_no_secret_is_kept_in_any_row(
    catena_client: CatenaClient, subscribed: Receiver, settings: Any, sol: models.User, caplog: Any
) -> None:
    caplog.set_level("DEBUG")
    settings.CATENA_WEBHOOK_SECRETS = [CURRENT, NEXT]
    sync.want(models.WebhookWork.ROTATE, sol, NOW)
    sync.fulfil(catena_client, NOW)
    with database.cursor() as cursor:
        for table in ("webhooksubscription", "webhookwatch", "auditentry", "synccursor"):
            cursor.execute(f"SELECT string_agg(t::text, ' ') FROM messaging_{table} t")
            text = cursor.fetchone()[0]
            assert text
            assert CURRENT not in text
            assert NEXT not in text
    assert CURRENT not in caplog.text
    assert NEXT not in caplog.text


def test_a_mark_tells_secrets_apart_and_says_nothing_of_them(settings: Any) -> None:
    before = secret_mark(CURRENT)
    assert before == secret_mark(CURRENT) != secret_mark(NEXT)
    settings.SECRET_KEY = "another-key-of-the-installation-0123456789"
    assert secret_mark(CURRENT) != before


# Health


def test_row_16_a_subscription_that_the_breaker_stopped_is_found_and_brings_its_dead_letters_when_mended(
    catena: SimulatorServer, catena_client: CatenaClient, subscribed: Receiver
) -> None:
    stuck = trip_the_breaker(catena, subscribed)
    subscriptions.check(catena_client, NOW)
    row = ours("message.added")
    assert (row.status, row.dead_letters) == ("stale", len(stuck))
    watch = models.WebhookWatch.objects.get()
    assert (watch.trouble, watch.dead_letters) == (1, len(stuck) + 1)  # and the word of it

    report = subscriptions.repair(catena_client, NOW)

    assert (report.did["re-activated"], report.did["replayed"], report.problems) == (1, 2, [])
    wait_for(lambda: delivered_ids(subscribed, "message.added") == set(stuck))
    wait_for(lambda: subscribed.named("webhook.staled"))
    assert status_at_catena(catena, "message.added") == "active"
    watch.refresh_from_db()
    assert (watch.trouble, watch.dead_letters) == (0, 0)


def test_what_somebody_paused_or_removed_at_catena_is_trouble_that_mending_ends(
    catena: SimulatorServer, catena_client: CatenaClient, subscribed: Receiver
) -> None:
    catena_client.pause_webhook(ours("user.added").catena_id)
    catena_client.delete_webhook(ours("message.modified").catena_id)
    subscriptions.check(catena_client, NOW)
    assert (ours("user.added").status, ours("message.modified").status) == ("paused", "deleted")
    assert models.WebhookWatch.objects.get().trouble == 2
    assert subscriptions.repair(catena_client, NOW).problems == []
    assert overview(NOW).is_good
    assert len(theirs(catena)) == len(NAMES)


def test_a_check_that_finds_nothing_new_is_no_news_for_pages(catena_client: CatenaClient, subscribed: Receiver) -> None:
    before = marks()
    subscriptions.check(catena_client, NOW + timedelta(minutes=5))
    assert marks() == before
    assert models.WebhookWatch.objects.get().checked_at == NOW + timedelta(minutes=5)


def test_a_reading_from_before_an_activation_does_not_undo_it(
    catena_client: CatenaClient, subscribed: Receiver
) -> None:
    row = ours("message.added")
    earlier = Webhook(
        id=row.catena_id, event_name=row.event_name, status="stale", updated_at=row.catena_updated_at - timedelta(1)
    )
    assert mirror.apply_webhook(earlier) == "same"
    assert ours("message.added").status == "active"
    assert mirror.apply_webhook(Webhook(id=uuid4(), event_name="x", status="stale")) == "skipped"


def test_a_subscription_that_is_made_during_a_reading_is_not_taken_for_gone(
    catena: SimulatorServer, subscribed: Receiver
) -> None:
    client = client_of_server(catena)

    class Meanwhile:
        """A client during whose listing another process subscribes."""

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def list_webhooks(self, **options: Any) -> Any:
            found = list(client.list_webhooks(**options))
            (made,) = client.create_webhook(subscribed.url, "user.added", CURRENT, {"fleet_refs": ["X"]})
            mirror.apply_subscribed(made, subscribed.url, secret_mark(CURRENT), NOW)
            return found

    subscriptions.check(Meanwhile(), NOW)  # type: ignore[arg-type]
    assert set(models.WebhookSubscription.objects.values_list("status", flat=True)) == {"active"}


def test_figures_are_read_in_turns_when_they_cannot_all_be_read(
    catena: SimulatorServer, catena_client: CatenaClient, subscribed: Receiver
) -> None:
    behind = ours("webhook.staled")
    models.WebhookSubscription.objects.update(checked_at=NOW)
    models.WebhookSubscription.objects.filter(pk=behind.pk).update(checked_at=NOW - timedelta(hours=1))
    others = [row for row in models.WebhookSubscription.objects.all() if row.pk != behind.pk]
    for row in others:
        catena.world.faults.add(Fault("server_error", f"GET {HOOKS}/{row.catena_id}", status=503))
    later = NOW + timedelta(minutes=5)
    assert subscriptions.check(catena_client, later).stopped
    assert list(models.WebhookSubscription.objects.filter(checked_at=later)) == [behind]


def test_work_that_is_cut_short_goes_on_where_it_stopped(
    catena: SimulatorServer, catena_client: CatenaClient, subscribed: Receiver, settings: Any
) -> None:
    """As when the budget of requests is spent in the middle: what is done is not done again."""
    settings.CATENA_WEBHOOK_SECRETS = [CURRENT, NEXT]
    first = ours("connection.created")
    catena.world.faults.add(
        Fault("server_error", f"PATCH {HOOKS}/{ours('message.added').catena_id}", times=1, status=503)
    )
    cut_short = subscriptions.rotate(catena_client, NOW)
    assert cut_short.stopped
    first.refresh_from_db()
    assert first.secret_mark == secret_mark(NEXT)
    rest = subscriptions.rotate(catena_client, NOW)
    assert cut_short.did["given the last secret"] + rest.did["given the last secret"] == len(NAMES)
    assert subscriptions.rotate(catena_client, NOW).did["given the last secret"] == len(NAMES)

    trip_the_breaker(catena, subscribed)
    catena.world.faults.add(Fault("server_error", f"POST {HOOKS}", times=1, status=503))
    assert subscriptions.repair(catena_client, NOW).stopped
    path = f"{HOOKS}/{ours('message.added').catena_id}/replay"
    catena.world.faults.add(Fault("server_error", f"POST {path}", times=1, status=503))
    assert subscriptions.repair(catena_client, NOW).did["re-activated"] == 1
    assert subscriptions.repair(catena_client, NOW).did["replayed"] == 1
    wait_for(lambda: len(delivered_ids(subscribed, "message.added")) == 5)


# Removing, and what stands in the way


def test_removing_leaves_nothing_at_catena_and_no_trouble_here(
    catena: SimulatorServer, catena_client: CatenaClient, subscribed: Receiver
) -> None:
    stranger = catena_client.create_webhook("https://other.example/hook", "message.added", "z" * 32)[0]
    catena_client.delete_webhook(ours("message.added").catena_id)
    report = subscriptions.remove(catena_client, NOW)
    assert (report.problems, theirs(catena)) == ([], {stranger.id})
    assert not models.WebhookSubscription.objects.exists()
    assert models.WebhookWatch.objects.get().trouble == 0
    assert subscriptions.remove(catena_client, NOW).words == "There was nothing to do."


def test_refused_credentials_stop_the_work_and_say_which_variables_to_check(
    catena: SimulatorServer, catena_client: CatenaClient, receiver: Receiver
) -> None:
    catena.world.faults.add(Fault("token_refused"))
    report = subscriptions.ensure(catena_client, NOW)
    assert "CATENA_CLIENT_ID and CATENA_CLIENT_SECRET" in report.stopped
    assert not models.WebhookSubscription.objects.exists()


def test_a_credential_that_may_not_subscribe_is_told_once(
    catena: SimulatorServer, catena_client: CatenaClient, receiver: Receiver
) -> None:
    catena.world.faults.add(Fault("refused", f"POST {HOOKS}", status=403))
    report = subscriptions.ensure(catena_client, NOW)
    assert len(report.problems) == 1
    assert re.search(r"HTTP 403.*ask Catena for the permission", report.problems[0])


def test_nothing_is_asked_while_catena_wants_to_be_left_alone(
    catena: SimulatorServer, catena_client: CatenaClient, receiver: Receiver
) -> None:
    gates.pause_reading(NOW + timedelta(minutes=2))
    assert "slow down" in subscriptions.ensure(catena_client, NOW).stopped
    assert catena.world.requests_seen == {}


@pytest.mark.parametrize(
    ("address", "secrets", "cure"),
    [
        ("https://dash.example", [], "CATENA_WEBHOOK_SECRET is not set"),
        ("http://dash.example", [CURRENT], "set PUBLIC_URL"),
        ("https://dash.example", [CURRENT], ""),
        ("http://localhost:8000", [CURRENT], ""),
    ],
)
def test_without_secret_or_address_the_reason_and_the_cure_are_named(
    settings: Any, catena_client: CatenaClient, address: str, secrets: list[str], cure: str
) -> None:
    settings.PUBLIC_URL, settings.CATENA_WEBHOOK_SECRETS = address, secrets
    assert cure in hook_obstacle()
    assert bool(hook_obstacle()) == bool(cure)
    if cure:
        assert f"{subscriptions.check(catena_client, NOW).stopped}." == hook_obstacle()


def test_unknown_words_and_masks_of_any_kind_are_lived_with(catena_client: CatenaClient, subscribed: Receiver) -> None:
    row = ours("message.added")
    models.WebhookSubscription.objects.filter(pk=row.pk).update(status="hibernating")
    (line,) = (line for line in overview(NOW).lines if line.row.pk == row.pk)
    assert (line.word, overview(NOW).trouble) == ("hibernating", 1)
    fits = subscriptions._fits
    url = "https://dash.example/hooks/catena/"
    assert fits("https://dash.example/*****", url)
    assert fits("https://da**********na/", url)
    assert not fits("https://other.example/*****", url)
    assert not fits(None, url)
    assert not fits("*a" * 50, url)
    assert isinstance(row.catena_id, UUID)
