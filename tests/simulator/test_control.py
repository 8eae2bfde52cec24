"""The control plane, and the command that starts a simulator."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from messaging.simulator import World
from messaging.simulator.exchange import Request
from messaging.simulator.server import controlled
from tests.simulator.caller import GROUPS, MESSAGES, MOMENT, Caller, Reply, eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture
def outsider(caller: Caller) -> Caller:
    """A caller without a token: the control plane asks for none."""
    caller.token = ""
    return caller


def control(caller: Caller, method: str, name: str, body: object = None) -> Reply:
    return caller.call(method, f"/_sim/{name}", body, checked=False)


def test_faults_are_added_and_cleared_from_outside(caller: Caller) -> None:
    several = [{"kind": "refused", "status": 409, "match": {"text": "x"}}, {"kind": "rate_limited", "times": 1}]

    assert control(caller, "POST", "faults", several).json == {"faults": 2}
    assert caller.send("y").status == 429
    assert caller.send("x").status == 409
    assert control(caller, "DELETE", "faults").status == 204
    assert caller.send("x").status == 202


@pytest.mark.parametrize("body", [{"kind": "gremlins"}, {"kind": "slow", "speed": 3}, "slow", [5], {}])
def test_a_fault_that_does_not_exist_is_a_422(outsider: Caller, body: object) -> None:
    assert control(outsider, "POST", "faults", body).status == 422


def test_an_office_can_be_made_to_write_to_a_group_and_to_withdraw_it(caller: Caller, world: World) -> None:
    told: list[str] = []
    world.listeners.append(lambda event: told.append(f"{event.name} {event.record['message_text']}"))
    connection_id = next(iter(world.connections))
    body = {"what": "group_message", "connection_id": connection_id, "text": "I-80 is closed", "recipients": 4}

    assert control(caller, "POST", "change", body).status == 204
    time.sleep(MOMENT)
    (listed,) = caller.get(GROUPS).json["items"]
    assert (listed["message_text"], len(listed["recipient_ids"]), listed["deleted_at"]) == ("I-80 is closed", 4, None)
    assert told == ["group_message.added I-80 is closed"]

    withdrawn = {"what": "message_withdrawn", "message_id": listed["id"]}
    assert control(caller, "POST", "change", withdrawn).status == 204
    (listed,) = caller.get(GROUPS).json["items"]
    assert listed["deleted_at"] == listed["updated_at"]
    assert len(told) == 1


def test_a_driver_can_be_made_to_write(caller: Caller, world: World) -> None:
    driver = world.users[next(one.sender_id for one in world.messages.values() if one.sent_by_driver)]
    said = next(one for one in world.messages.values() if one.driver_id == driver.id and not one.sent_by_driver)

    first = control(caller, "POST", "driver-message", {"user_id": driver.id, "text": "Here.", "reply_to": said.id})
    by_name = {"connection_id": driver.connection_id, "name": str(driver.full_name)[:4], "text": "Again."}
    second = control(caller, "POST", "driver-message", by_name)

    assert (first.status, second.status) == (200, 200)
    eventually(lambda: {first.json["id"], second.json["id"]} <= set(world.messages))
    time.sleep(MOMENT)
    newest = caller.get(MESSAGES, sort_order="desc", size=2).json["items"]
    assert {one["message_text"] for one in newest} == {"Here.", "Again."}
    assert {one["reply_to_message_id"] for one in newest} == {said.id, None}
    assert control(caller, "POST", "driver-message", {"user_id": "nobody", "text": "Boo"}).status == 404
    assert control(caller, "POST", "driver-message", {"user_id": driver.id, "reply_to": "none"}).status == 422


def test_the_journal_and_figures_can_be_read(caller: Caller) -> None:
    receipt = caller.send("Count me").json
    caller.ended(receipt)

    assert [one["operation_id"] for one in control(caller, "GET", "journal").json] == [receipt["id"]]
    stats = control(caller, "GET", "stats").json
    assert (stats["posts_seen"], stats["accepted"], stats["operations"]) == (1, 1, {"success": 1})
    assert stats["requests"][f"POST {MESSAGES}"] == 1


def test_tokens_can_be_expired_and_the_pace_changed(caller: Caller, world: World) -> None:
    assert control(caller, "POST", "pace", {"queue_delay": [9, 9], "max_attempts": 5}).status == 204
    assert (world.pace.queue_delay, world.pace.max_attempts) == ((9, 9), 5)
    assert control(caller, "POST", "pace", {"speed": 9}).status == 422
    assert control(caller, "POST", "expire-tokens").status == 204
    assert caller.get(MESSAGES).status == 401


def test_the_world_can_be_changed_from_outside(caller: Caller, world: World) -> None:
    connection = next(iter(world.connections))
    change = {"what": "connection_status", "connection_id": connection, "status": "paused"}

    assert control(caller, "POST", "change", change).status == 204
    assert caller.send().status == 409
    assert control(caller, "POST", "change", change | {"connection_id": "none"}).status == 404
    assert control(caller, "POST", "change", {"what": "weather"}).status == 422
    assert control(caller, "POST", "change", {"what": "share_level"}).status == 422


def test_the_control_plane_has_its_own_404_and_405(outsider: Caller) -> None:
    assert control(outsider, "GET", "nothing").status == 404
    assert control(outsider, "DELETE", "stats").status == 405


def test_the_control_plane_answers_this_machine_only(world: World) -> None:
    assert controlled(world, Request("GET", "/_sim/stats", client_host="192.0.2.7")).status == 403
    assert controlled(world, Request("GET", "/_sim/stats", client_host="127.0.0.1")).status == 200


def start(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "manage.py"), "simulator", *options]
    environment = os.environ | {"SECRET_KEY": "for-this-test-only-" * 4}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_when_it_is_ready_and_stops_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    port, journal = free_port(), tmp_path / "journal.jsonl"
    process = start("--port", port, "--journal", str(journal), "--pace", "instant", "--quiet")
    assert process.stdout is not None
    ready = process.stdout.readline()
    with urlopen(f"http://127.0.0.1:{port}/_sim/stats") as answer:
        accepted = json.load(answer)["accepted"]

    os.kill(process.pid, number)

    assert process.communicate(timeout=60) == ("", "")
    assert f"http://127.0.0.1:{port}" in ready
    assert (process.returncode, accepted, journal.read_text()) == (0, 0, "")


@pytest.mark.processes
def test_a_port_in_use_gets_one_clear_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = start("--port", str(taken.getsockname()[1]))
        _, error = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "Address already in use" in error
    assert len(error.strip().splitlines()) == 1
