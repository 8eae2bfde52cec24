"""The webhook subscription endpoints. Contract, section 11.

What is unknown is decided here as follows. Subscriptions of one wildcard share one secret. A duplicate of event, address and
filters is a 409, in a wildcard for any of its events. Activating what is active and pausing what is paused is a 200 that
changes nothing. Replay sends the whole dead letter queue, whatever the status of the subscription. Addresses must be
HTTPS, or HTTP on this machine (which Catena does not offer). A deleted subscription is gone: 404.
"""

import secrets
from datetime import timedelta
from urllib.parse import urlsplit

from messaging.simulator import events, parameters, render, webhooks
from messaging.simulator.exchange import Answer, Refusal, Request, invalid
from messaging.simulator.reads import found
from messaging.simulator.records import Subscription
from messaging.simulator.wire import Json, dump, fresh_id, is_uuid, write_moment
from messaging.simulator.world import World
from messaging.simulator.writes import read_body

_LOCAL = ("127.0.0.1", "localhost", "::1")
_LOG_AGE = timedelta(days=14)


def list_all(world: World, request: Request, ids: dict[str, str]) -> Answer:
    event_name = parameters.text(request, "event_name")
    status = parameters.choice(request, "status", ("active", "paused", "stale", "deleted"))
    chosen = [
        one
        for one in world.subscriptions.values()
        if event_name in (None, one.event_name) and status in (None, one.status)
    ]
    return Answer(
        200,
        parameters.page(
            request, "webhooks", chosen, lambda one: (one.event_name, one.id), render.subscription, counted=False
        ),
    )


def create(world: World, request: Request, ids: dict[str, str]) -> Answer:
    body = read_body(request)
    url, filters = _url(body.get("url")), _filters(body.get("filters"))
    secret = body.get("secret") or world.webhook_secret or secrets.token_urlsafe(32)
    if not isinstance(secret, str):
        raise invalid("body.secret", secret, "Input should be a string", "string_type")
    name = body.get("event_name")
    names = events.named(name) if isinstance(name, str) else ()
    if not names:
        raise invalid("body.event_name", name, "No such event", "enum")
    for one in names:
        _refuse_duplicate(world, one, url, filters)
    made = [_subscribe(world, one, url, filters, secret) for one in names]
    answers = [render.subscription_created(world, one) for one in made]
    return Answer(200, answers if str(name).endswith(".*") else answers[0])


def get(world: World, request: Request, ids: dict[str, str]) -> Answer:
    return Answer(200, render.subscription(found(world.subscriptions, ids["webhook_id"])))


def change(world: World, request: Request, ids: dict[str, str]) -> Answer:
    subscription = found(world.subscriptions, ids["webhook_id"])
    body = read_body(request)
    url = _url(body["url"]) if body.get("url") is not None else subscription.url
    filters = _filters(body["filters"]) if "filters" in body else subscription.filters
    secret = body.get("secret") if body.get("secret") is not None else subscription.secret
    if not isinstance(secret, str) or (secret != subscription.secret and len(secret) < 12):
        raise invalid("body.secret", "*****", "String should have at least 12 characters", "string_too_short")
    if (url, filters) != (subscription.url, subscription.filters):
        _refuse_duplicate(world, subscription.event_name, url, filters)
    subscription.url, subscription.filters, subscription.secret = url, filters, secret
    _touch(world, subscription)
    return Answer(200, render.subscription(subscription))


def remove(world: World, request: Request, ids: dict[str, str]) -> Answer:
    subscription = found(world.subscriptions, ids["webhook_id"])
    subscription.status = "deleted"
    del world.subscriptions[subscription.id]
    world.forget("subscription", subscription.id)
    return Answer(204, has_body=False)


def activate(world: World, request: Request, ids: dict[str, str]) -> Answer:
    return _switch(world, ids, "active", "activated")


def pause(world: World, request: Request, ids: dict[str, str]) -> Answer:
    return _switch(world, ids, "paused", "paused")


def replay(world: World, request: Request, ids: dict[str, str]) -> Answer:
    webhooks.replay(world, found(world.subscriptions, ids["webhook_id"]))
    return Answer(202)


def metrics(world: World, request: Request, ids: dict[str, str]) -> Answer:
    return Answer(200, webhooks.metrics(world, found(world.subscriptions, ids["webhook_id"])))


def logs(world: World, request: Request, ids: dict[str, str]) -> Answer:
    subscription = found(world.subscriptions, ids["webhook_id"])
    oldest = world.now() - _LOG_AGE
    start = max(parameters.moment(request, "start_date") or oldest, oldest)
    end = parameters.moment(request, "end_date")
    status = parameters.choice(request, "status", ("success", "failed"))
    chosen = [
        entry
        for entry in world.webhook_logs.get(subscription.id, [])
        if start <= entry.created_at and (end is None or entry.created_at < end) and status in (None, entry.status)
    ]
    return Answer(
        200,
        parameters.page(
            request,
            f"logs:{subscription.id}",
            chosen,
            lambda entry: (str(write_moment(entry.created_at)), entry.id),
            lambda entry: webhooks.render_log(subscription, entry),
            counted=False,
        ),
    )


def event_schema(world: World, request: Request, ids: dict[str, str]) -> Answer:
    name = ids["event_name"]
    if name not in events.NAMES or ids.get("version", events.VERSION) != events.VERSION:
        raise Refusal(404)
    document = dump(events.schema(name)).decode()
    created_at = write_moment(world.began - timedelta(days=30))
    return Answer(
        200,
        {
            "event_name": name,
            "version": events.VERSION,
            "created_at": created_at,
            "openapi_schema": document,
            "changelog": "First version",
        },
    )


def _url(given: object) -> str:
    if not isinstance(given, str) or not 1 <= len(given) <= 2083:
        raise invalid("body.url", given, "Input should be a URL of 1 to 2083 characters", "url_parsing")
    parts = urlsplit(given)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
        raise invalid("body.url", given, "URL should be HTTPS", "url_scheme")
    if not parts.hostname:
        raise invalid("body.url", given, "URL should have a host", "url_parsing")
    return given


def _filters(given: object) -> Json | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        raise invalid("body.filters", given, "Input should be an object", "dict_type")
    for name in ("fleet_ids", "fleet_refs"):
        values = given.get(name) or []
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise invalid(f"body.filters.{name}", values, "Input should be a list of strings", "list_type")
        if name == "fleet_ids" and not all(is_uuid(value) for value in values):
            raise invalid(f"body.filters.{name}", values, "Input should be valid UUIDs", "uuid_parsing")
    return {name: given[name] for name in ("fleet_ids", "fleet_refs") if name in given}


def _refuse_duplicate(world: World, name: str, url: str, filters: Json | None) -> None:
    for one in world.subscriptions.values():
        if (one.event_name, one.url, one.filters or None) == (name, url, filters or None):
            raise Refusal(409, f"There is a subscription to {name} at this URL with these filters")


def _subscribe(world: World, name: str, url: str, filters: Json | None, secret: str) -> Subscription:
    now = world.now()
    subscription = Subscription(
        id=fresh_id(),
        url=url,
        event_name=name,
        filters=filters,
        secret=secret,
        status="active",
        created_at=now,
        updated_at=now,
        judged_after_at=world.later(world.pace.breaker_grace),
    )
    world.subscriptions[subscription.id] = subscription
    world.remember("subscription", subscription)
    return subscription


def _touch(world: World, subscription: Subscription) -> None:
    subscription.updated_at = world.now()
    subscription.judged_after_at = world.later(world.pace.breaker_grace)
    world.remember("subscription", subscription)


def _switch(world: World, ids: dict[str, str], status: str, what: str) -> Answer:
    subscription = found(world.subscriptions, ids["webhook_id"])
    if subscription.status != status:
        subscription.status = status
        _touch(world, subscription)
        world.emit(f"webhook.{what}", render.subscription_event(subscription), None)
    return Answer(200, render.subscription(subscription))
