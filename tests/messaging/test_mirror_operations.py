"""What Catena says of an operation is written once, whatever order and however often it comes."""

import itertools
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from messaging import mirror, models
from messaging.catena import types
from messaging.mirror.operations import merged_status
from messaging.states import MessageState
from tests import factories
from tests.factories import EPOCH

pytestmark = pytest.mark.django_db
S = MessageState
NOW = timezone.now()


def log(number: int = 1, **fields: Any) -> dict[str, Any]:
    at = fields.pop("at", EPOCH + timedelta(seconds=number)).isoformat()
    return {
        "id": str(uuid.UUID(int=number)), "resource_operation_id": str(uuid.UUID(int=99)), "status": "failed",
        "error_type": "tsp", "error_details": None, "response_status_code": 503, "response_headers": None,
        "created_at": at, "updated_at": at, **fields,
    }  # fmt: skip


def record(
    message: models.Message | models.Connection, status: str = "pending", minutes: float = 0, **fields: Any
) -> types.Operation:
    """An operation as Catena answers it, about the operation of this message (or a new one on this connection)."""
    connection = message if isinstance(message, models.Connection) else message.connection
    operation = None if isinstance(message, models.Connection) else message.operation
    return types.Operation.parse(
        {
            "id": str(operation.catena_id if operation else uuid.uuid4()), "connection_id": str(connection.catena_id),
            "resource": "message", "operation_type": "create", "status": status,
            "payload": {"message_text": "Dock 4 is free"}, "resource_id": None, "source_id": None, "logs": [],
            "created_at": EPOCH.isoformat(), "updated_at": (EPOCH + timedelta(minutes=minutes)).isoformat(), **fields,
        }
    )  # fmt: skip


def pending(conversation: models.Conversation, **columns: Any) -> models.Message:
    message = factories.accepted(conversation, **columns)
    models.Operation.objects.update(catena_created_at=EPOCH, catena_updated_at=EPOCH)
    return message


def fresh(message: models.Message) -> models.Message:
    return models.Message.objects.select_related("operation").get(pk=message.pk)


def test_an_operation_of_an_unknown_connection_is_passed_over(conversation: models.Conversation) -> None:
    stranger = factories.ConnectionFactory.build(catena_id=uuid.uuid4())
    assert mirror.apply_operation(record(stranger)) is None
    assert not models.Operation.objects.exists()


def test_an_operation_without_a_message_is_kept(conversation: models.Conversation) -> None:
    stored = mirror.apply_operation(record(conversation.connection, "success", logs=[log()]))
    assert stored is not None
    assert (stored.status, stored.connection, stored.logs.count()) == ("success", conversation.connection, 1)
    assert stored.payload == {"message_text": "Dock 4 is free"}


def test_a_success_settles_its_message(conversation: models.Conversation) -> None:
    message = pending(conversation, next_poll_at=NOW, reason="Retrying", failed_attempts=1)
    resource_id = uuid.uuid4()
    mirror.apply_operation(record(message, "success", 1, resource_id=str(resource_id), source_id="msg_9"))
    settled = fresh(message)
    assert (settled.state, settled.operation_status, settled.reason) == (S.SUCCEEDED, "success", "")
    assert settled.settled_at is not None
    assert settled.next_poll_at is None
    assert settled.operation is not None
    assert (settled.operation.resource_id, settled.operation.source_id) == (resource_id, "msg_9")


def test_a_failure_says_why_and_asks_for_attention(conversation: models.Conversation) -> None:
    message = pending(conversation)
    logs = [log(1, error_details="Recipient device offline"), log(2, error_type="auth", response_status_code=401)]
    mirror.apply_operation(record(message, "failed", 1, logs=logs))
    settled = fresh(message)
    assert (settled.state, settled.operation_status) == (S.FAILED, "failed")
    assert (settled.attempt_count, settled.failed_attempts) == (2, 2)
    assert (settled.reason, settled.error_type, settled.response_status_code) == (
        "Samsara refused the stored credentials", "auth", 401,
    )  # fmt: skip
    conversation.refresh_from_db()
    assert conversation.attention_count == 1


def test_a_failure_without_a_log_says_so(conversation: models.Conversation) -> None:
    message = pending(conversation)
    mirror.apply_operation(record(message, "failed", 1))
    assert fresh(message).reason == "Samsara did not say why"


def test_a_failed_attempt_of_a_pending_operation_shows_as_retrying(conversation: models.Conversation) -> None:
    message = pending(conversation, next_poll_at=NOW)
    mirror.apply_operation(record(message, "pending", 1, logs=[log(error_details="Recipient device offline")]))
    retried = fresh(message)
    assert (retried.state, retried.settled_at, retried.next_poll_at) == (S.ACCEPTED, None, NOW)
    assert (retried.attempt_count, retried.failed_attempts) == (1, 1)
    assert retried.reason == "Samsara answered 503 (unavailable): Recipient device offline"


@pytest.mark.parametrize("final", ["success", "failed"])
@pytest.mark.parametrize("late", ["pending", "escalated"])
def test_a_late_pending_never_reopens_a_finished_operation(
    conversation: models.Conversation, final: str, late: str
) -> None:
    message = pending(conversation)
    mirror.apply_operation(record(message, final, 1))
    before = fresh(message)
    mirror.apply_operation(record(message, late, 5))
    after = fresh(message)
    assert (after.state, after.operation_status, after.settled_at) == (before.state, final, before.settled_at)
    assert after.operation is not None
    assert after.operation.status == final


def test_a_final_word_counts_even_when_its_time_is_earlier(conversation: models.Conversation) -> None:
    message = pending(conversation)
    mirror.apply_operation(record(message, "escalated", 5))
    mirror.apply_operation(record(message, "success", 1))
    assert fresh(message).state == S.SUCCEEDED


def test_an_unknown_word_is_kept_and_ends_nothing(conversation: models.Conversation) -> None:
    message = pending(conversation)
    mirror.apply_operation(record(message, "escalated", 1))
    shown = fresh(message)
    assert (shown.state, shown.operation_status, shown.settled_at) == (S.ACCEPTED, "escalated", None)
    mirror.apply_operation(record(message, "pending", 0.5))
    assert fresh(message).operation_status == "escalated"
    mirror.apply_operation(record(message, "pending", 2))
    assert fresh(message).operation_status == "pending"


@pytest.mark.parametrize(("first", "second"), [("success", "failed"), ("failed", "success")])
def test_of_two_final_words_the_later_stands_and_is_audited(
    conversation: models.Conversation, first: str, second: str
) -> None:
    message = pending(conversation)
    mirror.apply_operation(record(message, first, 2))
    mirror.apply_operation(record(message, second, 1))
    assert fresh(message).operation_status == first
    assert not models.AuditEntry.objects.exists()
    mirror.apply_operation(record(message, second, 3))
    turned = fresh(message)
    assert turned.operation_status == second
    assert turned.state == (S.SUCCEEDED if second == "success" else S.FAILED)
    entry = models.AuditEntry.objects.get()
    assert (entry.action, entry.message, entry.detail["was"]) == ("operation_contradicted", message, first)


def test_the_same_record_again_writes_nothing(
    conversation: models.Conversation, django_assert_max_num_queries: Any
) -> None:
    message = pending(conversation)
    said = record(message, "failed", 1, logs=[log(1), log(2)])
    mirror.apply_operation(said)
    before = models.Message.objects.values().get(pk=message.pk)
    with django_assert_max_num_queries(3):
        mirror.apply_operation(said)
    assert models.Message.objects.values().get(pk=message.pk) == before
    assert models.OperationLog.objects.count() == 2


def test_logs_are_united_by_their_id(conversation: models.Conversation) -> None:
    message = pending(conversation)
    mirror.apply_operation(record(message, "pending", 1, logs=[log(1), log(2)]))
    mirror.apply_operation(record(message, "pending", 0.5, logs=[log(1)]))
    mirror.apply_operation(record(message, "pending", 2, logs=[log(3, status="success", error_type=None)]))
    assert [entry.catena_id.int for entry in models.OperationLog.objects.all()] == [1, 2, 3]
    assert (fresh(message).attempt_count, fresh(message).failed_attempts) == (3, 2)


def test_a_log_is_only_replaced_by_a_newer_word(conversation: models.Conversation) -> None:
    message = pending(conversation)
    later = (EPOCH + timedelta(minutes=2)).isoformat()
    earlier = (EPOCH + timedelta(minutes=1)).isoformat()
    mirror.apply_operation(record(message, "pending", 1, logs=[log(1, updated_at=later, error_details="New")]))
    mirror.apply_operation(record(message, "pending", 2, logs=[log(1, updated_at=earlier, error_details="Old")]))
    assert models.OperationLog.objects.get().error_details == "New"
    last = (EPOCH + timedelta(minutes=3)).isoformat()
    mirror.apply_operation(record(message, "pending", 3, logs=[log(1, updated_at=last, error_details="Last")]))
    assert models.OperationLog.objects.get().error_details == "Last"


def test_a_log_never_moves_to_another_operation(conversation: models.Conversation) -> None:
    first, second = record(conversation.connection, logs=[log(1)]), record(conversation.connection, logs=[log(1)])
    mirror.apply_operation(first)
    mirror.apply_operation(second)
    assert models.OperationLog.objects.get().operation.catena_id == first.id


def test_any_order_of_the_same_records_ends_in_the_same_rows(conversation: models.Conversation) -> None:
    ends = set()
    for order in itertools.permutations(range(4)):
        message = pending(conversation)
        said = [
            record(message, "pending", 1, logs=[log(message.pk * 10 + 1)]),
            record(message, "escalated", 2, logs=[log(message.pk * 10 + 1), log(message.pk * 10 + 2)]),
            record(message, "failed", 3, logs=[log(message.pk * 10 + 3, error_type="auth")]),
            record(message, "pending", 4, source_id="msg_4"),
        ]
        for index in order:
            mirror.apply_operation(said[index])
        end = fresh(message)
        assert end.operation is not None
        ends.add((end.state, end.operation_status, end.attempt_count, end.reason, end.operation.source_id))
    assert ends == {(S.FAILED, "failed", 3, "Samsara refused the stored credentials", "msg_4")}


def test_what_is_stored_of_an_attempt_has_passed_the_filters(conversation: models.Conversation) -> None:
    said = record(
        conversation.connection,
        logs=[
            log(
                error_details="Refused: Authorization: Bearer abc.def, ask dana@example.com",
                response_headers={"Set-Cookie": "a=b", "X-Request-Id": "req-1", "Location": "https://x"},
            )
        ],
    )
    mirror.apply_operation(said)
    stored = models.OperationLog.objects.get()
    assert stored.response_headers == {"X-Request-Id": "req-1"}
    for secret in ("abc.def", "dana@", "Bearer abc"):
        assert secret not in stored.error_details


def test_unknown_fields_stay_and_secrets_go(conversation: models.Conversation) -> None:
    said = record(
        conversation.connection,
        logs=[{**log(1), "region": "eu", "request_headers": {"Authorization": "Bearer abc"}}],
        priority_lane="fast",
        credentials={"password": "hunter2"},
    )
    stored = mirror.apply_operation(said)
    assert stored is not None
    assert stored.raw["priority_lane"] == "fast"
    assert stored.raw["logs"] == [{"id": str(uuid.UUID(int=1)), "region": "eu"}]
    assert "hunter2" not in str(stored.raw)
    assert "Dock 4" not in str(stored.raw)


def test_text_that_a_table_cannot_hold_is_made_to_fit(conversation: models.Conversation) -> None:
    said = record(
        conversation.connection,
        "s" * 80,
        payload={"message_text": "a\x00b\ud800c"},
        source_id="x" * 300,
        logs=[log(error_details="no\x00pe\ud800", error_type="e" * 80, status="t" * 80)],
    )
    stored = mirror.apply_operation(said)
    assert stored is not None
    assert stored.payload == {"message_text": "ab?c"}
    assert (len(stored.status), len(stored.source_id)) == (50, 200)
    assert stored.logs.get().error_details == "no pe?"


@pytest.mark.parametrize("state", [S.CLOSED_SENT, S.CLOSED_NOT_SENT])
def test_catena_corrects_what_a_person_closed(conversation: models.Conversation, state: MessageState) -> None:
    message = pending(conversation, state=state)
    mirror.apply_operation(record(message, "pending", 1))
    assert fresh(message).state == state
    mirror.apply_operation(record(message, "success", 2))
    assert fresh(message).state == S.SUCCEEDED
    assert models.AuditEntry.objects.get().action == "operation_found"


def unbound(conversation: models.Conversation, state: MessageState) -> models.Message:
    columns: dict[str, Any] = {"state": state, "fence": 1}
    if state == S.POSTING:
        columns["lease_until"] = NOW
    if state == S.UNKNOWN:
        columns["unknown_since"] = NOW
    return factories.OutgoingFactory(conversation=conversation, **columns)


@pytest.mark.parametrize("state", [S.POSTING, S.UNKNOWN, S.NEEDS_DECISION, S.CLOSED_SENT, S.CLOSED_NOT_SENT])
@pytest.mark.parametrize(
    ("word", "after"), [("pending", S.ACCEPTED), ("success", S.SUCCEEDED), ("failed", S.FAILED), ("odd", S.ACCEPTED)]
)
def test_a_message_gets_its_operation_wherever_it_may_have_been_sent(
    conversation: models.Conversation, state: MessageState, word: str, after: MessageState
) -> None:
    message = unbound(conversation, state)
    assert mirror.bind_operation(message, record(conversation.connection, word, 1), NOW)
    bound = fresh(message)
    assert (bound.state, bound.operation_status, bound.accepted_at, bound.lease_until) == (after, word, NOW, None)
    assert message.state == after
    is_final = after != S.ACCEPTED
    assert (bound.settled_at is None, bound.next_poll_at is None) == (not is_final, is_final)


@pytest.mark.parametrize("state", [S.WAITING, S.QUEUED, S.REJECTED, S.CANCELLED, S.EXPIRED])
def test_a_message_that_was_never_posted_gets_no_operation(
    conversation: models.Conversation, state: MessageState
) -> None:
    message = unbound(conversation, state)
    assert not mirror.bind_operation(message, record(conversation.connection), NOW)
    assert fresh(message).operation is None


def test_a_message_that_moved_meanwhile_is_not_bound(conversation: models.Conversation) -> None:
    message = unbound(conversation, S.POSTING)
    models.Message.objects.update(fence=2)
    assert not mirror.bind_operation(message, record(conversation.connection), NOW)
    assert fresh(message).state == S.POSTING


def test_one_operation_is_never_given_to_two_messages(conversation: models.Conversation) -> None:
    owner = factories.accepted(conversation)
    other = unbound(conversation, S.UNKNOWN)
    assert not mirror.bind_operation(other, record(owner), NOW)
    assert (fresh(other).state, fresh(other).operation) == (S.UNKNOWN, None)


def test_an_answer_after_the_webhook_keeps_what_the_webhook_said(conversation: models.Conversation) -> None:
    message = unbound(conversation, S.POSTING)
    early = record(conversation.connection, "failed", 1, logs=[log()])
    mirror.apply_operation(early)
    answer = types.Operation.parse_receipt(
        {"id": str(early.id), "connection_id": str(conversation.connection.catena_id)}, "message"
    )
    assert mirror.bind_operation(message, answer, NOW)
    bound = fresh(message)
    assert (bound.state, bound.failed_attempts) == (S.FAILED, 1)
    assert bound.operation is not None
    assert bound.operation.payload == {"message_text": "Dock 4 is free"}


def test_a_record_that_came_before_the_answer_becomes_our_message(conversation: models.Conversation) -> None:
    record_id = uuid.uuid4()
    early = factories.IncomingFactory(
        conversation=conversation, direction="out", sender=None, sender_name="", catena_id=record_id
    )
    message = unbound(conversation, S.POSTING)
    done = record(conversation.connection, "success", 1, resource_id=str(record_id))
    assert mirror.bind_operation(message, done, NOW)
    assert fresh(message).catena_id == record_id
    assert not models.Message.objects.filter(pk=early.pk).exists()


@pytest.mark.parametrize(
    ("before", "after", "later", "kept"),
    [
        ("pending", "success", -1, "success"), ("pending", "failed", 1, "failed"), ("success", "pending", 1, "success"),
        ("failed", "odd", 1, "failed"), ("odd", "failed", -1, "failed"), ("success", "failed", 1, "failed"),
        ("success", "failed", -1, "success"), ("success", "failed", 0, "success"), ("failed", "success", 1, "success"),
        ("pending", "odd", 1, "odd"), ("pending", "odd", -1, "pending"), ("odd", "pending", 1, "pending"),
    ],
)  # fmt: skip
def test_the_merge_of_two_words(before: str, after: str, later: int, kept: str) -> None:
    assert merged_status(before, EPOCH, after, EPOCH + timedelta(seconds=later)) == kept


@pytest.mark.parametrize("words", [("pending", "parked"), ("parked", "pending")])
def test_of_two_words_of_one_moment_pending_is_the_earlier(words: tuple[str, str]) -> None:
    moment = timezone.now()
    assert merged_status(words[0], moment, words[1], moment) == "parked"


def test_what_the_provider_calls_the_request_is_kept_with_the_log_and_follows_a_newer_word(
    conversation: models.Conversation,
) -> None:
    message = pending(conversation)
    headers = {"x-CORRELATION-id": "corr-9", "X-Request-Id": "req-1", "Retry-After": "30", "X-Trace-Id": ""}
    mirror.apply_operation(record(message, logs=[log(1, response_headers=headers)]))
    stored = models.OperationLog.objects.get()
    assert stored.request_ids == ["corr-9", "req-1"]

    later = EPOCH + timedelta(minutes=5)
    changed = {**log(1, response_headers={"X-Request-ID": "req-2"}), "updated_at": later.isoformat()}
    mirror.apply_operation(record(message, minutes=6, logs=[changed]))
    stored.refresh_from_db()
    assert stored.request_ids == ["req-2"]


def test_a_secret_in_a_request_id_is_no_request_id(conversation: models.Conversation) -> None:
    headers = {"X-Request-Id": "Bearer abc.def.ghi"}
    mirror.apply_operation(record(pending(conversation), logs=[log(1, response_headers=headers)]))
    assert models.OperationLog.objects.get().request_ids == []
