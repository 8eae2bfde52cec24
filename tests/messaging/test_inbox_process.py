"""Events in the worker: each of the contract's, in any order, any number of times, beside other workers and sweeps."""

import threading
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from messaging import inbox, mirror, models, outbox, reconcile
from messaging.catena.client import CatenaClient
from messaging.mirror import Change
from messaging.models import WebhookEvent
from messaging.outbox import database_clock
from messaging.simulator import SimulatorServer
from messaging.states import EventState, MessageState
from tests import factories
from tests.catena.fake_catena import example
from tests.messaging import records
from tests.messaging.conftest import client_of_server
from tests.messaging.hooks import SECRET, apply, body_of, deliver, envelope, process
from tests.messaging.test_reconcile import attempt_of, lost

pytestmark = pytest.mark.django_db
S = MessageState


@pytest.fixture(autouse=True)
def secrets(settings: Any) -> None:
    settings.CATENA_WEBHOOK_SECRETS = [SECRET]


def state_of(event: WebhookEvent) -> tuple[str, str]:
    event.refresh_from_db()
    return event.state, event.reason


def asked() -> set[str]:
    return {one.name.removeprefix("round ") for one in models.SyncCursor.objects.asked()}


def test_a_drivers_message_is_in_its_conversation_and_the_event_is_done(conversation: models.Conversation) -> None:
    record = records.message(conversation, message_text="At the south gate")
    event = apply(envelope("message.added", body_of(record)))
    assert state_of(event) == (EventState.DONE, "")
    message = models.Message.objects.get(catena_id=record.id)
    assert (message.text, message.conversation) == ("At the south gate", conversation)


def test_what_is_delivered_again_and_older_versions_change_nothing(conversation: models.Conversation) -> None:
    record = records.message(conversation, status="read", updated_at=records.moment(5))
    older = records.message(conversation, id=record.id, status="delivered", updated_at=records.moment(2))
    for one in (record, older, record):
        apply(envelope("message.modified", body_of(one)))
    assert models.Message.objects.get().record_status == "read"


def test_one_bad_record_does_not_sink_its_siblings(conversation: models.Conversation) -> None:
    good = records.message(conversation)
    event = apply(envelope("message.added", {"id": "no uuid"}, body_of(good), "text"))
    assert models.Message.objects.filter(catena_id=good.id).exists()
    assert state_of(event)[0] == EventState.DEAD
    assert "record 1 cannot be read" in state_of(event)[1]


def test_an_unforeseen_record_does_not_sink_its_siblings_either(
    conversation: models.Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = records.message(conversation), records.message(conversation)
    real = mirror.apply_messages

    def sometimes(given: Any) -> Any:
        if bad.id in {one.id for one in given}:
            raise KeyError("odd")
        return real(given)

    monkeypatch.setattr(mirror, "apply_messages", sometimes)
    event = apply(envelope("message.added", body_of(bad), body_of(good)))
    assert models.Message.objects.get().catena_id == good.id
    assert state_of(event) == (EventState.DEAD, "record 1: KeyError")


def test_an_event_of_an_unknown_connection_waits_and_has_the_directory_read(conversation: models.Conversation) -> None:
    record = records.message(conversation, connection_id=uuid4())
    event = apply(envelope("message.added", body_of(record)))
    assert state_of(event)[0] == EventState.PARKED
    assert asked() == {"directory"}
    conversation.connection.catena_id = record.connection_id
    conversation.connection.save()
    assert process() == 0, "not before its pause is over"
    assert process(timedelta(seconds=2)) == 1
    assert state_of(event)[0] == EventState.DONE
    assert models.Message.objects.get().catena_id == record.id


def test_a_new_connection_ends_the_waiting_at_once(conversation: models.Conversation) -> None:
    event = apply(envelope("message.added", body_of(records.message(conversation, connection_id=uuid4()))))
    process(timedelta(hours=2))
    assert (process(), inbox.release_parked(database_clock()), process()) == (0, 1, 1)
    assert (event.tries, state_of(event)[0], event.tries) == (1, EventState.PARKED, 3)


def test_an_event_that_never_fits_is_dead_after_ten_tries_and_an_administrator_tries_again(
    conversation: models.Conversation,
) -> None:
    record = records.message(conversation, connection_id=uuid4())
    event = apply(envelope("message.added", body_of(record)))
    for _ in range(9):
        process(timedelta(hours=2))
        WebhookEvent.objects.filter(state=EventState.PARKED).update(next_at=database_clock())
    assert state_of(event)[0] == EventState.DEAD
    assert (event.tries, process(timedelta(days=1))) == (10, 0)
    conversation.connection.catena_id = record.connection_id
    conversation.connection.save()
    assert inbox.process_again([event], database_clock()) == 1
    process()
    assert state_of(event)[0] == EventState.DONE


def test_an_event_that_nobody_knows_is_kept_and_says_so() -> None:
    event = apply(envelope("trailer.detached", {"id": str(uuid4())}))
    assert state_of(event) == (EventState.DEAD, "This event is not known to this version")


def test_an_operation_moves_its_message_and_never_backwards(conversation: models.Conversation) -> None:
    message = factories.accepted(conversation)
    assert message.operation is not None
    done = records.operation(message, status="success", updated_at=records.moment(9))
    pending = records.operation(message, status="pending", updated_at=records.moment(1))
    for name, one in (("succeeded", done), ("created", pending)):
        assert state_of(apply(envelope(f"resource_operation.{name}", body_of(one)))) == (EventState.DONE, "")
    message.refresh_from_db()
    assert message.state == S.SUCCEEDED


def test_an_event_that_overtakes_the_answer_to_our_post_is_bound_when_that_comes(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = factories.OutgoingFactory(conversation=talk, author=mara, text="Dock 4 is free")
    client = client_of_server(catena)
    create = client.create_message

    def overtaken(*given: Any, **named: Any) -> Any:
        answer = create(*given, **named)
        # The row of our own POST is locked by nobody while it is on the wire, so a worker may apply this now.
        with monkeypatch.context() as here:
            here.setattr(client, "create_message", create)
            apply(envelope("resource_operation.created", dict(answer.raw)))
            assert reconcile.match(database_clock()) == 0, "it may be this very POST"
        return answer

    monkeypatch.setattr(client, "create_message", overtaken)
    outbox.drain(talk.pk, client, outbox.database_clock)
    message.refresh_from_db()
    assert message.state == S.ACCEPTED
    assert models.Operation.objects.get() == message.operation
    assert models.Message.objects.count() == 1


def test_a_lost_answer_is_found_by_the_event_alone(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = lost(talk, mara, catena, catena_client, "Dock 4 is free")
    (record,) = catena_client.list_operations(
        from_datetime=database_clock() - timedelta(minutes=1), to_datetime=database_clock() + timedelta(minutes=1)
    )
    apply(envelope("resource_operation.created", dict(record.raw)))
    assert reconcile.match(database_clock()) == 1
    assert attempt_of(message).operation is not None


def test_our_own_message_coming_back_is_not_shown_twice(conversation: models.Conversation) -> None:
    message = factories.accepted(conversation)
    record = records.message(conversation, by_driver=False, message_text=message.text)
    apply(envelope("message.added", body_of(record)))
    assert models.Message.objects.count() == 2, "nobody knows yet whose it is"
    done = records.operation(message, status="success", resource_id=record.id, updated_at=records.moment(9))
    apply(envelope("resource_operation.succeeded", body_of(done)))
    assert models.Message.objects.get().catena_id == record.id


def test_a_user_is_mirrored_and_a_removal_has_the_directory_read(conversation: models.Conversation) -> None:
    record = records.user(conversation.connection, first_name="Ann", last_name="Lee")
    apply(envelope("user.added", body_of(record)))
    assert models.FleetUser.objects.get(catena_id=record.id).name == "Ann Lee"
    assert state_of(apply(envelope("user.removed", {"id": str(record.id)}))) == (EventState.DONE, "")
    assert asked() == {"directory"}
    assert models.FleetUser.objects.filter(catena_id=record.id, deleted_at=None).exists()


def test_a_recipient_who_becomes_known_is_shown_the_group_messages_to_him(conversation: models.Conversation) -> None:
    newcomer = records.user(conversation.connection, is_driver=True)
    group = records.group_message(conversation.connection, [conversation.driver.catena_id, newcomer.id])
    apply(envelope("group_message.added", body_of(group)))
    shown = models.Message.objects.filter(group__catena_id=group.id)
    assert shown.count() == 1
    apply(envelope("user.added", body_of(newcomer)))
    assert shown.count() == 2


def test_a_stale_connection_says_so_at_once_until_the_directory_knows_better(conversation: models.Conversation) -> None:
    place = conversation.connection
    notice = {
        "id": str(place.catena_id), "source_name": "samsara", "fleet_id": str(uuid4()), "tsp_id": str(uuid4()),
        "status": "stale",
    }  # fmt: skip
    apply(envelope("connection.staled", notice))
    place.refresh_from_db()
    assert place.status == "stale"
    assert asked() == {"directory"}
    listed = records.connection(id=place.catena_id, status="active", updated_at=place.catena_updated_at)
    assert mirror.apply_connection(listed) == Change.CHANGED


@pytest.mark.parametrize(
    ("scopes", "level"), [({"message": "read"}, "read"), ({"message": "read_write"}, "read_write"), ({}, None)]
)
def test_a_share_agreement_says_what_a_fleet_lets_us_do(
    conversation: models.Conversation, scopes: dict[str, str], level: str | None
) -> None:
    place = conversation.connection
    assert place.fleet is not None
    notice = {"id": str(uuid4()), "fleet_id": str(place.fleet.catena_id), "status": "active", "scopes": scopes}
    apply(envelope("share_agreement.updated", notice))
    place.refresh_from_db()
    assert place.share_level == level
    assert asked() == {"directory"}


def test_an_agreement_that_ended_lets_us_do_nothing_whatever_it_allowed(conversation: models.Conversation) -> None:
    place = conversation.connection
    assert place.fleet is not None
    notice = {
        "id": str(uuid4()), "fleet_id": str(place.fleet.catena_id), "status": "deleted",
        "scopes": {"message": "read_write"},
    }  # fmt: skip
    apply(envelope("share_agreement.deleted", notice))
    place.refresh_from_db()
    assert place.share_level is None
    assert asked() == {"directory"}


def test_a_schedule_that_catena_gave_up_is_shown_for_messages_alone(conversation: models.Conversation) -> None:
    place = conversation.connection
    notice = {"id": str(uuid4()), "connection_id": str(place.catena_id), "resource": "vehicle", "status": "inactive"}
    apply(envelope("schedule.deactivated", notice))
    place.refresh_from_db()
    before = place.schedule_status
    apply(envelope("schedule.deactivated", {**notice, "resource": "message"}))
    place.refresh_from_db()
    assert (before, place.schedule_status) == (None, "inactive")


@pytest.mark.parametrize("word", ["staled", "paused", "activated"])
def test_an_event_about_a_subscription_has_the_subscriptions_checked(word: str) -> None:
    apply(envelope(f"webhook.{word}", {"id": str(uuid4()), "event_name": "message.added", "status": "stale"}))
    assert asked() == {"subscriptions"}


@pytest.mark.parametrize(
    "name",
    [
        "connection_created", "connection_staled", "fleet_connection_created", "group_message_added",
        "group_message_modified", "message_added", "message_modified", "resource_operation_created",
        "resource_operation_failed", "resource_operation_succeeded", "schedule_deactivated", "share_agreement_updated",
        "user_added", "user_modified", "user_removed", "webhook_staled",
    ],
)  # fmt: skip
def test_every_example_of_the_contract_is_applied_or_waits_for_its_connection(name: str) -> None:
    given = example(f"event_{name}")
    body = given.get("body", given)
    event = apply(body)
    state, reason = state_of(event)
    assert state in {EventState.DONE, EventState.PARKED}, reason


def test_what_the_database_refuses_is_tried_again(
    conversation: models.Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = records.message(conversation)
    with monkeypatch.context() as here:
        here.setattr(
            mirror, "apply_messages", lambda given: (_ for _ in ()).throw(OperationalError("deadlock detected"))
        )
        event = apply(envelope("message.added", body_of(record)))
    assert state_of(event) == (EventState.NEW, "OperationalError: deadlock detected")
    process(timedelta(seconds=2))
    assert state_of(event)[0] == EventState.DONE


def test_a_poisonous_event_stops_nobody_else(
    conversation: models.Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = mirror.apply_messages
    bad, good = records.message(conversation), records.message(conversation)

    def choosy(given: Any) -> Any:
        if given[0].id == bad.id:
            raise RuntimeError("odd")
        return real(given)

    monkeypatch.setattr(mirror, "apply_messages", choosy)
    deliver(envelope("message.added", body_of(bad)))
    deliver(envelope("message.added", body_of(good)))
    assert process() == 2
    assert models.Message.objects.get().catena_id == good.id


def test_many_messages_cost_a_fraction_of_as_many_single_ones(conversation: models.Conversation) -> None:
    costs = []
    for count in (1, 40):
        for number in range(count):
            deliver(envelope("message.added", body_of(records.message(conversation, at=records.moment(number)))))
        with CaptureQueriesContext(connection) as queries:
            assert process() == count
        costs.append(len(queries))
    assert costs[1] < 3 * costs[0], costs
    assert models.Message.objects.count() == 41


def test_versions_of_one_message_that_are_due_together_end_as_the_newest(conversation: models.Conversation) -> None:
    first = records.message(conversation, message_text="first")
    others = [
        records.message(conversation, id=first.id, message_text=f"version {n}", updated_at=records.moment(n))
        for n in (3, 9, 5)
    ]
    for one in (first, *others, records.message(conversation)):
        deliver(envelope("message.modified", body_of(one)))
    assert process() == 5
    assert models.Message.objects.get(catena_id=first.id).text == "version 9"
    assert models.Message.objects.count() == 2
    assert set(WebhookEvent.objects.values_list("state", flat=True)) == {EventState.DONE}


def test_an_event_that_waits_or_cannot_be_read_keeps_none_of_its_page_waiting(
    conversation: models.Conversation,
) -> None:
    deliver(envelope("message.added", body_of(records.message(conversation))))
    deliver(envelope("message.added", body_of(records.message(conversation, connection_id=uuid4()))))
    deliver(envelope("message.added", {"id": "no uuid"}))
    deliver(envelope("message.added", body_of(records.message(conversation))))
    assert process() == 4
    assert models.Message.objects.count() == 2
    states = WebhookEvent.objects.order_by("id").values_list("state", "tries")
    assert list(states) == [("done", 1), ("parked", 1), ("dead", 1), ("done", 1)]


@pytest.mark.django_db(transaction=True)
def test_two_workers_apply_each_event_once(conversation: models.Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[Any] = []
    real = mirror.apply_messages

    def counted(given: Any) -> Any:
        counts.extend(one.id for one in given)
        return real(given)

    monkeypatch.setattr(mirror, "apply_messages", counted)
    for _ in range(30):
        deliver(envelope("message.added", body_of(records.message(conversation))))

    def work() -> None:
        inbox.process_due(database_clock())
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert WebhookEvent.objects.filter(state=EventState.DONE).count() == 30
    assert models.Message.objects.count() == len(counts) == 30
