"""Every answer fits the contract: `Caller` checks each one, these tests walk the endpoints and the refusals."""

import json
from uuid import uuid4

import pytest

from messaging.simulator import SimulatorServer, World
from messaging.simulator.events import NAMES
from tests.simulator.caller import CONNECTIONS, GROUPS, MESSAGES, OPERATIONS, USERS, WEBHOOKS, Caller, Reply

WEEK = {"from_datetime": "2020-01-01T00:00:00Z", "to_datetime": "2020-01-30T00:00:00Z"}


def refused(caller: Caller, reply: Reply, status: int, schema: str) -> dict[str, object]:
    assert reply.status == status
    assert caller.contract.schema_problems(caller.contract.component(schema), reply.json) == []
    return dict(reply.json)


@pytest.mark.parametrize(
    "path",
    [
        MESSAGES,
        GROUPS,
        USERS,
        CONNECTIONS,
        f"{CONNECTIONS}/data-freshness",
        OPERATIONS,
        "/v2/integrations/tsps",
        "/v2/orgs/fleets",
        WEBHOOKS,
        "/v2/notifications/schemas/message.added",
    ],
)
def test_every_list_answers_as_the_contract_says(reader: Caller, path: str) -> None:
    assert reader.get(path).status == 200


def test_every_single_record_can_be_read_by_its_id(reader: Caller) -> None:
    world = reader.server.world
    connection, provider = next(iter(world.connections.values())), world.providers["geotab"]
    fleet, user = next(iter(world.fleets.values())), next(iter(world.users.values()))

    assert reader.get(f"{CONNECTIONS}/{connection.id}").json["id"] == connection.id
    assert reader.get(f"/v2/integrations/tsps/{provider.tsp_id}").json["slug"] == "geotab"
    assert reader.get(f"/v2/orgs/fleets/{fleet.id}").json["name"] == fleet.name
    assert reader.get(f"{USERS}/{user.id}", include_source_data="true").json["source_data"]["id"] == user.source_id


@pytest.mark.parametrize(
    "path",
    [
        f"{CONNECTIONS}/{uuid4()}",
        f"{USERS}/{uuid4()}",
        f"/v2/orgs/fleets/{uuid4()}",
        f"/v2/integrations/tsps/{uuid4()}",
        f"{WEBHOOKS}/{uuid4()}",
        f"{CONNECTIONS}/{uuid4()}/resource-operations/{uuid4()}",
        "/v2/notifications/schemas/message.exploded",
    ],
    ids=range(7),
)
def test_what_does_not_exist_is_a_404(reader: Caller, path: str) -> None:
    refused(reader, reader.get(path), 404, "ApiError")


def test_an_operation_is_not_found_below_another_connection(caller: Caller, world: World) -> None:
    receipt = caller.send().json
    other = list(world.connections.values())[1].id

    assert caller.get(f"{CONNECTIONS}/{other}/resource-operations/{receipt['id']}").status == 404


def test_an_unknown_path_is_a_404_and_an_unknown_method_a_405(reader: Caller) -> None:
    refused(reader, reader.call("GET", "/v2/telematics/trucks", checked=False), 404, "ApiError")
    refused(reader, reader.call("DELETE", MESSAGES, checked=False), 405, "ApiError")


def test_no_token_an_invented_one_and_an_expired_one_are_refused(caller: Caller, world: World) -> None:
    good, caller.token = caller.token, ""
    refused(caller, caller.get(MESSAGES), 401, "ApiError")
    caller.token = "invented"
    refused(caller, caller.get(MESSAGES), 401, "ApiError")
    caller.token = good
    assert caller.get(MESSAGES).status == 200
    world.expire_tokens()
    refused(caller, caller.get(MESSAGES), 401, "ApiError")
    assert caller.sign_in().get(MESSAGES).status == 200


def test_a_token_dies_after_its_lifetime(world: World) -> None:
    world.pace.token_lifetime = 0
    with SimulatorServer(world) as server:
        assert Caller(server).sign_in().get(MESSAGES).status == 401


def test_wrong_client_credentials_get_no_token(caller: Caller) -> None:
    assert caller.ask_token(client_secret="wrong").json["error"] == "invalid_client"
    assert caller.ask_token(client_id="wrong").status == 401
    assert caller.ask_token(checked=False, grant_type="password").status == 400
    assert caller.ask_token(checked=False, scope="everything").status == 400


def test_a_revoked_token_is_refused(caller: Caller) -> None:
    form = f"token={caller.token}&client_id={caller.server.client_id}&client_secret={caller.server.client_secret}"
    path = "/realms/catena/protocol/openid-connect/revoke"
    assert caller.raw("POST", path, body=form.encode()).status == 200
    assert caller.get(MESSAGES).status == 401


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"recipient_id": "nobody"}, "body.recipient_id"),
        ({"recipient_id": None}, "body.recipient_id"),
        ({"recipient_id": str(uuid4())}, "body.recipient_id"),
        ({"sender_id": str(uuid4())}, "body.sender_id"),
        ({"priority": "urgent"}, "body.priority"),
        ({"message_text": 5}, "body.message_text"),
        ({"reply_to_message_id": str(uuid4())}, "body.reply_to_message_id"),
    ],
)
def test_a_wrong_field_is_named_in_the_422(caller: Caller, changes: dict[str, object], path: str) -> None:
    body = refused(caller, caller.call("POST", MESSAGES, caller.letter() | changes), 422, "ValidationProblem")

    assert [one["path"] for one in body["detail"]] == [path]  # type: ignore[attr-defined]
    assert caller.server.world.journal == []


def test_a_missing_field_is_named_in_the_422(caller: Caller) -> None:
    letter = caller.letter()
    del letter["sender_id"]

    body = refused(caller, caller.call("POST", MESSAGES, letter), 422, "ValidationProblem")

    assert [one["error_type"] for one in body["detail"]] == ["missing"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"'])
def test_a_body_that_is_no_json_object_is_a_422(caller: Caller, body: bytes) -> None:
    refused(caller, caller.call("POST", MESSAGES, body), 422, "ValidationProblem")


def test_a_user_of_another_connection_can_neither_send_nor_receive(caller: Caller, world: World) -> None:
    stranger = world.drivers(list(world.connections)[1])[0].id

    refused(caller, caller.send(recipient_id=stranger), 422, "ValidationProblem")
    refused(caller, caller.send(sender_id=stranger), 422, "ValidationProblem")


def test_a_connection_that_is_shared_read_only_refuses_writes(caller: Caller) -> None:
    refused(caller, caller.send(connection=5), 403, "ApiError")


def test_a_provider_without_group_messages_says_so(caller: Caller) -> None:
    refused(caller, caller.call("POST", GROUPS, group_letter(caller, connection=2)), 501, "ApiError")


@pytest.mark.parametrize(
    ("status", "expected"), [("paused", 409), ("cancelled", 409), ("failed", 409), ("deleted", 404)]
)
def test_a_connection_that_is_switched_off_refuses_writes(
    caller: Caller, world: World, status: str, expected: int
) -> None:
    next(iter(world.connections.values())).status = status

    refused(caller, caller.send(), expected, "ApiError")


def test_a_group_message_needs_recipients_of_its_connection(caller: Caller) -> None:
    assert caller.call("POST", GROUPS, group_letter(caller)).status == 202
    assert caller.call("POST", GROUPS, group_letter(caller) | {"recipient_ids": []}).status == 422
    assert caller.call("POST", GROUPS, group_letter(caller) | {"recipient_ids": "all"}).status == 422
    assert caller.call("POST", GROUPS, group_letter(caller) | {"recipient_ids": ["x"]}).status == 422
    assert caller.call("POST", GROUPS, group_letter(caller) | {"recipient_ids": [str(uuid4())]}).status == 422


def test_identifiers_may_be_written_in_capitals(caller: Caller) -> None:
    letter = caller.letter()
    shouted = letter | {name: str(letter[name]).upper() for name in ("connection_id", "sender_id", "recipient_id")}

    assert caller.call("POST", MESSAGES, shouted).json["payload"]["recipient_id"] == letter["recipient_id"]


def test_the_schema_of_every_event_can_be_read(reader: Caller) -> None:
    for name in sorted(NAMES):
        answer = reader.get(f"/v2/notifications/schemas/{name}").json
        assert json.loads(answer["openapi_schema"])["info"]["title"] == name
    assert reader.get("/v2/notifications/schemas/message.added/versions/1.0", checked=False).status == 200


def test_a_window_of_another_time_is_empty(reader: Caller) -> None:
    assert reader.get(MESSAGES, **WEEK).json["items"] == []
    assert reader.get(OPERATIONS, **WEEK).json["items"] == []


def test_a_request_is_refused_when_its_length_is_not_given(caller: Caller) -> None:
    headers = {"Authorization": f"Bearer {caller.token}", "Transfer-Encoding": "chunked"}

    assert caller.raw("POST", MESSAGES, headers, b"0\r\n\r\n").status == 400


def group_letter(caller: Caller, connection: int = 0) -> dict[str, object]:
    letter = caller.letter("Road closed.", connection)
    drivers = caller.server.world.drivers(str(letter["connection_id"]))
    del letter["recipient_id"]
    return letter | {"recipient_ids": [driver.id for driver in drivers[:3]]}
