"""Asking Catena what became of pending messages: one listing per connection, single reads as the exception."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest

from messaging import mirror, models, sync
from messaging.catena.client import CatenaClient
from messaging.catena.types import MessageDraft
from messaging.simulator import Fault, SimulatorServer
from messaging.states import GateCause, GateState, MessageState
from messaging.sync.pending import delay_at
from tests import factories
from tests.messaging.conftest import mirrored_conversation
from tests.messaging.test_sync_messages import paging_client
from tests.stack import wait_for

pytestmark = pytest.mark.django_db

LIST = "GET /v2/integrations/connections/resource-operations"
SINGLE = "GET /v2/integrations/connections/{id}/resource-operations/{id}"


def now() -> datetime:
    """A moment later than anything the simulator has done, because windows end before it."""
    return datetime.now(UTC) + timedelta(seconds=1)


def posted(talk: models.Conversation, client: CatenaClient, text: str, **columns: object) -> models.Message:
    """A message that the simulated Catena has truly accepted, due for a look. `#slow` in the text keeps it pending."""
    office = factories.office_user(talk.connection)
    draft = MessageDraft(talk.connection.catena_id, office.catena_id, talk.driver.catena_id, text)
    operation = mirror.apply_operation(client.create_message(draft))
    assert operation is not None
    defaults = {"state": MessageState.ACCEPTED, "operation_status": "pending", "accepted_at": now(), "text": text}
    return factories.OutgoingFactory(conversation=talk, operation=operation, **{**defaults, **columns})


def settle(catena: SimulatorServer) -> None:
    catena.world.tick()


def fresh(message: models.Message) -> models.Message:
    message.refresh_from_db()
    return message


def reads(catena: SimulatorServer) -> Counter[str]:
    """Requests to the API since the last call, without tokens and writes."""
    seen = Counter({key: n for key, n in catena.world.requests_seen.items() if key.startswith("GET ")})
    for key in seen:
        del catena.world.requests_seen[key]
    return seen


def test_one_listing_per_connection_settles_any_number_of_messages(
    catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    talks = [mirrored_conversation(catena.world, number) for number in range(2)]
    messages = [posted(talk, catena_client, f"Dock {n} is free") for talk in talks for n in range(6)]
    settle(catena)
    reads(catena)
    summary = sync.operations(catena_client, now())
    assert [fresh(message).state for message in messages] == [MessageState.SUCCEEDED] * 12
    assert all(message.catena_id for message in messages)
    assert reads(catena) == {LIST: 2}
    assert (summary.problems, summary.stopped, summary.read("operations")) == ([], "", 12)


def test_every_page_of_a_listing_is_read(talk: models.Conversation, catena: SimulatorServer) -> None:
    client = paging_client(catena, page_size=2)
    messages = [posted(talk, client, f"Dock {n} is free") for n in range(5)]
    settle(catena)
    reads(catena)
    sync.operations(client, now())
    assert [fresh(message).state for message in messages] == [MessageState.SUCCEEDED] * 5
    assert reads(catena) == {LIST: 3}


def test_nothing_is_asked_while_nothing_is_due(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = posted(talk, catena_client, "Dock 4 is free", next_poll_at=now() + timedelta(minutes=1))
    settle(catena)
    reads(catena)
    sync.operations(catena_client, now())
    assert reads(catena) == {}
    assert fresh(message).state == MessageState.ACCEPTED
    sync.operations(catena_client, now(), everything=True)
    assert fresh(message).state == MessageState.SUCCEEDED


def test_a_pending_message_is_looked_at_again_later_and_its_page_is_not_painted_again(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    moment = now()
    message = posted(talk, catena_client, "Dock 4 #slow", accepted_at=moment - timedelta(seconds=12))
    before = fresh(message).changed_xid
    sync.operations(catena_client, moment, rng=Random(5))
    message = fresh(message)
    assert (message.state, message.changed_xid) == (MessageState.ACCEPTED, before)
    assert message.next_poll_at is not None
    assert timedelta(seconds=8) <= message.next_poll_at - moment <= timedelta(seconds=12)


@pytest.mark.parametrize(("age", "gap"), [(0, 1), (1, 2), (4, 3), (10, 5), (20, 10), (35, 15), (65, 30), (9e9, 900)])
def test_the_gap_between_two_looks_grows_with_the_age_of_the_message(age: float, gap: float) -> None:
    assert delay_at(age, [1, 2, 3, 5, 10, 15, 30, 60, 120, 300, 600, 900]) == gap


def test_an_operation_that_two_lists_do_not_show_is_read_by_its_id(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("operation_lost_in_lists"))
    message = posted(talk, catena_client, "Dock 4 is free")
    settle(catena)
    sync.operations(catena_client, now())
    assert fresh(message).state == MessageState.ACCEPTED
    assert fresh(message).looks == 1
    reads(catena)
    sync.operations(catena_client, now(), everything=True)
    assert fresh(message).state == MessageState.SUCCEEDED
    assert reads(catena) == {LIST: 1, SINGLE: 1}


def test_single_reads_are_bounded_and_the_rest_stays_due(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("operation_lost_in_lists", times=100))
    due = now() - timedelta(minutes=1)
    messages = [posted(talk, catena_client, f"Dock {n}", looks=2, next_poll_at=due) for n in range(23)]
    settle(catena)
    sync.operations(catena_client, now())
    states = Counter(fresh(message).state for message in messages)
    assert states == {MessageState.SUCCEEDED: 20, MessageState.ACCEPTED: 3}
    left = [message for message in messages if message.state == MessageState.ACCEPTED]
    assert [message.next_poll_at for message in left] == [due] * 3
    sync.operations(catena_client, now())
    assert {fresh(message).state for message in left} == {MessageState.SUCCEEDED}


def test_a_message_pending_for_days_is_read_alone_instead_of_listing_days(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = posted(talk, catena_client, "Dock 4 is free")
    assert message.operation is not None
    models.Operation.objects.update(catena_created_at=now() - timedelta(days=3))
    settle(catena)
    reads(catena)
    sync.operations(catena_client, now())
    assert fresh(message).state == MessageState.SUCCEEDED
    assert LIST not in reads(catena)


def test_an_operation_that_catena_no_longer_knows_stays_pending(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = posted(talk, catena_client, "Dock 4 #slow", looks=2)
    assert message.operation is not None
    with catena.world.lock:
        del catena.world.operations[str(message.operation.catena_id)]
    summary = sync.operations(catena_client, now())
    assert fresh(message).state == MessageState.ACCEPTED
    assert len(summary.problems) == 1


def test_an_unknown_status_word_is_stored_and_asked_about_again(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = posted(talk, catena_client, "Dock 4 #unknown")
    wait_for(lambda: all(operation.status != "pending" for operation in list(catena.world.operations.values())))
    sync.operations(catena_client, now())
    message = fresh(message)
    assert message.state == MessageState.ACCEPTED
    assert message.operation_status not in {"", "pending", "success", "failed"}
    assert message.next_poll_at is not None


def test_one_connections_failure_does_not_stop_the_others(catena: SimulatorServer, catena_client: CatenaClient) -> None:
    broken, sound = (mirrored_conversation(catena.world, number) for number in range(2))
    stuck = posted(broken, catena_client, "Dock 1 is free")
    done = posted(sound, catena_client, "Dock 2 is free")
    settle(catena)
    # The first listing is that of the message that has waited longest.
    catena.world.faults.add(Fault("server_error", match=LIST, times=1))
    moment = now()
    summary = sync.operations(catena_client, moment)
    assert (fresh(stuck).state, fresh(done).state) == (MessageState.ACCEPTED, MessageState.SUCCEEDED)
    assert (len(summary.problems), summary.stopped) == (1, "")
    cursor = models.SyncCursor.objects.get(name="operations", connection=broken.connection)
    assert "HTTP 500" in cursor.last_error
    assert stuck.next_poll_at is not None
    assert stuck.next_poll_at >= moment + timedelta(seconds=12)
    sync.operations(catena_client, now(), everything=True)
    assert fresh(stuck).state == MessageState.SUCCEEDED
    cursor.refresh_from_db()
    assert cursor.last_error == ""


def test_a_429_stops_the_round_and_the_next_ones_until_its_time_is_over(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = posted(talk, catena_client, "Dock 4 is free")
    settle(catena)
    catena.world.faults.add(Fault("rate_limited", match=LIST, times=1, retry_after_seconds=30))
    moment = now()
    assert "slow down" in sync.operations(catena_client, moment).stopped
    reads(catena)
    assert "slow down" in sync.operations(catena_client, moment + timedelta(seconds=5), everything=True).stopped
    assert "slow down" in sync.messages_all(catena_client, moment + timedelta(seconds=5)).stopped
    assert reads(catena) == {}
    assert sync.operations(catena_client, moment + timedelta(seconds=60), everything=True).stopped == ""
    assert fresh(message).state == MessageState.SUCCEEDED


def test_refused_credentials_stop_the_round_with_one_line_that_names_the_cure(
    catena: SimulatorServer, catena_client: CatenaClient, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2):
        posted(mirrored_conversation(catena.world, number), catena_client, "Dock 4 is free")
    catena.world.expire_tokens()
    catena.world.faults.add(Fault("token_refused", times=100))
    caplog.clear()
    summary = sync.operations(catena_client, now())
    assert "CATENA_CLIENT_SECRET" in summary.stopped
    errors = [record for record in caplog.records if record.name.startswith("messaging.sync")]
    assert [(record.levelname, "stopped" in record.getMessage()) for record in errors] == [("ERROR", True)]
    gate = models.Gate.objects.get(connection=None)
    assert (gate.state, gate.cause) == (GateState.CLOSED, GateCause.LOGIN), "sending does not wait for its own refusal"


def test_finished_operations_of_others_are_stored_once_and_cost_nothing_afterwards(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    mine = posted(talk, catena_client, "Dock 4 #slow")
    draft = MessageDraft(
        talk.connection.catena_id, factories.office_user(talk.connection).catena_id, talk.driver.catena_id, "By hand"
    )
    other = catena_client.create_message(draft)
    settle(catena)
    first = sync.operations(catena_client, now())
    second = sync.operations(catena_client, now(), everything=True)
    assert models.Operation.objects.filter(catena_id=other.id).count() == 1
    assert isinstance(other.id, UUID)
    assert (first.changed, second.changed) == (1, 0)
    assert fresh(mine).state == MessageState.ACCEPTED
