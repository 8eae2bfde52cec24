"""One real `manage.py worker`: how fast it answers, how it ends, and what it survives."""

import signal
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from django.db import connection as database
from django.utils import timezone

from messaging import models, outbox
from messaging.simulator import Fault
from messaging.states import MessageState
from tests import factories
from tests.flows.test_two_workers import Workers, dsn, just_read, make_conversations, running
from tests.stack import wait_for

pytestmark = [pytest.mark.processes, pytest.mark.chaos, pytest.mark.django_db(transaction=True)]
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


def end(workers: Workers) -> tuple[int, float]:
    """Asks the one worker to end; its exit code and how long it took."""
    (child,) = workers.running
    began = time.monotonic()
    child.send_signal(signal.SIGTERM)
    return child.wait(60), time.monotonic() - began


def test_claims_that_have_not_been_posted_are_back_in_the_queue_when_the_worker_ends(
    tmp_path: Path, author: models.User
) -> None:
    with running(tmp_path, lease=10) as (server, workers), socket.create_server(("127.0.0.1", 0)) as silent:
        # Connections are taken and never answered: no access token, so everything stands before its first byte.
        workers.environment["CATENA_TOKEN_URL"] = f"http://127.0.0.1:{silent.getsockname()[1]}/token"
        talks = make_conversations(server.world, 4)
        just_read()
        started(workers)
        messages = [write(author, talk, "not yet") for talk in talks]
        wait_for(lambda: all(state_of(message) == S.CLAIMED for message in messages), 20)
        code, seconds = end(workers)
        assert (code, seconds < 30) == (0, True), workers.output()
    assert [state_of(message) for message in messages] == [S.QUEUED] * 4
    assert not models.Message.objects.exclude(lease_until=None).exists()
    assert not models.SendAttempt.objects.exists()
    assert server.world.posts_seen == 0


def test_a_post_that_is_never_answered_does_not_keep_a_worker_from_ending(tmp_path: Path, author: models.User) -> None:
    with running(tmp_path, lease=12) as (server, workers):
        talk, *_ = make_conversations(server.world, 1)
        just_read()
        server.world.faults.add(Fault("hang_before_accept", WRITE, times=1, seconds=60))
        started(workers)
        sent, behind = write(author, talk, "into the void"), write(author, talk, "behind it")
        wait_for(lambda: state_of(sent) == S.POSTING and server.world.posts_seen, 20)
        code, seconds = end(workers)
        assert (code, seconds < 30) == (0, True), workers.output()
    assert (state_of(sent), state_of(behind)) == (S.UNKNOWN, S.WAITING)
    assert models.SendAttempt.objects.get().outcome == "ambiguous"


@contextmanager
def database_away() -> Iterator[None]:
    """Nobody but this test has a session with its database, and nobody gets one."""
    name = database.ops.quote_name(database.settings_dict["NAME"])
    with database.cursor() as cursor, psycopg.connect(dsn(), dbname="postgres", autocommit=True) as beside:
        beside.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            yield
        finally:
            beside.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_a_worker_ends_within_half_a_minute_also_when_the_database_is_away(tmp_path: Path, author: models.User) -> None:
    with running(tmp_path, lease=90) as (server, workers):
        workers.environment["SEND_TOTAL_SECONDS"] = "10"
        talk, *_ = make_conversations(server.world, 1)
        just_read()
        server.world.faults.add(Fault("hang_after_accept", WRITE, times=1, seconds=2))
        started(workers)
        sent = write(author, talk, "accepted, but where to note it?")
        wait_for(lambda: state_of(sent) == S.POSTING and server.world.posts_seen, 20)
        with database_away():
            _, seconds = end(workers)
        assert seconds < 30, workers.output()
    assert state_of(sent) == S.POSTING, "its lease ends, and then it is looked for"
    assert server.world.posts_seen == 1
