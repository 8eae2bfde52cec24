"""A worker that sleeps between intent and first byte, longer than its lease, sends nothing when it wakes."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from messaging import models
from messaging.simulator import Pace, SimulatorServer, World
from messaging.states import MessageState
from tests import factories
from tests.chaos.zombies import Zombies
from tests.flows.test_two_workers import dsn
from tests.messaging.conftest import mirrored_conversation
from tests.stack import ROOT

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
]
S = MessageState
TRIES = int(os.environ.get("ZOMBIE_TRIES", "4"))


def fill(server: SimulatorServer, count: int) -> None:
    """One message each in so many conversations of one connection."""
    author = factories.UserFactory(is_superuser=True, undo_seconds=0)
    connection = mirrored_conversation(server.world).connection
    for _ in range(count):
        driver = factories.FleetUserFactory(connection=connection)
        talk = factories.ConversationFactory(driver=driver)
        factories.OutgoingFactory(conversation=talk, author=author, occurred_at=timezone.now())


def zombies(server: SimulatorServer, folder: Path, **more: Any) -> Zombies:
    environment = {
        **os.environ, "DATABASE_URL": dsn(), "SECRET_KEY": "a-key-for-the-tests-" * 3, "PYTHONPATH": str(ROOT),
        "CATENA_API_URL": server.url, "CATENA_TOKEN_URL": server.token_url, "CATENA_CLIENT_ID": server.client_id,
        "CATENA_CLIENT_SECRET": server.client_secret, "VAR_DIR": str(folder), "OPERATION_SWEEP_SECONDS": "3600",
        "MESSAGE_SWEEP_SECONDS": "3600", "DIRECTORY_SWEEP_SECONDS": "3600",
    }  # fmt: skip
    return Zombies(environment, folder, **more)


def test_a_worker_that_sleeps_past_its_lease_never_sends_late(tmp_path: Path) -> None:
    with SimulatorServer(World(pace=Pace.instant(), magic_words=False)) as server:
        fill(server, 12 * TRIES)
        ended = zombies(server, tmp_path).run(TRIES)
        sys.stdout.write(
            f"\n{TRIES} frozen workers, {ended} ended by their alarm, {server.world.posts_seen} late POSTs\n"
        )
    assert (ended, server.world.posts_seen) == (TRIES, 0)
    assert models.SendAttempt.objects.count() >= TRIES, "each of them had committed its intent"
    assert models.Message.objects.filter(state__in=[S.POSTING, S.UNKNOWN]).count() >= TRIES


def test_without_the_alarm_it_would(tmp_path: Path) -> None:
    """The control: the same pause at the same instant, past every check of the clock."""
    with SimulatorServer(World(pace=Pace.instant(), magic_words=False)) as server:
        fill(server, 12)
        zombies(server, tmp_path, alarm=0, has_sent=lambda: server.world.posts_seen > 0).run(1)
        assert server.world.posts_seen > 0
