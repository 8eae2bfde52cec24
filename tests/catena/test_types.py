"""Every body of the contract's examples, read by the type that fits it: as it is, with surprises, and with holes."""

import json
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from messaging.catena.errors import BadPayload, Problem
from messaging.catena.records import Record
from messaging.catena.types import (
    Connection,
    Fleet,
    Freshness,
    GroupMessage,
    Message,
    Operation,
    OperationLog,
    TspIntegrations,
    User,
    Webhook,
    WebhookCreated,
    WebhookLog,
    WebhookMetrics,
)
from messaging.catena.webhooks import Event, parse, record_type
from tests.catena.fake_catena import example
from tests.contract.validator import EXAMPLES

# An example's file name, up to its first status number, tells what the body is.
TYPES: dict[str, type[Record]] = {
    "connection_get": Connection,
    "connections_list": Connection,
    "data_freshness": Freshness,
    "fleet_get": Fleet,
    "fleets_list": Fleet,
    "group_message_create": Operation,
    "group_messages_list": GroupMessage,
    "message_create": Operation,
    "messages_list": Message,
    "resource_operation_get": Operation,
    "resource_operations_list": Operation,
    "tsp_get": TspIntegrations,
    "tsps_list": TspIntegrations,
    "user_get": User,
    "users_list": User,
    "webhook_activate": Webhook,
    "webhook_create": WebhookCreated,
    "webhook_get": Webhook,
    "webhook_logs": WebhookLog,
    "webhook_metrics": WebhookMetrics,
    "webhook_pause": Webhook,
    "webhook_update": Webhook,
    "webhooks_list": Webhook,
}
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))
EVENTS = [name for name in NAMES if name.startswith("event_") and name != "event_schema_200"]
# Bodies that this package writes, or reads without a record: each has a test of its own elsewhere.
ELSEWHERE = {
    "event_schema_200",
    "signature_vector",
    "token_200",
    "token_401",
    "webhook_replay_202",
    *(name for name in NAMES if "_request" in name or name.startswith("error_")),
}


def kind_of(name: str) -> str:
    return next(word for word in sorted(TYPES, key=len, reverse=True) if name.startswith(word))


RECORDS = [name for name in NAMES if name not in ELSEWHERE and name not in EVENTS]


def bodies_of(name: str) -> list[Any]:
    body = example(name)
    if isinstance(body, list):
        return body
    return list(body["items"]) if "items" in body else [body]


def surprised(value: Any) -> Any:
    """The same body as a later Catena may send it: a field more in every object, other words for every state."""
    if isinstance(value, list):
        return [surprised(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    words = {"status", "error_type", "operation_type", "share_level", "schedule_status", "resource", "source_name"}
    known = {
        name: "a_word_to_come" if name in words and isinstance(entry, str) else surprised(entry)
        for name, entry in value.items()
    }
    return {**known, "field_to_come": {"nested": [1, None]}}


def required_of(kind: type[Record]) -> list[str]:
    return [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]


def test_every_example_is_claimed_by_a_type_or_by_another_test() -> None:
    assert {kind_of(name) for name in RECORDS} == set(TYPES)
    assert set(RECORDS) | set(EVENTS) | ELSEWHERE == set(NAMES)


@pytest.mark.parametrize("name", RECORDS)
def test_an_example_is_read_with_the_values_it_holds(name: str) -> None:
    kind = TYPES[kind_of(name)]
    for body in bodies_of(name):
        record = kind.parse(body)
        for f in fields(kind):
            if f.name in ("raw", "logs"):
                continue
            assert plain(getattr(record, f.name)) == expected(f.name, body), f.name


def plain(value: object) -> object:
    if isinstance(value, datetime):
        return value
    if isinstance(value, tuple):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, UUID) else value


def expected(name: str, body: dict[str, Any]) -> object:
    value = body.get(name)
    if name in ("recipient_ids", "source_recipient_ids") and value is None:
        return []
    if name == "occurred_at" and value is None:
        value = body["created_at"]
    if name.endswith("_at") and value is not None:
        return datetime.strptime(value.replace("Z", "+00:00"), formats(value)).astimezone(UTC)
    return value


def formats(value: str) -> str:
    return "%Y-%m-%dT%H:%M:%S.%f%z" if "." in value else "%Y-%m-%dT%H:%M:%S%z"


@pytest.mark.parametrize("name", RECORDS)
def test_unknown_fields_and_words_survive(name: str) -> None:
    kind = TYPES[kind_of(name)]
    for body in map(surprised, bodies_of(name)):
        record = kind.parse(body)
        if kind is not User:
            assert record.raw["field_to_come"] == {"nested": [1, None]}
        for word in ("status", "operation_type", "share_level", "schedule_status", "resource"):
            if isinstance(body.get(word), str) and hasattr(record, word):
                assert (getattr(record, word), record.raw[word]) == ("a_word_to_come", "a_word_to_come")


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("hole", ["missing", "null", "of another type"])
def test_a_hole_in_a_required_field_is_a_bad_payload_that_names_it(name: str, hole: str) -> None:
    kind = TYPES[kind_of(name)]
    body = bodies_of(name)[0] if bodies_of(name) else example("messages_list_200")["items"][0]
    for required in required_of(kind):
        if required == "occurred_at":
            continue
        broken = {key: value for key, value in body.items() if key != required}
        if hole != "missing":
            broken[required] = None if hole == "null" else [7]
        with pytest.raises(BadPayload) as caught:
            kind.parse(broken, "items[4]")
        assert caught.value.path == f"items[4].{required}"
        assert required in str(caught.value)


@pytest.mark.parametrize("odd", [None, [7], {"a": 1}, 7, True, "", "text", "\x00"])
@pytest.mark.parametrize("kind", sorted(set(TYPES.values()), key=str))
def test_an_optional_field_of_another_type_never_crashes_a_reader(kind: type[Record], odd: object) -> None:
    name = next(name for name in RECORDS if TYPES[kind_of(name)] is kind and bodies_of(name))
    body = bodies_of(name)[0]
    optional = [f.name for f in fields(kind) if f.name != "raw" and f.name not in required_of(kind)]
    whole = kind.parse(body)
    broken = kind.parse({**body, **dict.fromkeys(optional, odd)})
    for required in set(required_of(kind)) - {"occurred_at"}:
        assert getattr(broken, required) == getattr(whole, required)


@pytest.mark.parametrize("body", [None, [], "text", 7])
def test_a_body_that_is_no_object_is_a_bad_payload(body: object) -> None:
    with pytest.raises(BadPayload, match="is not an object"):
        Fleet.parse(body)


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("change", [lambda body: body, surprised], ids=["as is", "surprised"])
def test_the_records_of_an_event_are_read_one_by_one(name: str, change: Any) -> None:
    event = parse(json.dumps(change(example(name))).encode())
    assert isinstance(event, Event)
    kind = record_type(event.event_name)
    assert kind is not None
    assert event.data
    for record in event.data:
        assert str(kind.parse(record).id) == record["id"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("occurred", [{}, {"occurred_at": None}, {"occurred_at": "yesterday"}])
def test_a_message_of_unknown_time_happened_when_it_was_stored(occurred: dict[str, object]) -> None:
    body = {key: value for key, value in example("messages_list_200")["items"][0].items() if key != "occurred_at"}
    message = Message.parse({**body, **occurred})
    assert message.occurred_at == message.created_at


def test_credentials_of_a_connection_are_never_kept() -> None:
    connection = Connection.parse(example("connection_get_200"))
    assert "credentials" in example("connection_get_200")
    assert "credentials" not in connection.raw


def test_only_what_is_shown_of_a_person_is_kept() -> None:
    body = {**example("user_get_200"), "user_email": "x@example.test", "license_number": "L-1", "notes": "private"}
    kept = set(User.parse(body).raw)
    assert kept == set(body) & ({f.name for f in fields(User)} | {"fleet_ref", "tsp_id", "tsp_slug"})
    assert not kept & {"user_email", "license_number", "notes", "source_data"}


@pytest.mark.parametrize("name", ["messages_list_200", "users_list_200", "resource_operations_list_200"])
def test_texts_and_names_stay_out_of_repr(name: str) -> None:
    private = {"message_text", "sender_name", "recipient_name", "first_name", "last_name", "username", "phone_number"}
    for body in bodies_of(name):
        words = repr(TYPES[kind_of(name)].parse(body))
        for field_name in private:
            value = {**body, **body.get("payload", {})}.get(field_name)
            assert value is None or f"'{value}'" not in words


def test_an_unreadable_attempt_does_not_hide_the_operation() -> None:
    body = example("resource_operation_get_200_failed")
    operation = Operation.parse({**body, "logs": ["odd", {"id": 7}, *body["logs"]]})
    assert [str(log.id) for log in operation.logs] == [log["id"] for log in body["logs"]]
    assert len(operation.raw["logs"]) == len(body["logs"]) + 2


def test_headers_of_an_attempt_are_texts_or_absent() -> None:
    body = example("resource_operation_get_200_failed")["logs"][0]
    assert OperationLog.parse({**body, "response_headers": None}).response_headers == {}
    assert OperationLog.parse({**body, "response_headers": {"A": "b", "C": 7}}).response_headers == {"A": "b"}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-05-12T14:03:22Z", datetime(2026, 5, 12, 14, 3, 22, tzinfo=UTC)),
        ("2026-05-12T16:03:22.123456789+02:00", datetime(2026, 5, 12, 14, 3, 22, 123456, tzinfo=UTC)),
        ("2026-05-12T14:03:22", datetime(2026, 5, 12, 14, 3, 22, tzinfo=UTC)),
        ("2026-05-12", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("2026-13-40T00:00:00Z", None),
        (1_778_594_602, None),
    ],
)
def test_times_are_read_as_utc_or_not_at_all(text: object, moment: datetime | None) -> None:
    body = {**example("messages_list_200")["items"][0], "delivered_at": text}
    assert Message.parse(body).delivered_at == moment


@pytest.mark.parametrize("number", [True, 2**40, 10**400, 1.5, "200"])
def test_a_status_code_that_no_column_can_hold_is_unknown(number: object) -> None:
    body = example("resource_operation_get_200_failed")["logs"][1]
    assert OperationLog.parse({**body, "response_status_code": number}).response_status_code is None


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("error_")])
def test_an_error_body_is_read_for_what_it_holds(name: str) -> None:
    body = example(name)
    problem = Problem.parse(body)
    assert (problem.code, problem.message, problem.detail) == (
        body.get("code"),
        body.get("message"),
        body.get("detail"),
    )
