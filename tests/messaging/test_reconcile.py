"""Lost answers against the simulated Catena: found, found late, not found, found too often."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from messaging import mirror, models, outbox, reconcile
from messaging.catena.client import CatenaClient
from messaging.catena.types import MessageDraft
from messaging.reconcile.absence import absence, self_test
from messaging.reconcile.looks import next_look
from messaging.simulator import Fault, SimulatorServer
from messaging.states import AttemptOutcome, MessageState, Question
from tests import factories

pytestmark = pytest.mark.django_db
S = MessageState
WRITE = "POST /v2/telematics/messages"
LIST = "GET /v2/integrations/connections/resource-operations"
MINUTE = timedelta(minutes=1)


def now() -> datetime:
    """Later than anything the simulator has done, because windows end before it."""
    return timezone.now() + timedelta(seconds=1)


def lost(
    talk: models.Conversation, author: models.User, catena: SimulatorServer, client: CatenaClient, text: str,
    *, accepted: bool = True, **columns: Any,
) -> models.Message:  # fmt: skip
    """A message whose POST really went out and whose answer never came; `accepted` says whether Catena took it."""
    catena.world.faults.add(Fault("reset_after_accept" if accepted else "reset_before_accept", match=text, times=1))
    message: models.Message = factories.OutgoingFactory(conversation=talk, author=author, text=text, **columns)
    outbox.drain(talk.pk, client)
    assert fresh(message).state == S.UNKNOWN
    return message


def normal(
    talk: models.Conversation, author: models.User, client: CatenaClient, text: str = "All is well"
) -> models.Message:
    message: models.Message = factories.OutgoingFactory(conversation=talk, author=author, text=text)
    outbox.drain(talk.pk, client)
    assert fresh(message).state == S.ACCEPTED
    return message


def fresh(message: models.Message) -> models.Message:
    message.refresh_from_db()
    return message


def attempt_of(message: models.Message) -> models.SendAttempt:
    return message.send_attempts.order_by("-id")[0]


def show_all(catena: SimulatorServer) -> None:
    """From now on lists show what they had hidden."""
    with catena.world.lock:
        for operation in catena.world.operations.values():
            operation.listed_at = operation.created_at


def posted_elsewhere(talk: models.Conversation, client: CatenaClient, text: str, priority: str = "medium") -> None:
    """The same message, sent with our credential by something that is not Backhaul."""
    draft = MessageDraft(
        talk.connection.catena_id,
        factories.office_user(talk.connection).catena_id,
        talk.driver.catena_id,
        text,
        priority,
    )
    client.create_message(draft)


def test_a_lost_answer_is_found_and_the_life_goes_on(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = lost(talk, mara, catena, catena_client, "Dock 4 is free")
    behind = factories.OutgoingFactory(conversation=talk, author=mara, state=S.WAITING)
    assert reconcile.look(catena_client, now()).bound == 0, "nothing is due before five seconds"
    summary = reconcile.look(catena_client, now() + timedelta(seconds=6))
    assert (summary.looked, summary.bound, summary.asked, summary.problems) == (1, 1, 0, [])
    found = fresh(message)
    assert found.state in {S.ACCEPTED, S.SUCCEEDED}
    assert found.operation is not None
    assert str(found.operation.catena_id) == catena.world.journal[0].operation_id
    attempt = attempt_of(message)
    assert (attempt.operation, attempt.outcome, attempt.next_look_at) == (
        found.operation,
        AttemptOutcome.AMBIGUOUS,
        None,
    )
    assert fresh(behind).state == S.QUEUED
    assert catena.world.posts_seen == 1


def test_the_newly_lost_is_looked_for_before_the_long_lost_and_in_a_listing_of_its_own(
    talk: models.Conversation, mara: models.User, catena_client: CatenaClient, catena: SimulatorServer, monkeypatch: Any
) -> None:
    since: list[datetime] = []
    listing = catena_client.list_operations

    def noted(**asked: Any) -> Any:
        since.append(asked["from_datetime"])
        return listing(**asked)

    monkeypatch.setattr(catena_client, "list_operations", noted)
    old = lost(talk, mara, catena, catena_client, "Call the office", accepted=False)
    long_ago = now() - timedelta(minutes=50)
    models.SendAttempt.objects.update(posting_at=long_ago, finished_at=long_ago, looks=7, next_look_at=now() - MINUTE)
    models.Message.objects.filter(pk=old.pk).update(detached=True)
    new = lost(talk, mara, catena, catena_client, "Dock 4 is free")
    summary = reconcile.look(catena_client, now() + timedelta(seconds=6))
    assert (summary.looked, summary.bound, len(since)) == (2, 1, 2)
    assert since[0] > long_ago > since[1]
    assert fresh(new).operation is not None
    assert attempt_of(old).searches.count() == 1


def test_what_another_door_brought_in_is_bound_without_asking_catena(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = lost(talk, mara, catena, catena_client, "Dock 4 is free")
    (record,) = catena_client.list_operations(from_datetime=now() - MINUTE, to_datetime=now())
    mirror.apply_operation(record)
    before = catena.world.requests_seen[LIST]
    assert reconcile.match(now()) == 1
    assert fresh(message).operation.catena_id == record.id
    assert catena.world.requests_seen[LIST] == before


def test_an_operation_that_lists_show_late_is_found_late(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("operation_lost_in_lists", match="Dock 4 is free"))
    message = lost(talk, mara, catena, catena_client, "Dock 4 is free")
    for minutes in (0.1, 1, 5):
        assert reconcile.look(catena_client, now() + minutes * MINUTE).bound == 0
    assert fresh(message).state == S.UNKNOWN
    show_all(catena)
    assert reconcile.look(catena_client, now() + 15 * MINUTE).bound == 1
    assert fresh(message).state in {S.ACCEPTED, S.SUCCEEDED}


def test_another_text_priority_or_driver_is_never_taken_for_the_message(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = lost(talk, mara, catena, catena_client, "Dock 4 is free", accepted=False, priority="medium")
    posted_elsewhere(talk, catena_client, "Dock 5 is free")
    posted_elsewhere(talk, catena_client, "Dock 4 is free", priority="high")
    assert reconcile.look(catena_client, now() + MINUTE).bound == 0
    assert fresh(message).state == S.UNKNOWN
    (seen,) = attempt_of(message).searches.all()
    assert (seen.is_complete, seen.read_count, seen.problem) == (True, 2, "")
    assert [row["differs"] for row in seen.nearest] == [["message_text"], ["priority"]]


def test_identical_twins_are_bound_oldest_to_oldest(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    older = lost(talk, mara, catena, catena_client, "Call me")
    models.Message.objects.filter(pk=older.pk).update(detached=True)
    younger = lost(talk, mara, catena, catena_client, "Call me")
    assert reconcile.look(catena_client, now() + MINUTE).bound == 2
    ids = [str(fresh(message).operation.catena_id) for message in (older, younger)]
    assert ids == [entry.operation_id for entry in catena.world.journal]


def test_one_operation_for_two_lost_twins_settles_only_one(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    older = lost(talk, mara, catena, catena_client, "Call me")
    models.Message.objects.filter(pk=older.pk).update(detached=True)
    younger = lost(talk, mara, catena, catena_client, "Call me", accepted=False)
    assert reconcile.look(catena_client, now() + MINUTE).bound == 1
    assert (fresh(older).operation is not None, fresh(younger).state) == (True, S.UNKNOWN)


def test_more_candidates_than_messages_go_to_a_person(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = lost(talk, mara, catena, catena_client, "Call me", priority="medium")
    posted_elsewhere(talk, catena_client, "Call me")
    summary = reconcile.look(catena_client, now() + MINUTE)
    assert summary.bound == 0
    asked = fresh(message)
    assert (asked.state, asked.question, asked.operation) == (S.NEEDS_DECISION, Question.SEVERAL, None)
    assert len(reconcile.evidence(asked).candidates) == 2
    talk.refresh_from_db()
    assert talk.attention_count == 1


def test_nothing_is_bound_while_the_same_text_is_on_the_wire(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    """Its operation may be listed before its answer is in, and would be taken for the lost one."""
    first = lost(talk, mara, catena, catena_client, "Call me", accepted=False)
    models.Message.objects.filter(pk=first.pk).update(detached=True)
    second = factories.OutgoingFactory(conversation=talk, author=mara, text="Call me")
    claimed = outbox.claim(talk.pk, outbox.Sender(catena_client, now))
    assert claimed is not None
    outbox.begin_post(claimed, outbox.draft_of(second), "test", timezone.now())
    posted_elsewhere(talk, catena_client, "Call me")
    assert reconcile.look(catena_client, now() + timedelta(seconds=20)).bound == 0
    assert (fresh(first).state, fresh(second).state) == (S.UNKNOWN, S.POSTING)


def proven_absent(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, client: CatenaClient, **columns: Any
) -> models.Message:
    """A message that Catena never took, with a normal send before and after it that listings have shown."""
    normal(talk, mara, client, "Before")
    message = lost(talk, mara, catena, client, "Dock 4 is free", accepted=False, **columns)
    models.Message.objects.filter(pk=message.pk).update(detached=True)
    normal(talk, mara, client, "After")
    models.Message.objects.filter(pk=message.pk).update(detached=False)
    return message


def look_often(client: CatenaClient, message: models.Message, until: timedelta) -> list[str]:
    """Every look that the schedule holds until then; the message's state after each."""
    ended = attempt_of(message).finished_at
    assert ended is not None
    states = []
    while (due := attempt_of(message).next_look_at) is not None and due <= ended + until:
        reconcile.look(client, due)
        states.append(fresh(message).state)
    return states


def test_absence_is_proven_by_late_complete_looks_that_show_newer_sends(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = proven_absent(talk, mara, catena, catena_client)
    assert look_often(catena_client, message, timedelta(minutes=9)) == [S.UNKNOWN] * 5
    look_often(catena_client, message, timedelta(minutes=11))
    asked = fresh(message)
    assert (asked.state, asked.question) == (S.NEEDS_DECISION, Question.ABSENT)
    assert catena.world.posts_seen == 3, "absence never sends"
    found = reconcile.evidence(asked)
    assert [one.is_absence_proven for one in found.tries] == [True]
    assert (found.tries[0].complete_looks, found.mismatches) == (6, 0)


def test_without_a_newer_send_in_the_list_absence_is_not_proven(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    normal(talk, mara, catena_client, "Before")
    message = lost(talk, mara, catena, catena_client, "Dock 4 is free", accepted=False)
    states = look_often(catena_client, message, timedelta(hours=23))
    assert set(states) == {S.UNKNOWN}
    look_often(catena_client, message, timedelta(hours=25))
    asked = fresh(message)
    assert (asked.state, asked.question) == (S.NEEDS_DECISION, Question.UNPROVEN)


def test_a_connection_whose_sends_do_not_match_themselves_proves_nothing(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = proven_absent(talk, mara, catena, catena_client)
    reconcile.look(catena_client, now() + timedelta(seconds=6))
    models.Operation.objects.filter(message__text="Before").update(is_as_posted=False)
    assert not self_test(talk.connection_id).is_green
    assert set(look_often(catena_client, message, timedelta(hours=2))) == {S.UNKNOWN}


def test_an_urgent_message_goes_to_a_person_after_ten_minutes_unproven(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = lost(talk, mara, catena, catena_client, "Dock 4 is free", accepted=False, priority="high")
    look_often(catena_client, message, timedelta(minutes=9))
    assert fresh(message).state == S.UNKNOWN
    look_often(catena_client, message, timedelta(minutes=10))
    assert (fresh(message).state, message.question) == (S.NEEDS_DECISION, Question.UNPROVEN)


def test_a_failing_listing_is_no_proof_and_is_kept_as_evidence(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = proven_absent(talk, mara, catena, catena_client)
    catena.world.faults.add(Fault("server_error", match=LIST, times=1000, status=503))
    look_often(catena_client, message, timedelta(minutes=30))
    assert fresh(message).state == S.UNKNOWN
    looks = list(attempt_of(message).searches.all())
    assert {one.is_complete for one in looks} == {False}
    assert all("503" in one.problem for one in looks)
    assert absence(attempt_of(message), looks, self_test(talk.connection_id)).complete == 0


def test_what_catena_could_not_list_is_looked_for_again_within_a_minute_of_its_return(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = lost(talk, mara, catena, catena_client, "Dock 4 is free")
    away = Fault("server_error", match=LIST, times=1000, status=503)
    catena.world.faults.add(away)
    moment = now()
    for _ in range(8):
        reconcile.look(catena_client, moment := moment + MINUTE)
    attempt = attempt_of(message)
    assert (attempt.looks, attempt.searches.count()) == (0, 8), "a listing that failed uses up nothing of the schedule"
    catena.world.faults.clear()
    assert attempt.next_look_at is not None
    assert attempt.next_look_at <= moment + MINUTE
    assert reconcile.look(catena_client, attempt.next_look_at).bound == 1


def test_after_hours_without_a_listing_it_is_asked_for_less_often(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = lost(talk, mara, catena, catena_client, "Dock 4 is free")
    catena.world.faults.add(Fault("server_error", match=LIST, times=1000, status=503))
    later = now() + timedelta(hours=5)
    reconcile.look(catena_client, later)
    planned = attempt_of(message).next_look_at
    assert planned is not None
    assert timedelta(minutes=29) < planned - later < timedelta(minutes=31)


def test_a_found_message_corrects_the_verdict_of_a_person(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("operation_lost_in_lists", match="Dock 4 is free"))
    message = lost(talk, mara, catena, catena_client, "Dock 4 is free", priority="high")
    look_often(catena_client, message, timedelta(minutes=10))
    seen = reconcile.stamp(fresh(message))
    reconcile.decide(message, mara, "leave_unsent", "He has not got it", seen=seen, now=now())
    models.Message.objects.filter(pk=message.pk).update(handled_at=now(), handled_note="Nothing to do")
    assert (fresh(message).state, message.corrected_at) == (S.CLOSED_NOT_SENT, None)
    talk.refresh_from_db()
    assert talk.attention_count == 0
    show_all(catena)
    at = attempt_of(message).next_look_at
    assert reconcile.look(catena_client, at).bound == 1
    assert fresh(message).state in {S.ACCEPTED, S.SUCCEEDED}
    assert (message.corrected_at, message.handled_at, message.handled_note) == (at, None, "")
    talk.refresh_from_db()
    assert talk.attention_count == 1, "people learn that their verdict was wrong"
    assert models.AuditEntry.objects.get(action="operation_found").message == message


def test_a_message_that_was_marked_as_sent_and_is_found_is_no_surprise(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("operation_lost_in_lists", match="Dock 4 is free"))
    message = lost(talk, mara, catena, catena_client, "Dock 4 is free", priority="high")
    look_often(catena_client, message, timedelta(minutes=10))
    seen = reconcile.stamp(fresh(message))
    reconcile.decide(message, mara, "was_sent", "He says so", seen=seen, now=now())
    show_all(catena)
    assert reconcile.look(catena_client, attempt_of(message).next_look_at).bound == 1
    assert fresh(message).state in {S.ACCEPTED, S.SUCCEEDED}
    talk.refresh_from_db()
    assert (message.corrected_at, talk.attention_count) == (None, 0)


def test_a_message_found_before_its_second_try_is_not_sent_again(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = decided_again(talk, mara, catena, catena_client)
    assert fresh(message).state == S.QUEUED
    show_all(catena)
    assert reconcile.look(catena_client, attempt_of(message).next_look_at).bound == 1
    assert fresh(message).state in {S.ACCEPTED, S.SUCCEEDED}
    assert outbox.drain(talk.pk, catena_client) == 0
    assert (catena.world.posts_seen, message.is_sent_twice) == (1, False)


def test_a_message_found_after_its_second_try_is_known_to_be_sent_twice(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = decided_again(talk, mara, catena, catena_client)
    assert outbox.drain(talk.pk, catena_client, lambda: now() + 20 * MINUTE) == 1
    second = fresh(message).operation
    show_all(catena)
    first = message.send_attempts.order_by("id")[0]
    assert reconcile.look(catena_client, first.next_look_at).bound == 1
    assert (fresh(message).operation, message.is_sent_twice) == (second, True)
    assert models.SendAttempt.objects.filter(message=message, operation__isnull=False).count() == 2
    assert models.AuditEntry.objects.filter(action="sent_twice", message=message).count() == 1


def decided_again(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, client: CatenaClient
) -> models.Message:
    """A message that Catena took, that no list shows, and that a person wants sent again."""
    catena.world.faults.add(Fault("operation_lost_in_lists", match="Dock 4 is free"))
    message = lost(talk, mara, catena, client, "Dock 4 is free", priority="high")
    look_often(client, message, timedelta(minutes=10))
    later = now() + 12 * MINUTE
    reconcile.decide(message, mara, "send_again", "He has not got it", seen=reconcile.stamp(fresh(message)), now=later)
    return message


def test_looks_follow_the_schedule_and_end_after_a_day() -> None:
    ended = timezone.now()
    offsets, at = [], ended
    for looks in range(1, 40):
        following = next_look(ended, looks, at, ended + timedelta(hours=24))
        if following is None:
            break
        offsets.append((following - ended).total_seconds())
        at = following
    assert offsets[:6] == [15, 45, 120, 300, 600, 1200]
    assert offsets[6:] == [3600 * hour for hour in range(1, 25)]


def test_a_look_that_comes_late_is_followed_by_the_next_one_soon() -> None:
    ended = timezone.now()
    late = ended + timedelta(minutes=4)
    assert next_look(ended, 1, late, ended + timedelta(hours=24)) == late + timedelta(seconds=5)


@pytest.mark.parametrize(("seconds", "looks"), [(30, 2), (900, 6), (30 * 3600, 36)])
def test_there_is_a_look_at_the_moment_when_a_person_is_to_be_asked(seconds: int, looks: int) -> None:
    ended = timezone.now()
    asked = ended + timedelta(seconds=seconds)
    assert next_look(ended, looks, ended + timedelta(seconds=seconds * 0.7), asked) == asked


def test_a_look_just_before_the_end_is_not_the_last_one() -> None:
    """Or a message would be looked for no more, and nobody asked."""
    ended = timezone.now()
    asked = ended + timedelta(hours=24)
    almost = asked - timedelta(seconds=2)
    assert next_look(ended, 30, almost, asked) == almost + timedelta(seconds=5)


def test_an_installation_chooses_when_people_are_asked(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient, settings: Any
) -> None:
    settings.GIVE_UP_SECONDS = 60
    message = lost(talk, mara, catena, catena_client, "Dock 4 is free", accepted=False, priority="medium")
    look_often(catena_client, message, timedelta(seconds=59))
    assert fresh(message).state == S.UNKNOWN
    look_often(catena_client, message, timedelta(seconds=60))
    assert (fresh(message).state, message.question) == (S.NEEDS_DECISION, Question.UNPROVEN)


def test_listings_measure_how_long_they_take_to_show_a_send(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = normal(talk, mara, catena_client)
    late = now() + 2 * MINUTE
    page = list(catena_client.list_operations(from_datetime=now() - MINUTE, to_datetime=late))
    mirror.apply_listed(page, late)
    mirror.apply_listed(page, late + MINUTE)
    operation = fresh(message).operation
    assert (operation.listed_at, operation.is_as_posted) == (late, True)
    test = self_test(talk.connection_id)
    assert (test.samples, test.is_green) == (1, True)
    assert timedelta(minutes=20) < test.settle < timedelta(minutes=21)
