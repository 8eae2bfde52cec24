"""The two writing endpoints. Contract, section 7.

Which status a semantic refusal has is unknown; decided here as follows. An unknown connection is a 404; one that is
`failed`, `cancelled` or `paused` a 409 and a `deleted` one a 404; a stale one is accepted and the operation fails. No
permission to write is a 403. A sender or recipient that does not exist or belongs to another connection is a 422, and so is a
reply to a message that does not exist there. A resource that the provider does not have is a 501. Unknown fields are
ignored, as is an `Idempotency-Key` header. A group needs at least one recipient.
"""

import json
from uuid import UUID

from messaging.simulator import operations, parameters, render
from messaging.simulator.exchange import Answer, Refusal, Request, invalid, problem
from messaging.simulator.records import Connection, Resource
from messaging.simulator.wire import Json, is_uuid
from messaging.simulator.world import World

_FIELDS = frozenset(
    {
        "connection_id",
        "sender_id",
        "recipient_id",
        "recipient_ids",
        "message_text",
        "priority",
        "reply_to_message_id",
    }
)
_PRIORITIES = (None, "low", "medium", "high")


def create_message(world: World, request: Request, ids: dict[str, str]) -> Answer:
    return _create(world, request, "message")


def create_group_message(world: World, request: Request, ids: dict[str, str]) -> Answer:
    return _create(world, request, "group_message")


def parse_json(request: Request) -> object:
    """Raises Refusal with 422 for what is not JSON."""
    try:
        return json.loads(request.body)
    except ValueError:
        raise invalid("body", request.body[:80].decode(errors="replace"), "Input is not JSON", "json_invalid") from None


def read_body(request: Request) -> Json:
    """Raises Refusal with 422 for anything but a JSON object."""
    body = parse_json(request)
    if not isinstance(body, dict):
        raise invalid("body", type(body).__name__, "Input should be an object", "dict_type")
    return body


def _create(world: World, request: Request, resource: Resource) -> Answer:
    is_sync = bool(parameters.flag(request, "is_sync"))
    body = read_body(request)
    if problems := _form_problems(body, resource):
        raise Refusal(422, problems=problems)
    body = _with_plain_ids(body)
    connection = _writable_connection(world, str(body["connection_id"]), resource)
    if problems := _meaning_problems(world, body, connection, resource):
        raise Refusal(422, problems=problems)
    operation, ticket = operations.accept(world, resource, _payload(world, body, resource), is_sync)
    status = 202 if not is_sync else 200 if operation.status == "success" else 502
    return Answer(status, render.receipt(world, operation), journal_ticket=ticket)


def _with_plain_ids(body: Json) -> Json:
    """The same body with every identifier in lower case and with hyphens."""
    plain = {
        name: str(UUID(str(value))) if value is not None and name.endswith("_id") else value
        for name, value in body.items()
        if name in _FIELDS
    }
    if "recipient_ids" in plain:
        plain["recipient_ids"] = [str(UUID(str(one))) for one in _recipients(body, "group_message")]
    return plain


def _recipients(body: Json, resource: Resource) -> list[object]:
    if resource == "message":
        return [body.get("recipient_id")]
    given = body.get("recipient_ids")
    return given if isinstance(given, list) else []


def _form_problems(body: Json, resource: Resource) -> list[Json]:
    """What is wrong with the form of the body, whatever the world is like."""
    recipient_field = "recipient_id" if resource == "message" else "recipient_ids"
    problems = [
        problem(f"body.{name}", None, "Field required", "missing")
        for name in ("connection_id", "sender_id", recipient_field)
        if name not in body
    ]
    problems += [
        problem(f"body.{name}", body[name], "Input should be a valid UUID", "uuid_parsing")
        for name in ("connection_id", "sender_id", "recipient_id", "reply_to_message_id")
        if name in body and not is_uuid(body[name]) and not (name == "reply_to_message_id" and body[name] is None)
    ]
    if resource == "group_message" and "recipient_ids" in body:
        problems += _recipient_list_problems(body["recipient_ids"])
    if not isinstance(body.get("message_text"), str | None):
        problems.append(problem("body.message_text", body["message_text"], "Input should be a string", "string_type"))
    if body.get("priority") not in _PRIORITIES:
        problems.append(problem("body.priority", body["priority"], "Input should be low, medium or high", "enum"))
    return problems


def _recipient_list_problems(given: object) -> list[Json]:
    if not isinstance(given, list) or not given:
        return [problem("body.recipient_ids", given, "Input should be a list with at least 1 item", "list_type")]
    return [
        problem(f"body.recipient_ids.{index}", one, "Input should be a valid UUID", "uuid_parsing")
        for index, one in enumerate(given)
        if not is_uuid(one)
    ]


def _writable_connection(world: World, connection_id: str, resource: Resource) -> Connection:
    connection = world.connections.get(connection_id)
    if connection is None or connection.status == "deleted":
        raise Refusal(404, "No such connection")
    if world.providers[connection.slug].integrations[resource] != "implemented":
        raise Refusal(501, f"{connection.slug} cannot take {resource}")
    if connection.schedule(resource).share_level != "read_write":
        raise Refusal(403, f"Missing write access to {resource}")
    if connection.status in ("failed", "cancelled", "paused"):
        raise Refusal(409, f"Connection is {connection.status}")
    return connection


def _meaning_problems(world: World, body: Json, connection: Connection, resource: Resource) -> list[Json]:
    """What is wrong with whom and what the body names."""
    recipient_path = "body.recipient_id" if resource == "message" else "body.recipient_ids"
    people = [("body.sender_id", body["sender_id"])]
    people += [(recipient_path, identity) for identity in _recipients(body, resource)]
    problems = [
        problem(path, identity, "No such user at this connection", "unknown_user")
        for path, identity in people
        if not _is_at(world, str(identity), connection)
    ]
    reply_to = str(body.get("reply_to_message_id") or "")
    said = world.messages.get(reply_to)
    if reply_to and (said is None or said.connection_id != connection.id):
        problems.append(problem("body.reply_to_message_id", reply_to, "No such message", "unknown_message"))
    return problems


def _is_at(world: World, user_id: str, connection: Connection) -> bool:
    user = world.users.get(user_id)
    return user is not None and user.connection_id == connection.id


def _payload(world: World, body: Json, resource: Resource) -> Json:
    """What was submitted, as it was submitted, and the provider's ids."""
    names = ["connection_id", "sender_id", "message_text", "priority"]
    names += ["recipient_id", "reply_to_message_id"] if resource == "message" else ["recipient_ids"]
    payload = {name: body[name] for name in names if name in body}
    payload["source_sender_id"] = world.users[str(body["sender_id"])].source_id
    sources = [world.users[str(identity)].source_id for identity in _recipients(body, resource)]
    if resource == "message":
        payload["source_recipient_id"] = sources[0]
        said = world.messages.get(str(body.get("reply_to_message_id") or ""))
        if said:
            payload["source_reply_to_message_id"] = said.source_id
    else:
        payload["source_recipient_ids"] = sources
    return payload
