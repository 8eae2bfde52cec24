"""A message is told in words that a person understands, in the order of causes, and without what must stay inside."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from messaging import models
from messaging.insight import meanings
from messaging.insight.sentence import identities, sentence, support_text
from messaging.insight.story import Story, tell, with_story
from messaging.insight.timeline import Step, timeline
from messaging.models.outlook import message_delivery
from messaging.states import AttemptOutcome, Authority, DecisionKind, Direction, MessageState
from tests import factories

S = MessageState
NOW = datetime(2026, 5, 12, 14, 2, 50, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def story_of(message: models.Message, now: datetime = NOW) -> Story:
    found = with_story(models.Message.objects.filter(pk=message.pk)).get()
    return tell(found, message_delivery(found, now, {}), now)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def attempt(message: models.Message, seconds_ago: float, **columns: Any) -> models.OperationLog:
    return factories.OperationLogFactory(operation=message.operation, catena_created_at=ago(seconds_ago), **columns)


def titles(steps: list[Step]) -> list[str]:
    return [step.title for step in steps]


def in_state(conversation: models.Conversation, state: S, **columns: Any) -> models.Message:
    return factories.OutgoingFactory(conversation=conversation, state=state, occurred_at=ago(60), **columns)


@pytest.fixture
def failed(conversation: models.Conversation) -> models.Message:
    """Held 8 s, handed over, refused three times by the provider, then given up."""
    message = factories.accepted(
        conversation, state=S.FAILED, operation_status="failed", occurred_at=ago(60), not_before=ago(50), accepted_at=ago(49),
        settled_at=ago(8), failed_attempts=3, attempt_count=3, reason="Samsara answered 503 (unavailable)",
    )  # fmt: skip
    factories.SendAttemptFactory(message=message, posting_at=ago(49.5), finished_at=ago(49))
    for seconds, wait in ((47, "5"), (39, "20"), (9, "30")):
        attempt(message, seconds, response_headers={"Retry-After": wait, "Set-Cookie": "sid=1"})
    return message


def test_a_failure_reads_as_one_paragraph(failed: models.Message) -> None:
    assert sentence(story_of(failed)) == (
        "Failed after 3 attempts. Samsara answered 503 (unavailable). Last try 14:02:41. The provider asked to wait 30 s."
    )


def test_a_time_of_another_day_names_its_day(failed: models.Message) -> None:
    assert "Last try 12 May 2026, 14:02:41." in sentence(story_of(failed, NOW + timedelta(days=1)))


def test_the_timeline_runs_from_the_newest_step_to_the_writing(failed: models.Message) -> None:
    steps = timeline(story_of(failed), with_headers=True)
    assert titles(steps) == [
        "Given up by Catena", "Attempt 3", "Attempt 2", "Attempt 1", "Accepted by Catena", "Held 8 s for undo",
        f"Written by {failed.author.label if failed.author else ''}",
    ]  # fmt: skip
    assert [(step.gap, step.code, step.phrase, step.kind, step.tone) for step in steps[1:4]] == [
        ("30 s later", 503, "Service unavailable", "Provider error", "bad"),
        ("8 s later", 503, "Service unavailable", "Provider error", "bad"),
        ("2 s later", 503, "Service unavailable", "Provider error", "bad"),
    ]
    # What the code means is said once, beside its newest attempt.
    assert [bool(step.hint) for step in steps[1:4]] == [True, False, False]
    assert steps[4].gap == "took 0.5 s"


def test_only_headers_of_the_allow_list_are_told_and_only_on_request(failed: models.Message) -> None:
    assert timeline(story_of(failed), with_headers=True)[1].headers == (("Retry-After", "30"),)
    assert {step.headers for step in timeline(story_of(failed), with_headers=False)} == {()}


def test_a_story_costs_one_query(failed: models.Message, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        found = with_story(models.Message.objects.filter(pk=failed.pk)).get()
        told = tell(found, message_delivery(found, NOW, {}), NOW)
        timeline(told, with_headers=True)
        support_text(told, with_headers=True)
        assert sentence(told)


def test_a_clock_that_runs_behind_does_not_reorder_causes(conversation: models.Conversation) -> None:
    message = factories.accepted(
        conversation, occurred_at=ago(10), accepted_at=ago(5), attempt_count=1, failed_attempts=1
    )
    attempt(message, 20, status="failed")
    steps = timeline(story_of(message), with_headers=False)
    assert titles(steps)[:3] == ["Waiting for the next attempt", "Attempt 1", "Found at Catena"]
    assert steps[1].gap == ""


def test_an_attempt_with_an_unknown_status_word_keeps_it(conversation: models.Conversation) -> None:
    message = factories.accepted(conversation)
    attempt(message, 5, status="deferred", error_type="weather", error_details="Snow", response_status_code=None)
    step = timeline(story_of(message), with_headers=False)[1]
    assert (step.text, step.kind, step.tone, step.code) == ("Status: deferred. Snow", "weather", "neutral", None)


def test_a_success_on_the_second_attempt_says_so(conversation: models.Conversation) -> None:
    message = factories.accepted(conversation, state=S.SUCCEEDED, operation_status="success", attempt_count=2)
    attempt(message, 30)
    attempt(message, 9, status="success", error_type="", error_details="", response_status_code=200)
    told = story_of(message)
    assert sentence(told) == "Accepted by Samsara at 14:02:41 on attempt 2. No receipt reported by this provider."
    assert titles(timeline(told, with_headers=False))[:2] == ["Attempt 2", "Attempt 1"]


def test_an_end_without_a_log_says_that_there_is_none(conversation: models.Conversation) -> None:
    message = factories.accepted(conversation, state=S.FAILED, operation_status="failed", settled_at=ago(3))
    told = story_of(message)
    assert sentence(told) == "Failed. The provider returned no log."
    top = timeline(told, with_headers=False)[0]
    assert (top.title, top.text) == ("Given up by Catena", "The provider returned no log.")


def test_receipts_stand_on_top_of_the_timeline(conversation: models.Conversation) -> None:
    message = factories.accepted(
        conversation,
        state=S.SUCCEEDED,
        operation_status="success",
        settled_at=ago(40),
        delivered_at=ago(30),
        read_at=ago(9),
    )
    told = story_of(message)
    assert sentence(told) == "Delivered 14:02, Read 14:02. Accepted by Samsara at 14:02:10."
    steps = timeline(told, with_headers=False)
    assert [(step.title, step.gap) for step in steps[:3]] == [
        ("Read", "21 s later"), ("Delivered", ""), ("Accepted by Samsara", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "columns", "words"),
    [
        (S.QUEUED, {"not_before": NOW + timedelta(seconds=6)}, "Sends in 4 s. Nothing has left yet; it can still be undone."),
        (S.QUEUED, {"claim_count": 1, "not_before": NOW + timedelta(seconds=30)},
         "Not sent yet. The next try is at 14:03:20."),
        (S.QUEUED, {"claim_count": 1, "not_before": ago(1)}, "On its way to Catena."),
        (S.WAITING, {}, "Waiting for the message before it. Messages to one driver go out in the order they were written."),
        (S.UNKNOWN, {"unknown_since": NOW}, "It may have been sent; checking. The answer to our request was lost, "
         "so the driver may have it. Backhaul never sends it again by itself."),
        (S.NEEDS_DECISION, {}, "It may have been sent; needs your decision. "
         "It is not sent again unless somebody decides so."),
        (S.REJECTED, {"reason": "Text too long."}, "Not sent: Text too long. Nothing reached the driver."),
        (S.EXPIRED, {}, "Expired, not sent. It became too old before it could be sent."),
        (S.CANCELLED, {}, "Cancelled. Nothing was sent."),
        (S.CLOSED_SENT, {}, "Marked as sent by a colleague."),
    ],
)  # fmt: skip
def test_each_state_of_ours_has_its_sentence(
    conversation: models.Conversation, state: S, columns: dict[str, Any], words: str
) -> None:
    assert sentence(story_of(in_state(conversation, state, **columns))) == words


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"accepted_at": ago(9)}, "Handed to Catena at 14:02:41. Waiting for the first attempt."),
        ({"accepted_at": ago(720)}, "Taking longer than usual: Catena has had it for 12 min. No attempt has been reported yet."),
        ({"operation_status": "sleeping"},
         "Unknown status: sleeping. Backhaul does not know this word and keeps looking."),
    ],
)  # fmt: skip
def test_each_state_at_catena_has_its_sentence(
    conversation: models.Conversation, columns: dict[str, Any], words: str
) -> None:
    assert sentence(story_of(factories.accepted(conversation, **columns))) == words


def test_the_sentence_of_a_retry_names_the_reason_and_that_nobody_need_act(conversation: models.Conversation) -> None:
    message = factories.accepted(
        conversation, accepted_at=ago(30), failed_attempts=1, reason="Samsara answered 503 (unavailable)"
    )
    attempt(message, 9, response_headers={"retry-after": "Tue, 12 May 2026 14:03:11 GMT"})
    assert sentence(story_of(message)) == (
        "1 attempt failed so far. Samsara answered 503 (unavailable). Last try 14:02:41. The provider asked to wait 30 s. "
        "Catena tries again by itself."
    )


def test_our_own_requests_and_peoples_decisions_are_steps(conversation: models.Conversation, sol: models.User) -> None:
    message = in_state(conversation, S.QUEUED, claim_count=2, not_before=NOW)
    first = factories.SendAttemptFactory(
        message=message, posting_at=ago(40), finished_at=ago(20), outcome=AttemptOutcome.AMBIGUOUS, http_status=None,
        error_text="No answer within 20 s; Authorization: Bearer abc.def",
    )  # fmt: skip
    verdict = models.Decision.objects.create(
        message=message, user=sol, kind=DecisionKind.SEND_AGAIN, reason="Driver has nothing"
    )
    factories.SendAttemptFactory(
        message=message, fence=2, authority=Authority.HUMAN, decision=verdict, prior_attempt=first, posting_at=ago(5),
        finished_at=None, outcome=None, http_status=None,
    )  # fmt: skip
    steps = {step.key: step for step in timeline(story_of(message), with_headers=False)}
    lost = steps[f"post-{first.pk}"]
    assert (lost.title, lost.tone, lost.gap) == ("May have been sent: the answer was lost", "hi", "took 20 s")
    assert "abc.def" not in lost.text
    assert [step.title for step in steps.values() if step.tone == "wait"] == ["Being handed to Catena"]
    assert steps[f"decision-{verdict.pk}"].title == "Sol " + sol.last_name + " decided: send again"


def test_an_incoming_message_tells_when_it_was_written_and_when_it_came(conversation: models.Conversation) -> None:
    message = factories.IncomingFactory(conversation=conversation, occurred_at=timezone.now() - timedelta(seconds=90))
    told = story_of(message, timezone.now())
    assert sentence(told) == "Received."
    assert titles(timeline(told, with_headers=True)) == ["Reached Backhaul", "Written by Luis Ortega"]
    assert told.is_over


def test_a_message_sent_elsewhere_says_so(conversation: models.Conversation) -> None:
    message = factories.IncomingFactory(
        conversation=conversation, direction=Direction.OUT, sender_name="Dana", read_at=ago(5)
    )
    told = story_of(message)
    assert sentence(told) == "Read 14:02. Written outside Backhaul."
    assert titles(timeline(told, with_headers=True)) == ["Read", "Written outside Backhaul by Dana"]


def test_a_message_that_a_provider_has_not_sent_yet_is_not_called_sent(conversation: models.Conversation) -> None:
    message = factories.IncomingFactory(
        conversation=conversation, direction=Direction.OUT, sender_name="Dana", record_status="pending"
    )
    assert sentence(story_of(message)) == "Pending at Samsara. Written outside Backhaul."


@pytest.mark.parametrize(
    ("state", "columns", "is_over"),
    [
        (S.ACCEPTED, {}, False),
        (S.FAILED, {}, False),
        (S.FAILED, {"handled_at": NOW}, True),
        (S.SUCCEEDED, {}, False),
        (S.SUCCEEDED, {"read_at": NOW}, True),
        (S.SUCCEEDED, {"occurred_at": NOW - timedelta(hours=25)}, True),
    ],
)
def test_a_page_stops_looking_when_nothing_more_can_come(
    conversation: models.Conversation, state: S, columns: dict[str, Any], is_over: bool
) -> None:
    columns = {"occurred_at": ago(60), **columns}
    assert story_of(factories.accepted(conversation, state=state, **columns)).is_over is is_over


def test_the_text_for_support_has_ids_and_utc_times_and_nothing_private(failed: models.Message) -> None:
    models.Message.objects.filter(pk=failed.pk).update(text="Call +1 555 0100")
    told = story_of(models.Message.objects.get(pk=failed.pk))
    text = support_text(told, with_headers=True)
    for _, value in identities(told):
        assert value in text
    assert f"Backhaul message {failed.uuid}\nStatus: Failed (Failed: Samsara answered 503 (unavailable))" in text
    assert (
        "Attempt 3 2026-05-12T14:02:41Z: failed, HTTP 503, tsp: Recipient device offline\n  Retry-After: 30\n" in text
    )
    assert "Request to Catena 2026-05-12T14:02:00Z: Accepted by Catena, HTTP 202\n" in text
    assert "Text: 16 characters, left out" in text
    assert "555 0100" not in text  # bare digits may stand in an id
    assert "Cookie" not in text
    assert "Retry-After" not in support_text(told, with_headers=False)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "0 s"), (0, "0 s"), (0.02, "under 0.1 s"), (0.42, "0.4 s"), (9.96, "10 s"), (12, "12 s"), (60, "1 min"),
     (72.4, "1 min 12 s"), (7500, "2 h 5 min"), (86_400 * 3 + 4 * 3600 + 59, "3 d 4 h")],
)  # fmt: skip
def test_a_span_is_told_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert meanings.span(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [("30", "The provider asked to wait 30 s."), (" 120 ", "The provider asked to wait 2 min."), ("soon", ""), ("", ""),
     ("٣٠", ""), ("9" * 40, ""), ("Tue, 12 May 2026 14:00:00 GMT", "")],
)  # fmt: skip
def test_only_a_readable_wait_is_told(value: str, words: str) -> None:
    assert meanings.retry_after({"Retry-AFTER": value}, NOW) == words


@pytest.mark.parametrize("code", [*range(100, 600, 7), 0, 999])
def test_every_code_has_a_meaning(code: int) -> None:
    assert meanings.code_hint(code).endswith(".")
    assert "None" not in meanings.code_phrase(code)


@pytest.mark.parametrize(("code", "words"), [(200, "OK"), (503, "Service unavailable"), (999, "")])
def test_a_code_is_named_in_sentence_case_save_for_its_abbreviation(code: int, words: str) -> None:
    assert meanings.code_phrase(code) == words


@pytest.mark.parametrize("outcome", AttemptOutcome.values)
def test_every_outcome_of_a_request_has_words(conversation: models.Conversation, outcome: str) -> None:
    post = factories.SendAttemptFactory(message=in_state(conversation, S.QUEUED, not_before=NOW), outcome=outcome)
    steps = {step.key: step for step in timeline(story_of(post.message), with_headers=False)}
    assert re.search(r"Catena|May have been sent", steps[f"post-{post.pk}"].title)
