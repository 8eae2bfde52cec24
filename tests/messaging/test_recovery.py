"""Bulk recovery: the dry run judges as Python does, the canary goes first, nothing goes twice, failures that return stop it."""

import random
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from messaging import gates, models, outbox, recovery
from messaging.models import Recovery, RecoveryItem
from messaging.recovery import moves, rounds
from messaging.states import AttemptOutcome, GateCause, MessageState
from tests import factories
from tests.messaging.test_outbox_races import at_once, with_commits

pytestmark = pytest.mark.django_db
S = MessageState
V = RecoveryItem.Verdict
R = Recovery.State
REFUSED = {"error_type": "validation", "response_status_code": 422, "reason": "Samsara did not accept the content"}


def conversations(connection: models.Connection, count: int) -> list[models.Conversation]:
    return [
        factories.ConversationFactory(driver=factories.FleetUserFactory(connection=connection)) for _ in range(count)
    ]


def refused(conversation: models.Conversation, author: models.User, **columns: Any) -> models.Message:
    return factories.failed(conversation, author=author, **{**REFUSED, **columns})


def freeze(user: models.User, **more: Any) -> Recovery:
    return recovery.freeze(user, models.Message.objects.all(), timezone.now(), **more)


def verdicts(frozen: Recovery) -> dict[int, str]:
    return dict(frozen.items.values_list("message_id", "verdict"))


def end(state: S, **columns: Any) -> None:
    """What became of all that was sent again and has not ended."""
    moving = models.Message.objects.exclude(retry_of=None).filter(state=S.QUEUED)
    for message in moving:
        operation = factories.OperationFactory(connection=message.connection, status=state.value[:7])
        models.Message.objects.filter(pk=message.pk).update(
            state=state, operation=operation, settled_at=timezone.now(), **columns
        )


def fresh(frozen: Recovery) -> Recovery:
    return Recovery.objects.get(pk=frozen.pk)


def resent() -> int:
    return models.Message.objects.exclude(retry_of=None).count()


@pytest.fixture
def many(connection: models.Connection, mara: models.User) -> list[models.Message]:
    return [refused(one, mara) for one in conversations(connection, 12)]


@pytest.fixture
def started(many: list[models.Message], mara: models.User) -> Recovery:
    frozen = freeze(mara)
    assert recovery.start(frozen, mara, timezone.now())
    return frozen


def test_the_dry_run_sends_nothing_and_judges_each_failure(connection: models.Connection, mara: models.User) -> None:
    safe, broken, older, old, done, again = (refused(one, mara) for one in conversations(connection, 6))
    models.Message.objects.filter(pk=broken.pk).update(error_type="network")
    factories.OutgoingFactory(
        conversation=older.conversation, author=mara, state=S.SUCCEEDED, operation=factories.OperationFactory()
    )
    models.Message.objects.filter(pk=old.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    outbox.handled(done, mara, timezone.now())
    outbox.resend(again, mara, timezone.now(), is_sure=False)
    before = models.Message.objects.count()
    assert verdicts(freeze(mara)) == {
        safe.pk: V.SAFE, broken.pk: V.MAY_HAVE_ARRIVED, older.pk: V.SUPERSEDED, old.pk: V.TOO_OLD, done.pk: V.DONE,
        again.pk: V.DONE,
    }  # fmt: skip
    assert models.Message.objects.count() == before


@pytest.mark.parametrize("state", sorted(set(S) - {S.FAILED, S.REJECTED, S.EXPIRED, S.POSTING, S.CLAIMED, S.MIRRORED}))
def test_what_is_no_failure_is_never_in_the_set(conversation: models.Conversation, mara: models.User, state: S) -> None:
    message = refused(conversation, mara, unknown_since=timezone.now(), question="absent")
    models.Message.objects.filter(pk=message.pk).update(state=state)
    with pytest.raises(recovery.NothingToRecover):
        freeze(mara)
    assert not Recovery.objects.exists()


def test_a_dry_run_of_one_person_holds_only_what_they_see(
    many: list[models.Message], outsider: models.User, sol: models.User
) -> None:
    with pytest.raises(recovery.NothingToRecover):
        freeze(outsider)
    assert freeze(sol).items.count() == len(many)


@pytest.mark.parametrize(
    "later",
    [{"retry_of": True}, {"state": S.CANCELLED}, {"is_test": True}, {"deleted_at": timezone.now()}],
    ids=["a resend", "a withdrawn one", "a test", "a deleted one"],
)
def test_what_says_nothing_new_supersedes_nothing(
    connection: models.Connection, mara: models.User, later: dict[str, Any]
) -> None:
    first, message = (
        factories.ConversationFactory(driver=factories.FleetUserFactory(connection=connection)) for _ in "ab"
    )
    earlier = refused(message, mara, occurred_at=timezone.now() - timedelta(hours=1), handled_at=timezone.now())
    failure = refused(message, mara)
    columns = {**later, **({"retry_of": earlier} if "retry_of" in later else {})}
    factories.OutgoingFactory(conversation=message, author=mara, **columns)
    assert verdicts(freeze(mara))[failure.pk] == V.SAFE
    assert first.pk


def test_sql_and_python_agree_on_what_may_have_arrived(connection: models.Connection, mara: models.User) -> None:
    """Chains of up to four, with every state, error and code that tells, drawn at random."""
    chance, tails = random.Random(7), []
    for conversation in conversations(connection, 60):
        earlier = None
        for _ in range(chance.choice([1, 1, 2, 3, 4])):
            state = chance.choice([S.FAILED, S.FAILED, S.REJECTED, S.REJECTED, S.EXPIRED, S.SUCCEEDED, S.CANCELLED])
            operation = factories.OperationFactory(connection=connection)
            earlier = factories.OutgoingFactory(
                conversation=conversation, author=mara, retry_of=earlier, state=state, operation=operation,
                error_type=chance.choice(["network", "tsp", "validation", "validation", ""]),
                response_status_code=chance.choice([None, 400, 404, 422, 422, 429, 499, 500]),
            )  # fmt: skip
            if chance.random() < 0.1:
                outcome = chance.choice([AttemptOutcome.AMBIGUOUS, AttemptOutcome.LOST, AttemptOutcome.UNSENT])
                factories.SendAttemptFactory(
                    message=earlier, outcome=outcome, operation=chance.choice([None, operation])
                )
        assert earlier is not None
        if earlier.state in {S.FAILED, S.REJECTED, S.EXPIRED}:
            tails.append(earlier)
    found = recovery.judge([one.pk for one in tails], timezone.now())
    said = {one.pk: bool(outbox.doubt_about(one)) for one in tails}
    assert {pk: verdict == V.MAY_HAVE_ARRIVED for pk, verdict in found.items()} == said
    assert 5 < sum(said.values()) < len(said) - 5


def test_a_set_never_changes_after_it_was_frozen(many: list[models.Message], mara: models.User) -> None:
    frozen = freeze(mara)
    refused(conversations(many[0].connection, 1)[0], mara)
    assert set(verdicts(frozen)) == {one.pk for one in many}


def test_three_go_first_over_different_connections(mara: models.User, fleet: models.Fleet) -> None:
    places = [factories.ConnectionFactory(fleet=fleet) for _ in range(2)]
    for place in places:
        for conversation in conversations(place, 4):
            refused(conversation, mara)
    frozen = freeze(mara)
    recovery.start(frozen, mara, timezone.now())
    chosen = frozen.items.filter(is_canary=True).values_list("message__connection_id", flat=True)
    assert (len(chosen), set(chosen)) == (3, {place.pk for place in places})
    recovery.advance(timezone.now())
    assert resent() == 3
    recovery.advance(timezone.now() + timedelta(minutes=1))
    assert (resent(), fresh(frozen).state) == (3, R.CANARY)


def test_the_rest_follows_when_the_canary_is_accepted_and_every_one_goes_once(
    started: Recovery, many: list[models.Message]
) -> None:
    now = timezone.now()
    for beat in range(12):
        recovery.advance(now + timedelta(seconds=2 * beat))
        end(S.SUCCEEDED)
    assert fresh(started).state == R.FINISHED
    again = models.Message.objects.exclude(retry_of=None).values_list("retry_of_id", flat=True)
    assert sorted(again) == [one.pk for one in many]
    assert not started.items.filter(resent=None).exists()
    assert recovery.advance(now + timedelta(minutes=5)) == 0


@pytest.mark.parametrize("state", [S.FAILED, S.REJECTED, S.EXPIRED, S.CANCELLED])
def test_a_canary_that_fails_stops_it(started: Recovery, state: S) -> None:
    recovery.advance(timezone.now())
    end(state, reason="Samsara answered 401")
    recovery.advance(timezone.now() + timedelta(seconds=4))
    ended = fresh(started)
    assert (ended.state, ended.stop_reason, ended.stopped_by) == (
        R.STOPPED,
        "The canary failed: Samsara answered 401",
        None,
    )
    assert resent() == 3
    entry = models.AuditEntry.objects.get(action="recovery_stopped")
    assert entry.detail == {"recovery": str(started.uuid), "left": 9}


def test_a_canary_of_which_nobody_knows_is_waited_for(started: Recovery) -> None:
    recovery.advance(timezone.now())
    models.Message.objects.exclude(retry_of=None).update(state=S.UNKNOWN, unknown_since=timezone.now())
    recovery.advance(timezone.now() + timedelta(minutes=3))
    assert (fresh(started).state, resent()) == (R.CANARY, 3)


def test_failures_that_return_stop_it(started: Recovery) -> None:
    now = timezone.now()
    for beat in range(3):
        recovery.advance(now + timedelta(seconds=2 * beat))
        end(S.SUCCEEDED if beat < 1 else S.FAILED, reason="Samsara answered 403")
    recovery.advance(now + timedelta(seconds=20))
    ended = fresh(started)
    assert (ended.state, resent()) == (R.STOPPED, 7)
    assert ended.stop_reason == "Failures returned, 4 of the last 20: Samsara answered 403"


def test_it_keeps_to_its_rate_on_each_connection(started: Recovery, settings: Any) -> None:
    settings.RECOVERY_PER_MINUTE = 60
    now = timezone.now()
    recovery.advance(now)
    end(S.SUCCEEDED)
    recovery.advance(now)
    assert (resent(), fresh(started).state) == (2, R.CANARY)
    for seconds, total in [(1, 3), (1.5, 3), (2, 4), (3.5, 5)]:
        recovery.advance(now + timedelta(seconds=seconds))
        end(S.SUCCEEDED)
        recovery.advance(now + timedelta(seconds=seconds))
        assert resent() == total, seconds


def test_another_that_starts_on_its_heels_goes_no_faster(started: Recovery, mara: models.User, settings: Any) -> None:
    settings.RECOVERY_PER_MINUTE = 60
    now = timezone.now()
    recovery.advance(now)
    end(S.SUCCEEDED)
    recovery.stop(started, mara, now, "Stopped by hand")
    again = freeze(mara)
    recovery.start(again, mara, now)
    recovery.advance(now)
    assert resent() == 2
    recovery.advance(now + timedelta(seconds=1))
    assert resent() == 3


def test_no_more_than_twenty_are_on_their_way_at_once(
    connection: models.Connection, mara: models.User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "MOST_ON_THE_WAY", 5)
    for one in conversations(connection, 12):
        refused(one, mara)
    frozen = freeze(mara)
    recovery.start(frozen, mara, timezone.now())
    now = timezone.now()
    recovery.advance(now)
    end(S.SUCCEEDED)
    for beat in range(1, 8):
        recovery.advance(now + timedelta(seconds=2 * beat))
    assert resent() == 8


@pytest.mark.parametrize("of_all", [True, False])
def test_it_waits_behind_a_closed_gate(started: Recovery, many: list[models.Message], of_all: bool) -> None:
    place = None if of_all else many[0].connection_id
    gates.close_gate(place, GateCause.RATE_LIMIT, timezone.now(), timedelta(minutes=4))
    recovery.advance(timezone.now())
    assert (resent(), fresh(started).state) == (0, R.CANARY)
    recovery.advance(timezone.now() + timedelta(minutes=5))
    assert resent() == 3


def test_a_lock_stops_it(started: Recovery) -> None:
    gates.lock("restored", timezone.now())
    recovery.advance(timezone.now())
    assert (fresh(started).state, resent()) == (R.STOPPED, 0)
    assert "locked" in fresh(started).stop_reason


def test_an_author_who_lost_the_right_to_send_stops_it(started: Recovery, mara: models.User) -> None:
    models.FleetMembership.objects.all().delete()
    recovery.advance(timezone.now())
    assert (fresh(started).state, resent()) == (R.STOPPED, 0)
    assert f"{mara.label} may no longer write" in fresh(started).stop_reason


def overtake(message: models.Message, user: models.User) -> None:
    factories.OutgoingFactory(conversation=message.conversation, author=user)


def set_rows(model: Any, attribute: str, **columns: Any) -> Any:
    """A change of the row that the message names by `attribute`."""
    return lambda message, _: model.objects.filter(pk=getattr(message, attribute)).update(**columns)


SENT_OR_HANDLED = "Meanwhile it was sent again or handled."
STALE = "The provider refuses the stored credentials. The fleet must sign in again."


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda message, user: outbox.handled(message, user, timezone.now()), SENT_OR_HANDLED),
        (lambda message, user: outbox.resend(message, user, timezone.now(), is_sure=True), SENT_OR_HANDLED),
        (set_rows(models.Message, "pk", error_type="network"), "It turned out that it may have arrived."),
        (overtake, "Meanwhile a later message was written to the driver."),
        (set_rows(models.Connection, "connection_id", status="stale"), STALE),
        (set_rows(models.FleetUser, "recipient_id", is_active=False), "Samsara no longer lists"),
    ],
    ids=["handled", "sent again", "may have arrived", "overtaken", "stale", "left"],
)
def test_all_is_looked_at_anew_at_the_moment_of_sending(
    conversation: models.Conversation, mara: models.User, change: Any, words: str
) -> None:
    message = refused(conversation, mara)
    frozen = freeze(mara)
    recovery.start(frozen, mara, timezone.now())
    change(message, mara)
    before = resent()
    recovery.advance(timezone.now())
    item = frozen.items.get()
    assert item.problem.startswith(words)
    assert (item.resent, resent()) == (None, before)
    for _ in range(2):
        recovery.advance(timezone.now())
    assert fresh(frozen).state == R.FINISHED


def test_a_canary_that_cannot_go_is_replaced_by_another(started: Recovery, mara: models.User) -> None:
    gone = started.items.filter(is_canary=True)[0].message
    outbox.handled(gone, mara, timezone.now())
    recovery.advance(timezone.now())
    recovery.advance(timezone.now() + timedelta(seconds=2))
    assert started.items.filter(is_canary=True, problem="").exclude(resent=None).count() == 3


def test_only_its_author_starts_a_dry_run_and_only_while_it_is_fresh(
    many: list[models.Message], mara: models.User, sol: models.User
) -> None:
    frozen = freeze(mara)
    with pytest.raises(recovery.Refused, match="Only the person"):
        recovery.start(frozen, sol, timezone.now())
    with pytest.raises(recovery.Refused, match="more than an hour old"):
        recovery.start(frozen, mara, timezone.now() + timedelta(hours=2))
    assert fresh(frozen).state == R.DRAFT
    assert recovery.start(frozen, mara, timezone.now())
    assert not recovery.start(frozen, mara, timezone.now())
    assert models.AuditEntry.objects.filter(action="recovery_started").count() == 1


def test_a_set_without_anything_safe_is_not_started(conversation: models.Conversation, mara: models.User) -> None:
    factories.failed(conversation, author=mara)
    frozen = freeze(mara)
    with pytest.raises(recovery.Refused, match="Nothing in this set is safe"):
        recovery.start(frozen, mara, timezone.now())
    assert (fresh(frozen).state, models.AuditEntry.objects.count()) == (R.DRAFT, 0)


def test_a_draft_that_nobody_started_goes_after_a_week_and_what_was_started_stays(
    started: Recovery, mara: models.User
) -> None:
    draft, now = freeze(mara), timezone.now()
    assert recovery.forget_drafts(now + timedelta(days=6)) == 0
    assert recovery.forget_drafts(now + timedelta(days=8)) == 1
    assert list(Recovery.objects.all()) == [started]
    assert not RecoveryItem.objects.filter(recovery_id=draft.pk).exists()


def test_a_person_stops_it_once_and_what_is_left_stays(started: Recovery, mara: models.User) -> None:
    recovery.advance(timezone.now())
    assert recovery.stop(started, mara, timezone.now(), "Stopped by hand")
    assert not recovery.stop(started, mara, timezone.now(), "Again")
    assert recovery.advance(timezone.now() + timedelta(seconds=4)) == 0
    assert (fresh(started).stop_reason, fresh(started).stopped_by, resent()) == ("Stopped by hand", mara, 3)


def test_a_worker_that_dies_in_the_middle_leaves_nothing_half_done(
    started: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the new message was written and before the item was marked: neither is there, and the next beat goes on."""
    real = outbox.resend

    def dies(*args: Any, **named: Any) -> Any:
        real(*args, **named)
        raise SystemExit

    monkeypatch.setattr(outbox, "resend", dies)
    with pytest.raises(SystemExit), transaction.atomic():
        recovery.advance(timezone.now())
    assert (resent(), started.items.exclude(resent_at=None).count()) == (0, 0)
    monkeypatch.setattr(outbox, "resend", real)
    recovery.advance(timezone.now())
    assert (resent(), started.items.exclude(resent=None).count()) == (3, 3)


def test_an_incident_tells_that_a_recovery_was_started(many: list[models.Message], mara: models.User) -> None:
    now = timezone.now()
    incident = models.Incident.objects.create(
        source_name="samsara", connection=many[0].connection, opened_at=now, first_failed_at=now, last_failed_at=now
    )
    frozen = freeze(mara, incident=incident)
    recovery.start(frozen, mara, now)
    entry = incident.entries.get()
    assert (entry.kind, entry.user, str(frozen.uuid) in entry.text) == ("recovery", mara, True)


@with_commits
def test_two_starts_at_once_start_it_once(connection: models.Connection, mara: models.User) -> None:
    for one in conversations(connection, 4):
        refused(one, mara)
    frozen = freeze(mara)
    answers = at_once(*[lambda: recovery.start(Recovery.objects.get(pk=frozen.pk), mara, timezone.now())] * 4)
    assert sorted(answers) == [False, False, False, True]
    assert frozen.items.filter(is_canary=True).count() == 3


@with_commits
def test_rounds_of_two_workers_at_once_send_nothing_twice(connection: models.Connection, mara: models.User) -> None:
    for one in conversations(connection, 6):
        refused(one, mara)
    frozen = freeze(mara)
    recovery.start(frozen, mara, timezone.now())
    at_once(*[lambda: recovery.advance(timezone.now())] * 4)
    assert resent() == frozen.items.exclude(resent=None).count() == 3


@with_commits
def test_after_a_stop_nothing_more_goes_out_whatever_the_worker_was_doing(
    connection: models.Connection, mara: models.User
) -> None:
    for one in conversations(connection, 6):
        refused(one, mara)
    frozen = freeze(mara)
    recovery.start(frozen, mara, timezone.now())
    seen: list[int] = []

    def stops() -> None:
        recovery.stop(frozen, mara, timezone.now(), "Stopped")
        seen.append(resent())

    at_once(stops, lambda: recovery.advance(timezone.now()))
    assert seen == [resent()]
    assert fresh(frozen).state == R.STOPPED
    assert moves.due_items(frozen).count() == 6 - seen[0]
