"""The message sweeps: which windows are read and when, that they overlap, resume and stay cheap."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from messaging import models, sync
from messaging.catena.client import CatenaClient, CatenaConfig
from messaging.catena.types import GroupMessageDraft
from messaging.mirror import Change
from messaging.simulator import Fault, Pace, SimulatorServer, World, drivers
from messaging.sync import Summary
from tests import factories
from tests.messaging.conftest import client_of_server
from tests.stack import wait_for

pytestmark = pytest.mark.django_db

BEGAN = datetime(2026, 5, 12, 14, 3, 21, tzinfo=UTC)
LIST = "GET /v2/telematics/messages"
GROUP_LIST = "GET /v2/telematics/group-messages"


class Clock:
    def __init__(self) -> None:
        self.at = BEGAN

    def __call__(self) -> datetime:
        return self.at

    def after(self, **span: float) -> datetime:
        """Moves on; returns a moment just later, so that what happens now is inside a window that ends there."""
        self.at += timedelta(**span)
        return self.at + timedelta(milliseconds=10)


def paging_client(server: SimulatorServer, page_size: int) -> CatenaClient:
    config = CatenaConfig(server.url, server.token_url, server.client_id, server.client_secret, page_size=page_size)
    return CatenaClient(config)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catena(clock: Clock) -> Iterator[SimulatorServer]:
    with SimulatorServer(World(now=clock, pace=Pace.instant())) as server:
        yield server


@pytest.fixture
def client(catena: SimulatorServer) -> CatenaClient:
    return client_of_server(catena)


@pytest.fixture
def connection(catena: SimulatorServer) -> models.Connection:
    """Only the first connection of the world is ours, so that a round is one connection's."""
    return factories.ConnectionFactory(catena_id=UUID(next(iter(catena.world.connections))))


def theirs(catena: SimulatorServer, connection: models.Connection) -> list[Any]:
    return [one for one in catena.world.messages.values() if one.connection_id == str(connection.catena_id)]


def says(catena: SimulatorServer, connection: models.Connection, text: str, occurred_at: datetime) -> str:
    """A driver's message that Catena ingests now, dated by the provider; returns its id."""
    with catena.world.lock:
        driver = catena.world.drivers(str(connection.catena_id))[0]
        written = drivers.write(catena.world, driver.id, text)
        catena.world.tick()
        stored = catena.world.messages[written.id]
        stored.occurred_at = occurred_at
    return written.id


def is_here(message_id: str) -> bool:
    return models.Message.objects.filter(catena_id=message_id).exists()


def announces(catena: SimulatorServer, connection: models.Connection, text: str, recipients: int = 3) -> str:
    """The office writes to a group of drivers; returns the id that its record has by now."""
    client = client_of_server(catena)
    with catena.world.lock:
        office = catena.world.dispatchers(str(connection.catena_id))[0]
        drivers_ = catena.world.drivers(str(connection.catena_id))[:recipients]
    draft = GroupMessageDraft(connection.catena_id, UUID(office.id), tuple(UUID(one.id) for one in drivers_), text)
    operation = client.create_group_message(draft)
    wait_for(lambda: catena.world.operations[str(operation.id)].resource_id)
    return str(catena.world.operations[str(operation.id)].resource_id)


def lists(catena: SimulatorServer) -> int:
    return catena.world.requests_seen.pop(LIST, 0)


def test_the_first_sweep_imports_45_days_oldest_first(
    catena: SimulatorServer, client: CatenaClient, connection: models.Connection, clock: Clock
) -> None:
    ancient = says(catena, connection, "From March", BEGAN - timedelta(days=44))
    beyond = says(catena, connection, "From February", BEGAN - timedelta(days=46))
    summary = sync.messages_all(client, clock.after(seconds=1))
    assert summary.read("messages") == len(theirs(catena, connection)) - 1
    assert (is_here(ancient), is_here(beyond)) == (True, False)
    times = list(models.Message.objects.order_by("id").values_list("occurred_at", flat=True))
    slices = [(moment - (BEGAN - timedelta(days=45))) // timedelta(days=5) for moment in times]
    assert slices == sorted(slices)


def test_an_interrupted_import_goes_on_where_it_stopped(
    catena: SimulatorServer, client: CatenaClient, connection: models.Connection, clock: Clock
) -> None:
    ancient = says(catena, connection, "From March", BEGAN - timedelta(days=44))
    # The ninth and last slice is lost; the eight before it are read.
    catena.world.faults.add(Fault("slow", match=LIST, times=8, seconds=0.0))
    catena.world.faults.add(Fault("server_error", match=LIST, times=1))
    first = sync.messages_all(client, clock.after(seconds=1))
    assert len(first.problems) == 1
    assert is_here(ancient)
    cursor = models.SyncCursor.objects.get(name="message_import", connection=connection)
    assert (cursor.finished_at, cursor.position) == (None, clock.after() - timedelta(days=5))
    lists(catena)
    second = sync.messages_all(client, clock.after(seconds=1))
    assert (second.problems, lists(catena)) == ([], 2)
    assert models.Message.objects.count() == len(theirs(catena, connection))


def test_question_16_every_sweep_reads_the_last_two_hours_again(
    catena: SimulatorServer, client: CatenaClient, connection: models.Connection, clock: Clock
) -> None:
    sync.messages_all(client, clock.after(seconds=1))
    late = says(catena, connection, "Sent an hour ago", clock.at - timedelta(minutes=110))
    lists(catena)
    summary = sync.messages_all(client, clock.after(seconds=30))
    assert is_here(late)
    assert lists(catena) == 1
    assert summary.counts["messages"][Change.NEW] == 1


@pytest.mark.parametrize(
    ("age", "missed_after", "seen_after"),
    [
        (timedelta(hours=30), timedelta(minutes=5), timedelta(minutes=11)),
        (timedelta(days=5), timedelta(minutes=11), timedelta(hours=25)),
    ],
)
def test_question_17_a_late_message_is_seen_by_the_next_wider_window(
    catena: SimulatorServer,
    client: CatenaClient,
    connection: models.Connection,
    clock: Clock,
    age: timedelta,
    missed_after: timedelta,
    seen_after: timedelta,
) -> None:
    sync.messages_all(client, clock.after(seconds=1))
    late = says(catena, connection, "Ingested late", clock.at - age)
    sync.messages_all(client, clock.after(seconds=missed_after.total_seconds()))
    assert not is_here(late)
    sync.messages_all(client, clock.after(seconds=(seen_after - missed_after).total_seconds()))
    assert is_here(late)


def test_the_cursor_stays_behind_now_by_the_overlap_and_a_long_absence_is_read_in_whole(
    catena: SimulatorServer, client: CatenaClient, connection: models.Connection, clock: Clock
) -> None:
    moment = clock.after(seconds=1)
    sync.messages_all(client, moment)
    cursor = models.SyncCursor.objects.get(name="messages", connection=connection)
    assert cursor.position == moment - timedelta(hours=2)
    missed = says(catena, connection, "While we were away", clock.at + timedelta(hours=1))
    sync.messages_all(client, clock.after(days=20))
    assert is_here(missed)


def test_a_failed_sweep_leaves_the_cursor_where_it_was(
    catena: SimulatorServer, client: CatenaClient, connection: models.Connection, clock: Clock
) -> None:
    sync.messages_all(client, clock.after(seconds=1))
    before = models.SyncCursor.objects.get(name="messages", connection=connection)
    catena.world.faults.add(Fault("truncated_json", match=LIST, times=1))
    assert len(sync.messages_all(client, clock.after(hours=5)).problems) == 1
    after = models.SyncCursor.objects.get(name="messages", connection=connection)
    assert (after.position, bool(after.last_error)) == (before.position, True)
    sync.messages_all(client, clock.after(seconds=30))
    after.refresh_from_db()
    assert (after.position, after.last_error) == (clock.after() - timedelta(hours=2), "")


def test_every_page_is_read_and_a_failure_in_the_middle_keeps_what_came(
    catena: SimulatorServer, connection: models.Connection, clock: Clock
) -> None:
    client = paging_client(catena, page_size=10)
    total = len(theirs(catena, connection))
    sync.messages_all(client, clock.after(seconds=1))
    assert models.Message.objects.count() == total
    assert lists(catena) > total // 10


def test_question_25_a_refused_cursor_restarts_the_same_window_once(
    catena: SimulatorServer, connection: models.Connection, clock: Clock
) -> None:
    total = len(theirs(catena, connection))
    # The eight slices before the last are empty; the second page of that one is refused.
    catena.world.faults.add(Fault("slow", match=LIST, times=9, seconds=0.0))
    catena.world.faults.add(Fault("refused", match=LIST, times=1, status=400))
    summary = sync.messages_all(paging_client(catena, page_size=10), clock.after(seconds=1))
    assert (summary.problems, models.Message.objects.count()) == ([], total)
    catena.world.faults.add(Fault("refused", match=LIST, times=2, status=400))
    summary = sync.messages_all(paging_client(catena, page_size=10), clock.after(seconds=30))
    assert len(summary.problems) == 1


def test_a_record_that_cannot_be_read_does_not_hide_the_others(
    catena: SimulatorServer, client: CatenaClient, connection: models.Connection, clock: Clock
) -> None:
    broken = says(catena, connection, "Broken", clock.at)
    with catena.world.lock:
        catena.world.messages[broken].source_id = None  # type: ignore[assignment]
    summary = sync.messages_all(client, clock.after(seconds=1))
    assert summary.problems == []
    assert models.Message.objects.count() == len(theirs(catena, connection)) - 1


class Stumbling(CatenaClient):
    """Meets something that nobody foresaw with the first connection it reads."""

    stumbled = False

    def list_messages(self, **asked: Any) -> Any:
        if not self.stumbled:
            self.stumbled = True
            raise ArithmeticError("nobody foresaw this")
        return super().list_messages(**asked)


def test_what_nobody_foresaw_with_one_connection_does_not_hide_the_others(
    catena: SimulatorServer, connection: models.Connection, clock: Clock
) -> None:
    other = factories.ConnectionFactory(catena_id=UUID(list(catena.world.connections)[1]))
    config = CatenaConfig(catena.url, catena.token_url, catena.client_id, catena.client_secret)
    summary = sync.messages_all(Stumbling(config), clock.after(minutes=1))
    assert len(summary.problems) == 1
    assert "ArithmeticError" in summary.problems[0]
    read = models.SyncCursor.objects.filter(name="messages", position__isnull=False)
    assert read.count() == 1
    assert read.get().connection in {connection, other}


def test_withdrawn_connections_are_not_asked_about(
    catena: SimulatorServer, client: CatenaClient, connection: models.Connection, clock: Clock
) -> None:
    models.Connection.objects.update(withdrawn_at=BEGAN)
    sync.messages_all(client, clock.after(seconds=1))
    assert lists(catena) == 0


def test_one_connection_can_be_read_on_request(
    catena: SimulatorServer, client: CatenaClient, connection: models.Connection, clock: Clock
) -> None:
    recent = says(catena, connection, "Just now", clock.at - timedelta(minutes=30))
    older = says(catena, connection, "This morning", clock.at - timedelta(hours=5))
    summary = sync.messages(client, connection, clock.after(seconds=1), timedelta(hours=1))
    assert (is_here(recent), is_here(older), summary.stopped) == (True, False, "")


def test_group_messages_come_by_the_same_windows_once_for_each_recipient(
    catena: SimulatorServer, client: CatenaClient, connection: models.Connection, clock: Clock
) -> None:
    sync.directory(client, clock.after())
    sync.messages_all(client, clock.after(seconds=1))
    record = announces(catena, connection, "I-80 is closed at exit 173")
    summary = sync.messages_all(client, clock.after(seconds=30))
    assert (summary.problems, summary.counts["group messages"][Change.NEW]) == ([], 1)
    group = models.GroupMessage.objects.get(catena_id=record)
    rows = models.Message.objects.filter(group=group)
    assert {str(row.conversation.driver.catena_id) for row in rows} == set(catena.world.messages[record].recipient_ids)
    assert len(rows) == 3
    assert sync.messages_all(client, clock.after(seconds=30)).changed == 0


def test_group_messages_are_imported_and_resumed_on_their_own(
    catena: SimulatorServer, client: CatenaClient, connection: models.Connection, clock: Clock
) -> None:
    sync.directory(client, clock.after())
    announces(catena, connection, "I-80 is closed at exit 173")
    catena.world.faults.add(Fault("slow", match=GROUP_LIST, times=8, seconds=0.0))
    catena.world.faults.add(Fault("server_error", match=GROUP_LIST, times=1))
    models.Connection.objects.exclude(pk=connection.pk).update(withdrawn_at=BEGAN)
    first = sync.messages_all(client, clock.after(seconds=1))
    assert len(first.problems) == 1
    done = models.SyncCursor.objects.filter(connection=connection, name__in=["message_import", "group_import"])
    assert dict(done.values_list("name", "finished_at")) == {"message_import": clock.after(), "group_import": None}
    catena.world.requests_seen.clear()
    assert sync.messages_all(client, clock.after(seconds=1)).problems == []
    assert catena.world.requests_seen[GROUP_LIST] == 2
    assert models.GroupMessage.objects.count() == 1


def test_a_provider_without_group_messages_is_not_asked_for_them(
    catena: SimulatorServer, client: CatenaClient, connection: models.Connection, clock: Clock
) -> None:
    models.Connection.objects.update(group_support="not_implemented")
    sync.messages_all(client, clock.after(seconds=1))
    assert (catena.world.requests_seen[GROUP_LIST], lists(catena)) == (0, 9)


def test_a_recipient_who_joins_later_sees_the_group_message_after_the_next_directory(
    catena: SimulatorServer, client: CatenaClient, connection: models.Connection, clock: Clock
) -> None:
    announces(catena, connection, "I-80 is closed at exit 173")
    sync.messages_all(client, clock.after(seconds=1))
    group = models.GroupMessage.objects.get()
    known = models.Message.objects.filter(group=group).count()
    assert (known, group.unplaced) == (3 - group.unplaced, group.unplaced)
    assert group.unplaced > 0
    sync.directory(client, clock.after(seconds=1))
    assert models.Message.objects.filter(group=group).count() == 3


def test_the_first_import_tells_how_many_days_are_done(
    catena: SimulatorServer, client: CatenaClient, connection: models.Connection, clock: Clock
) -> None:
    stages: list[str] = []
    summary = Summary(watcher=lambda kind, read, stage: stages.append(stage))
    sync.messages_all(client, clock.after(seconds=1), summary)
    told = list(dict.fromkeys(stage for stage in stages if stage))
    assert told[:9] == [f"first import of {connection}: {days} of 45 days" for days in range(5, 50, 5)]
