"""Subscriptions, deliveries, their signature, their retries, and the circuit breaker."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from messaging.simulator import Fault, World, changes
from messaging.simulator.webhooks import sign
from tests.contract.validator import EXAMPLES
from tests.simulator.caller import GROUPS, WEBHOOKS, Caller, eventually
from tests.simulator.receiver import Receiver
from tests.simulator.test_answers import group_letter

SECRET = "a-secret-of-32-characters-exactly"


@pytest.fixture
def subscribe(caller: Caller, receiver: Receiver) -> Any:
    def make(event_name: str, **changes: object) -> dict[str, Any]:
        body = {"url": receiver.url, "event_name": event_name, "secret": SECRET, **changes}
        reply = caller.call("POST", WEBHOOKS, body)
        assert reply.status == 200
        return reply.json if isinstance(reply.json, dict) else reply.json[0]

    return make


def test_the_signature_equals_the_vector_of_the_contract() -> None:
    vector = json.loads((EXAMPLES / "signature_vector.json").read_text())

    made = sign(vector["secret"], vector["x_catena_timestamp"], vector["uncompressed_body"].encode())

    assert made == vector["x_catena_signature"]


def test_every_delivery_fits_the_contract_and_is_signed(caller: Caller, receiver: Receiver, subscribe: Any) -> None:
    for name in ("resource_operation.*", "message.*", "group_message.*"):
        subscribe(name)
    caller.send("A good one")
    caller.send("A bad one #fail-network")
    caller.call("POST", GROUPS, group_letter(caller))

    eventually(lambda: len({one.name for one in receiver.deliveries}) == 7)
    for one in receiver.deliveries:
        one.check(caller.contract)
        signed = one.headers["X-Catena-Timestamp"].encode() + b"." + one.body
        expected = base64.b64encode(hmac.digest(SECRET.encode(), signed, hashlib.sha256)).decode()
        assert one.headers["X-Catena-Signature"] == expected
        assert one.headers["User-Agent"] == "Catena-Webhook"
        assert one.json["webhook_id"] == one.headers["X-Webhook-ID"]
        assert "thread_id" not in one.json["data"][0] or one.name.startswith("group")


def test_the_events_of_one_send_tell_its_whole_story(caller: Caller, receiver: Receiver, subscribe: Any) -> None:
    for name in ("resource_operation.*", "message.*"):
        subscribe(name)
    receipt = caller.send().json

    eventually(lambda: len(receiver.deliveries) == 5)

    created = receiver.named("resource_operation.created")[0].json["data"][0]
    succeeded = receiver.named("resource_operation.succeeded")[0].json["data"][0]
    added = receiver.named("message.added")[0].json["data"][0]
    assert (created["id"], created["status"]) == (receipt["id"], "pending")
    assert (succeeded["id"], succeeded["resource_id"]) == (receipt["id"], added["id"])
    assert {one.json["data"][0]["status"] for one in receiver.named("message.modified")} == {"delivered", "read"}


def test_a_synchronous_send_emits_no_operation_event(caller: Caller, receiver: Receiver, subscribe: Any) -> None:
    subscribe("resource_operation.*")
    caller.call("POST", "/v2/telematics/messages?is_sync=true", caller.letter())
    receipt = caller.send().json

    eventually(lambda: len(receiver.deliveries) == 2)

    assert {one.json["data"][0]["id"] for one in receiver.deliveries} == {receipt["id"]}


def test_changes_from_outside_are_announced(caller: Caller, world: World, receiver: Receiver, subscribe: Any) -> None:
    names = ("connection.*", "fleet_connection.*", "share_agreement.updated", "schedule.deactivated", "user.*")
    for name in names:
        subscribe(name)
    connection, fleet = next(iter(world.connections)), next(iter(world.fleets))
    with world.lock:
        changes.set_connection_status(world, connection, "stale")
        changes.set_share_level(world, connection, "read")
        changes.deactivate_schedule(world, connection, "message")
        changes.add_connection(world, fleet, "geotab", "New account")
        driver = changes.add_driver(world, connection, "Nia", "Adeyemi")
        changes.change_user(world, driver.id, "SUSPENDED")
        changes.remove_user(world, driver.id)

    eventually(lambda: len(receiver.deliveries) == 8)

    for one in receiver.deliveries:
        one.check(caller.contract)
    assert receiver.named("connection.staled")[0].json["data"][0]["status"] == "stale"
    assert receiver.named("user.removed")[0].json["data"][0]["deleted_at"] is not None
    assert caller.send().status == 403


def test_a_failed_delivery_is_repeated_with_the_same_event_id(
    caller: Caller, receiver: Receiver, subscribe: Any
) -> None:
    subscribe("resource_operation.created")
    receiver.statuses = [503, 500]
    caller.send()

    eventually(lambda: len(receiver.deliveries) == 3)

    assert len({one.json["id"] for one in receiver.deliveries}) == 1
    assert len({one.headers["X-Request-ID"] for one in receiver.deliveries}) == 3
    assert [one.headers["X-Delivery-Attempt"] for one in receiver.deliveries] == ["1", "2", "3"]


def test_after_three_failures_the_event_waits_for_a_replay(caller: Caller, receiver: Receiver, subscribe: Any) -> None:
    webhook = subscribe("resource_operation.created")
    receiver.statuses = [503, 503, 503]
    caller.send()
    path = f"{WEBHOOKS}/{webhook['id']}"
    eventually(lambda: caller.get(f"{path}/metrics").json["dlq_count"] == 1)

    assert caller.call("POST", f"{path}/replay").status == 202

    eventually(lambda: len(receiver.deliveries) == 4)
    assert len({one.json["id"] for one in receiver.deliveries}) == 1
    assert caller.get(f"{path}/metrics").json["dlq_count"] == 0


@pytest.mark.parametrize("status", [401, 404, 302])
def test_an_answer_that_is_no_5xx_is_never_repeated(
    caller: Caller, world: World, receiver: Receiver, subscribe: Any, status: int
) -> None:
    webhook = subscribe("resource_operation.created")
    receiver.statuses = [status]
    caller.send()

    eventually(lambda: world.webhook_logs.get(webhook["id"]))

    eventually(lambda: len(world.agenda) == 0)
    assert len(receiver.deliveries) == 1
    assert world.dead_letters.get(webhook["id"]) in (None, [])
    assert [one.status for one in world.webhook_logs[webhook["id"]]] == ["failed"]


def test_a_receiver_that_does_not_answer_in_time_counts_as_failed(
    caller: Caller, world: World, receiver: Receiver, subscribe: Any
) -> None:
    world.pace.webhook_timeout = 0.05
    webhook = subscribe("resource_operation.created")
    receiver.flowing.clear()
    caller.send()

    eventually(lambda: len(world.dead_letters.get(webhook["id"], ())) == 1)

    logs = caller.get(f"{WEBHOOKS}/{webhook['id']}/logs").json["items"]
    assert [one["status_code"] for one in logs] == [0, 0, 0]
    assert "imed" in logs[0]["error_message"]


def test_logs_and_metrics_tell_what_was_delivered(caller: Caller, receiver: Receiver, subscribe: Any) -> None:
    webhook = subscribe("resource_operation.created")
    receiver.statuses = [500]
    caller.send()
    path = f"{WEBHOOKS}/{webhook['id']}"
    eventually(lambda: len(caller.get(f"{path}/logs").json["items"]) == 2)

    figures = caller.get(f"{path}/metrics").json

    assert [one["status"] for one in caller.get(f"{path}/logs").json["items"]] == ["failed", "success"]
    assert len(caller.get(f"{path}/logs", status="failed").json["items"]) == 1
    assert len(caller.get(f"{path}/logs", end_date="2020-01-01T00:00:00Z").json["items"]) == 0
    assert figures["http_attempts"]["6h"] == 2
    assert figures["message_success_count"]["24h"] == 1
    assert figures["success_rate"]["14d"] == 50


@pytest.mark.parametrize(
    ("kind", "expected"), [("webhook_duplicate", 3), ("webhook_lost", 1), ("webhook_reordered", 2), ("webhook_late", 2)]
)
def test_deliveries_can_be_doubled_lost_reordered_and_late(
    caller: Caller, world: World, receiver: Receiver, subscribe: Any, kind: str, expected: int
) -> None:
    subscribe("resource_operation.*")
    world.faults.add(Fault(kind, event_name="resource_operation.created", seconds=0.6))
    caller.send()

    eventually(lambda: len(receiver.deliveries) == expected)

    names = [one.name for one in receiver.deliveries]
    if kind in ("webhook_reordered", "webhook_late"):
        assert names == ["resource_operation.succeeded", "resource_operation.created"]
    else:
        assert names.count("resource_operation.created") == expected - 1


def test_a_wildcard_answers_with_one_subscription_per_event(caller: Caller, receiver: Receiver) -> None:
    made = caller.call("POST", WEBHOOKS, {"url": receiver.url, "event_name": "message.*"}).json

    assert [one["event_name"] for one in made] == ["message.added", "message.modified"]
    assert len({one["secret"] for one in made}) == 1
    assert len(made[0]["secret"]) >= 32
    assert caller.get(WEBHOOKS, event_name="message.added").json["items"][0]["id"] == made[0]["id"]


def test_a_subscription_is_masked_changed_paused_activated_and_removed(
    caller: Caller, receiver: Receiver, subscribe: Any
) -> None:
    webhook = subscribe("message.added")
    path = f"{WEBHOOKS}/{webhook['id']}"

    shown = caller.get(path).json
    assert (webhook["secret"], shown["secret"]) == (SECRET, "*****")
    assert shown["url"].endswith("/*****")
    assert caller.call("PATCH", path, {"secret": "short"}).status == 422
    assert caller.call("PATCH", path, {"filters": {"fleet_refs": ["BLUE-0042"]}}).json["filters"] is not None
    assert caller.call("POST", f"{path}/pause").json["status"] == "paused"
    assert caller.get(WEBHOOKS, status="paused").json["items"][0]["id"] == webhook["id"]
    assert caller.call("POST", f"{path}/activate").json["status"] == "active"
    assert caller.call("DELETE", path).status == 204
    assert caller.get(path).status == 404


def test_a_new_secret_signs_from_that_moment_on(caller: Caller, receiver: Receiver, subscribe: Any) -> None:
    webhook = subscribe("resource_operation.created")
    caller.call("PATCH", f"{WEBHOOKS}/{webhook['id']}", {"secret": "another-secret-for-signing"})
    caller.send()

    eventually(lambda: receiver.deliveries)

    one = receiver.deliveries[0]
    expected = sign("another-secret-for-signing", one.headers["X-Catena-Timestamp"], one.body)
    assert one.headers["X-Catena-Signature"] == expected


def test_the_same_subscription_twice_is_a_409(caller: Caller, receiver: Receiver, subscribe: Any) -> None:
    subscribe("message.added")

    assert caller.call("POST", WEBHOOKS, {"url": receiver.url, "event_name": "message.added"}).status == 409
    assert caller.call("POST", WEBHOOKS, {"url": receiver.url, "event_name": "message.*"}).status == 409
    assert caller.call("POST", WEBHOOKS, {"url": receiver.url, "event_name": "message.modified"}).status == 200


@pytest.mark.parametrize(
    "body",
    [
        {"url": "https://dash.example/hooks", "event_name": "message.exploded"},
        {"url": "https://dash.example/hooks"},
        {"url": "http://dash.example/hooks", "event_name": "message.added"},
        {"url": "", "event_name": "message.added"},
        {"url": "https://" + "x" * 2083, "event_name": "message.added"},
        {"url": "https://dash.example/hooks", "event_name": "message.added", "filters": {"fleet_ids": ["x"]}},
        {"url": "https://dash.example/hooks", "event_name": "message.added", "filters": []},
        {"url": "https://dash.example/hooks", "event_name": "message.added", "secret": 5},
    ],
)
def test_a_subscription_that_makes_no_sense_is_a_422(caller: Caller, body: dict[str, object]) -> None:
    assert caller.call("POST", WEBHOOKS, body).status == 422


def test_filters_let_only_their_fleets_through(
    caller: Caller, world: World, receiver: Receiver, subscribe: Any
) -> None:
    fleet = world.fleet_of(list(world.connections)[2])
    subscribe("resource_operation.created", filters={"fleet_refs": [fleet.fleet_ref], "fleet_ids": [fleet.id]})
    caller.send("other fleet")
    expected = caller.send("this fleet", connection=2).json["id"]

    eventually(lambda: receiver.deliveries)

    assert [one.json["data"][0]["id"] for one in receiver.deliveries] == [expected]


def test_the_breaker_makes_a_failing_subscription_stale_and_says_so(
    caller: Caller, world: World, receiver: Receiver, subscribe: Any
) -> None:
    world.pace.breaker_grace = 0
    subscribe("webhook.staled")
    webhook = subscribe("resource_operation.created")
    receiver.statuses = [400] * 10
    for _ in range(10):
        caller.send()

    path = f"{WEBHOOKS}/{webhook['id']}"
    eventually(lambda: caller.get(path).json["status"] == "stale")
    eventually(lambda: receiver.named("webhook.staled"))

    receiver.named("webhook.staled")[0].check(caller.contract)
    caller.send("while stale")
    assert caller.get(f"{path}/metrics").json["dlq_count"] == 1
    world.pace.breaker_grace = 900
    assert caller.call("POST", f"{path}/activate").json["status"] == "active"
    caller.call("POST", f"{path}/replay")
    eventually(lambda: len(receiver.named("resource_operation.created")) == 11)
