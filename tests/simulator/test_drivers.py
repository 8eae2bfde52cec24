"""Receipts, answers and unprompted messages, and when Catena gets to know of them."""

from random import Random

import pytest

from messaging.simulator import Pace, SimulatorServer, World
from messaging.simulator.drivers import answer_to
from tests.simulator.caller import CONNECTIONS, MESSAGES, Caller, eventually
from tests.simulator.test_operations import Clock


def record(caller: Caller, resource_id: str) -> dict[str, object]:
    items = caller.get(MESSAGES, sort_order="desc").json["items"]
    return next(item for item in items if item["id"] == resource_id)


@pytest.mark.parametrize(("connection", "end"), [(0, "read"), (1, "read"), (2, "sent"), (4, "delivered")])
def test_a_message_gets_the_receipts_that_its_provider_reports(caller: Caller, connection: int, end: str) -> None:
    ended = caller.ended(caller.send(connection=connection).json)

    eventually(lambda: record(caller, ended["resource_id"])["status"] == end)

    found = record(caller, ended["resource_id"])
    assert (found["delivered_at"] is not None) == (end != "sent")
    assert (found["read_at"] is not None) == (end == "read")


def test_a_receipt_shows_at_the_next_poll_with_the_time_at_which_it_happened() -> None:
    clock = Clock()
    pace = Pace(queue_delay=(0, 0), receipt_delay=(7, 7), reply_chance=0, ingest_interval=60)
    world = World(now=clock, pace=pace)
    with SimulatorServer(world) as server:
        caller = Caller(server).sign_in()
        receipt = caller.send().json
        world.tick()
        resource_id = caller.operation(receipt)["resource_id"]
        clock.forward(59)
        world.tick()
        assert record(caller, resource_id)["status"] == "sent"
        clock.forward(2)
        world.tick()
        found = record(caller, resource_id)

    assert found["status"] == "delivered"
    assert found["delivered_at"] == "2026-05-12T14:00:07.000Z"
    assert found["updated_at"] == "2026-05-12T14:01:01.000Z"


def test_a_driver_answers_what_was_written_and_has_read_it_by_then() -> None:
    pace = Pace.instant()
    pace.reply_chance = 1.0
    with SimulatorServer(World(pace=pace)) as server:
        caller = Caller(server).sign_in()
        ended = caller.ended(caller.send("Please go to the south gate.").json)
        driver = ended["payload"]["recipient_id"]

        def answers() -> list[dict[str, object]]:
            return list(caller.get(MESSAGES, sender_ids=driver, sort_order="desc", size=1).json["items"])

        eventually(lambda: answers() and answers()[0]["occurred_at"] >= ended["created_at"])
        answer = answers()[0]
        eventually(lambda: record(caller, ended["resource_id"])["status"] == "read")

    assert "south gate" in str(answer["message_text"])
    assert answer["sent_by_driver"] is True
    assert answer["recipient_id"] == ended["payload"]["sender_id"]
    assert answer["reply_to_message_id"] in (None, ended["resource_id"])


def test_answers_take_up_what_was_asked() -> None:
    rng = Random(1)

    assert "17" in answer_to(rng, "Back into dock 17 please")
    assert answer_to(rng, "What is your ETA?") in (
        "About 40 minutes out.",
        "ETA one hour, traffic is light.",
        "20 miles to go.",
    )
    assert answer_to(rng, "Notice sent, thank you") in ("No problem.", "Any time.", "You bet.")
    assert answer_to(rng, "") != ""


def test_drivers_write_unprompted_when_the_world_is_lively() -> None:
    pace = Pace.instant()
    pace.chatter_interval = 0.01
    world = World(pace=pace)
    before = len(world.messages)
    with SimulatorServer(world):
        eventually(lambda: len(world.messages) > before + 2)

    newest = list(world.messages.values())[-1]
    assert newest.sent_by_driver
    assert world.connections[newest.connection_id].status == "active"


def test_the_story_is_a_week_of_coherent_conversations(world: World) -> None:
    messages = list(world.messages.values())
    pairs = {(one.connection_id, one.driver_id) for one in messages}

    assert 400 <= len(messages) <= 600
    assert len(pairs) > 50
    assert all("{" not in str(one.text) for one in messages)
    assert (world.began - min(one.occurred_at for one in messages)).days >= 6
    assert all(one.occurred_at <= one.created_at <= one.updated_at <= world.began for one in messages)
    assert {one.priority for one in messages} == {None, "low", "medium", "high"}
    for one in messages:
        if one.reply_to_id:
            said = world.messages[one.reply_to_id]
            assert said.driver_id == one.driver_id
            assert said.sent_by_driver != one.sent_by_driver
            assert said.occurred_at <= one.occurred_at


def test_the_world_has_the_people_it_promises(caller: Caller, world: World) -> None:
    connections = caller.get(CONNECTIONS).json["items"]
    drivers = [user for user in world.users.values() if user.is_driver]

    assert (len(world.fleets), len(connections), len(drivers)) == (3, 6, 60)
    assert len({one["source_name"] for one in connections}) == 4
    assert [one["status"] for one in connections].count("stale") == 1
    assert len([one for one in drivers if one.full_name is None]) == 3
    assert len([one for one in drivers if one.status == "INACTIVE"]) == 1
    assert len([one for one in drivers if one.deleted_at]) == 1
    assert all(1 <= len(world.dispatchers(connection)) <= 2 for connection in world.connections)


def test_the_same_seed_tells_the_same_world_and_another_seed_another() -> None:
    clock = Clock()

    assert World(seed=3, now=clock).messages == World(seed=3, now=clock).messages
    assert World(seed=3, now=clock).users == World(seed=3, now=clock).users
    assert not set(World(seed=3).users) & set(World(seed=4).users)
