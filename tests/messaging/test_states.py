"""The words on the screen are derived in one place, from facts alone."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from messaging.states import (
    HEAD_STATES,
    LEASED_STATES,
    OPERATION_STATES,
    SETTLED_STATES,
    SITUATIONS,
    TRANSITIONS,
    Facts,
    MessageState,
    delivery,
    may_move,
)

S = MessageState
NOW = datetime(2026, 5, 12, 14, 3, 21, tzinfo=UTC)


def seen(state: MessageState, **facts: Any) -> tuple[str, str, str]:
    badge = delivery(Facts(direction="out", state=state, provider="Samsara", **facts), NOW)
    return badge.key, badge.short, badge.long


@pytest.mark.parametrize(
    ("state", "facts", "expected"),
    [
        (S.WAITING, {}, ("waiting", "Waiting", "Waiting for the message before it")),
        (S.QUEUED, {"is_held": True, "not_before": NOW + timedelta(seconds=10)}, ("held", "Held", "Sends in 8 s")),
        (S.QUEUED, {"is_held": True, "not_before": NOW + timedelta(seconds=2)}, ("sending", "Sending", "Sending")),
        (S.QUEUED, {"not_before": NOW + timedelta(minutes=1)}, ("sending", "Sending", "Sending")),
        (S.CLAIMED, {}, ("sending", "Sending", "Sending")),
        (S.POSTING, {}, ("sending", "Sending", "Sending")),
        (S.ACCEPTED, {"operation_status": "pending"}, ("sending", "Sending", "Handed to Catena")),
        (
            S.ACCEPTED,
            {"operation_status": "pending", "failed_attempts": 2, "reason": "Samsara answered 503 (unavailable)"},
            ("retrying", "Retrying", "Retrying: Samsara answered 503 (unavailable)"),
        ),
        (
            S.ACCEPTED,
            {"operation_status": "pending", "accepted_at": NOW - timedelta(minutes=11)},
            ("slow", "Slow", "Taking longer than usual"),
        ),
        (
            S.QUEUED,
            {"gate_reason": "too many requests", "gate_until": NOW + timedelta(minutes=2)},
            ("paused", "Paused", "Paused: too many requests, until 14:05"),
        ),
        (
            S.QUEUED,
            {"gate_reason": "too many unclear sends", "gate_probe_at": NOW + timedelta(minutes=2)},
            ("paused", "Paused", "Paused: too many unclear sends, tried again at 14:05"),
        ),
        (S.QUEUED, {"gate_reason": "Maintenance"}, ("paused", "Paused", "Paused: Maintenance")),
        (S.SUCCEEDED, {"operation_status": "success"}, ("sent", "Sent", "Accepted by Samsara")),
        (S.SUCCEEDED, {"delivered_at": NOW}, ("delivered", "Delivered", "Delivered 14:03")),
        (
            S.SUCCEEDED,
            {"delivered_at": NOW, "read_at": NOW + timedelta(minutes=2)},
            ("read", "Read", "Delivered 14:03, Read 14:05"),
        ),
        (S.FAILED, {"reason": "Samsara refused it"}, ("failed", "Failed", "Failed: Samsara refused it")),
        (S.REJECTED, {"reason": "Text too long"}, ("not_sent", "Not sent", "Not sent: Text too long")),
        (S.UNKNOWN, {}, ("checking", "Checking", "It may have been sent; checking")),
        (S.NEEDS_DECISION, {}, ("needs_you", "Needs you", "It may have been sent; needs your decision")),
        (
            S.NEEDS_DECISION,
            {"reason": "Nothing was sent."},
            ("needs_you", "Needs you", "Needs your decision: Nothing was sent."),
        ),
        (
            S.ACCEPTED,
            {"corrected_at": NOW},
            ("sent_after_all", "Sent after all", "Sent after all. Handed to Catena"),
        ),
        (
            S.SUCCEEDED,
            {"is_sent_twice": True, "corrected_at": NOW},
            ("sent_twice", "Sent twice", "Sent twice: the driver may have got it twice. Accepted by Samsara"),
        ),
        (S.FAILED, {"corrected_at": NOW, "reason": "Too late"}, ("failed", "Failed", "Failed: Too late")),
        (S.CANCELLED, {"settled_by": "Mara"}, ("cancelled", "Cancelled", "Cancelled by Mara")),
        (S.EXPIRED, {}, ("expired", "Expired", "Expired, not sent")),
        (S.CLOSED_SENT, {"settled_by": "Sol"}, ("marked_sent", "Marked sent", "Marked as sent by Sol")),
        (S.CLOSED_NOT_SENT, {"settled_by": "Sol"}, ("left_unsent", "Left unsent", "Left unsent by Sol")),
        (S.MIRRORED, {}, ("sent", "Sent", "Accepted by Samsara")),
        (S.MIRRORED, {"record_status": "sent"}, ("sent", "Sent", "Accepted by Samsara")),
        (S.MIRRORED, {"record_status": "pending"}, ("sending", "Sending", "Pending at Samsara")),
        (S.MIRRORED, {"record_status": "bounced"}, ("unknown_status", "bounced", "Unknown status: bounced")),
        (S.ACCEPTED, {"operation_status": "parked"}, ("unknown_status", "parked", "Unknown status: parked")),
    ],
)
def test_each_situation_reads_as_the_table_says(
    state: MessageState, facts: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    with timezone.override(UTC):
        assert seen(state, **facts) == expected


def test_delivered_is_never_claimed_from_an_operation() -> None:
    assert seen(S.ACCEPTED, operation_status="pending", delivered_at=NOW)[0] == "sending"


def test_every_state_has_words_for_every_reader() -> None:
    for state in S:
        for direction in ("in", "out"):
            badge = delivery(Facts(direction=direction, state=state), NOW)
            assert badge.key in SITUATIONS
            assert badge.short
            assert badge.long
            assert badge.icon


def test_a_message_that_had_a_byte_on_the_wire_never_goes_back_to_the_queue_without_proof() -> None:
    assert not may_move(S.UNKNOWN, S.QUEUED)
    assert not may_move(S.ACCEPTED, S.QUEUED)
    assert not may_move(S.FAILED, S.QUEUED)


def test_settled_states_move_only_by_a_stronger_fact_from_catena() -> None:
    stronger = {
        S.CLOSED_SENT: OPERATION_STATES,
        S.CLOSED_NOT_SENT: OPERATION_STATES,
        # A resend was refused, and then the first POST, whose answer was lost, turns up at Catena.
        S.REJECTED: OPERATION_STATES,
        # Catena called one operation both; its later word stands.
        S.SUCCEEDED: {S.FAILED},
        S.FAILED: {S.SUCCEEDED},
    }
    for state in SETTLED_STATES:
        assert TRANSITIONS[state] == stronger.get(state, set())


def test_the_sets_of_states_do_not_overlap_where_they_must_not() -> None:
    assert not HEAD_STATES & SETTLED_STATES
    assert LEASED_STATES < HEAD_STATES
    assert set(TRANSITIONS) == set(S)
