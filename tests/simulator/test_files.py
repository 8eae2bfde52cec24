"""The journal and the state file: what survives a restart, and what survives a crash."""

import json
from pathlib import Path
from threading import Thread

from messaging.simulator import Pace, SimulatorServer, World
from tests.simulator.caller import WEBHOOKS, Caller
from tests.simulator.test_operations import Clock


def test_a_restart_continues_with_the_same_people_messages_and_operations(tmp_path: Path) -> None:
    clock, state = Clock(), tmp_path / "state.jsonl"
    with SimulatorServer(World(now=clock, pace=Pace.instant()), state=state) as server:
        caller = Caller(server).sign_in()
        first_world = server.world
        done = caller.ended(caller.send("Done before").json)
        first_world.pace.queue_delay = (5, 5)
        pending = caller.send("Pending at the end").json
        webhook = caller.call("POST", WEBHOOKS, {"url": "https://dash.example/", "event_name": "message.added"}).json
        removed = caller.call("POST", WEBHOOKS, {"url": "https://dash.example/x", "event_name": "message.added"}).json
        caller.call("DELETE", f"{WEBHOOKS}/{removed['id']}")

    clock.forward(3600)
    world = World(now=clock, pace=Pace.instant())
    with SimulatorServer(world, state=state) as server:
        caller = Caller(server).sign_in()
        ended = caller.ended(pending)
        assert caller.operation(done) == done
        assert [one["id"] for one in caller.get(WEBHOOKS).json["items"]] == [webhook["id"]]

    assert ended["status"] == "success"
    assert world.began == first_world.began
    assert world.users == first_world.users
    assert set(world.messages) == set(first_world.messages) | {ended["resource_id"]}
    seeded = [key for key in first_world.messages if key != done["resource_id"]]
    assert {key: world.messages[key] for key in seeded} == {key: first_world.messages[key] for key in seeded}


def test_receipts_that_were_due_come_after_the_restart(tmp_path: Path) -> None:
    clock, state = Clock(), tmp_path / "state.jsonl"
    with SimulatorServer(World(now=clock, pace=Pace.instant()), state=state) as server:
        server.world.pace.receipt_delay = (60, 60)
        ended = Caller(server).sign_in().ended(Caller(server).sign_in().send().json)

    world = World(now=clock, pace=Pace.instant())
    with SimulatorServer(world, state=state):
        world.tick()
        assert world.messages[ended["resource_id"]].status == "read"


def test_half_a_line_at_the_end_of_the_state_does_no_harm(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    with SimulatorServer(World(pace=Pace.instant()), state=state) as server:
        ended = Caller(server).sign_in().ended(Caller(server).sign_in().send().json)
    with state.open("a") as file:
        file.write('{"kind": "operation", "id": "cut')

    with SimulatorServer(World(pace=Pace.instant()), state=state) as server:
        assert Caller(server).sign_in().operation(ended) == ended


def test_the_journal_is_on_disk_before_the_answer_and_is_continued(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    for run in range(2):
        with SimulatorServer(World(pace=Pace.instant()), journal=journal) as server:
            caller = Caller(server).sign_in()
            for _ in range(3):
                receipt = caller.send(f"Run {run}").json
                last = json.loads(journal.read_text().splitlines()[-1])
                assert (last["operation_id"], last["message_text"]) == (receipt["id"], f"Run {run}")
            assert len(server.world.journal) == 3 * (run + 1)

    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line["sequence"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_concurrent_writers_lose_and_repeat_no_line(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    accepted: list[str] = []
    with SimulatorServer(World(pace=Pace.instant()), journal=journal) as server:
        token = Caller(server).sign_in().token

        def write() -> None:
            caller = Caller(server)
            caller.token = token
            accepted.extend(caller.send(checked=False).json["id"] for _ in range(25))

        threads = [Thread(target=write) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert sorted(line["operation_id"] for line in lines) == sorted(accepted)
    assert [line["sequence"] for line in lines] == list(range(1, 151))


def test_a_world_can_be_served_again_on_the_same_port_and_goes_on(tmp_path: Path) -> None:
    clock, journal = Clock(), tmp_path / "journal.jsonl"
    world = World(now=clock, pace=Pace(queue_delay=(5, 5)))
    with SimulatorServer(world, journal=journal) as server:
        caller, port = Caller(server).sign_in(), int(server.url.rsplit(":", 1)[1])
        receipt = caller.send("Before the outage").json

    clock.forward(6)
    with SimulatorServer(world, port=port, journal=journal) as server:
        ended = Caller(server).sign_in().ended(receipt)

    assert [log["status"] for log in ended["logs"]] == ["success"]
    assert [entry.operation_id for entry in world.journal] == [receipt["id"]]


def test_a_server_that_was_never_started_can_be_stopped() -> None:
    server = SimulatorServer(World())

    server.stop()

    with SimulatorServer(World(), port=int(server.url.rsplit(":", 1)[1])) as other:
        assert other.url == server.url
