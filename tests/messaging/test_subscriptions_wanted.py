"""What a person wants done with the subscriptions: asked once, done once by a worker, told, tried again, given up."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messaging import models, sync
from messaging.catena.client import CatenaClient
from messaging.insight.hooks import overview
from messaging.simulator import Fault, SimulatorServer
from tests.messaging.conftest import client_of_server
from tests.simulator.receiver import Receiver

pytestmark = pytest.mark.django_db
NOW = timezone.now()
HOOKS = "/v2/notifications/webhooks"


def watch() -> models.WebhookWatch:
    return models.WebhookWatch.objects.get()


def test_what_is_asked_for_is_done_once_and_told(
    catena: SimulatorServer, catena_client: CatenaClient, receiver: Receiver, ada: models.User
) -> None:
    assert sync.fulfil(catena_client, NOW) is None
    assert sync.want(models.WebhookWork.CREATE, ada, NOW)
    assert not sync.want(models.WebhookWork.REMOVE, ada, NOW + timedelta(seconds=59))
    report = sync.fulfil(catena_client, NOW)
    assert report
    assert report.is_good
    assert sync.fulfil(catena_client, NOW) is None
    row = watch()
    assert (row.wanted, row.outcome, row.is_outcome_good) == ("", "Done: 20 subscribed.", True)
    kept = models.AuditEntry.objects.order_by("id").values_list("action", "user__username")
    assert list(kept) == [("webhooks_create", "ada"), ("webhooks_create_done", None)]


def test_while_catena_is_away_it_is_tried_again_and_given_up_after_a_quarter_of_an_hour(
    catena: SimulatorServer, catena_client: CatenaClient, receiver: Receiver, sol: models.User
) -> None:
    down = catena.world.faults.add(Fault("server_error", f"GET {HOOKS}", status=503))
    sync.want(models.WebhookWork.CHECK, sol, NOW)
    sync.fulfil(catena_client, NOW)
    assert (watch().wanted, watch().next_at, watch().is_outcome_good) == ("check", NOW + timedelta(seconds=30), False)
    assert sync.fulfil(catena_client, NOW + timedelta(seconds=29)) is None
    sync.fulfil(catena_client, NOW + timedelta(minutes=15))
    assert watch().wanted == ""
    assert "Catena did not answer usefully" in watch().outcome
    down.times = 0
    sync.want(models.WebhookWork.CHECK, sol, NOW + timedelta(minutes=16))
    sync.fulfil(catena_client, NOW + timedelta(minutes=16))
    assert (watch().wanted, watch().is_outcome_good) == ("", True)


def test_two_workers_do_not_do_the_same_and_a_dead_one_leaves_it_to_others(
    catena: SimulatorServer, receiver: Receiver, sol: models.User
) -> None:
    client = client_of_server(catena)
    sync.want(models.WebhookWork.CHECK, sol, NOW)

    class Dies:
        def list_webhooks(self, **options: Any) -> Any:
            assert sync.fulfil(client, NOW) is None
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sync.fulfil(Dies(), NOW)  # type: ignore[arg-type]
    assert sync.fulfil(client, NOW + timedelta(seconds=119)) is None
    assert sync.fulfil(client, NOW + timedelta(seconds=120)) is not None


def test_a_wish_that_no_worker_took_gives_way_to_another(receiver: Receiver, sol: models.User) -> None:
    sync.want(models.WebhookWork.CHECK, sol, NOW)
    assert overview(NOW + timedelta(seconds=61)).waits_long
    assert sync.want(models.WebhookWork.REPAIR, sol, NOW + timedelta(minutes=1))
    assert watch().wanted == "repair"


def test_an_idle_worker_asks_one_question(catena_client: CatenaClient, receiver: Receiver) -> None:
    with CaptureQueriesContext(database) as queries:
        assert sync.fulfil(catena_client, NOW) is None
    assert len(queries) == 1
