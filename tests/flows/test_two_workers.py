"""Two real worker processes, ten messages in each conversation, and a journal that the simulator keeps by itself."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.db import connection as database
from django.utils import timezone

from messaging import models, outbox
from messaging.simulator import Fault, Pace, SimulatorServer, World
from messaging.simulator.changes import add_driver
from messaging.states import MessageState
from tests import factories
from tests.stack import ROOT, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.chaos, pytest.mark.django_db(transaction=True)]
S = MessageState
CONVERSATIONS, EACH = 200, 10
CALM = 60  # conversations where nothing goes wrong
# So many of each conversation's messages are there before the workers start; people compose the rest meanwhile.
READY = 8
KILLS = 5
HANG_SECONDS = 20.0
# Far more than either run needs: a busy machine must not fail them.
PATIENCE = 240
IN_HAND = [S.QUEUED, S.CLAIMED, S.POSTING]


def dsn() -> str:
    """The test's own database, for another process."""
    given = database.settings_dict
    where = urlencode({"host": given["HOST"], **({"port": given["PORT"]} if given["PORT"] else {})})
    people = f"{quote(given['USER'])}:{quote(given['PASSWORD'])}@" if given["USER"] else ""
    return f"postgresql://{people}/{quote(given['NAME'])}?{where}"


class Workers:
    """Real `manage.py worker` processes; what they print goes to one file each."""

    def __init__(self, server: SimulatorServer, folder: Path, lease: float) -> None:
        self.folder, self.started = folder, 0
        self.running: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ, "DATABASE_URL": dsn(), "SECRET_KEY": "a-key-for-the-tests-" * 3, "PYTHONPATH": str(ROOT),
            "CATENA_API_URL": server.url, "CATENA_TOKEN_URL": server.token_url, "CATENA_CLIENT_ID": server.client_id,
            "CATENA_CLIENT_SECRET": server.client_secret, "LEASE_SECONDS": str(lease),
            "SEND_TOTAL_SECONDS": str(lease * 0.8), "OPERATION_SWEEP_SECONDS": "3600",
            "MESSAGE_SWEEP_SECONDS": "3600", "DIRECTORY_SWEEP_SECONDS": "3600", "WORKER_THREADS": "4",
            # A machine's memory of what it sent; another test's would say that this database went back in time.
            "VAR_DIR": str(folder),
        }  # fmt: skip

    def start(self) -> subprocess.Popen[bytes]:
        self.started += 1
        with (self.folder / f"worker-{self.started}.log").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), "worker"], env=self.environment, stdout=log, stderr=log
            )
        self.running.append(child)
        return child

    def are_calm(self) -> bool:
        """`is_calm`, asked while every worker lives."""
        assert all(child.poll() is None for child in self.running), self.output()
        return is_calm()

    def stop(self) -> list[int]:
        """Asks all to end; their exit codes."""
        for child in self.running:
            child.send_signal(signal.SIGTERM)
        return [child.wait(30) for child in self.running]

    def kill_all(self) -> None:
        for child in self.running:
            if child.poll() is None:
                child.kill()
                child.wait(10)

    def output(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self.folder.glob("*.log")))


def make_conversations(world: World, count: int = CONVERSATIONS) -> list[models.Conversation]:
    """So many drivers, on both sides, over the four connections of the world that take messages."""
    usable = [one for one in world.connections.values() if one.status == "active" and one.can_write]
    homes = []
    for theirs in usable:
        connection = factories.ConnectionFactory(catena_id=uuid.UUID(theirs.id))
        office = world.dispatchers(theirs.id)[0]
        factories.FleetUserFactory(connection=connection, catena_id=uuid.UUID(office.id), is_driver=False)
        homes.append(connection)
    made = []
    with world.lock:
        for number in range(count):
            home = homes[number % len(homes)]
            theirs_id = add_driver(world, str(home.catena_id), "Driver", f"Number {number}").id
            driver = factories.FleetUserFactory(connection=home, catena_id=uuid.UUID(theirs_id))
            made.append(factories.ConversationFactory(driver=driver))
    return made


def just_read() -> None:
    """The sweeps that read from Catena have had their turn, so that a test is about sending alone."""
    for name in ("operations", "messages", "directory"):
        models.SyncCursor.objects.create(name=f"round {name}", started_at=timezone.now())


def fill(author: models.User, conversations: list[models.Conversation]) -> None:
    """The queue as it stands when the workers come: no doorbell has rung for it."""
    now = timezone.now()
    rows = [
        models.Message(
            conversation=conversation, connection=conversation.connection, direction="out", seq=number + 1,
            author=author, client_token=uuid.uuid4(), sender=outbox.sender_of(conversation.connection),
            recipient=conversation.driver, text=f"{conversation.pk}:{number}", priority="medium",
            state=S.WAITING if number else S.QUEUED, occurred_at=now, not_before=now, send_by=now,
            expires_at=now + timedelta(hours=1),
        )
        for conversation in conversations
        for number in range(READY)
    ]  # fmt: skip
    models.Message.objects.bulk_create(rows)
    models.Conversation.objects.update(next_seq=READY + 1)
    just_read()


def compose_rest(author: models.User, conversations: list[models.Conversation]) -> None:
    for number in range(READY, EACH):
        for conversation in conversations:
            text = f"{conversation.pk}:{number}"
            outbox.compose(author, conversation, text, "medium", None, uuid.uuid4(), timezone.now())
    database.close()


def counts() -> Counter[str]:
    return Counter(models.Message.objects.outgoing().exclude(seq=None).values_list("state", flat=True))


def is_calm() -> bool:
    """Nothing is on its way, and whoever waits does so behind an unknown one."""
    if models.Message.objects.filter(state__in=IN_HAND).exists():
        return False
    blocked = models.Message.objects.filter(state=S.UNKNOWN).values("conversation_id")
    return not models.Message.objects.filter(state=S.WAITING).exclude(conversation_id__in=blocked).exists()


def order_of(server: SimulatorServer) -> dict[str, list[int]]:
    """For each conversation the numbers of its messages, as Catena accepted them."""
    found: dict[str, list[int]] = {}
    for entry in server.world.journal:
        assert entry.message_text is not None
        conversation, number = entry.message_text.split(":")
        found.setdefault(conversation, []).append(int(number))
    return found


@contextmanager
def running(tmp_path: Path, lease: float) -> Iterator[tuple[SimulatorServer, Workers]]:
    world = World(pace=Pace.instant(), magic_words=False)
    with SimulatorServer(world, journal=tmp_path / "journal.jsonl") as server:
        workers = Workers(server, tmp_path, lease)
        try:
            yield server, workers
        finally:
            workers.kill_all()


def report(title: str, began: float, server: SimulatorServer) -> None:
    """Figures for whoever reads the test's output (pytest -s)."""
    seconds, spent = time.monotonic() - began, sum(os.times()[:2])
    figures = ", ".join(f"{count} {state}" for state, count in sorted(counts().items()))
    sys.stdout.write(
        f"\n{title}: {len(server.world.journal)} accepted in {seconds:.1f} s; {figures}; "
        f"{spent:.0f} s of processor in this process, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n"
    )


def test_two_workers_post_every_message_once_and_in_order(tmp_path: Path) -> None:
    author = factories.UserFactory(is_superuser=True, undo_seconds=0)
    with running(tmp_path, lease=20) as (server, workers):
        conversations = make_conversations(server.world, CALM)
        fill(author, conversations)
        began = time.monotonic()
        workers.start()
        workers.start()
        compose_rest(author, conversations)
        wait_for(workers.are_calm, PATIENCE, every=0.2)
        report("two workers", began, server)
        codes = workers.stop()
        order = order_of(server)
    assert order == {str(conversation.pk): list(range(EACH)) for conversation in conversations}
    assert server.world.posts_seen == CALM * EACH
    assert set(counts()) <= {S.ACCEPTED, S.SUCCEEDED}
    assert counts().total() == CALM * EACH
    assert models.SendAttempt.objects.count() == CALM * EACH
    assert len(set(models.SendAttempt.objects.values_list("worker", flat=True))) == 2, "both workers took part"
    assert codes == [0, 0], workers.output()


def kill_in_the_middle_of_a_post(server: SimulatorServer, workers: Workers, number: int) -> int:
    """Lets Catena hold one POST, before or after taking it, kills the worker that waits for it and starts another.

    Answers how many were held in vain: a machine that stands still for a second and a half sees the POST given up.
    """
    kind = "hang_after_accept" if number % 2 else "hang_before_accept"
    for in_vain in range(PATIENCE // 20):
        server.world.faults.add(Fault(kind, "POST /v2/telematics/messages", times=1, seconds=HANG_SECONDS))
        try:
            victim = wait_for(lambda: _worker_that_hangs(workers), 20, every=0.02)
        except AssertionError:
            continue
        victim.kill()
        victim.wait(10)
        workers.running.remove(victim)
        workers.start()
        return in_vain
    raise AssertionError("no worker was ever seen to wait for a POST")


def _worker_that_hangs(workers: Workers) -> subprocess.Popen[bytes] | None:
    """The one that has been posting for a second; an ordinary POST here takes some milliseconds."""
    since = timezone.now() - timedelta(seconds=1)
    hanging = models.SendAttempt.objects.filter(outcome=None, posting_at__lt=since, message__state=S.POSTING)
    pids = {int(name.rpartition(":")[2]) for name in hanging.values_list("worker", flat=True)}
    return next((child for child in workers.running if child.pid in pids), None)


def test_killing_a_worker_five_times_loses_and_repeats_nothing(tmp_path: Path) -> None:
    author = factories.UserFactory(is_superuser=True, undo_seconds=0)
    with running(tmp_path, lease=3) as (server, workers):
        conversations = make_conversations(server.world)
        fill(author, conversations)
        began = time.monotonic()
        workers.start()
        workers.start()
        composing = threading.Thread(target=compose_rest, args=(author, conversations))
        composing.start()
        given_up = sum(kill_in_the_middle_of_a_post(server, workers, number) for number in range(KILLS))
        composing.join(PATIENCE)
        wait_for(workers.are_calm, PATIENCE, every=0.2)
        report(f"two workers, {KILLS} kills", began, server)
        workers.stop()
        order = order_of(server)
    found = counts()
    assert found.total() == CONVERSATIONS * EACH
    # One that is found frees the next one: that may happen while the workers stop.
    assert set(found) <= {S.ACCEPTED, S.SUCCEEDED, S.UNKNOWN, S.WAITING, S.QUEUED}, workers.output()
    for conversation in conversations:
        numbers = order.get(str(conversation.pk), [])
        assert numbers == list(range(len(numbers))), "in order, none twice, none missing between two others"
        states = dict(models.Message.objects.filter(conversation=conversation).values_list("seq", "state"))
        _check_states(numbers, states)
    lost = models.SendAttempt.objects.filter(outcome="lost").count()
    assert KILLS <= lost <= 4 * KILLS, "each kill caught one POST, and at most all threads of its worker"
    assert found[S.UNKNOWN] <= lost + given_up, "those that Catena took may have been found meanwhile"
    assert found[S.WAITING] > 0, "whoever waits behind a message in doubt goes on waiting"
    assert server.world.posts_seen <= models.SendAttempt.objects.count(), "intent comes before every POST"


def _check_states(numbers: list[int], states: dict[Any, str]) -> None:
    """What our rows say fits what Catena's journal says: one may be in doubt, nothing may be claimed falsely."""
    for seq, state in states.items():
        was_accepted = (seq - 1) in numbers
        if state in {S.ACCEPTED, S.SUCCEEDED}:
            assert was_accepted
        if state in {S.WAITING, S.QUEUED}:
            assert not was_accepted
    assert list(states.values()).count(S.UNKNOWN) <= 1
    assert S.WAITING not in states.values() or {S.UNKNOWN, S.QUEUED} & set(states.values())
