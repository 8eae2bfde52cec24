"""The database went back in history: sending locks, the survey finds what was sent, and people let it go on."""

import os
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection as database
from django.utils import timezone

from messaging import gates, models, outbox, reconcile
from messaging.catena.client import CatenaClient
from messaging.outbox.epoch import Epoch, HighWater, Mark, identity
from messaging.simulator import Fault, SimulatorServer
from messaging.states import AttemptOutcome, GateState, MessageState, Question
from tests import factories
from tests.messaging.test_reconcile import posted_elsewhere

pytestmark = pytest.mark.django_db
S = MessageState


@pytest.fixture
def epoch(tmp_path: Path) -> Iterator[Epoch]:
    watcher = Epoch()
    watcher.enable(tmp_path)
    yield watcher
    watcher.disable()


def is_locked() -> bool:
    return models.Gate.objects.filter(connection=None, state=GateState.LOCKED).exists()


def restored(**columns: Any) -> models.Restore:
    """Sending is locked, and the backup was taken a moment from now: everything that is here was composed before."""
    moment = timezone.now() + timedelta(seconds=1)
    made = outbox.lock_sending(models.RestoreCause.BY_HAND, restored_to=moment)
    models.Restore.objects.update(**columns)
    made.refresh_from_db()
    return made


def now() -> Any:
    return timezone.now() + timedelta(seconds=2)


def fresh(message: models.Message) -> models.Message:
    message.refresh_from_db()
    return message


def test_the_first_database_is_taken_as_it_is(epoch: Epoch) -> None:
    assert epoch.check()
    assert epoch.check()
    assert not is_locked()
    assert models.SendEpoch.objects.get().timeline == identity().timeline


@pytest.mark.parametrize("changed", [{"system_identifier": "1"}, {"timeline": 77}, {"place": "1/2"}])
def test_another_identity_locks_sending(epoch: Epoch, changed: dict[str, Any]) -> None:
    epoch.check()
    models.SendEpoch.objects.update(**changed)
    assert not epoch.check()
    assert not epoch.check()
    assert is_locked()
    assert models.Restore.objects.get().cause == models.RestoreCause.IDENTITY


def test_a_database_that_does_not_know_what_this_machine_sent_locks_sending(
    epoch: Epoch, conversation: models.Conversation
) -> None:
    epoch.check()
    epoch.note(1_000_000, now())
    assert not epoch.check()
    assert models.Restore.objects.get().cause == models.RestoreCause.HIGH_WATER


def test_what_the_database_knows_as_well_locks_nothing(epoch: Epoch, conversation: models.Conversation) -> None:
    attempt = factories.SendAttemptFactory(message=factories.accepted(conversation))
    epoch.check()
    epoch.note(attempt.pk, attempt.posting_at)
    assert epoch.check()
    assert not is_locked()


def test_another_attempt_of_the_same_number_is_no_memory_of_ours(
    epoch: Epoch, conversation: models.Conversation
) -> None:
    """Somebody sent on the restored database before this machine looked at it."""
    attempt = factories.SendAttemptFactory(message=factories.accepted(conversation))
    epoch.check()
    epoch.note(attempt.pk, attempt.posting_at - timedelta(hours=1))
    assert not epoch.check()
    assert is_locked()


def test_a_session_that_stayed_open_during_a_restore_sends_nothing(
    talk: models.Conversation,
    mara: models.User,
    catena: SimulatorServer,
    catena_client: CatenaClient,
    tmp_path: Path,
) -> None:
    message = factories.OutgoingFactory(conversation=talk, author=mara)
    outbox.epoch.enable(tmp_path)
    try:
        outbox.epoch.check()
        outbox.epoch.note(1_000_000, now())
        assert outbox.drain(talk.pk, catena_client, now) == 0
        assert (is_locked(), fresh(message).state, catena.world.posts_seen) == (True, S.QUEUED, 0)
        reconcile.survey_open(catena_client, now())
        models.Message.objects.update(state=S.CANCELLED)
        later = factories.OutgoingFactory(conversation=talk, author=mara)
        reconcile.unlock(mara, "Looked", now())
        outbox.drain(talk.pk, catena_client, now)
        outbox.drain(talk.pk, catena_client, now)
        assert (fresh(later).state, catena.world.posts_seen) == (S.ACCEPTED, 1)
    finally:
        outbox.epoch.disable()


def test_what_cannot_be_noted_on_this_machine_is_not_sent(
    talk: models.Conversation,
    mara: models.User,
    catena: SimulatorServer,
    catena_client: CatenaClient,
    tmp_path: Path,
) -> None:
    message = factories.OutgoingFactory(conversation=talk, author=mara)
    outbox.epoch.enable(tmp_path)
    try:
        outbox.epoch.check()
        # As when the disk fails: the file is there, and every write to it is refused.
        water = next(tmp_path.iterdir())
        assert outbox.epoch._water is not None
        os.dup2(os.open(water, os.O_RDONLY), outbox.epoch._water._file)
        assert outbox.drain(talk.pk, catena_client, now) == 1
    finally:
        outbox.epoch.disable()
    assert (fresh(message).state, catena.world.posts_seen) == (S.QUEUED, 0)
    assert message.send_attempts.get().outcome == AttemptOutcome.UNSENT


@pytest.mark.django_db(transaction=True)
def test_a_session_that_could_not_be_checked_is_not_used(epoch: Epoch, tmp_path: Path) -> None:
    """As on a standby: it cannot say which timeline it writes, and it may be promoted while the session stays."""
    (tmp_path / "file").touch()
    epoch.enable(tmp_path / "file" / "folder")
    database.close()
    for _ in range(2):
        with pytest.raises(NotADirectoryError):
            database.ensure_connection()
    assert database.connection is None


def test_nothing_expires_and_nothing_is_withdrawn_before_it_is_known_what_was_sent(
    conversation: models.Conversation, mara: models.User, catena_client: CatenaClient
) -> None:
    """Both would say that nothing was sent, and leave what was sent without its operation."""
    old = timezone.now() - timedelta(minutes=1)
    stale = factories.OutgoingFactory(conversation=conversation, author=mara, expires_at=old)
    restored()
    assert outbox.expire(now()) == 0
    assert not outbox.cancel(stale, mara, now())
    assert fresh(stale).state == S.QUEUED
    reconcile.survey_open(catena_client, now())
    assert (fresh(stale).state, stale.question) == (S.NEEDS_DECISION, Question.RESTORED)


def test_a_backup_that_holds_a_finished_survey_is_surveyed_anew(epoch: Epoch, catena_client: CatenaClient) -> None:
    epoch.check()
    models.SendEpoch.objects.update(timeline=77)
    epoch.check()
    reconcile.survey_open(catena_client, now())
    # Unlocked, used, and then restored to a backup of before the unlock.
    models.Restore.objects.update(noticed_on="elsewhere")
    with pytest.raises(reconcile.NotUnlockable, match="changed once more"):
        reconcile.unlock(None, "It says that all is done", now())
    assert not epoch.check()
    assert models.Restore.objects.get().surveyed_at is None
    assert is_locked()


def test_posts_after_the_lock_prove_that_it_had_been_unlocked_since(epoch: Epoch, catena_client: CatenaClient) -> None:
    epoch.check()
    restored()
    reconcile.survey_open(catena_client, now())
    epoch.note(1_000_000, timezone.now() - timedelta(hours=1))
    epoch.check()
    assert models.Restore.objects.get().surveyed_at is not None, "sent before the lock"
    epoch.note(1_000_001, now())
    epoch.check()
    assert models.Restore.objects.get().surveyed_at is None


def test_a_person_may_say_later_when_the_backup_was_taken(catena_client: CatenaClient) -> None:
    made = restored()
    reconcile.survey_open(catena_client, now())
    moment = made.restored_to - timedelta(days=3)
    again = outbox.lock_sending(models.RestoreCause.BY_HAND, restored_to=moment)
    assert (again.pk, again.restored_to, again.since, again.surveyed_at) == (
        made.pk,
        moment,
        moment - timedelta(hours=1),
        None,
    )


def test_after_the_unlock_the_same_machine_goes_on(epoch: Epoch, catena_client: CatenaClient) -> None:
    epoch.check()
    epoch.note(1_000_000, now())
    epoch.check()
    reconcile.survey_open(catena_client, now())
    reconcile.unlock(None, "Looked", now())
    assert epoch.check(), "the file is of an era that has been accounted for"
    assert epoch.newest == 0
    epoch.note(5, now())
    assert not epoch.check(), "and from then on it is a witness again"


def test_the_high_water_mark_never_goes_back_and_survives_the_process(tmp_path: Path) -> None:
    of = identity()
    first = HighWater(tmp_path, of)
    for mark in (Mark(0, 5, 9), Mark(0, 3, 10), Mark(1, 1, 11), Mark(0, 9, 12)):
        first.note(mark)
    first.sync()
    assert HighWater(tmp_path, of).read() == Mark(1, 1, 11)
    assert HighWater(tmp_path, of._replace(database="another")).read() == Mark()


@pytest.mark.parametrize("content", ["", "x y z", "5", "-1 5 5", "1 2 3 4"])
def test_a_damaged_file_is_no_witness(tmp_path: Path, content: str) -> None:
    water = HighWater(tmp_path, identity())
    next(tmp_path.iterdir()).write_text(content)
    assert water.read() == Mark()


def test_nothing_is_claimed_or_posted_while_sending_is_locked(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    factories.OutgoingFactory(conversation=talk, author=mara)
    claimed = outbox.claim(talk.pk, outbox.Sender(catena_client, now))
    assert claimed is not None
    restored()
    with pytest.raises(outbox.ClaimLost):
        outbox.begin_post(claimed, claimed.draft, "test", now())
    models.Message.objects.update(state=S.QUEUED, lease_until=None)
    assert outbox.drain(talk.pk, catena_client, now) == 0
    assert catena.world.posts_seen == 0


def test_neither_time_nor_the_ordinary_button_opens_a_lock(mara: models.User) -> None:
    restored()
    later = now() + timedelta(days=2)
    assert gates.open_due_gates(later) == 0
    assert not gates.open_by_hand(None, mara, "Go", later)
    assert is_locked()


def test_what_was_sent_since_the_backup_is_bound_and_not_sent_again(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = factories.OutgoingFactory(conversation=talk, author=mara, text="Dock 4 is free")
    posted_elsewhere(talk, catena_client, "Dock 4 is free")
    restored()
    done = reconcile.survey_open(catena_client, now())
    assert done is not None
    assert (done.survey["bound"], done.survey["asked"]) == ([str(message.uuid)], [])
    assert fresh(message).state in {S.ACCEPTED, S.SUCCEEDED}
    assert reconcile.survey_open(catena_client, now()) is None, "once is enough"
    reconcile.unlock(mara, "Looked", now())
    assert outbox.drain(talk.pk, catena_client, now) == 0
    assert catena.world.posts_seen == 1


def test_what_is_not_found_goes_to_people_one_after_the_other(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    head = factories.OutgoingFactory(conversation=talk, author=mara, text="First")
    behind = factories.OutgoingFactory(conversation=talk, author=mara, text="Second", state=S.WAITING)
    restored()
    done = reconcile.survey_open(catena_client, now())
    assert done is not None
    assert (done.survey["asked"], done.survey["waiting"]) == ([str(head.uuid)], [str(behind.uuid)])
    assert (fresh(head).state, head.question, fresh(behind).state) == (S.NEEDS_DECISION, Question.RESTORED, S.WAITING)
    reconcile.unlock(mara, "Looked", now())
    after = now() + timedelta(minutes=10)
    reconcile.decide(head, mara, "leave_unsent", "Too old", seen=reconcile.stamp(head), now=after)
    assert fresh(behind).state == S.QUEUED
    assert outbox.drain(talk.pk, catena_client, lambda: after) == 0
    assert (fresh(behind).state, behind.question) == (S.NEEDS_DECISION, Question.RESTORED)
    assert catena.world.posts_seen == 0
    reconcile.decide(
        behind, mara, "send_again", "He asked", seen=reconcile.stamp(behind), now=after + timedelta(minutes=10)
    )
    assert outbox.drain(talk.pk, catena_client, lambda: after + timedelta(minutes=11)) == 1
    assert [entry.message_text for entry in catena.world.journal] == ["Second"]


def test_a_second_try_that_a_person_had_wanted_is_doubted_too(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    """The decision may have been used after the backup: it entitles to nothing any more."""
    message = factories.OutgoingFactory(conversation=talk, author=mara, fence=1)
    factories.SendAttemptFactory(message=message, outcome=AttemptOutcome.LOST)
    models.Decision.objects.create(message=message, user=mara, kind="send_again", reason="Yes")
    restored()
    reconcile.survey_open(catena_client, now())
    assert fresh(message).state == S.NEEDS_DECISION
    models.Message.objects.update(state=S.QUEUED, question="")
    reconcile.unlock(mara, "Looked", now())
    assert outbox.drain(talk.pk, catena_client, now) == 0
    assert fresh(message).state == S.NEEDS_DECISION
    assert catena.world.posts_seen == 0


def test_what_was_composed_after_the_restore_is_sent_when_it_is_unlocked(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    restored(restored_to=timezone.now() - timedelta(minutes=1))
    message = factories.OutgoingFactory(conversation=talk, author=mara)
    reconcile.survey_open(catena_client, now())
    reconcile.unlock(mara, "Looked", now())
    assert outbox.drain(talk.pk, catena_client, now) == 1
    assert fresh(message).state == S.ACCEPTED


def test_a_survey_that_fails_keeps_the_lock_and_is_made_again(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = factories.OutgoingFactory(conversation=talk, author=mara)
    restored()
    catena.world.faults.add(Fault("server_error", match="GET /v2/integrations/connections", times=1, status=503))
    failed = reconcile.survey_open(catena_client, now())
    assert failed is not None
    assert (failed.surveyed_at, "503" in failed.problem, fresh(message).state) == (None, True, S.QUEUED)
    with pytest.raises(reconcile.NotUnlockable, match="has not been read yet"):
        reconcile.unlock(mara, "Hurry", now())
    done = reconcile.survey_open(catena_client, now())
    assert done is not None
    assert (done.surveyed_at is not None, done.problem, fresh(message).state) == (True, "", S.NEEDS_DECISION)


def test_the_command_locks_surveys_and_unlocks(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    out = StringIO()
    call_command("after_restore", to="2026-11-25T14:00:00Z", stdout=out)
    assert "Sending is locked. The database stands at 2026-11-25 14:00:00 UTC." in out.getvalue()
    assert is_locked()
    with pytest.raises(CommandError, match="has not been read yet"):
        call_command("after_restore", unlock=True)
    call_command("after_restore", survey=True, stdout=out)
    assert "0 need a decision" in out.getvalue()
    call_command("after_restore", unlock=True, stdout=out)
    assert not is_locked()
    with pytest.raises(CommandError, match="is not locked"):
        call_command("after_restore", unlock=True)


@pytest.mark.parametrize("moment", ["yesterday", "2026-13-45T00:00:00Z", "2026-11-25T14:00:00"])
def test_a_moment_that_cannot_be_read_locks_nothing(moment: str) -> None:
    with pytest.raises(CommandError, match="Write it with its zone"):
        call_command("after_restore", to=moment)
    assert not is_locked()


def test_only_support_sees_the_page_and_everybody_sees_the_banner(
    client_of: Any, mara: models.User, sol: models.User, conversation: models.Conversation
) -> None:
    restored()
    for person, answer, link in ((mara, 404, False), (sol, 200, True)):
        client = client_of(person)
        assert client.get("/ops/restore/").status_code == answer
        html = client.get("/settings/").content.decode()
        assert "the database went back in time" in html
        assert ("/ops/restore/" in html) is link


def test_the_page_unlocks_once_the_survey_is_done_with_a_reason_and_a_tick(client_of: Any, sol: models.User) -> None:
    client = client_of(sol)
    assert "There is nothing to do here" in client.get("/ops/restore/").content.decode()
    restored()
    assert "Come back in a minute" in client.get("/ops/restore/").content.decode()
    answer = client.post("/ops/restore/", {"is_sure": "1", "reason": "Looked"})
    assert (answer.status_code, is_locked()) == (409, True)
    models.Restore.objects.update(surveyed_at=timezone.now(), survey={"operations": 3, "asked": [], "asked_count": 0})
    for incomplete in ({"reason": "Looked"}, {"is_sure": "1"}, {"is_sure": "1", "reason": "x" * 501}):
        assert client.post("/ops/restore/", incomplete).status_code == 422
    assert is_locked()
    answer = client.post("/ops/restore/", {"is_sure": "1", "reason": "Looked"})
    assert (answer.status_code, is_locked()) == (303, False)
    done = models.Restore.objects.get()
    assert (done.unlocked_by, done.unlocked_at is not None) == (sol, True)
    assert models.AuditEntry.objects.get(action="sending_unlocked").detail["reason"] == "Looked"


def test_the_page_names_the_messages_that_need_a_person(
    client_of: Any, sol: models.User, conversation: models.Conversation
) -> None:
    message = factories.OutgoingFactory(conversation=conversation, state=S.NEEDS_DECISION, question=Question.RESTORED)
    restored(
        surveyed_at=timezone.now(),
        survey={"operations": 3, "asked": [str(message.uuid)], "asked_count": 1, "bound": [], "bound_count": 0},
    )
    html = client_of(sol).get("/ops/restore/").content.decode()
    assert message.get_absolute_url() in html
    assert "not found at Catena (1)" in html


def test_withdrawing_a_second_try_does_not_claim_that_nothing_was_sent(
    conversation: models.Conversation, mara: models.User
) -> None:
    message = factories.OutgoingFactory(conversation=conversation, author=mara, fence=1)
    factories.SendAttemptFactory(message=message, outcome=AttemptOutcome.LOST)
    assert outbox.cancel(message, mara, now())
    assert (fresh(message).state, message.settled_by) == (S.CLOSED_NOT_SENT, mara)


def test_a_second_try_that_becomes_too_old_goes_back_to_a_person(conversation: models.Conversation) -> None:
    old = timezone.now() - timedelta(minutes=1)
    message = factories.OutgoingFactory(conversation=conversation, fence=1, expires_at=old)
    behind = factories.OutgoingFactory(conversation=conversation, state=S.WAITING, expires_at=old, fence=1)
    never = factories.OutgoingFactory(conversation=conversation, state=S.WAITING, expires_at=old)
    for one in (message, behind):
        factories.SendAttemptFactory(message=one, outcome=AttemptOutcome.LOST)
    assert outbox.expire(now()) == 2
    assert (fresh(message).state, message.question) == (S.NEEDS_DECISION, Question.OVERDUE)
    assert (fresh(behind).state, fresh(never).state) == (S.WAITING, S.EXPIRED)


def test_a_second_restore_before_people_have_decided_is_surveyed_too(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    factories.OutgoingFactory(conversation=talk, author=mara, text="First")
    behind = factories.OutgoingFactory(conversation=talk, author=mara, text="Second", state=S.WAITING)
    made = restored()
    reconcile.survey_open(catena_client, now())
    again = outbox.lock_sending(models.RestoreCause.BY_HAND, restored_to=made.restored_to)
    models.Restore.objects.update(detected_at=now() + timedelta(hours=1))
    assert again.surveyed_at is None
    done = reconcile.survey_open(catena_client, now())
    assert done is not None
    assert (done.surveyed_at is not None, fresh(behind).state) == (True, S.WAITING)
    assert behind.send_attempts.count() == 1, "what already waits for a person is not doubted twice"
