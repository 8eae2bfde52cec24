"""Doorbells and sweeps: each only wakes an engine, and shared sweeps run once for the whole installation."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from messaging import conf, doorbell, heartbeat, models, outbox, sync, tasks
from messaging.simulator import SimulatorServer
from messaging.states import GateState, MessageState
from messaging.tasks import rounds, worker
from messaging.tasks.rounds import Outage, Round
from tests import factories
from tests.messaging.conftest import mirrored_conversation
from tests.stack import wait_for

pytestmark = pytest.mark.django_db
# Several threads see one another's rows only through real commits.
with_commits = pytest.mark.django_db(transaction=True)
S = MessageState
NOW = timezone.now()


@pytest.fixture
def configured(catena: SimulatorServer, settings: LazySettings) -> Any:
    """The product's own client, of this simulator."""
    settings.CATENA_API_URL, settings.CATENA_TOKEN_URL = catena.url, catena.token_url
    settings.CATENA_CLIENT_ID, settings.CATENA_CLIENT_SECRET = catena.client_id, catena.client_secret
    conf.catena_client.cache_clear()
    yield catena
    conf.catena_client.cache_clear()


@pytest.fixture
def senders() -> Iterator[ThreadPoolExecutor]:
    """The threads of a worker, their database sessions ended afterwards."""
    with ThreadPoolExecutor(3) as pool:
        yield pool
        barrier = threading.Barrier(3)
        list(pool.map(lambda _: (barrier.wait(10), connection.close()), range(3)))


def on_its_own_thread(action: Callable[[], Any]) -> Any:
    answers: list[Any] = []

    def run() -> None:
        answers.append(action())
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=30)
    return answers[0]


def test_the_doorbell_rings_a_task_that_exists() -> None:
    assert doorbell.DRAIN in app.tasks


def test_a_ring_is_undone_with_its_transaction(conversation: models.Conversation) -> None:
    def ring_and_fail() -> None:
        with transaction.atomic():
            doorbell.ring_drain(conversation.pk, at=NOW)
            raise LookupError

    with pytest.raises(LookupError):
        ring_and_fail()
    assert not ProcrastinateJob.objects.exists()


def test_a_doorbell_sends_what_is_due(
    configured: SimulatorServer, talk: models.Conversation, mara: models.User
) -> None:
    message = factories.OutgoingFactory(conversation=talk, author=mara)
    tasks.drain(talk.pk)
    tasks.drain(talk.pk)
    message.refresh_from_db()
    assert message.state == S.ACCEPTED
    assert configured.world.posts_seen == 1


def test_a_doorbell_about_nothing_is_harmless(configured: SimulatorServer) -> None:
    tasks.drain(123456)
    assert configured.world.posts_seen == 0


def test_the_client_is_made_once_from_the_settings(configured: SimulatorServer) -> None:
    assert conf.catena_client() is conf.catena_client()
    assert len(list(conf.catena_client().list_fleets())) == 3


def test_the_keeper_does_everything_that_time_brings() -> None:
    past = NOW - timedelta(minutes=5)
    lost = factories.OutgoingFactory(state=S.POSTING, lease_until=past)
    returned = factories.OutgoingFactory(state=S.CLAIMED, lease_until=past)
    old = factories.OutgoingFactory(expires_at=past)
    stranded = factories.OutgoingFactory(state=S.WAITING)
    models.Gate.objects.create(state=GateState.CLOSED, until=past)
    rounds.keep()
    for message in (lost, returned, old, stranded):
        message.refresh_from_db()
    assert [m.state for m in (lost, returned, old, stranded)] == [S.UNKNOWN, S.QUEUED, S.EXPIRED, S.QUEUED]
    assert models.Gate.objects.get().state == GateState.OPEN


@with_commits
def test_the_sweep_of_due_heads_sends_all_without_any_doorbell(
    configured: SimulatorServer, fleet: models.Fleet, senders: ThreadPoolExecutor
) -> None:
    author = factories.UserFactory(is_superuser=True)
    talks = [mirrored_conversation(configured.world, number) for number in range(3)]
    for talk in talks:
        factories.OutgoingFactory(conversation=talk, author=author)
    assert not ProcrastinateJob.objects.exists()
    assert rounds.drain_due(senders) == 3
    assert len(configured.world.journal) == 3
    assert rounds.drain_due(senders) == 0


def test_the_sweeps_read_from_catena(configured: SimulatorServer) -> None:
    world = configured.world
    world.messages = dict(list(world.messages.items())[:5])
    rounds.sweep_directory()
    rounds.sweep_messages()
    rounds.sweep_operations()
    assert models.Fleet.objects.count() == 3
    assert models.Message.objects.count() == 5


def test_the_webhooks_are_watched_only_where_they_can_come(
    configured: SimulatorServer, settings: LazySettings, sol: models.User
) -> None:
    rounds.check_subscriptions()
    rounds.do_wanted()
    assert configured.world.requests_seen == {}
    settings.CATENA_WEBHOOK_SECRETS = ["a-secret-of-32-characters-exactly"]
    rounds.check_subscriptions()
    assert configured.world.requests_seen["GET /v2/notifications/webhooks"] == 1
    sync.want(models.WebhookWork.CREATE, sol, timezone.now())
    rounds.do_wanted()
    assert models.WebhookSubscription.objects.count() == 20


def test_a_living_worker_shows() -> None:
    assert not heartbeat.is_fresh(timezone.now())
    rounds.beat()
    assert heartbeat.is_fresh(timezone.now())


def counting(every: float = 60.0, name: str = "count") -> tuple[Round, list[int]]:
    ran: list[int] = []
    return Round(name, every, lambda: ran.append(1)), ran


@with_commits
def test_a_shared_round_runs_once_per_beat_whoever_asks() -> None:
    shared, ran = counting()
    assert rounds.run_round(shared)
    assert not rounds.run_round(shared)
    assert not on_its_own_thread(lambda: rounds.run_round(shared))
    assert ran == [1]
    models.SyncCursor.objects.update(started_at=NOW - timedelta(hours=1))
    assert on_its_own_thread(lambda: rounds.run_round(shared))
    assert ran == [1, 1]


@with_commits
def test_two_workers_are_never_at_the_same_round() -> None:
    shared, ran = counting(every=0.0)
    with rounds.turn(shared) as is_ours:
        assert is_ours
        assert not on_its_own_thread(lambda: rounds.run_round(shared))
        other, other_ran = counting(every=0.0, name="other")
        assert on_its_own_thread(lambda: rounds.run_round(other))
    assert on_its_own_thread(lambda: rounds.run_round(shared))
    assert (ran, other_ran) == ([1], [1])


def take(shared: Round, frozen_after: float) -> bool:
    with rounds.turn(shared, frozen_after) as is_ours:
        return is_ours


@with_commits
@pytest.mark.parametrize("has_begun_before", [True, False])
def test_a_frozen_worker_does_not_keep_its_turn_for_ever(has_begun_before: bool) -> None:
    shared, _ = counting(every=0.0)
    has_begun, thaw, failed = threading.Event(), threading.Event(), []

    def freeze() -> None:
        try:
            with rounds.turn(shared):
                has_begun.set()
                thaw.wait(30)
        except OperationalError as error:
            failed.append(error)
        connection.close()

    frozen = threading.Thread(target=freeze)
    frozen.start()
    assert has_begun.wait(10)
    if not has_begun_before:
        models.SyncCursor.objects.all().delete()
    assert not take(shared, frozen_after=60.0), "a moment of silence is no frost"
    assert not take(shared, frozen_after=0.0), "this one ends the frozen session"
    wait_for(lambda: take(shared, frozen_after=60.0), seconds=10)
    thaw.set()
    frozen.join(30)
    assert failed, "who thaws finds its session gone and starts anew"


@with_commits
def test_the_turn_is_given_back_when_the_round_fails() -> None:
    def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        rounds.run_round(Round("count", 0.0, fail))
    shared, ran = counting(every=0.0)
    assert on_its_own_thread(lambda: rounds.run_round(shared))
    assert ran == [1]


def test_a_failing_round_ends_neither_its_lane_nor_the_others() -> None:
    stop, ran, failures = (
        threading.Event(),
        [],
        iter([OperationalError("away"), ValueError("odd"), OperationalError("x")]),
    )

    def fail() -> None:
        failure = next(failures, None)
        if failure is not None:
            raise failure

    def count() -> None:
        ran.append(1)
        if len(ran) == 8:
            stop.set()

    lane = [Round("bad", 0.01, fail, is_shared=False), Round("good", 0.01, count, is_shared=False)]
    thread = threading.Thread(target=rounds.run_lane, args=(lane, stop, Outage()))
    thread.start()
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert len(ran) == 8
    assert next(failures, None) is None


def test_an_outage_is_told_once_and_its_end_once(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage()
    for _ in range(3):
        outage.began(OperationalError("connection refused\n  is it running?"))
    outage.ended()
    outage.ended()
    texts = [record.getMessage() for record in caplog.records if record.name.endswith("rounds")]
    assert len(texts) == 2
    assert texts[0] == "The database is away (connection refused is it running?); trying again until it is back"
    assert "is back" in texts[1]


def test_what_runs_side_by_side_never_waits_for_catena_to_reap(senders: ThreadPoolExecutor) -> None:
    lanes = {lane[-1].name: [round_.name for round_ in lane] for lane in rounds.lanes(senders)}
    keeper = next(names for names in lanes.values() if "keeper" in names)
    assert not {"due", "operations", "messages", "directory"} & set(keeper)
    assert {round_.name for lane in rounds.lanes(senders) for round_ in lane if not round_.is_shared} == {
        "asked",
        "due",
        "epoch",
        "events",
        "heartbeat",
        "wanted",
    }


LONG_UP = -rounds.verify.GRACE.total_seconds() - 1


def kept(hours: float, *breaches: str) -> None:
    at = outbox.database_clock() - timedelta(hours=hours)
    models.Verification.objects.create(at=at, rule_count=1, breaches=list(breaches), seconds=0)


@pytest.mark.parametrize(
    ("hours", "breaches", "is_due"), [(23, (), False), (25, (), True), (0.5, ("one_head",), False), (2, ("one_head",), True)]
)  # fmt: skip
def test_the_rules_are_checked_daily_and_hourly_while_one_is_broken(
    hours: float, breaches: tuple[str, ...], is_due: bool
) -> None:
    kept(hours, *breaches)
    assert (rounds.verify_rules(time.monotonic() + LONG_UP) is not None) is is_due
    assert models.Verification.objects.count() == 1 + is_due


def test_the_first_check_waits_until_the_worker_has_done_what_was_late() -> None:
    assert rounds.verify_rules(time.monotonic()) is None
    found = rounds.verify_rules(time.monotonic() + LONG_UP)
    assert (found and found.breaches, models.Verification.objects.count()) == ([], 1)


def test_a_breach_is_kept_for_the_page_and_logged(
    conversation: models.Conversation, caplog: pytest.LogCaptureFixture
) -> None:
    message = factories.OutgoingFactory(conversation=conversation)
    conversation.summarise()
    found = rounds.verify_rules(time.monotonic() + LONG_UP)
    assert found is not None
    assert [line.partition(" (")[0] for line in found.breaches] == [f"composing_is_audited: message {message.uuid}"]
    assert f"1 breaches of the rules of sending, the first: {found.breaches[0]}" in caplog.text


def test_doorbells_of_dead_workers_are_deleted_and_others_stay(conversation: models.Conversation) -> None:
    for _ in range(3):
        doorbell.ring_drain(conversation.pk, at=NOW)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '5 min'), (now()) RETURNING id"
        )
        dead, alive = (row[0] for row in cursor.fetchall())
        todo, theirs, ours = (job.pk for job in ProcrastinateJob.objects.order_by("id"))
        for pk, owner in ((theirs, dead), (ours, alive)):
            cursor.execute("UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s WHERE id = %s", [owner, pk])
        assert rounds.forget_dead_jobs() == 1
        cursor.execute("DELETE FROM procrastinate_workers")
    assert sorted(ProcrastinateJob.objects.values_list("id", flat=True)) == [todo, ours]


def test_a_worker_refuses_a_database_that_may_forget_a_commit() -> None:
    worker.check_durability()
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        with pytest.raises(worker.NotDurable, match="synchronous_commit=off"):
            worker.check_durability()
        cursor.execute("RESET synchronous_commit")


def test_nothing_is_claimed_once_the_process_has_been_asked_to_end(
    configured: SimulatorServer, talk: models.Conversation, mara: models.User, senders: ThreadPoolExecutor
) -> None:
    message = factories.OutgoingFactory(conversation=talk, author=mara)
    tasks.stopping.set()
    try:
        tasks.drain(talk.pk)
        rounds.drain_due(senders)
    finally:
        tasks.stopping.clear()
    message.refresh_from_db()
    assert (message.state, message.fence) == (S.QUEUED, 0)
    assert outbox.drain(talk.pk, conf.catena_client()) == 1


def parked() -> models.WebhookEvent:
    later = timezone.now() + timedelta(hours=1)
    return models.WebhookEvent.objects.create(key="k", event_name="message.added", state="parked", next_at=later)


def test_a_new_connection_ends_the_waiting_of_its_events(configured: SimulatorServer) -> None:
    event = parked()
    rounds.sweep_directory()
    event.refresh_from_db()
    assert event.next_at is not None
    assert event.next_at <= timezone.now()
    models.WebhookEvent.objects.all().delete()
    again = parked()
    rounds.sweep_directory()
    again.refresh_from_db()
    assert again.next_at is not None
    assert again.next_at > timezone.now(), "there was nothing new"


@with_commits
def test_a_sweep_that_is_asked_for_runs_out_of_turn_and_once() -> None:
    ran: list[str] = []
    sweeps = [rounds.Round(name, 3600.0, partial(ran.append, name)) for name in ("directory", "messages")]
    for sweep in sweeps:
        rounds.run_round(sweep)
    ran.clear()
    rounds.run_asked(sweeps)
    assert ran == []
    models.SyncCursor.objects.update(started_at=timezone.now() - timedelta(minutes=1))
    for _ in range(3):
        models.SyncCursor.objects.ask("directory")
    models.SyncCursor.objects.filter(asked_at__isnull=False).update(asked_at=timezone.now() - timedelta(seconds=1))
    for _ in range(3):
        rounds.run_asked(sweeps)
    assert ran == ["directory"]
    models.SyncCursor.objects.ask("directory")
    rounds.run_asked(sweeps)
    assert ran == ["directory"], "it has begun within the last ten seconds"
