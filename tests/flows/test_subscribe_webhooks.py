"""`manage.py subscribe_webhooks` as an operator runs it, against the simulated Catena and a real receiver."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from messaging import conf, models
from messaging.models.subscriptions import secret_mark
from messaging.simulator import Fault, Pace, SimulatorServer, World
from messaging.simulator.events import NAMES
from tests.messaging.hooked import (
    CURRENT,
    NEXT,
    delivered_ids,
    drivers_write,
    hooked,
    signed_by,
    status_at_catena,
    theirs,
    trip_the_breaker,
)
from tests.simulator.receiver import Receiver
from tests.stack import wait_for

pytestmark = pytest.mark.django_db


@pytest.fixture
def catena(settings: Any) -> Iterator[SimulatorServer]:
    """The Catena of the settings, for a process that has not asked for its client yet."""
    with SimulatorServer(World(pace=Pace.instant())) as server:
        settings.CATENA_API_URL, settings.CATENA_TOKEN_URL = server.url, server.token_url
        settings.CATENA_CLIENT_ID, settings.CATENA_CLIENT_SECRET = server.client_id, server.client_secret
        server.world.pace.breaker_grace = 0.0
        conf.catena_client.cache_clear()
        yield server
    conf.catena_client.cache_clear()


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    with hooked(settings) as running:
        yield running


def run(*arguments: str, **options: Any) -> str:
    """What it printed, errors too."""
    out = io.StringIO()
    call_command("subscribe_webhooks", *arguments, stdout=out, stderr=out, **options)
    return out.getvalue()


def refused(*arguments: str) -> str:
    """What it printed and the sentence that it ended with."""
    out = io.StringIO()
    with pytest.raises(CommandError) as ending:
        call_command("subscribe_webhooks", *arguments, stdout=out, stderr=out)
    assert ending.value.returncode == 1
    return f"{out.getvalue()}{ending.value}"


def test_the_first_run_subscribes_and_the_second_changes_nothing(catena: SimulatorServer, receiver: Receiver) -> None:
    said = run()
    made = theirs(catena)
    assert said.startswith(f"Catena delivers to {receiver.url}\n")
    assert said.endswith("Done: 20 subscribed.\n")
    assert [line.split()[0] for line in said.splitlines()[1:-1]] == sorted(NAMES)
    assert run().endswith("There was nothing to do.\n")
    assert theirs(catena) == made
    assert run(verbosity=0) == ""


def test_a_check_of_nothing_says_what_to_run_and_fails(catena: SimulatorServer, receiver: Receiver) -> None:
    assert refused("--check").endswith("Nothing is subscribed. Run manage.py subscribe_webhooks.")
    assert theirs(catena) == set()


def test_a_stale_subscription_fails_the_check_and_is_mended(catena: SimulatorServer, receiver: Receiver) -> None:
    run()
    assert run("--check").endswith("Done: 20 checked.\n")
    stuck = trip_the_breaker(catena, receiver)
    said = refused("--check")
    assert "message.added                   Stopped by Catena   not delivered: 5" in said
    assert "1 of 20 do not deliver. Run manage.py subscribe_webhooks --activate --replay" in said

    assert "1 re-activated" in run("--activate")
    assert status_at_catena(catena, "message.added") == "active"
    assert receiver.named("message.added") == []
    assert "2 replayed" in run("--replay")

    wait_for(lambda: delivered_ids(receiver, "message.added") == set(stuck))
    assert run("--activate", "--replay").endswith("There was nothing to do.\n")
    assert run("--check").endswith("Done: 20 checked.\n")


def test_a_rotation_says_at_each_step_what_comes_next(
    catena: SimulatorServer, receiver: Receiver, settings: Any
) -> None:
    run()
    settings.CATENA_WEBHOOK_SECRETS = [CURRENT, NEXT]
    assert "20 of 20 do not sign with it yet." in run("--check")
    assert "Keep both in CATENA_WEBHOOK_SECRET until a delivery has come in." in run("--rotate")
    drivers_write(catena, 1)
    wait_for(lambda: receiver.named("message.added"))
    one = receiver.named("message.added")[0]
    assert signed_by(one, CURRENT, NEXT) == 1
    models.WebhookEvent.objects.create(
        key="k", webhook_id=one.headers["X-Webhook-ID"], event_name="message.added", signed_by=secret_mark(NEXT)
    )
    assert "The others may leave CATENA_WEBHOOK_SECRET." in run("--check")
    settings.CATENA_WEBHOOK_SECRETS = [NEXT]
    assert run("--check").endswith("Done: 20 checked.\n")


def test_removing_and_repeating_it(catena: SimulatorServer, receiver: Receiver) -> None:
    run()
    assert run("--remove").endswith("Done: 20 removed.\n")
    assert theirs(catena) == set()
    assert run("--remove").endswith("There was nothing to do.\n")
    kept = models.AuditEntry.objects.filter(action="webhooks_remove_done", user=None).order_by("id")
    assert [entry.detail["did"] for entry in kept] == [{"removed": 20}, {}]


def test_no_secret_ever_reaches_the_terminal(catena: SimulatorServer, receiver: Receiver, settings: Any) -> None:
    settings.CATENA_WEBHOOK_SECRETS = [CURRENT, NEXT]
    said = run() + run("--rotate") + run("--check", verbosity=3)
    assert CURRENT not in said
    assert NEXT not in said


def test_without_a_secret_it_says_what_to_set(catena: SimulatorServer, receiver: Receiver, settings: Any) -> None:
    settings.CATENA_WEBHOOK_SECRETS = []
    assert refused().startswith("CATENA_WEBHOOK_SECRET is not set. Set it")
    assert catena.world.requests_seen == {}


def test_an_address_that_catena_cannot_reach_is_named(
    catena: SimulatorServer, receiver: Receiver, settings: Any
) -> None:
    settings.PUBLIC_URL = "http://dash.example"
    assert refused().startswith("PUBLIC_URL is http://dash.example. Catena delivers to https:// addresses only")


def test_wrong_credentials_end_with_a_sentence(catena: SimulatorServer, receiver: Receiver) -> None:
    catena.world.faults.add(Fault("token_refused", times=100))
    assert "Check CATENA_CLIENT_ID and CATENA_CLIENT_SECRET." in refused()


def test_a_catena_that_does_not_answer_ends_with_a_sentence(catena: SimulatorServer, receiver: Receiver) -> None:
    catena.stop()
    assert "Check CATENA_API_URL and CATENA_TOKEN_URL" in refused()


def test_options_that_contradict_each_other_are_refused(catena: SimulatorServer, receiver: Receiver) -> None:
    for pair in (("--check", "--remove"), ("--rotate", "--replay")):
        assert refused(*pair).startswith("Choose one of these options")
    assert catena.world.requests_seen == {}
