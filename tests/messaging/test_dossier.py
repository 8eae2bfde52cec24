"""What a person who must decide reads of the evidence: each fact in plain words, and nothing that is not known."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from messaging import models
from messaging.insight import dossier
from messaging.reconcile import Evidence
from messaging.reconcile.evidence import Near, Said, Try
from messaging.states import MessageState, Question

NOW = datetime(2026, 5, 12, 14, 12, tzinfo=UTC)
LEFT = NOW - timedelta(hours=1)
TRY = Try(
    posting_at=LEFT, finished_at=LEFT, outcome="ambiguous", error="ConnectionResetError: token=abc", looks=6, complete_looks=6,
    last_look_at=NOW, next_look_at=None, window_from=LEFT - timedelta(minutes=4), window_to=LEFT + timedelta(minutes=10),
    is_settled=True, is_fresh=True, is_absence_proven=True,
)  # fmt: skip
KNOWN = Evidence(
    text="Use gate B",
    tries=[TRY],
    candidates=[],
    nearest=[],
    driver_said=[],
    echoes=[],
    waiting=0,
    samples=9,
    mismatches=0,
)
MESSAGE = models.Message(
    state=MessageState.NEEDS_DECISION, question=Question.ABSENT, connection=models.Connection(tsp_slug="samsara")
)


def told(known: Evidence) -> dict[str, str]:
    with timezone.override(UTC):
        return {line.heading: " ".join(line.sentences) for line in dossier.lines(MESSAGE, known, NOW)}


def with_try(**changes: object) -> Evidence:
    return replace(KNOWN, tries=[replace(TRY, **changes)])  # type: ignore[arg-type]


def test_a_proven_absence_is_told_with_its_proofs() -> None:
    assert told(KNOWN) == {
        "What went wrong": "It was sent at 13:12:00, and the answer was lost. Catena may have taken it or not.",
        "Where we looked": "Catena's list of 13:08 to 13:22 was read 6 times, completely each time, the last time at 14:12:00.",
        "What that proves": "That it is not there: the list had the time to show it, shows what was sent later, and has shown"
        " every normal message correctly.",
    }


@pytest.mark.parametrize(
    ("changes", "rest", "words"),
    [
        ({"is_settled": False}, {}, ["the list has not had the time to show it"]),
        ({"is_fresh": False}, {}, ["it shows nothing yet that was sent later"]),
        ({"complete_looks": 1}, {}, ["it was read completely once, and that takes 4 times"]),
        ({"complete_looks": 0}, {}, ["it was read completely never, and that takes 4 times"]),
        ({}, {"mismatches": 2}, ["come back changed, so this one may stand there unrecognised"]),
        ({}, {"samples": 0}, ["no normal message of this connection has been seen in the list yet"]),
        ({"is_settled": False, "is_fresh": False}, {}, ["has not had the time to show it; it shows nothing yet"]),
    ],
)
def test_what_is_not_proven_says_why_and_nothing_else(
    changes: dict[str, object], rest: dict[str, object], words: Sequence[str]
) -> None:
    known = replace(with_try(is_absence_proven=False, **changes), **rest)  # type: ignore[arg-type]
    said = told(known)["What that proves"]
    assert said.startswith("Not proven that it is absent: ")
    assert all(word in said for word in words)
    assert said.count(";") == (1 if len(changes) == 2 else 0)


def test_a_vanished_worker_and_a_failing_look_are_told_without_jargon() -> None:
    said = told(with_try(outcome="lost", problem="Catena answered 503", complete_looks=2, next_look_at=NOW))
    assert said["What went wrong"] == "The program that was sending it at 13:12:00 stopped before it had an answer."
    assert "read 6 times, 2 times completely" in said["Where we looked"]
    assert said["Where we looked"].endswith("The last look failed. The next look is at 14:12:00.")
    assert "503" not in " ".join(said.values())


def test_details_for_support_hold_no_secret() -> None:
    details = [line.detail for line in dossier.lines(MESSAGE, KNOWN, NOW)]
    assert any("ConnectionResetError" in detail for detail in details)
    assert not any("abc" in detail for detail in details)


def test_a_window_that_is_not_over_yet_was_read_until_now() -> None:
    assert (
        "Catena's list of 13:08 until now was"
        in told(with_try(window_to=NOW + timedelta(minutes=3)))["Where we looked"]
    )


def test_candidates_and_what_came_close_are_told_apart() -> None:
    said = told(
        replace(
            KNOWN,
            candidates=[Near("a", LEFT.isoformat(), ())],
            nearest=[
                Near("b", NOW.isoformat(), ("created_at",)),
                Near("c", LEFT.isoformat(), ("message_text", "priority")),
                Near("d", LEFT.isoformat(), ("colour",)),
            ],
        )
    )
    assert said["Could be it"] == "An operation of 13:12:00 equals it in everything."
    assert said["Close, but not it"] == (
        "An operation of 14:12:00 has all that this message has, but was made too late to be it."
        " An operation of 13:12:00 has another text and another priority. An operation of 13:12:00 has colour."
    )
    assert "What that proves" not in said, "with candidates, absence is not the question"


def test_an_echo_says_that_somebody_else_may_have_typed_it() -> None:
    said = told(replace(KNOWN, echoes=[Said(NOW, "Use gate B")], driver_said=[Said(NOW, "Which gate?")], waiting=2))
    assert said["What Samsara shows"] == (
        "The same text at 14:12:00: sent from here, or typed by somebody in Samsara itself."
    )
    assert said["What the driver wrote since"] == "14:12:00: Which gate?"
    assert said["Behind it"] == "2 messages wait for it."
