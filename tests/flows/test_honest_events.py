"""Real web and worker processes, and events that are all true and come in any order, any number of times, between sweeps.

The simulated world is the model: at the end our rows say what it says, and say it once.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from statistics import median
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db.models import Max, Sum
from django.utils import timezone

from messaging import models, outbox
from messaging.models.inbound import OPEN_STATES
from messaging.simulator import Fault, World, changes, drivers, records, render
from messaging.simulator.records import Message
from messaging.states import Direction, EventState
from messaging.verify import verify
from tests import factories
from tests.flows.couriers import Couriers
from tests.flows.test_two_workers import Workers, just_read, make_conversations, running
from tests.messaging.hooks import SECRET
from tests.stack import ROOT, free_port, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]
EVENTS = int(os.environ.get("HONEST_EVENTS", "1000"))
SEED = int(os.environ.get("HONEST_SEED", "0")) or Random().randrange(1, 1_000_000)
EVENTS_A_KILL = 400
LOST = 0.05
# One conversation brings forth so many messages of ours, and with their operations, receipts and the drivers so many events.
SENDS_EACH = 8
EVENTS_EACH = 48
PATIENCE = 300
SWEEPS = ("MESSAGE_SWEEP_SECONDS", "OPERATION_SWEEP_SECONDS", "DIRECTORY_SWEEP_SECONDS")


class Web:
    """A real web process of the product, which can be killed and comes back at the same address."""

    def __init__(self, workers: Workers) -> None:
        self.port, self.started, self._workers = free_port(), 0, workers
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.started += 1
        command = [
            sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", "1", "--blocking-threads", "4", "--no-access-log", "dashboard.wsgi:application",
        ]  # fmt: skip
        with (self._workers.folder / f"web-{self.started}.log").open("wb") as log:
            # A group of its own, because the process that serves is a child of the one that is started.
            self._child = subprocess.Popen(
                command, cwd=ROOT, env=self._workers.environment, stdout=log, stderr=log, process_group=0
            )

    def kill(self) -> None:
        """Nothing of it lives when this returns."""
        if self._child is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, 9)
            self._child.wait(10)


@contextmanager
def installation(tmp_path: Path, sweep_seconds: int, rng: Random, lost: float) -> Iterator[Any]:
    """Simulator, web, one worker and couriers between them."""
    with running(tmp_path, lease=20) as (server, workers):
        workers.environment |= {name: str(sweep_seconds) for name in SWEEPS}
        workers.environment |= {"CATENA_WEBHOOK_SECRET": SECRET, "LOG_LEVEL": "WARNING"}
        web = Web(workers)
        try:
            web.start()
            with Couriers(web.port, SECRET, rng, lost) as couriers:
                yield server, workers, web, couriers
        finally:
            web.kill()


def compose(author: models.User, conversations: list[models.Conversation]) -> None:
    for number in range(SENDS_EACH):
        for conversation in conversations:
            text = f"{conversation.pk}:{number}"
            outbox.compose(author, conversation, text, "medium", None, uuid4(), timezone.now())


def live(world: World, couriers: Couriers, ours: set[str], rng: Random, enough: int) -> None:
    """Drivers write and correct themselves, office people edit drivers, until so many events have happened."""
    others = [user for user in world.users.values() if user.is_driver and user.id not in ours]
    written: list[Message] = []
    pause = Event()
    while couriers.seen.total() < enough:
        with world.lock:
            choice = rng.random()
            if choice < 0.6 or not written:
                # Some of them on connections that we have not been told of yet.
                written.append(drivers.write(world, rng.choice(others).id, f"On my way, number {len(written)}"))
            elif choice < 0.8:
                _correct(world, written.pop(rng.randrange(len(written))))
            else:
                _edit(world, rng.choice(others), rng)
        pause.wait(0.002)


def _correct(world: World, message: Message) -> None:
    if message.id not in world.messages or message.updated_at == world.now():
        return
    message.text, message.updated_at = f"{message.text}, corrected", world.now()
    world.emit("message.modified", render.message_event(world, message), message.connection_id)


def _edit(world: World, user: records.User, rng: Random) -> None:
    # Two versions of one record must not bear the same millisecond.
    if user.updated_at != world.now():
        changes.change_user(world, user.id, rng.choice(["ACTIVE", "INACTIVE"]))


def kill_and_look(web: Web, couriers: Couriers, enough: int) -> None:
    """Kills the receiver as the events come in; what it has acknowledged is there, whatever it had in hand."""
    kills = max(1, enough // EVENTS_A_KILL)
    for number in range(1, kills + 1):
        # The last one comes when a good part is still under way.
        wait_for(lambda number=number: len(couriers.acknowledged) > 0.6 * enough * number / kills, PATIENCE)
        web.kill()
        acknowledged = set(couriers.acknowledged)
        assert acknowledged <= set(models.WebhookEvent.objects.values_list("key", flat=True))
        web.start()


def differences(world: World, known: set[str]) -> list[str]:
    """What our rows say otherwise than the world, the messages of `known` left out."""
    with world.lock:
        return [*_of_messages(world, known), *_of_operations(world), *_of_users(world)]


def _of_messages(world: World, known: set[str]) -> Iterator[str]:
    rows = models.Message.objects.exclude(catena_id=None).select_related(
        "conversation__driver", "connection", "operation"
    )
    shown = {str(row.catena_id): row for row in rows}
    theirs = {one.id: one for one in world.messages.values() if one.id not in known}
    for identity, message in theirs.items():
        row = shown.get(identity)
        if row is None:
            yield f"message {identity} is missing"
        elif (ours := _shown(row)) != (should := _said(message)):
            yield f"message {identity} is {ours}, not {should}"
    for identity in shown.keys() - theirs.keys() - known:
        yield f"message {identity} is nobody's"


def _shown(row: models.Message) -> tuple[Any, ...]:
    return (
        row.direction, row.text, row.record_status, row.delivered_at, row.read_at, str(row.conversation.driver.catena_id),
        str(row.connection.catena_id),
    )  # fmt: skip


def _said(message: Message) -> tuple[Any, ...]:
    direction = Direction.IN if message.sent_by_driver else Direction.OUT
    return (
        direction, message.text, message.status, message.delivered_at, message.read_at, message.driver_id,
        message.connection_id,
    )  # fmt: skip


def _of_operations(world: World) -> Iterator[str]:
    """Each is bound to the one message that we wrote, and says what Catena says."""
    ours = models.Message.objects.exclude(author=None).select_related("operation")
    by_text = {row.text: row for row in ours}
    if len(by_text) != len(ours):
        yield "a text of ours is shown twice"
    for operation in world.operations.values():
        row = by_text[operation.text]
        bound = row.operation
        state = {"success": "succeeded", "failed": "failed"}[operation.status]
        should = (operation.id, operation.status, state, operation.resource_id, {one.id for one in operation.attempts})
        said = bound and (
            str(bound.catena_id), bound.status, row.state, str(bound.resource_id) if bound.resource_id else None,
            {str(one) for one in bound.logs.values_list("catena_id", flat=True)},
        )  # fmt: skip
        if said != should:
            yield f"operation of {operation.text} is {said}, not {should}"


def _of_users(world: World) -> Iterator[str]:
    rows = {str(row.catena_id): row for row in models.FleetUser.objects.all()}
    for user in world.users.values():
        if user.updated_at < world.began:
            continue
        row = rows.get(user.id)
        if row is None:
            yield f"user {user.id} is missing"
        elif (row.status, row.is_active) != (user.status, user.is_active):
            yield f"user {user.id} is {row.status}, not {user.status}"


def settle(world: World, couriers: Couriers, known: set[str]) -> None:
    """Waits until everything has arrived, everything has been applied, and nothing differs any more."""
    wait_for(lambda: couriers.are_done, PATIENCE)
    wait_for(lambda: not models.WebhookEvent.objects.filter(state__in=OPEN_STATES).exists(), PATIENCE)
    with suppress(AssertionError):
        wait_for(lambda: not differences(world, known), 60, every=0.5)
    assert differences(world, known)[:10] == []


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("enough", "sweep_seconds", "lost"),
    [
        pytest.param(EVENTS, 3, LOST, id="mixed-with-sweeps"),
        pytest.param(EVENTS // 4, 3600, 0.0, id="by-events-alone"),
    ],
)
def test_honest_events_in_any_order_end_in_what_catena_says(
    tmp_path: Path, enough: int, sweep_seconds: int, lost: float
) -> None:
    rng = Random(SEED)
    sys.stdout.write(f"\nhonest events: seed {SEED} (repeat with HONEST_SEED={SEED})\n")
    author = factories.UserFactory(is_superuser=True, undo_seconds=0)
    with installation(tmp_path, sweep_seconds, rng, lost) as (server, workers, web, couriers):
        world, began = server.world, time.monotonic()
        # What was written before anybody listened is told by no event.
        known = set(world.messages) if lost == 0 else set()
        just_read()
        world.listeners.append(couriers.take)
        conversations = make_conversations(world, max(4, enough // EVENTS_EACH))
        world.faults.add(Fault("attempt_failure", ":3", error_type="validation"))
        world.faults.add(Fault("attempt_failure", ":5", error_type="tsp", then_succeed=2))
        compose(author, conversations)
        workers.start()
        ours = {str(one.driver.catena_id) for one in conversations}
        living = Thread(target=live, args=(world, couriers, ours, Random(SEED), enough), daemon=True)
        living.start()
        kill_and_look(web, couriers, enough)
        living.join(PATIENCE)
        wait_for(workers.are_calm, PATIENCE)
        # The worker dies while events wait; its successor goes on with them.
        workers.kill_all()
        workers.running.clear()
        workers.start()
        settle(world, couriers, known)
        assert couriers.acknowledged == couriers.carried
        stored = dict(models.WebhookEvent.objects.values_list("key", "state"))
        report(couriers, world, began)
        assert workers.stop() == [0], workers.output()
        assert differences(world, known)[:10] == []
    assert stored.keys() == couriers.carried
    assert set(stored.values()) == {EventState.DONE}
    assert not couriers.statuses.keys() - {0, 202, 503}
    assert couriers.seen.total() >= enough
    assert verify(timezone.now()).breaches == []


def report(couriers: Couriers, world: World, began: float) -> None:
    tries = models.WebhookEvent.objects.aggregate(most=Max("tries"), all=Sum("tries"))
    sys.stdout.write(
        f"{couriers.seen.total()} events ({len(couriers.carried)} carried) in {couriers.statuses.total()} deliveries, "
        f"{couriers.statuses[0]} without an answer; {len(world.operations)} sends, "
        f"{models.Message.objects.count()} messages; {tries['all']} tries, {tries['most']} at most; "
        f"{time.monotonic() - began:.0f} s\n"
    )


@pytest.mark.chaos
def test_an_event_is_applied_within_half_a_second(tmp_path: Path) -> None:
    with installation(tmp_path, 3600, Random(SEED), 0.0) as (server, workers, _, couriers):
        world, events = server.world, []
        conversations = make_conversations(world, 4)
        just_read()
        world.listeners.append(events.append)
        workers.start()
        drivers_ids = [str(one.driver.catena_id) for one in conversations]
        delays = []
        for number in range(20):
            with world.lock:
                drivers.write(world, drivers_ids[number % 4], f"Number {number}")
            event = wait_for(lambda: events.pop() if events else None, every=0.002)
            wait_for(lambda event=event: couriers.carry_now(event) == 202)
            delays.append(_seconds_until_shown(event))
    # The first one waited for its worker to start.
    delays.pop(0)
    sys.stdout.write(f"\nacknowledged to shown: median {median(delays):.3f} s, slowest {max(delays):.3f} s\n")
    assert median(delays) < 0.5


def _seconds_until_shown(event: records.Event) -> float:
    began = time.monotonic()
    wait_for(lambda: models.Message.objects.filter(catena_id=UUID(str(event.record["id"]))).exists(), every=0.005)
    return time.monotonic() - began
