"""Two at once, on the real database: whoever comes second changes nothing."""

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messaging import mirror, models, outbox
from messaging.catena import types
from messaging.catena.client import CatenaClient
from messaging.outbox import verdict
from messaging.simulator import Fault, SimulatorServer
from messaging.states import AttemptOutcome, MessageState
from tests import factories

pytestmark = pytest.mark.django_db
# Several threads see one another's rows only through real commits.
with_commits = pytest.mark.django_db(transaction=True)
S = MessageState
WRITE = "POST /v2/telematics/messages"


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Runs all from one barrier, each on its own thread and connection; their answers in order."""
    barrier, answers = threading.Barrier(len(actions)), [None] * len(actions)

    def run(index: int, action: Callable[[], Any]) -> None:
        try:
            barrier.wait(timeout=20)
            answers[index] = action()
        except Exception as error:
            answers[index] = error
        finally:
            database.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    failed = [answer for answer in answers if isinstance(answer, Exception)]
    assert not failed, failed
    return answers


def fill(talk: models.Conversation, author: models.User, count: int) -> list[models.Message]:
    return [
        factories.OutgoingFactory(conversation=talk, author=author, text=str(n), state=S.WAITING if n else S.QUEUED)
        for n in range(count)
    ]


def states() -> list[str]:
    return list(models.Message.objects.order_by("seq").values_list("state", flat=True))


def sender(client: Any = None) -> outbox.Sender:
    return outbox.Sender(client, outbox.DatabaseClock())


def begin(claimed: outbox.Claim) -> models.SendAttempt:
    message = models.Message.objects.get(pk=claimed.message_id)
    draft = types.MessageDraft(message.connection.catena_id, uuid.uuid4(), uuid.uuid4(), message.text or "")
    return outbox.begin_post(claimed, draft, "test", timezone.now())


@with_commits
def test_many_drains_of_one_conversation_post_each_message_once(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    fill(talk, mara, 12)
    posts = at_once(*[lambda: outbox.drain(talk.pk, catena_client)] * 6)
    while outbox.drain(talk.pk, catena_client):
        pass
    assert sum(posts) <= 12
    assert [entry.message_text for entry in catena.world.journal] == [str(n) for n in range(12)]
    assert catena.world.posts_seen == 12
    assert set(states()) == {S.ACCEPTED}


@with_commits
def test_one_of_many_claims_wins(talk: models.Conversation, mara: models.User) -> None:
    for _ in range(5):
        (message,) = fill(talk, mara, 1)
        claims = [won for won in at_once(*[lambda: outbox.claim(talk.pk, sender())] * 5) if won]
        assert [won.fence for won in claims] == [1]
        models.Message.objects.filter(pk=message.pk).update(state=S.CANCELLED, lease_until=None)


@with_commits
def test_a_cancel_and_a_claim_never_both_win(talk: models.Conversation, mara: models.User) -> None:
    for _ in range(12):
        (message,) = fill(talk, mara, 1)
        cancelled, claimed = at_once(
            lambda message=message: outbox.cancel(message, mara, timezone.now()),
            lambda: outbox.claim(talk.pk, sender()),
        )
        message.refresh_from_db()
        assert cancelled == (claimed is None)
        assert message.state == (S.CANCELLED if cancelled else S.CLAIMED)
        models.Message.objects.filter(pk=message.pk).update(state=S.CANCELLED, lease_until=None)


@with_commits
def test_a_claim_waits_for_nobody(talk: models.Conversation, mara: models.User) -> None:
    (message,) = fill(talk, mara, 1)
    with transaction.atomic():
        models.Message.objects.select_for_update().get(pk=message.pk)
        (claimed,) = at_once(lambda: outbox.claim(talk.pk, sender()))
    assert claimed is None


@with_commits
def test_composing_while_the_head_finishes_leaves_exactly_one_head(
    talk: models.Conversation, mara: models.User, catena_client: CatenaClient
) -> None:
    for turn in range(6):
        head = outbox.compose(mara, talk, f"head {turn}", "medium", None, uuid.uuid4(), timezone.now())
        at_once(
            lambda: outbox.drain(talk.pk, catena_client),
            lambda: outbox.compose(mara, talk, "next", "medium", None, uuid.uuid4(), timezone.now()),
        )
        head.refresh_from_db()
        assert head.state == S.ACCEPTED
        assert S.WAITING not in states(), "whoever composes behind a finished head is queued, or promoted by it"
        outbox.drain(talk.pk, catena_client)
    assert set(states()) == {S.ACCEPTED}


def test_only_the_owner_of_the_fence_begins_a_post(talk: models.Conversation, mara: models.User) -> None:
    fill(talk, mara, 1)
    old = outbox.claim(talk.pk, sender())
    assert old is not None
    models.Message.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert outbox.reap(timezone.now()) == 1
    new = outbox.claim(talk.pk, sender())
    assert new is not None
    with pytest.raises(outbox.ClaimLost):
        begin(old)
    assert begin(new).fence == 2


@with_commits
def test_intent_is_refused_inside_a_transaction(talk: models.Conversation, mara: models.User) -> None:
    """There it would be committed after its POST, or never."""
    (message,) = fill(talk, mara, 1)
    claimed = outbox.claim(talk.pk, sender())
    assert claimed is not None
    with transaction.atomic(), pytest.raises(RuntimeError):
        begin(claimed)
    message.refresh_from_db()
    assert (message.state, message.send_attempts.count()) == (S.CLAIMED, 0)
    assert begin(claimed).fence == 1


@with_commits
def test_two_reapers_find_each_row_once(mara: models.User) -> None:
    past = timezone.now() - timedelta(seconds=1)
    for state in (S.CLAIMED, S.POSTING):
        for _ in range(10):
            factories.OutgoingFactory(state=state, lease_until=past, author=mara)
    reaped = at_once(*[lambda: outbox.reap(timezone.now())] * 3)
    assert sum(reaped) == 20
    assert sorted(states()) == [S.QUEUED] * 10 + [S.UNKNOWN] * 10


def posting(talk: models.Conversation, mara: models.User) -> tuple[models.Message, outbox.Claim]:
    (message,) = fill(talk, mara, 1)
    claimed = outbox.claim(talk.pk, sender())
    assert claimed is not None
    begin(claimed)
    return message, claimed


def answer(talk: models.Conversation) -> types.Operation:
    body = {"id": str(uuid.uuid4()), "connection_id": str(talk.connection.catena_id)}
    return types.Operation.parse_receipt(body, "message")


def lose(message: models.Message) -> None:
    models.Message.objects.filter(pk=message.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert outbox.reap(timezone.now()) == 1


def test_a_late_answer_with_an_operation_is_taken_from_a_worker_given_up(
    talk: models.Conversation, mara: models.User
) -> None:
    message, claimed = posting(talk, mara)
    behind = factories.OutgoingFactory(conversation=talk, state=S.WAITING)
    lose(message)
    assert outbox.finish(claimed, verdict.accepted(answer(talk)), timezone.now())
    message.refresh_from_db()
    behind.refresh_from_db()
    assert (message.state, behind.state) == (S.ACCEPTED, S.QUEUED)
    assert message.send_attempts.get().outcome == AttemptOutcome.ACCEPTED


def until_somebody_waits_for_a_lock() -> None:
    for _ in range(400):
        with database.cursor() as cursor:
            cursor.execute("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)")
            if cursor.fetchone() == (True,):
                return
        threading.Event().wait(0.02)
    raise AssertionError("nobody waits")


@with_commits
def test_an_answer_is_kept_when_a_sweep_brings_its_record_at_the_same_moment(
    talk: models.Conversation, mara: models.User
) -> None:
    message, claimed = posting(talk, mara)
    record_id, swept = uuid.uuid4(), threading.Event()
    body = {"id": str(uuid.uuid4()), "connection_id": str(talk.connection.catena_id), "resource_id": str(record_id)}
    accepted = verdict.accepted(types.Operation.parse_receipt(body, "message"))

    def sweep() -> None:
        with transaction.atomic():
            models.Message.objects.create(
                conversation=factories.ConversationFactory(), connection=talk.connection, direction="out",
                state=S.MIRRORED, occurred_at=timezone.now(), catena_id=record_id,
            )  # fmt: skip
            swept.set()
            until_somebody_waits_for_a_lock()

    def finish() -> None:
        assert swept.wait(20)
        outbox.finish_surely(claimed, accepted, timezone.now, lambda low, high: high)

    at_once(sweep, finish)
    message.refresh_from_db()
    assert (message.state, message.catena_id) == (S.ACCEPTED, record_id)
    assert models.Message.objects.filter(catena_id=record_id).count() == 1


@pytest.mark.parametrize("outcome", [o for o in AttemptOutcome if o != AttemptOutcome.ACCEPTED])
def test_any_other_late_outcome_is_ignored(
    talk: models.Conversation, mara: models.User, outcome: AttemptOutcome
) -> None:
    message, claimed = posting(talk, mara)
    lose(message)
    assert not outbox.finish(claimed, outbox.Verdict(outcome, reason="late"), timezone.now())
    message.refresh_from_db()
    assert (message.state, message.send_attempts.get().outcome) == (S.UNKNOWN, AttemptOutcome.LOST)


def test_an_answer_after_a_persons_second_send_stays_visible(talk: models.Conversation, mara: models.User) -> None:
    message, old = posting(talk, mara)
    lose(message)
    models.Message.objects.update(state=S.QUEUED)
    models.Decision.objects.create(message=message, user=mara, kind="send_again", reason="Nothing came")
    new = outbox.claim(talk.pk, sender())
    assert new is not None
    begin(new)
    late = answer(talk)
    assert not outbox.finish(old, verdict.accepted(late), timezone.now())
    message.refresh_from_db()
    assert (message.state, message.fence, message.operation) == (S.POSTING, 2, None)
    assert message.send_attempts.get(fence=1).operation == models.Operation.objects.get(catena_id=late.id)
    outbox.finish(new, verdict.accepted(answer(talk)), timezone.now())
    message.refresh_from_db()
    assert (message.state, message.is_sent_twice) == (S.ACCEPTED, True)
    assert models.AuditEntry.objects.get(action="sent_twice").message == message


@pytest.mark.parametrize("outcome", [AttemptOutcome.UNSENT, AttemptOutcome.REFUSED, AttemptOutcome.AMBIGUOUS])
def test_an_earlier_post_that_is_found_counts_when_the_second_send_comes_to_nothing(
    talk: models.Conversation, mara: models.User, outcome: AttemptOutcome
) -> None:
    message, old = posting(talk, mara)
    lose(message)
    models.Message.objects.update(state=S.QUEUED)
    models.Decision.objects.create(message=message, user=mara, kind="send_again", reason="Nothing came")
    new = outbox.claim(talk.pk, sender())
    assert new is not None
    begin(new)
    outbox.finish(old, verdict.accepted(answer(talk)), timezone.now())
    outbox.finish(new, verdict.Verdict(outcome, reason="No answer"), timezone.now())
    message.refresh_from_db()
    assert (message.state, message.is_sent_twice) == (S.ACCEPTED, False)
    assert message.operation == message.send_attempts.get(fence=1).operation


def test_recording_the_same_outcome_twice_is_harmless(talk: models.Conversation, mara: models.User) -> None:
    """The commit went through and its confirmation was lost: the worker says it again."""
    message, claimed = posting(talk, mara)
    said = verdict.accepted(answer(talk))
    assert outbox.finish(claimed, said, timezone.now())
    before = models.Message.objects.values().get(pk=message.pk)
    assert not outbox.finish(claimed, said, timezone.now())
    assert models.Message.objects.values().get(pk=message.pk) == before
    assert not models.AuditEntry.objects.filter(action="sent_twice").exists()


@with_commits
def test_the_outcome_is_recorded_once_the_database_is_back(talk: models.Conversation, mara: models.User) -> None:
    message, claimed = posting(talk, mara)
    database.connection.close()  # the server dropped this session while the POST was on its way
    outbox.finish_surely(claimed, verdict.accepted(answer(talk)), timezone.now, lambda low, high: high)
    message.refresh_from_db()
    assert message.state == S.ACCEPTED


@with_commits
def test_an_outcome_is_recorded_once_though_the_next_claim_fails_at_first(
    talk: models.Conversation, mara: models.User
) -> None:
    """Outcome and next claim are one commit: they are lost together and tried again together."""
    message, behind = fill(talk, mara, 2)
    claimed = outbox.claim(talk.pk, sender())
    assert claimed is not None
    begin(claimed)
    said, tries = verdict.accepted(answer(talk)), iter([OperationalError("away")])

    def following() -> outbox.Claim | None:
        for error in tries:
            raise error
        return outbox.claim(talk.pk, sender())

    taken = outbox.finish_surely(claimed, said, timezone.now, lambda low, high: high, following)
    assert taken is not None
    assert (taken.message_id, taken.fence) == (behind.pk, 1)
    assert states() == [S.ACCEPTED, S.CLAIMED]
    assert message.send_attempts.get().outcome == AttemptOutcome.ACCEPTED


@with_commits
def test_sending_a_message_costs_two_transactions_and_six_statements(
    talk: models.Conversation, mara: models.User
) -> None:
    class Instant:
        def create_message(self, draft: Any, *, before_first_byte: Any = None) -> types.Operation:
            before_first_byte()
            return answer(talk)

    fill(talk, mara, 5)
    clock = outbox.DatabaseClock()
    clock()
    with CaptureQueriesContext(database) as captured:
        assert outbox.drain(talk.pk, Instant(), clock) == 5
    words = [query["sql"].split()[0] for query in captured.captured_queries]
    # Claim; then intent, and between BEGIN and COMMIT: lock, operation, attempt, promotion and the next claim.
    assert words.count("COMMIT") == 5
    assert len(words) - words.count("BEGIN") - words.count("COMMIT") == 1 + 6 * 5 - 1


@with_commits
def test_a_webhook_and_the_answer_at_once_settle_the_message(talk: models.Conversation, mara: models.User) -> None:
    for _ in range(6):
        message, claimed = posting(talk, mara)
        said = answer(talk)
        now = timezone.now().isoformat()
        final = types.Operation.parse(
            {"id": str(said.id), "connection_id": str(said.connection_id), "resource": "message", "payload": {},
             "operation_type": "create", "status": "success", "created_at": now, "updated_at": now}
        )  # fmt: skip
        at_once(
            lambda claimed=claimed, said=said: outbox.finish(claimed, verdict.accepted(said), timezone.now()),
            lambda final=final: mirror.apply_operation(final),
        )
        message.refresh_from_db()
        assert (message.state, message.operation_status) == (S.SUCCEEDED, "success")


@with_commits
def test_many_429_at_once_close_one_gate(
    mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("rate_limited", WRITE, retry_after_seconds=30))
    author = factories.UserFactory(is_superuser=True)
    heads = [factories.OutgoingFactory(author=author) for _ in range(6)]
    at_once(*[lambda pk=head.conversation_id: outbox.drain(pk, catena_client) for head in heads])
    assert models.Gate.objects.count() == 1
    assert set(states()) == {S.QUEUED}
    assert sum(outbox.drain(head.conversation_id, catena_client) for head in heads) == 0
