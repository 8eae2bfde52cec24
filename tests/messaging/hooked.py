"""An installation that Catena can deliver to: a receiver at its address, and the secrets that it takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from messaging import models
from messaging.catena import webhooks
from messaging.models.subscriptions import HOOK_PATH
from messaging.simulator import SimulatorServer, drivers
from tests.simulator.receiver import Delivered, Receiver
from tests.stack import wait_for

CURRENT, NEXT = "the-current-secret-of-the-tests-00", "the-next-secret-of-all-these-tests"


@contextmanager
def hooked(settings: Any) -> Iterator[Receiver]:
    """The receiver behind PUBLIC_URL."""
    with Receiver() as receiver:
        settings.PUBLIC_URL = receiver.url.removesuffix(HOOK_PATH)
        settings.CATENA_WEBHOOK_SECRETS = [CURRENT]
        yield receiver


def drivers_write(catena: SimulatorServer, times: int) -> list[str]:
    """So many messages of one driver; their ids."""
    world = catena.world
    with world.lock:
        driver = next(user for user in world.users.values() if user.is_driver)
        return [drivers.write(world, driver.id, f"Message {number}").id for number in range(times)]


def status_at_catena(catena: SimulatorServer, name: str) -> str:
    return next(one.status for one in catena.world.subscriptions.values() if one.event_name == name)


def dead_letters_at_catena(catena: SimulatorServer) -> int:
    return sum(map(len, catena.world.dead_letters.values()))


def trip_the_breaker(catena: SimulatorServer, receiver: Receiver, letters: int = 5) -> list[str]:
    """Makes `message.added` stale: the receiver answers 503 until all tries are used up, those of `webhook.staled` too.

    The ids of the messages that got stuck.
    """
    receiver.statuses = [503] * 100
    stuck = drivers_write(catena, letters)
    wait_for(lambda: status_at_catena(catena, "message.added") == "stale")
    wait_for(lambda: dead_letters_at_catena(catena) == letters + 1)
    receiver.statuses = []
    receiver.deliveries.clear()
    # After an activation Catena judges anew, and not at once.
    catena.world.pace.breaker_grace = 900.0
    return stuck


def delivered_ids(receiver: Receiver, name: str) -> set[str]:
    return {record["id"] for one in receiver.named(name) for record in one.json["data"]}


def signed_by(one: Delivered, *secrets: str) -> int:
    """The index of the secret that signed it, as our own receiver finds it."""
    found = webhooks.verify(
        one.raw,
        encoding=one.headers["Content-Encoding"],
        signature=one.headers["X-Catena-Signature"],
        timestamp=one.headers["X-Catena-Timestamp"],
        secrets=secrets,
        now=datetime.now(UTC),
    )
    return found.key


def ours(name: str) -> models.WebhookSubscription:
    return models.WebhookSubscription.objects.ours().get(event_name=name)


def theirs(catena: SimulatorServer) -> set[UUID]:
    return {UUID(key) for key in catena.world.subscriptions}
