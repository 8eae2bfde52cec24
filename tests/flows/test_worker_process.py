"""One real `manage.py worker`: how fast it answers, how it ends, and what it survives."""

import signal
import sys
import time
import uuid
from pathlib import Path

import pytest
from django.db import connection as database
from django.utils import timezone

from messaging import models, outbox
from messaging.simulator import Fault
from messaging.states import MessageState
from tests import factories
from tests.flows.test_two_workers import Workers, just_read, make_conversations, running
from tests.stack import wait_for

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]
S = MessageState
WRITE = "POST /v2/telematics/messages"


def started(workers: Workers) -> None:
    workers.start()
    wait_for(lambda: "sends with" in workers.output(), 60)


def write(author: models.User, conversation: models.Conversation, text: str) -> models.Message:
    return outbox.compose(author, conversation, text, "high", None, uuid.uuid4(), timezone.now())


def state_of(message: models.Message) -> str:
    return models.Message.objects.values_list("state", flat=True).get(pk=message.pk)


@pytest.fixture
def author() -> models.User:
    return factories.UserFactory(is_superuser=True, undo_seconds=0)


def test_a_message_leaves_at_once_and_a_lost_database_session_costs_nothing(
    tmp_path: Path, author: models.User
) -> None:
    with running(tmp_path, lease=20) as (server, workers):
        talk, other, *_ = make_conversations(server.world, 2)
        just_read()
        started(workers)
        delays = []
        for number in range(5):
            began = time.monotonic()
            write(author, talk, f"{number}")
            wait_for(lambda number=number: len(server.world.journal) > number, 20, every=0.002)
            delays.append(time.monotonic() - began)
        sys.stdout.write(f"\ncompose to accepted, with composing: {', '.join(f'{d * 1000:.0f}' for d in delays)} ms\n")
        # Faster than any sweep: it was the doorbell that brought them.
        assert sorted(delays)[2] < 1.5
        with database.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert cursor.fetchone()[0] > 0
        again = [write(author, one, "after") for one in (talk, other)]
        wait_for(lambda: all(state_of(message) == S.ACCEPTED for message in again), 30)
        later = write(author, other, "and rung for again")
        wait_for(lambda: state_of(later) == S.ACCEPTED, 30)
        assert workers.stop() == [0], workers.output()
    assert server.world.posts_seen == 8


def test_a_worker_that_is_told_to_end_lets_its_post_finish_and_claims_no_other(
    tmp_path: Path, author: models.User
) -> None:
    with running(tmp_path, lease=20) as (server, workers):
        talk, *_ = make_conversations(server.world, 1)
        just_read()
        server.world.faults.add(Fault("hang_after_accept", WRITE, times=1, seconds=3))
        started(workers)
        sent, behind = write(author, talk, "on its way"), write(author, talk, "behind it")
        wait_for(lambda: state_of(sent) == S.POSTING and server.world.journal, 20)
        began = time.monotonic()
        (child,) = workers.running
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0, workers.output()
        assert time.monotonic() - began < 30
    assert (state_of(sent), state_of(behind)) == (S.ACCEPTED, S.QUEUED)
    assert models.Message.objects.get(pk=behind.pk).lease_until is None
    assert server.world.posts_seen == 1
