"""Webhook deliveries: signed, gzipped, retried, dead-lettered, and stopped by the circuit breaker. Contract, sections 11 to 13.

What is unknown is decided here as follows. Three tries count the first one. Each try has a new timestamp and `X-Request-ID`; the
envelope's `id` stays the same over tries and replay. No answer at all counts like a 5xx and is logged with status code 0.
A paused subscription loses the events of that time; a stale one gets them into its dead letter queue. Filters of fleets
apply to every event that concerns a connection, also where its record has no `fleet_ref`. `webhook.*` events have no fleet and
pass every filter. Dead letters and deliveries under way do not survive a restart.
"""

import base64
import gzip
import hashlib
import hmac
import http.client
import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from queue import SimpleQueue
from threading import Thread
from urllib.parse import urlsplit

from messaging.simulator import events, render
from messaging.simulator.faults import WEBHOOK_KINDS, Circumstances
from messaging.simulator.records import Delivery, Event, LogEntry, Subscription
from messaging.simulator.wire import Json, dump, fresh_id, write_moment
from messaging.simulator.world import World

logger = logging.getLogger(__name__)

MOST_TRIES = 3
_COURIERS = 8
_SMOOTHING = 0.05
_WINDOWS = {"6h": 6, "24h": 24, "7d": 168, "14d": 336}


Measure = Callable[[list[LogEntry]], int | None]


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Standard Base64 of HMAC-SHA256 over the timestamp, a dot and the uncompressed body; the secret is UTF-8 text."""
    return base64.b64encode(
        hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).digest()
    ).decode()


class PostOffice:
    """Cuts events into deliveries and has couriers carry them out. Its threads are daemons."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._queue: SimpleQueue[Delivery | None] = SimpleQueue()
        self._held: dict[str, Delivery] = {}
        self._threads = [Thread(target=self._work, name=f"courier-{n}", daemon=True) for n in range(_COURIERS)]

    def open(self) -> None:
        self._world.listeners.append(self.publish)
        self._world.replayers.append(self._enqueue)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Does not wait for a courier whose receiver does not answer."""
        with self._world.lock:
            self._world.listeners.remove(self.publish)
            self._world.replayers.remove(self._enqueue)
        for _ in self._threads:
            self._queue.put(None)

    def publish(self, event: Event) -> None:
        """Called with the world's lock held."""
        for subscription in list(self._world.subscriptions.values()):
            if subscription.event_name == event.name and _lets_through(self._world, subscription, event):
                self._post(subscription, event)

    def _post(self, subscription: Subscription, event: Event) -> None:
        delivery = Delivery(event, subscription.id)
        if subscription.status == "stale":
            dead_letters(self._world, subscription.id).append(event)
        if subscription.status != "active":
            return
        here = Circumstances(connection_id=event.connection_id, text=event.text, event_name=event.name)
        fault = self._world.faults.take(WEBHOOK_KINDS, here)
        kind = fault.kind if fault else None
        if kind == "webhook_lost":
            return
        if kind == "webhook_reordered":
            self._hold(delivery)
            return
        extra = fault.seconds if fault and kind == "webhook_late" else 0.0
        for _ in range(2 if kind == "webhook_duplicate" else 1):
            self._later(delivery, extra)
        if overtaken := self._held.pop(event.connection_id or "", None):
            self._later(overtaken, 0.5)

    def _hold(self, delivery: Delivery) -> None:
        """Keeps a delivery back until the next one of its connection has left, but not for more than 2 seconds."""
        place = delivery.event.connection_id or ""
        if earlier := self._held.pop(place, None):
            self._later(earlier, 0.0)
        self._held[place] = delivery

        def release() -> None:
            if self._held.get(place) is delivery:
                self._later(self._held.pop(place), 0.0)

        self._world.agenda.at(self._world.later(2.0), release)

    def _later(self, delivery: Delivery, extra: float) -> None:
        low, high = self._world.pace.webhook_delay
        self._enqueue_at(delivery, self._world.later((low + extra, high + extra)))

    def _enqueue_at(self, delivery: Delivery, due: datetime) -> None:
        self._world.agenda.at(due, lambda: self._queue.put(delivery))

    def _enqueue(self, delivery: Delivery) -> None:
        self._queue.put(delivery)

    def _work(self) -> None:
        while (delivery := self._queue.get()) is not None:
            with self._world.lock:
                subscription = self._world.subscriptions.get(delivery.subscription_id)
            if subscription is None:
                continue
            try:
                status, error, duration = _carry(self._world, subscription, delivery)
                with self._world.lock:
                    self._record(subscription, delivery, status, error, duration)
            except Exception:
                logger.exception("delivery of event %s failed inside the simulator", delivery.event.id)

    def _record(
        self, subscription: Subscription, delivery: Delivery, status: int, error: str | None, duration: int
    ) -> None:
        world, event = self._world, delivery.event
        entry = LogEntry(fresh_id(), world.now(), event.id, event.name, status, error, duration)
        world.webhook_logs.setdefault(subscription.id, []).append(entry)
        if 0 < status < 500:
            pass
        elif delivery.number < MOST_TRIES:
            gap = world.pace.webhook_gaps[delivery.number - 1]
            self._enqueue_at(Delivery(event, subscription.id, delivery.number + 1), world.later(gap))
        else:
            dead_letters(world, subscription.id).append(event)
        judge(world, subscription)


def _lets_through(world: World, subscription: Subscription, event: Event) -> bool:
    """Whether the filters let it pass. Both filters together must hold."""
    filters = subscription.filters or {}
    fleet_ids, refs = filters.get("fleet_ids"), filters.get("fleet_refs")
    if event.fleet_id is None:
        return True
    assert isinstance(fleet_ids, list | None)
    assert isinstance(refs, list | None)
    return (not fleet_ids or event.fleet_id in fleet_ids) and (
        not refs or world.fleets[event.fleet_id].fleet_ref in refs
    )


def envelope(subscription_id: str, delivery: Delivery, now: datetime) -> bytes:
    """The uncompressed body of one try."""
    return dump(
        {
            "version": events.VERSION,
            "event_name": delivery.event.name,
            "data": [delivery.event.record],
            "webhook_id": subscription_id,
            "timestamp": write_moment(now),
            "id": delivery.event.id,
            "delivery_attempt": delivery.number,
        }
    )


def _headers(subscription: Subscription, delivery: Delivery, now: datetime, body: bytes) -> dict[str, str]:
    timestamp = now.isoformat(timespec="seconds")
    return {
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
        "User-Agent": "Catena-Webhook",
        "X-Source": "catena-notifications",
        "X-Catena-Signature": sign(subscription.secret, timestamp, body),
        "X-Catena-Timestamp": timestamp,
        "X-Event-Type": delivery.event.name,
        "X-Webhook-ID": subscription.id,
        "X-Request-ID": fresh_id(),
        "X-Schema-Version": events.VERSION,
        "X-Delivery-Attempt": str(delivery.number),
    }


def _carry(world: World, subscription: Subscription, delivery: Delivery) -> tuple[int, str | None, int]:
    """One try: its status code (0 without an answer), what went wrong, and the milliseconds it took."""
    now = world.now()
    body = envelope(subscription.id, delivery, now)
    headers = _headers(subscription, delivery, now, body)
    address = urlsplit(subscription.url)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=world.pace.webhook_timeout)
    target = (address.path or "/") + (f"?{address.query}" if address.query else "")
    began = time.monotonic()
    try:
        connection.request("POST", target, gzip.compress(body, 1), headers)
        response = connection.getresponse()
        response.read(65536)
        status, error = response.status, None if response.status < 300 else response.reason
    except (OSError, http.client.HTTPException) as problem:
        status, error = 0, f"{type(problem).__name__}: {problem}"
    finally:
        connection.close()
    return status, error, int((time.monotonic() - began) * 1000)


def dead_letters(world: World, subscription_id: str) -> deque[Event]:
    return world.dead_letters.setdefault(subscription_id, deque(maxlen=10_000))


def replay(world: World, subscription: Subscription) -> None:
    """Sends the whole dead letter queue again. Hold the lock."""
    queue = dead_letters(world, subscription.id)
    while queue:
        delivery = Delivery(queue.popleft(), subscription.id)
        for enqueue in world.replayers:
            enqueue(delivery)


def judge(world: World, subscription: Subscription) -> None:
    """The circuit breaker: makes the subscription stale where the contract's table says so. Hold the lock."""
    if subscription.status != "active" or world.now() < subscription.judged_after_at:
        return
    outcomes = [entry.is_success for entry in world.webhook_logs.get(subscription.id, [])[-200:]]
    if not _is_tripped(outcomes):
        return
    subscription.status = "stale"
    subscription.updated_at = world.now()
    world.remember("subscription", subscription)
    world.emit("webhook.staled", render.subscription_event(subscription), None)


def _is_tripped(outcomes: list[bool]) -> bool:
    if len(outcomes) >= 50:
        return _moving_average(outcomes) < 0.95
    if len(outcomes) >= 20:
        return sum(outcomes) / len(outcomes) < 0.8
    return len(outcomes) >= 10 and not any(outcomes[-10:])


def _moving_average(outcomes: list[bool]) -> float:
    average = 1.0
    for outcome in outcomes:
        average += _SMOOTHING * (outcome - average)
    return average


def render_log(subscription: Subscription, entry: LogEntry) -> Json:
    return {
        "created_at": write_moment(entry.created_at),
        "webhook_id": subscription.id,
        "message_id": entry.event_id,
        "event_name": entry.event_name,
        "status": entry.status,
        "status_code": entry.status_code,
        "error_message": entry.error_message,
        "response_time_ms": entry.response_time_ms,
    }


def metrics(world: World, subscription: Subscription) -> Json:
    logs = world.webhook_logs.get(subscription.id, [])
    now = world.now()
    by_window = {
        name: [entry for entry in logs if entry.created_at > now - timedelta(hours=hours)]
        for name, hours in _WINDOWS.items()
    }

    def figure(measure: Measure) -> Json:
        return {name: measure(entries) for name, entries in by_window.items()}

    return {
        "webhook_id": subscription.id,
        "http_attempts": figure(len),
        "http_success_attempts": figure(lambda entries: sum(one.is_success for one in entries)),
        "http_failure_attempts": figure(lambda entries: sum(not one.is_success for one in entries)),
        "message_count": figure(lambda entries: len({one.event_id for one in entries})),
        "message_success_count": figure(lambda entries: len({one.event_id for one in entries if one.is_success})),
        "success_rate": figure(_success_rate),
        "avg_response_time_ms": figure(_average_time),
        "ewma_success_rate": round(_moving_average([entry.is_success for entry in logs]), 4) if logs else None,
        "dlq_count": len(dead_letters(world, subscription.id)),
    }


def _success_rate(entries: list[LogEntry]) -> int | None:
    """Percent."""
    return round(100 * sum(entry.is_success for entry in entries) / len(entries)) if entries else None


def _average_time(entries: list[LogEntry]) -> int | None:
    return round(sum(entry.response_time_ms for entry in entries) / len(entries)) if entries else None
