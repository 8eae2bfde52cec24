"""Each scripted fault does what it says, to whom it says, as often as it says."""

import http.client
from random import Random
from time import monotonic
from typing import Any

import pytest

from messaging.simulator import Fault, Match, SimulatorServer, World
from messaging.simulator.faults import KINDS, Circumstances, Faults
from tests.simulator.caller import CONNECTIONS, MESSAGES, OPERATIONS, USERS, Caller

CUT = (http.client.HTTPException, ConnectionError)


def test_the_first_fault_that_matches_wins_until_it_is_used_up() -> None:
    faults = Faults(Random(1))
    faults.add(Fault("refused", match="hello", status=400, times=1))
    faults.add(Fault("refused", status=409))
    here = Circumstances(text="hello there")

    taken = [faults.take(frozenset({"refused"}), here) for _ in range(3)]

    assert [fault.status for fault in taken if fault] == [400, 409, 409]
    faults.clear()
    assert faults.take(frozenset({"refused"}), here) is None


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (None, True),
        ("dock", True),
        ("gate", False),
        ("4bcb6c6e-9f0a-4c3e-8e61-0a6f0b6f0c11", True),
        ("4bcb6c6e-9f0a-4c3e-8e61-0a6f0b6f0c12", False),
        ("POST /v2/telematics", True),
        ("GET /v2/telematics", False),
        (Match(text="dock", method="POST"), True),
        ({"text": "dock", "method": "GET"}, False),
    ],
)
def test_a_match_is_a_text_a_connection_or_a_path(match: Any, expected: bool) -> None:
    here = Circumstances("4bcb6c6e-9f0a-4c3e-8e61-0a6f0b6f0c11", "dock 4", "POST", MESSAGES)

    assert Match.of(match).holds(here) is expected


def test_a_fault_may_strike_with_a_probability() -> None:
    faults = Faults(Random(5))
    faults.add(Fault("slow", probability=0.3))

    struck = sum(faults.take(frozenset({"slow"}), Circumstances()) is not None for _ in range(1000))

    assert 230 < struck < 370


def test_an_unknown_kind_of_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        Fault("gremlins")


def test_the_table_of_faults_names_every_kind() -> None:
    documentation = __import__("messaging.simulator.faults", fromlist=["faults"]).__doc__

    assert [kind for kind in KINDS if f"`{kind}`" not in documentation] == []


@pytest.mark.parametrize("error_type", ["auth", "validation", "network", "tsp"])
def test_an_attempt_fails_with_the_given_type_code_and_headers(caller: Caller, world: World, error_type: str) -> None:
    headers = {"Retry-After": "7", "X-RateLimit-Remaining": "0"}
    world.faults.add(
        Fault("attempt_failure", times=1, error_type=error_type, status=429, headers=headers, details="Too many")
    )

    log = caller.ended(caller.send().json)["logs"][0]

    assert (log["status"], log["error_type"], log["response_status_code"]) == ("failed", error_type, 429)
    assert (log["response_headers"], log["error_details"]) == (headers, "Too many")


def test_an_operation_succeeds_after_the_given_number_of_failures(caller: Caller, world: World) -> None:
    world.faults.add(Fault("attempt_failure", then_succeed=1))

    for _ in range(2):
        ended = caller.ended(caller.send().json)
        assert [log["status"] for log in ended["logs"]] == ["failed", "success"]


@pytest.mark.parametrize(
    ("seconds", "detail"), [(12, {"retry_after_seconds": 12, "message": "Slow down"}), (None, None)]
)
def test_a_rate_limit_says_how_long_to_wait(caller: Caller, world: World, seconds: int | None, detail: object) -> None:
    world.faults.add(Fault("rate_limited", times=1, retry_after_seconds=seconds))

    reply = caller.send()

    assert (reply.status, reply.json["detail"]) == (429, detail)
    assert world.journal == []
    assert caller.send().status == 202


def test_a_fault_can_be_aimed_at_one_endpoint(caller: Caller, world: World) -> None:
    world.faults.add(Fault("unauthorized", match=f"GET {USERS}"))

    assert caller.get(USERS).status == 401
    assert caller.get(CONNECTIONS).status == 200
    assert caller.send().status == 202


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
def test_a_refusal_accepts_nothing(caller: Caller, world: World, status: int) -> None:
    world.faults.add(Fault("refused", status=status, times=1))

    assert caller.send().status == status
    assert world.journal == []


@pytest.mark.parametrize("html", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_a_server_error_comes_before_or_after_acceptance_as_json_or_html(
    caller: Caller, world: World, html: bool, after: bool
) -> None:
    for status in (500, 501, 502, 503, 504):
        world.faults.add(Fault("server_error", status=status, html=html, after=after, times=1))
        reply = caller.send(checked=not html and status in (500, 501))
        assert reply.status == status
        assert reply.headers["Content-Type"].startswith("text/html" if html else "application/json")

    assert len(world.journal) == (5 if after else 0)


@pytest.mark.parametrize(
    ("kind", "accepted"),
    [
        ("reset_before_accept", 0),
        ("reset_after_accept", 1),
        ("hang_before_accept", 0),
        ("truncated_json", 1),
    ],
)
def test_a_cut_connection_leaves_the_journal_as_the_kind_says(
    caller: Caller, world: World, kind: str, accepted: int
) -> None:
    world.faults.add(Fault(kind, seconds=0.05))

    with pytest.raises(CUT):
        caller.send(checked=False)

    assert len(world.journal) == accepted
    assert world.posts_seen == 1


def test_a_reset_is_a_real_tcp_reset(caller: Caller, world: World) -> None:
    world.faults.add(Fault("reset_after_accept"))

    with pytest.raises(ConnectionResetError):
        caller.send(checked=False)


def test_an_answer_that_hangs_after_acceptance_comes_late(caller: Caller, world: World) -> None:
    world.faults.add(Fault("hang_after_accept", seconds=0.3))
    began = monotonic()

    assert caller.send().status == 202
    assert monotonic() - began >= 0.3
    assert len(world.journal) == 1


def test_a_slow_answer_is_a_good_answer(caller: Caller, world: World) -> None:
    world.faults.add(Fault("slow", seconds=0.2))
    began = monotonic()

    assert caller.get(USERS).status == 200
    assert monotonic() - began >= 0.2


def test_an_answer_that_is_not_json_keeps_its_status(caller: Caller, world: World) -> None:
    world.faults.add(Fault("not_json"))

    reply = caller.send(checked=False)

    assert (reply.status, reply.body[:6]) == (202, b"<html>")
    assert len(world.journal) == 1


def test_an_operation_can_be_late_or_lost_in_lists_and_is_readable_by_id(caller: Caller, world: World) -> None:
    world.faults.add(Fault("operation_late_in_lists", match="late", seconds=3600))
    world.faults.add(Fault("operation_lost_in_lists", match="lost"))
    receipts = [caller.send(text).json for text in ("late", "lost", "seen")]

    listed = [item["id"] for item in caller.get(OPERATIONS).json["items"]]

    assert listed == [receipts[2]["id"]]
    assert [caller.operation(receipt)["id"] for receipt in receipts] == [receipt["id"] for receipt in receipts]


def test_status_words_can_be_unknown(caller: Caller, world: World) -> None:
    for target in ("operation", "attempt", "message", "connection"):
        world.faults.add(Fault("unknown_status", target=target, word=f"odd {target}"))

    ended = caller.ended(caller.send().json, checked=False)
    messages = caller.get(MESSAGES, checked=False, sort_order="desc", size=1).json["items"]
    connections = caller.get(CONNECTIONS, checked=False).json["items"]

    assert ended["status"] == "odd operation"
    assert ended["logs"][0]["status"] == "odd attempt"
    assert messages[0]["status"] == "odd message"
    assert connections[0]["status"] == "odd connection"


def test_the_word_unknown_ends_an_operation_in_an_undocumented_status(caller: Caller) -> None:
    assert caller.ended(caller.send("#unknown").json, checked=False)["status"] == "escalated"


def test_the_word_refuse_is_a_422_and_the_word_lost_answer_a_reset(caller: Caller, world: World) -> None:
    assert caller.send("#refuse").status == 422
    assert world.journal == []
    with pytest.raises(ConnectionResetError):
        caller.send("#lost-answer", checked=False)
    assert len(world.journal) == 1


def test_the_token_endpoint_can_be_down_or_refuse(caller: Caller, world: World) -> None:
    world.faults.add(Fault("token_down", times=1))
    world.faults.add(Fault("token_refused", times=1))

    assert caller.ask_token(checked=False).status == 503
    assert caller.ask_token().status == 401
    assert caller.ask_token().status == 200


def test_a_fault_on_the_api_leaves_the_token_endpoint_alone(caller: Caller, world: World) -> None:
    world.faults.add(Fault("server_error"))

    assert caller.ask_token().status == 200


def test_a_server_with_a_hanging_request_stops_at_once(world: World) -> None:
    world.faults.add(Fault("hang_before_accept", seconds=60))
    server = SimulatorServer(world).start()
    caller = Caller(server).sign_in()
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    connection.request("GET", USERS, headers={"Authorization": f"Bearer {caller.token}"})
    began = monotonic()

    server.stop()

    assert monotonic() - began < 20
    with pytest.raises(CUT):
        connection.getresponse()
    connection.close()
