"""The database went back in history: sending locks, the survey finds what was sent, and people let it go on."""

from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
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


@pytest.mark.parametrize("changed", [{"system_identifier": "1"}, {"timeline": 77}])
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
    epoch.note(1_000_000)
    assert not epoch.check()
    assert models.Restore.objects.get().cause == models.RestoreCause.HIGH_WATER


def test_what_the_database_knows_as_well_locks_nothing(epoch: Epoch, conversation: models.Conversation) -> None:
    attempt = factories.SendAttemptFactory(message=factories.accepted(conversation))
    epoch.check()
    epoch.note(attempt.pk)
    assert epoch.check()
    assert not is_locked()


def test_after_the_unlock_the_same_machine_goes_on(epoch: Epoch, catena_client: CatenaClient) -> None:
    epoch.check()
    epoch.note(1_000_000)
    epoch.check()
    reconcile.survey_open(catena_client, now())
    reconcile.unlock(None, "Looked", now())
    assert epoch.check(), "the file is of an era that has been accounted for"
    epoch.note(5)
    assert not Epoch.check(epoch) or not is_locked()


def test_the_high_water_mark_never_goes_back_and_survives_the_process(tmp_path: Path) -> None:
    of = identity()
    first = HighWater(tmp_path, of)
    for mark in (Mark(0, 5), Mark(0, 3), Mark(1, 1), Mark(0, 9)):
        first.note(mark)
    first.sync()
    assert HighWater(tmp_path, of).read() == Mark(1, 1)
    assert HighWater(tmp_path, of._replace(database="another")).read() == Mark(0, 0)


@pytest.mark.parametrize("content", ["", "x y", "5", "-1 5", "1 2 3"])
def test_a_damaged_file_is_no_witness(tmp_path: Path, content: str) -> None:
    water = HighWater(tmp_path, identity())
    next(tmp_path.iterdir()).write_text(content)
    assert water.read() == Mark(0, 0)


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
