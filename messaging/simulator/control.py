"""The control plane below `/_sim/`: how another process watches and scripts the simulator. Loopback only, no token.

| call | body | answer |
|---|---|---|
| `GET /_sim/journal` | | the accepted writes, oldest first |
| `GET /_sim/stats` | | figures of what was seen and what is there |
| `POST /_sim/faults` | one `Fault` as an object, or a list of them | how many are in force |
| `DELETE /_sim/faults` | | 204 |
| `POST /_sim/driver-message` | `user_id`, or `connection_id` and (part of) a `name`; `text`; `reply_to` | the message |
| `POST /_sim/expire-tokens` | | 204 |
| `POST /_sim/pace` | fields of `Pace` | 204 |
| `POST /_sim/change` | `what` and its arguments, see `changes.py` | 204 |
"""

from collections.abc import Callable
from dataclasses import asdict, fields

from messaging.simulator import changes, drivers, render
from messaging.simulator.exchange import Answer, Refusal, Request, invalid
from messaging.simulator.faults import Fault
from messaging.simulator.pace import Pace
from messaging.simulator.records import User
from messaging.simulator.routes import Route, route
from messaging.simulator.wire import Json
from messaging.simulator.world import World
from messaging.simulator.writes import parse_json, read_body

PREFIX = "/_sim/"
_CHANGES: dict[str, Callable[..., object]] = {
    "connection_status": changes.set_connection_status,
    "share_level": changes.set_share_level,
    "schedule_deactivated": changes.deactivate_schedule,
    "connection_added": changes.add_connection,
    "driver_added": changes.add_driver,
    "user_status": changes.change_user,
    "user_removed": changes.remove_user,
    "group_message": changes.write_to_group,
    "message_withdrawn": changes.withdraw_message,
}


def _journal(world: World, request: Request, ids: dict[str, str]) -> Answer:
    return Answer(200, [asdict(entry) for entry in world.journal])


def _stats(world: World, request: Request, ids: dict[str, str]) -> Answer:
    statuses = [operation.status for operation in world.operations.values()]
    return Answer(
        200,
        {
            "posts_seen": world.posts_seen,
            "accepted": len(world.journal),
            "requests": dict(world.requests_seen),
            "operations": {word: statuses.count(word) for word in sorted(set(statuses))},
            "messages": len(world.messages),
            "subscriptions": len(world.subscriptions),
            "deliveries": sum(len(log) for log in world.webhook_logs.values()),
            "taken": sum(entry.is_success for log in world.webhook_logs.values() for entry in log),
            "dead_letters": sum(len(queue) for queue in world.dead_letters.values()),
            "faults": len(world.faults),
        },
    )


def _add_faults(world: World, request: Request, ids: dict[str, str]) -> Answer:
    given = parse_json(request)
    for one in given if isinstance(given, list) else [given]:
        if not isinstance(one, dict):
            raise invalid("body", one, "A fault is an object")
        try:
            world.faults.add(Fault.from_json(one))
        except (ValueError, TypeError) as problem:
            raise invalid("body", one, str(problem)) from problem
    return Answer(200, {"faults": len(world.faults)})


def _clear_faults(world: World, request: Request, ids: dict[str, str]) -> Answer:
    world.faults.clear()
    return Answer(204, has_body=False)


def _driver_message(world: World, request: Request, ids: dict[str, str]) -> Answer:
    body = read_body(request)
    reply_to = body.get("reply_to")
    if reply_to is not None and reply_to not in world.messages:
        raise invalid("body.reply_to", reply_to, "No such message")
    message = drivers.write(
        world, _driver(world, body).id, str(body.get("text") or "Hello"), str(reply_to) if reply_to else None
    )
    return Answer(200, render.message(world, message))


def _driver(world: World, body: Json) -> User:
    name = str(body.get("name") or "").lower()
    for user in world.users.values():
        if user.is_driver and (
            user.id == body.get("user_id")
            or (user.connection_id == body.get("connection_id") and name in (user.full_name or user.username).lower())
        ):
            return user
    raise Refusal(404, "No such driver")


def _expire_tokens(world: World, request: Request, ids: dict[str, str]) -> Answer:
    world.expire_tokens()
    return Answer(204, has_body=False)


def _pace(world: World, request: Request, ids: dict[str, str]) -> Answer:
    body = read_body(request)
    known = {one.name for one in fields(Pace)}
    if strangers := sorted(set(body) - known):
        raise invalid("body", ", ".join(strangers), f"A pace has: {', '.join(sorted(known))}")
    for name, value in body.items():
        setattr(world.pace, name, tuple(value) if isinstance(value, list) else value)
    drivers.start_chatter(world)
    return Answer(204, has_body=False)


def _change(world: World, request: Request, ids: dict[str, str]) -> Answer:
    body = read_body(request)
    what = str(body.pop("what", None))
    if what not in _CHANGES:
        raise invalid("body.what", what, f"Input should be one of: {', '.join(sorted(_CHANGES))}", "enum")
    try:
        _CHANGES[what](world, **body)
    except KeyError as problem:
        raise Refusal(404, f"No such thing: {problem}") from problem
    except (TypeError, StopIteration) as problem:
        raise invalid("body", what, str(problem)) from problem
    return Answer(204, has_body=False)


CONTROL_ROUTES: tuple[Route, ...] = (
    route("GET", f"{PREFIX}journal", _journal),
    route("GET", f"{PREFIX}stats", _stats),
    route("POST", f"{PREFIX}faults", _add_faults),
    route("DELETE", f"{PREFIX}faults", _clear_faults),
    route("POST", f"{PREFIX}driver-message", _driver_message),
    route("POST", f"{PREFIX}expire-tokens", _expire_tokens),
    route("POST", f"{PREFIX}pace", _pace),
    route("POST", f"{PREFIX}change", _change),
)
