"""The life of a write, from its acceptance to its end and to the message record."""

from datetime import UTC, datetime, timedelta

import pytest

from messaging.simulator import Pace, SimulatorServer, World
from tests.simulator.caller import CONNECTIONS, GROUPS, MESSAGES, OPERATIONS, Caller, eventually
from tests.simulator.test_answers import group_letter


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 5, 12, 14, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


def test_an_asynchronous_send_is_pending_first_and_then_succeeds(caller: Caller, world: World) -> None:
    letter = caller.letter("Gate B please.", priority="high")
    reply = caller.call("POST", f"{MESSAGES}?is_sync=false", letter)

    assert reply.status == 202
    assert (reply.json["status"], reply.json["resource_id"], reply.json["logs"]) == ("pending", None, [])
    assert reply.json["payload"].items() >= letter.items()
    assert reply.json["payload"]["source_recipient_id"] == world.users[str(letter["recipient_id"])].source_id

    ended = caller.ended(reply.json)
    assert ended["status"] == "success"
    assert [log["status"] for log in ended["logs"]] == ["success"]
    assert ended["logs"][0]["resource_operation_id"] == ended["id"]


def test_a_sent_message_is_listed_under_the_resource_id_of_its_operation(caller: Caller) -> None:
    ended = caller.ended(caller.send("Dock 9.").json)

    newest = caller.get(MESSAGES, sort_order="desc", size=1, include_source_data="true").json["items"][0]

    assert newest["id"] == ended["resource_id"]
    assert newest["source_id"] == ended["source_id"]
    assert newest["message_text"] == "Dock 9."
    assert newest["sent_by_driver"] is False
    assert newest["sender_id"] == ended["payload"]["sender_id"]


def test_a_reply_keeps_its_link_to_the_message_it_answers(caller: Caller, world: World) -> None:
    healthy = next(iter(world.connections))
    said = next(one for one in world.messages.values() if one.sent_by_driver and one.connection_id == healthy)
    reply = caller.send("Yes.", recipient_id=said.sender_id, reply_to_message_id=said.id)
    assert reply.status == 202

    ended = caller.ended(reply.json)

    newest = caller.get(MESSAGES, sort_order="desc", size=1).json["items"][0]
    assert ended["payload"]["source_reply_to_message_id"] == said.source_id
    assert newest["reply_to_message_id"] == said.id
    assert newest["source_reply_to_message_id"] == said.source_id


def test_a_synchronous_send_answers_with_its_end(caller: Caller, world: World) -> None:
    good = caller.call("POST", f"{MESSAGES}?is_sync=true", caller.letter("Now."))
    bad = caller.call("POST", f"{MESSAGES}?is_sync=true", caller.letter("Now. #fail-tsp"))

    assert (good.status, good.json["status"]) == (200, "success")
    assert good.json["resource_id"] in world.messages
    assert (bad.status, bad.json["status"], bad.json["resource_id"]) == (502, "failed", None)
    assert len(bad.json["logs"]) == 1


def test_a_group_message_becomes_one_record_for_all(caller: Caller) -> None:
    letter = group_letter(caller)

    ended = caller.ended(caller.call("POST", GROUPS, letter).json)

    found = caller.get(GROUPS).json["items"]
    assert ended["resource"] == "group_message"
    assert [one["id"] for one in found] == [ended["resource_id"]]
    assert found[0]["recipient_ids"] == letter["recipient_ids"]
    assert caller.get(GROUPS, group_ids=found[0]["group_id"]).json["total"] == 1
    assert caller.get(GROUPS, source_group_ids="grp_0").json["total"] == 0
    assert caller.get(MESSAGES, sort_order="desc", size=1).json["items"][0]["id"] != ended["resource_id"]


@pytest.mark.parametrize(
    ("word", "error_type", "code", "tries"),
    [
        ("#fail-tsp", "tsp", 503, 3),
        ("#fail-auth", "auth", 401, 3),
        ("#fail-network", "network", None, 3),
        ("#fail-validation", "validation", 422, 1),
    ],
)
def test_a_magic_word_makes_every_try_fail(
    caller: Caller, word: str, error_type: str, code: int | None, tries: int
) -> None:
    ended = caller.ended(caller.send(f"Hello {word}").json)

    assert (ended["status"], ended["resource_id"]) == ("failed", None)
    assert [log["error_type"] for log in ended["logs"]] == [error_type] * tries
    assert {log["response_status_code"] for log in ended["logs"]} == {code}


def test_the_word_retry_fails_twice_and_then_succeeds(caller: Caller) -> None:
    ended = caller.ended(caller.send("Hello #retry").json)

    assert ended["status"] == "success"
    assert [log["status"] for log in ended["logs"]] == ["failed", "failed", "success"]


def test_magic_words_are_plain_text_when_they_are_switched_off() -> None:
    with SimulatorServer(World(pace=Pace.instant(), magic_words=False)) as server:
        caller = Caller(server).sign_in()
        assert caller.ended(caller.send("#fail-tsp #refuse #unknown").json)["status"] == "success"


def test_a_stale_connection_accepts_a_message_and_fails_it(caller: Caller) -> None:
    ended = caller.ended(caller.send(connection=3).json)

    assert ended["status"] == "failed"
    assert {log["error_type"] for log in ended["logs"]} == {"auth"}


def test_a_recipient_who_left_fails_the_operation(caller: Caller, world: World) -> None:
    inactive = next(user for user in world.users.values() if user.status == "INACTIVE")
    index = list(world.connections).index(inactive.connection_id)
    world.connections[inactive.connection_id].status = "active"

    ended = caller.ended(caller.send(connection=index, recipient_id=inactive.id).json)

    assert ended["logs"][0]["error_details"] == "Recipient is not active"


@pytest.mark.parametrize("text", ["", None, "x" * 2501])
def test_a_text_that_the_provider_cannot_take_fails_the_operation(caller: Caller, text: str | None) -> None:
    ended = caller.ended(caller.call("POST", MESSAGES, caller.letter() | {"message_text": text}).json)

    assert [log["error_type"] for log in ended["logs"]] == ["validation"]


def test_the_log_fills_try_by_try_while_the_operation_is_pending() -> None:
    clock = Clock()
    world = World(now=clock, pace=Pace(queue_delay=(2, 2), attempt_gap=(5, 5), ingest_interval=0))
    with SimulatorServer(world) as server:
        caller = Caller(server).sign_in()
        receipt = caller.send("#retry").json
        seen = []
        for seconds in (1.0, 1.5, 5.0, 5.0):
            clock.forward(seconds)
            world.tick()
            operation = caller.operation(receipt)
            seen.append((operation["status"], len(operation["logs"])))

    assert seen == [("pending", 0), ("pending", 1), ("pending", 2), ("success", 3)]


def test_a_slow_message_stays_pending_until_its_time_has_come() -> None:
    clock = Clock()
    world = World(now=clock, pace=Pace.instant())
    with SimulatorServer(world) as server:
        caller = Caller(server).sign_in()
        receipt = caller.send("Take your time #slow").json
        clock.forward(world.pace.slow_delay - 1)
        world.tick()
        assert caller.operation(receipt)["status"] == "pending"
        clock.forward(2)
        world.tick()
        assert caller.sign_in().operation(receipt)["status"] == "success"


def test_an_operation_appears_in_lists_after_the_delay_and_can_be_read_at_once() -> None:
    clock = Clock()
    world = World(now=clock, pace=Pace.instant())
    world.pace.list_delay = 30
    with SimulatorServer(world) as server:
        caller = Caller(server).sign_in()
        receipt = caller.send().json
        clock.forward(29)
        assert caller.get(OPERATIONS).json["items"] == []
        assert caller.operation(receipt)["id"] == receipt["id"]
        clock.forward(2)
        assert [one["id"] for one in caller.get(OPERATIONS).json["items"]] == [receipt["id"]]


def test_data_freshness_tells_where_messages_may_be_written(caller: Caller, world: World) -> None:
    entries = caller.get(f"{CONNECTIONS}/data-freshness").json
    levels = {one["connection_id"]: one["share_level"] for one in entries if one["resource"] == "message"}
    stale = {one["connection_id"] for one in entries if one["schedule_status"] == "stale"}

    assert list(levels.values()) == ["read_write"] * 5 + ["read"]
    assert stale == {one.id for one in world.connections.values() if one.status == "stale"}
    assert len(caller.get(f"{CONNECTIONS}/data-freshness", fleet_refs="BLUE-0042").json) == len(entries) // 3


def test_every_accepted_write_is_journalled_once_and_every_try_counted(caller: Caller, world: World) -> None:
    receipts = [caller.send(f"Number {number}").json for number in range(5)]
    caller.send(recipient_id="nobody")

    assert [entry.operation_id for entry in world.journal] == [receipt["id"] for receipt in receipts]
    assert [entry.sequence for entry in world.journal] == [1, 2, 3, 4, 5]
    assert world.journal[0].message_text == "Number 0"
    assert world.posts_seen == 6
    eventually(lambda: all(operation.status == "success" for operation in world.operations.values()))
