"""The judge of the chaos runs: an honest run passes, and each broken promise is named."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tests.chaos.evidence import unforeseen
from tests.chaos.verdict import Attempt, Case, Decided, Sent, judge, recovered

NOON = datetime(2026, 5, 12, 12, tzinfo=UTC)
FIRST = Sent(1, "u1", "7:1:0", 7, 1, "succeeded", "op1")
SECOND = Sent(2, "u2", "7:2:1", 7, 2, "succeeded", "op2")


def post(text: str, operation: str | None, seconds: float = 0.0, *, is_late: bool = False) -> dict[str, Any]:
    at = NOON.timestamp() + seconds
    return {"at": at, "text": text, "operation": operation, "fault": "", "is_late": is_late, "recipient": "r"}


def honest(**changes: Any) -> Case:
    """Two messages of one conversation, sent in order."""
    values: dict[str, Any] = {
        "promised": {"7:1:0": "u1", "7:2:1": "u2"},
        "sent": [FIRST, SECOND],
        "attempts": [Attempt(1, 1, "compose", "accepted", "op1"), Attempt(2, 1, "compose", "accepted", "op2")],
        "decisions": [],
        "journal": [post("7:1:0", "op1"), post("7:2:1", "op2", 1)],
    }
    return Case(**{**values, **changes})


def kinds(case: Case) -> list[str]:
    return [breach.kind for breach in judge(case)]


def test_an_honest_run_has_no_breach() -> None:
    assert judge(honest()) == []


def test_a_promised_message_without_a_row_is_lost() -> None:
    case = honest(promised={"7:1:0": "u1", "7:2:1": "u2", "9:1:2": "u3"})
    assert kinds(case) == ["lost"]


def test_two_rows_of_one_form_are_composed_twice() -> None:
    twin = replace(SECOND, key=3, uuid="u3", seq=3, state="cancelled", operation=None)
    assert "composed twice" in kinds(honest(sent=[FIRST, SECOND, twin]))


def test_a_second_acceptance_needs_a_decision() -> None:
    again = [*honest().journal, post("7:2:1", "op3", 2)]
    attempts = [*honest().attempts, Attempt(2, 2, "proof_not_sent", "accepted", "op3")]
    assert kinds(honest(journal=again, attempts=attempts)) == ["sent twice"]


def test_a_decision_buys_exactly_one_more_post() -> None:
    again = [*honest().journal, post("7:2:1", "op3", 2)]
    bought = [*honest().attempts, Attempt(2, 2, "human", "accepted", "op3")]
    decided = [Decided(2, "send_again", NOON)]
    assert kinds(honest(journal=again, attempts=bought, decisions=decided)) == []
    assert kinds(honest(journal=again, attempts=bought)) == ["sent twice"]


def test_a_post_that_nobody_recorded_is_named() -> None:
    case = honest(attempts=honest().attempts[:1])
    assert kinds(case) == ["POST without intent"]


def test_a_post_after_a_decision_against_it_is_named() -> None:
    closed = replace(SECOND, state="closed_not_sent", operation="op2")
    decided = [Decided(2, "leave_unsent", NOON)]
    assert kinds(honest(sent=[FIRST, closed], decisions=decided)) == ["sent after a decision against it"]
    late = [post("7:1:0", "op1"), post("7:2:1", None, -1), post("7:2:1", "op2", 1, is_late=True)]
    assert kinds(honest(sent=[FIRST, closed], decisions=decided, journal=late)) == []


def test_overtaking_is_out_of_order_unless_a_person_let_it_pass() -> None:
    swapped = list(reversed(honest().journal))
    assert kinds(honest(journal=swapped)) == ["order"]
    assert kinds(honest(journal=swapped, decisions=[Decided(1, "send_next", NOON)])) == []


def test_numbers_follow_the_order_of_writing() -> None:
    swapped = [replace(FIRST, seq=2), replace(SECOND, seq=1)]
    assert kinds(honest(sent=swapped, journal=list(reversed(honest().journal)))) == ["order of writing"]


def test_accepted_without_an_operation_of_catena_is_false() -> None:
    case = honest(journal=[post("7:1:0", "op1"), post("7:2:1", None, 1)])
    assert set(kinds(case)) == {"falsely accepted"}


def test_the_operation_of_another_message_is_named() -> None:
    crossed = [replace(FIRST, operation="op2"), replace(SECOND, operation="op1")]
    assert kinds(honest(sent=crossed)).count("bound to another's operation") == 2


def test_an_operation_that_nobody_knows_again_is_named() -> None:
    sent = [FIRST, replace(SECOND, state="closed_sent", operation=None)]
    attempts = [honest().attempts[0], Attempt(2, 1, "compose", "lost", None)]
    case = honest(sent=sent, attempts=attempts)
    assert kinds(case) == ["not found again"]
    assert recovered(case) == (1, 0)


def test_what_neither_ends_nor_waits_for_a_person_is_stranded() -> None:
    waiting = replace(SECOND, state="waiting", operation=None)
    journal, attempts = honest().journal[:1], honest().attempts[:1]
    assert kinds(honest(sent=[FIRST, waiting], journal=journal, attempts=attempts)) == ["stranded"]
    asked = replace(FIRST, state="needs_decision", operation=None)
    doubtful = [Attempt(1, 1, "compose", "lost", None)]
    assert kinds(honest(sent=[asked, waiting], journal=[], attempts=doubtful)) == []
    assert kinds(honest(sent=[replace(asked, detached=True), waiting], journal=[], attempts=doubtful)) == ["stranded"]


def test_only_what_a_dying_database_says_is_expected_in_a_log() -> None:
    trace = "Traceback (most recent call last):\n  File x\n    line\n{}: text\n"
    log = trace.format("django.db.utils.OperationalError") + trace.format("ValueError")
    assert unforeseen(log) == ["ValueError: text"]
    assert unforeseen("ERROR Message 7 had been left waiting behind nobody") == [
        "a promotion was lost: ERROR Message 7 had been left waiting behind nobody"
    ]
