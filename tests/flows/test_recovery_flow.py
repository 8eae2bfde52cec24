"""Failures of three causes on two connections, scripted in the simulator: recovery sends exactly the safe ones, once each."""

import os
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from messaging import models, outbox, recovery, sync
from messaging.catena.client import CatenaClient
from messaging.insight import recoveries as told
from messaging.models import Recovery
from messaging.simulator import Fault, SimulatorServer
from messaging.states import MessageState
from tests import factories
from tests.messaging.conftest import catena as catena
from tests.messaging.conftest import client_of_server
from tests.messaging.test_outbox_races import with_commits

S = MessageState
# OUTAGE_FAILURES=1002 is the size of a bad morning; a multiple of six.
COUNT = int(os.environ.get("OUTAGE_FAILURES", "60"))
IN_DOUBT = COUNT // 3
SAFE = COUNT - IN_DOUBT
# Of three causes one leaves it open whether the driver got it.
CAUSES = [("validation", 422), ("tsp", 429), ("tsp", 503)]


@pytest.fixture
def catena_client(catena: SimulatorServer) -> CatenaClient:
    return client_of_server(catena)


@pytest.fixture
def people(catena: SimulatorServer, fleet: models.Fleet) -> list[models.Conversation]:
    """A conversation for each of our drivers on two connections of the world; each driver is written to once."""
    world, made = catena.world, []
    active = [one for one in world.connections.values() if one.status == "active"]
    for theirs in [one for one in active if one.schedule("message").share_level == "read_write"][:2]:
        place = factories.ConnectionFactory(catena_id=theirs.id, fleet=fleet)
        factories.FleetUserFactory(connection=place, catena_id=world.dispatchers(theirs.id)[0].id, is_driver=False)
        driver = world.drivers(theirs.id)[0]
        for number in range(COUNT // 2):
            # More people than the small world has: each of ours is the first of theirs under another name.
            known = factories.FleetUserFactory(connection=place, name=f"Driver {number}")
            world.users[str(known.catena_id)] = world.users[driver.id]
            made.append(factories.ConversationFactory(driver=known))
    return made


def settle(client: CatenaClient, at: datetime) -> None:
    """Sends what is due and reads what became of it, until nothing waits any more."""
    for _ in range(30):
        outbox.drain_due(client, lambda: at)
        sync.operations(client, timezone.now(), everything=True)
        if not models.Message.objects.filter(state__in=[S.QUEUED, S.ACCEPTED]).exists():
            return
    raise AssertionError(Counter(models.Message.objects.values_list("state", flat=True)))


def fail_all(
    people: list[models.Conversation], author: models.User, client: CatenaClient, catena: SimulatorServer
) -> None:
    for number, conversation in enumerate(people):
        kind, status = CAUSES[number % 3]
        catena.world.faults.add(Fault("attempt_failure", f"load {number:04} ", error_type=kind, status=status))
        outbox.compose(
            author, conversation, f"load {number:04} is ready", "medium", None, conversation.uuid, timezone.now()
        )
    settle(client, timezone.now())
    catena.world.faults.clear()
    assert models.Message.objects.filter(state=S.FAILED).count() == COUNT


@pytest.fixture
def frozen(
    people: list[models.Conversation], mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> Recovery:
    catena.world.pace.max_attempts = 1
    fail_all(people, mara, catena_client, catena)
    made = recovery.freeze(mara, models.Message.objects.all(), timezone.now())
    recovery.start(made, mara, timezone.now())
    return made


def run(made: Recovery, client: CatenaClient, catena: SimulatorServer, beats: int = 40) -> Recovery:
    """The worker's rounds, two seconds apart, with everything on its way ending in between."""
    now = timezone.now()
    for beat in range(beats):
        recovery.advance(now + timedelta(seconds=2 * beat))
        settle(client, now + timedelta(seconds=2 * beat))
    return Recovery.objects.get(pk=made.pk)


def posted_twice(catena: SimulatorServer) -> set[str]:
    counted = Counter(entry.message_text for entry in catena.world.journal)
    assert set(counted.values()) <= {1, 2}
    return {text for text, count in counted.items() if count == 2}


def safe_texts() -> set[str]:
    return {f"load {number:04} is ready" for number in range(COUNT) if CAUSES[number % 3][1] < 500}


@with_commits
def test_exactly_the_safe_ones_are_sent_again_once_each_and_the_report_adds_up(
    frozen: Recovery, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    ended = run(frozen, catena_client, catena, 20 + COUNT // 6)
    assert ended.state == Recovery.State.FINISHED
    assert posted_twice(catena) == safe_texts()
    assert {line.key: line.count for line in told.lines(ended)} == {"accepted": SAFE, "may_have_arrived": IN_DOUBT}


@with_commits
def test_it_stops_itself_when_the_cause_is_still_there(
    frozen: Recovery, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("attempt_failure", error_type="validation", status=422, times=None))
    ended = run(frozen, catena_client, catena, 6)
    assert (ended.state, ended.stop_reason.startswith("The canary failed: ")) == (Recovery.State.STOPPED, True)
    assert len(catena.world.journal) == COUNT + 3
    lines = {line.key: line.count for line in told.lines(ended)}
    assert lines == {"failed": 3, "due": SAFE - 3, "may_have_arrived": IN_DOUBT}


@with_commits
@pytest.mark.chaos
def test_a_worker_killed_in_the_middle_is_resumed_exactly(
    frozen: Recovery, catena: SimulatorServer, catena_client: CatenaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every fourth resend the worker dies: when it is about to write the new message, or before that is committed."""
    real, calls = outbox.resend, 0

    def dies(*args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 8 == 0:
            raise SystemExit
        made = real(*args, **named)
        if calls % 4 == 0:
            raise SystemExit
        return made

    monkeypatch.setattr(outbox, "resend", dies)
    now, deaths = timezone.now(), 0
    for beat in range(20 + COUNT // 3):
        try:
            recovery.advance(now + timedelta(seconds=2 * beat))
        except SystemExit:
            deaths += 1
        settle(catena_client, now + timedelta(seconds=2 * beat))
    assert deaths >= 9
    assert Recovery.objects.get(pk=frozen.pk).state == Recovery.State.FINISHED
    assert posted_twice(catena) == safe_texts()
