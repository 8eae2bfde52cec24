"""Thousands of events, each delivered one to five times, shuffled and late, to a receiver and workers that are killed.

What Catena's side came to in the end is the model: the simulator keeps it by itself, and knows nothing of our rows. One run
has nothing but the events; in the other, sweeps read the lists at the same time, and some events never come.
"""

import base64
import gzip
import hashlib
import hmac
import http.client
import json
import os
import queue
import random
import sys
import threading
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import connection as database
from django.utils import timezone

from messaging import models, outbox
from messaging.simulator.changes import change_user
from messaging.simulator.drivers import write
from messaging.simulator.records import Event, Message
from messaging.simulator.render import message_event
from messaging.states import OPERATION_STATES, EventState
from messaging.verify import verify
from tests import factories
from tests.flows.test_two_workers import Workers, make_conversations, running
from tests.stack import Stack, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]
EVENTS = int(os.environ.get("HONEST_EVENTS", "400"))
SEED = int(os.environ.get("HONEST_SEED", "0")) or random.SystemRandom().randrange(1_000_000)
SECRET = "the-secret-of-these-events-" * 2
TALKS = 60
COURIERS = 6
KILLS = 2
# A delivery that nobody took is carried again, as often as it takes: here nothing is lost on the way.
PATIENCE = 240


@dataclass
class PostOffice:
    """Carries what the world announces, and keeps which events were acknowledged."""

    port: int
    rng: random.Random
    lost_share: float
    acknowledged: set[str] = field(default_factory=set)
    carried: Counter[int] = field(default_factory=Counter)
    announced: int = 0
    lost: int = 0
    waiting: "queue.PriorityQueue[tuple[float, int, bytes, str]]" = field(default_factory=queue.PriorityQueue)
    done: threading.Event = field(default_factory=threading.Event)
    # Never set: a courier whose receiver is away waits a moment.
    pause: threading.Event = field(default_factory=threading.Event)

    def announce(self, event: Event) -> None:
        """Plans the deliveries of one event; called with the world's lock held."""
        self.announced += 1
        if self.rng.random() < self.lost_share:
            self.lost += 1
            return
        body = {
            "version": "1.0", "event_name": event.name, "data": [event.record], "webhook_id": str(uuid.UUID(int=7)),
            "timestamp": datetime.now(UTC).isoformat(), "id": event.id,
        }  # fmt: skip
        for attempt in range(self.rng.randint(1, 5)):
            due = time.monotonic() + self.rng.random() ** 3 * 8
            packed = json.dumps({**body, "delivery_attempt": attempt + 1}, default=str).encode()
            self.waiting.put((due, self.rng.randrange(2**60), packed, event.id))

    def start(self) -> list[threading.Thread]:
        couriers = [threading.Thread(target=self._carry, daemon=True) for _ in range(COURIERS)]
        for courier in couriers:
            courier.start()
        return couriers

    def _carry(self) -> None:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        while not (self.done.is_set() and self.waiting.empty()):
            try:
                due, number, body, event_id = self.waiting.get(timeout=0.1)
            except queue.Empty:
                continue
            if self.done.wait(max(0.0, due - time.monotonic())) and due > time.monotonic():
                due = 0.0  # the world has come to its end: what is left comes at once
            status = 0
            with suppress(OSError, http.client.HTTPException):
                status = self._post(link, body)
            self.carried[status] += 1
            if status == 202:
                self.acknowledged.add(event_id)
            else:
                link.close()
                self.waiting.put((time.monotonic(), number, body, event_id))
                self.pause.wait(0.2)
        link.close()

    def _post(self, link: http.client.HTTPConnection, body: bytes) -> int:
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        digest = hmac.new(SECRET.encode(), moment.encode() + b"." + body, hashlib.sha256).digest()
        headers = {
            "Content-Type": "application/json", "Content-Encoding": "gzip", "X-Catena-Timestamp": moment,
            "X-Catena-Signature": base64.b64encode(digest).decode(),
        }  # fmt: skip
        link.request("POST", "/hooks/catena/", gzip.compress(body, 1), headers)
        answer = link.getresponse()
        answer.read()
        return answer.status


def move_on(world: Any, message: Message, rng: random.Random) -> None:
    """One more thing happens to a message at the provider: a receipt, a correction, a withdrawal. Hold the lock."""
    # Catena writes milliseconds, and versions of one record have times of their own.
    now = message.updated_at = max(world.now(), message.updated_at + timedelta(milliseconds=1))
    match rng.choice(["delivered", "read", "read", "text", "deleted"]):
        case "delivered" if message.read_at is None:
            message.status, message.delivered_at = "delivered", message.delivered_at or now
        case "read":
            message.status, message.read_at = "read", message.read_at or now
            message.delivered_at = message.delivered_at or now
        case "text":
            message.text = f"{message.text} (corrected)"
        case "deleted" if rng.random() < 0.1:
            message.deleted_at = now
    world.emit("message.modified", message_event(world, message), message.connection_id, message.text or "")


def live(world: Any, talks: list[models.Conversation], rng: random.Random, office: PostOffice, author: Any) -> None:
    """Drivers write, receipts come, people are renamed and staff answer, until enough has been announced."""
    written: list[Message] = []
    number = 0
    while office.announced < EVENTS:
        number += 1
        talk = rng.choice(talks)
        with world.lock:
            match rng.randrange(10):
                case 0 | 1 | 2:
                    written.append(write(world, str(talk.driver.catena_id), f"{number} from the cab"))
                case 3 if number % 3 == 0:
                    change_user(world, str(talk.driver.catena_id), rng.choice(["ACTIVE", "INACTIVE", "ON LEAVE"]))
                case 4 | 5 | 6 | 7 | 8 if written:
                    message = world.messages.get(rng.choice(written).id)
                    if message is not None:
                        move_on(world, message, rng)
        if number % 9 == 0:
            outbox.compose(author, talk, f"{number} from the desk", "medium", None, uuid.uuid4(), timezone.now())
        if number % 20 == 0:
            office.done.wait(0.05)
    database.close()


def differences(world: Any) -> list[str]:
    """Where our rows and the world differ, over every message that was written since the start."""
    rows = {str(row.catena_id): row for row in models.Message.objects.exclude(catena_id=None)}
    found = []
    with world.lock:
        theirs = [one for one in world.messages.values() if one.text and " from the " in one.text]
        operations = dict(world.operations)
    for one in theirs:
        row = rows.get(one.id)
        if row is None:
            found.append(f"{one.text}: not here")
            continue
        ours = (row.text, row.record_status, row.delivered_at, row.read_at, row.deleted_at)
        if ours != (one.text, one.status, *map(written, (one.delivered_at, one.read_at, one.deleted_at))):
            found.append(f"{one.text}: {ours}")
    for message in models.Message.objects.filter(state__in=OPERATION_STATES).select_related("operation"):
        assert message.operation is not None
        theirs_status = operations[str(message.operation.catena_id)].status
        if message.operation.status != theirs_status:
            found.append(f"{message.text}: {message.operation.status}, not {theirs_status}")
    for user in models.FleetUser.objects.filter(is_driver=True):
        if (known := world.users.get(str(user.catena_id))) and user.catena_updated_at >= known.created_at:
            found += [f"{user}: {user.status}"] if user.status and user.status != known.status else []
    return found


def written(moment: datetime | None) -> datetime | None:
    """As Catena writes it down."""
    return moment and moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def shown_twice() -> list[Any]:
    texts = models.Message.objects.filter(text__contains=" from the ").values_list("conversation_id", "text")
    return [text for text, count in Counter(texts).items() if count > 1]


@pytest.mark.parametrize("has_sweeps", [False, True], ids=["events alone", "sweeps beside, and a tenth lost"])
def test_what_catena_announced_is_what_people_see(tmp_path: Path, has_sweeps: bool) -> None:
    rng = random.Random(SEED)
    author = factories.UserFactory(is_superuser=True, undo_seconds=0)
    with running(tmp_path, lease=20) as (server, workers):
        talks = make_conversations(server.world, TALKS)
        beat = {"OPERATION_SWEEP_SECONDS": "1", "MESSAGE_SWEEP_SECONDS": "1", "DIRECTORY_SWEEP_SECONDS": "5"}
        workers.environment |= {"CATENA_WEBHOOK_SECRET": SECRET, **(beat if has_sweeps else {})}
        if not has_sweeps:
            for name in ("operations", "messages", "directory"):
                models.SyncCursor.objects.create(name=f"round {name}", started_at=timezone.now())
        web = Stack(dsn=workers.environment["DATABASE_URL"], simulator=server, world=server.world, var=tmp_path)
        web.settings = {"CATENA_WEBHOOK_SECRET": SECRET, "LOG_LEVEL": "WARNING"}
        web.start_web()
        office = PostOffice(web.port, rng, 0.1 if has_sweeps else 0.0)
        server.world.listeners.append(office.announce)
        began = time.monotonic()
        for _ in range(2):
            workers.start()
        couriers = office.start()
        life = threading.Thread(target=live, args=(server.world, talks, rng, office, author), daemon=True)
        life.start()
        try:
            _kill_now_and_then(web, workers, office)
            life.join(PATIENCE)
            wait_for(lambda: not in_hand(), PATIENCE, every=0.2)
            office.done.set()
            for courier in couriers:
                courier.join(PATIENCE)
            assert not any(courier.is_alive() for courier in couriers)
            wait_for(lambda: is_applied() and not differences(server.world), PATIENCE if has_sweeps else 60, every=0.5)
        except AssertionError:
            raise AssertionError(f"seed {SEED}: {differences(server.world)[:5]}\n{workers.output()[-3000:]}") from None
        finally:
            office.done.set()
            web.stop()
        workers.stop()
    stored = set(models.WebhookEvent.objects.values_list("key", flat=True))
    sys.stdout.write(
        f"\nseed {SEED}: {office.announced} events, {office.lost} never delivered, {sum(office.carried.values())} deliveries"
        f" {dict(office.carried)}, {time.monotonic() - began:.0f} s\n"
    )
    assert office.acknowledged <= stored, "what was acknowledged is there after the kills"
    assert shown_twice() == []
    assert not models.WebhookEvent.objects.filter(state=EventState.DEAD).exists()
    assert not verify(timezone.now()).breaches


def in_hand() -> bool:
    return models.Message.objects.filter(state__in=["waiting", "queued", "claimed", "posting", "unknown"]).exists()


def is_applied() -> bool:
    return not models.WebhookEvent.objects.filter(state__in=[EventState.NEW, EventState.PARKED]).exists()


def kill_whole(pid: int) -> None:
    """The web server and the process that it keeps for its answers."""
    parent = psutil.Process(pid)
    family = [*parent.children(recursive=True), parent]
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(family, timeout=10)


def _kill_now_and_then(web: Stack, workers: Workers, office: PostOffice) -> None:
    """As the world goes on: the receiver and a worker die without a word, and another takes their place."""
    for number in range(1, KILLS + 1):
        share = number / (KILLS + 1)
        wait_for(lambda share=share: office.announced >= share * EVENTS, PATIENCE, every=0.05)  # type: ignore[misc]
        kill_whole(web.children["web"].pid)
        victim = workers.running.pop(0)
        victim.kill()
        victim.wait(10)
        web.start_web()
        workers.start()
