"""The request budget: never exceeded by anybody together, cheap, and kept by every call of the client."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection as database
from django.utils import timezone

from messaging import budget, conf, gates, models, outbox, sync, tasks
from messaging.budget import Pace, Purse, Share
from messaging.catena.client import CatenaClient, CatenaConfig
from messaging.catena.errors import OverBudget
from messaging.simulator import SimulatorServer
from messaging.states import GateCause, MessageState
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.fixture(autouse=True)
def a_new_process() -> Iterator[None]:
    budget.purse.cache_clear()
    yield
    budget.purse.cache_clear()


@pytest.fixture
def limited(catena: SimulatorServer) -> CatenaClient:
    """A client that asks the budget, as the product's own does."""
    return CatenaClient(
        CatenaConfig(catena.url, catena.token_url, catena.client_id, catena.client_secret, before_request=conf.spend)
    )


def tokens(share: Share) -> float:
    return models.RequestBudget.objects.get(share=share).tokens


def let_pass(seconds: float) -> None:
    """For the bucket, which goes by the database's clock."""
    for row in models.RequestBudget.objects.all():
        row.refilled_at -= timedelta(seconds=seconds)
        row.save()


def test_without_a_limit_nothing_is_asked(django_assert_num_queries: Any, settings: LazySettings) -> None:
    settings.CATENA_REQUESTS_PER_MINUTE = 0
    with django_assert_num_queries(0):
        assert [budget.take(share) for share in Share] == [None, None, None]
        assert not budget.is_spent(Share.SENDS)
    assert not models.RequestBudget.objects.exists()


@pytest.mark.parametrize("per_minute", [10, 60, 600, 36_000])
def test_no_sixty_seconds_hold_more_than_the_budget(per_minute: int) -> None:
    paces = [Pace.of(share, per_minute) for share in Share]
    worst = sum(pace.burst + pace.rate * (60 + budget.HOLD_SECONDS) for pace in paces if pace)
    assert worst == pytest.approx(per_minute)
    assert all(pace and pace.rate > 0 for pace in paces)


def test_half_is_for_sends_a_fifth_for_looking_and_the_rest_for_sweeps() -> None:
    worth = {share: pace.burst + pace.rate * 61 for share in Share if (pace := Pace.of(share, 1000))}
    assert worth == pytest.approx({Share.SENDS: 500, Share.RECONCILE: 200, Share.SWEEPS: 300})


def test_a_bucket_gives_its_burst_then_what_time_brings_and_never_more() -> None:
    pace = Pace(rate=2, burst=5)
    assert budget.draw_tokens(Share.SENDS, pace, 3)[0] == 3
    assert budget.draw_tokens(Share.SENDS, pace, 3)[0] == 2
    assert budget.draw_tokens(Share.SENDS, pace, 3)[0] == 0
    let_pass(1)
    assert budget.draw_tokens(Share.SENDS, pace, 9)[0] == 2
    let_pass(3600)
    assert budget.draw_tokens(Share.SENDS, pace, 9)[0] == 5


def test_a_clock_that_went_back_gives_nothing_and_takes_nothing() -> None:
    pace = Pace(rate=100, burst=5)
    assert budget.draw_tokens(Share.SENDS, pace, 4)[0] == 4
    let_pass(-3600)
    assert budget.draw_tokens(Share.SENDS, pace, 9)[0] == 1
    assert tokens(Share.SENDS) == pytest.approx(0, abs=0.01)


@pytest.mark.django_db(transaction=True)
def test_many_processes_together_never_exceed_the_budget_and_all_get_their_part() -> None:
    pace, workers, each = Pace(rate=200, burst=20), 6, 40
    served: list[int] = []
    budget.draw_tokens(Share.SENDS, pace, 0)  # the row exists, so that all begin with the same one
    began = time.monotonic()

    def work() -> None:
        own, count = Purse(Share.SENDS), 0
        while count < each:
            wait = own.take(pace)
            if wait is None:
                count += 1
            else:
                threading.Event().wait(wait)
        served.append(count)
        database.close()

    # However slow the machine is, nobody starves; however fast, the common pace holds.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    took = time.monotonic() - began
    assert served == [each] * workers
    assert took >= (each * workers - pace.burst) / pace.rate


class Hand:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_busy_process_draws_growing_batches_and_an_idle_one_holds_nothing_back() -> None:
    hand, drawn = Hand(), []

    def give(share: Share, pace: Pace, wanted: int) -> tuple[int, float]:
        drawn.append(wanted)
        return wanted, 1000.0

    purse, pace = Purse(Share.SENDS, hand, give), Pace(rate=1000, burst=1000)
    for _ in range(163):
        assert purse.take(pace) is None
    assert drawn == [1, 2, 4, 8, 16, 32, 50, 50]
    drawn.clear()
    for _ in range(8):
        hand.now += 10
        assert purse.take(pace) is None
    assert drawn == [50, 25, 12, 6, 3, 1, 1, 1]


def test_tokens_that_were_held_too_long_are_not_spent(django_assert_num_queries: Any) -> None:
    hand, pace = Hand(), Pace(rate=1000, burst=1000)
    purse = Purse(Share.SENDS, hand)
    for _ in range(4):
        purse.take(pace)
    with django_assert_num_queries(0):
        purse.take(pace)
    hand.now = budget.HOLD_SECONDS
    with django_assert_num_queries(1):
        purse.take(pace)


def test_an_empty_bucket_is_not_asked_again_before_it_can_hold_a_token(django_assert_num_queries: Any) -> None:
    hand, pace = Hand(), Pace(rate=0.5, burst=1)
    purse = Purse(Share.SENDS, hand)
    assert purse.take(pace) is None
    wait = purse.take(pace)
    assert wait == pytest.approx(2, abs=0.2)
    hand.now = 1
    with django_assert_num_queries(0):
        assert purse.take(pace) == pytest.approx(1, abs=0.2)
    assert purse.wait() == pytest.approx(1, abs=0.2)


def test_whoever_has_patience_waits_for_its_turn(settings: LazySettings) -> None:
    settings.CATENA_REQUESTS_PER_MINUTE = 12_000
    assert budget.take(Share.SWEEPS) is None
    models.RequestBudget.objects.update(tokens=-20)
    wait = budget.take(Share.SWEEPS)
    assert wait is not None
    assert budget.take(Share.SWEEPS, patience=5) is None


# What it means for calls

ONE_SEND_IN_SEVEN_SECONDS = 20


def test_a_send_without_room_provably_did_not_leave_and_waits_for_its_turn(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, limited: CatenaClient, settings: LazySettings
) -> None:
    settings.CATENA_REQUESTS_PER_MINUTE = ONE_SEND_IN_SEVEN_SECONDS
    first, second = (factories.OutgoingFactory(conversation=talk, author=mara, occurred_at=NOW, state=state)
                     for state in (MessageState.QUEUED, MessageState.WAITING))  # fmt: skip

    def drain(seconds: float) -> int:
        return outbox.drain(talk.pk, limited, lambda: NOW + timedelta(seconds=seconds), jitter=lambda low, high: high)

    assert drain(0) == 1
    second.refresh_from_db()
    assert (second.state, second.send_attempts.count(), second.claim_count) == (MessageState.QUEUED, 0, 1)
    assert timedelta(seconds=6) < second.not_before - NOW < timedelta(seconds=9)
    assert not models.Gate.objects.exists()
    assert budget.is_spent(Share.SENDS)
    assert catena.world.posts_seen == 1
    let_pass(7)
    budget.purse.cache_clear()
    assert drain(9) == 1
    assert [message.send_attempts.get().outcome for message in (first, second)] == ["accepted", "accepted"]


def test_waiting_for_room_grows_no_back_off(
    talk: models.Conversation, mara: models.User, limited: CatenaClient, settings: LazySettings
) -> None:
    settings.CATENA_REQUESTS_PER_MINUTE = ONE_SEND_IN_SEVEN_SECONDS
    assert budget.take(Share.SENDS) is None
    message = factories.OutgoingFactory(conversation=talk, author=mara, occurred_at=NOW)
    now = NOW
    for _ in range(8):
        outbox.drain(talk.pk, limited, lambda moment=now: moment, jitter=lambda low, high: high)
        message.refresh_from_db()
        assert message.not_before - now < timedelta(seconds=9)
        now = message.not_before
    assert (message.state, message.fence) == (MessageState.QUEUED, 8)


def test_a_worker_claims_nothing_while_it_knows_that_nothing_can_go(
    talk: models.Conversation, mara: models.User, settings: LazySettings
) -> None:
    settings.CATENA_REQUESTS_PER_MINUTE = ONE_SEND_IN_SEVEN_SECONDS
    assert budget.take(Share.SENDS) is None
    assert budget.take(Share.SENDS)
    message = factories.OutgoingFactory(conversation=talk, author=mara)
    tasks.drain(talk.pk)
    message.refresh_from_db()
    assert (message.state, message.fence) == (MessageState.QUEUED, 0)


def test_a_read_spends_from_the_share_around_it(limited: CatenaClient, settings: LazySettings) -> None:
    settings.CATENA_REQUESTS_PER_MINUTE = 6000
    with budget.share("reconcile"):
        list(limited.list_fleets())
        with budget.share(Share.SENDS):
            assert budget.current() == Share.SENDS
        assert budget.current() == Share.RECONCILE
    assert list(models.RequestBudget.objects.values_list("share", flat=True)) == ["reconcile"]
    assert tokens(Share.RECONCILE) < 120
    list(limited.list_fleets())
    assert set(models.RequestBudget.objects.values_list("share", flat=True)) == {"reconcile", "sweeps"}


def test_a_share_holds_for_its_own_thread_only() -> None:
    seen: list[Share] = []
    with budget.share(Share.RECONCILE):
        thread = threading.Thread(target=lambda: seen.append(budget.current()))
        thread.start()
        thread.join(timeout=10)
    assert seen == [Share.SWEEPS]


@pytest.mark.parametrize("name", ["", "everything", "SENDS", "sends; drop table"])
def test_a_share_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a valid Share"), budget.share(name):
        raise AssertionError("must not come here")


def test_sweeps_that_are_out_of_room_stop_without_pausing_anything(
    limited: CatenaClient, catena: SimulatorServer, settings: LazySettings
) -> None:
    settings.CATENA_REQUESTS_PER_MINUTE = 10
    assert "CATENA_REQUESTS_PER_MINUTE" in sync.directory(limited, timezone.now()).stopped
    assert not models.Gate.objects.exists()
    assert gates.reading_paused_until(timezone.now()) is None
    with pytest.raises(OverBudget) as refused:
        list(limited.list_fleets())
    assert 0 < (refused.value.retry_after or 0) <= 31


def test_a_probe_without_room_leaves_the_gate_as_it_is(limited: CatenaClient, settings: LazySettings) -> None:
    settings.CATENA_REQUESTS_PER_MINUTE = 10
    outbox.close_gate(None, GateCause.LOGIN, NOW)
    models.RequestBudget.objects.create(share=Share.SENDS, tokens=-99, refilled_at=NOW)
    assert outbox.probe(limited, lambda: NOW + timedelta(seconds=60)) == 0
    gate = models.Gate.objects.get()
    assert (gate.pause_seconds, gate.probe_at) == (15, NOW + gates.first_pause())


def test_the_products_own_client_keeps_the_budget(catena: SimulatorServer, settings: LazySettings) -> None:
    settings.CATENA_API_URL, settings.CATENA_TOKEN_URL = catena.url, catena.token_url
    settings.CATENA_CLIENT_ID, settings.CATENA_CLIENT_SECRET = catena.client_id, catena.client_secret
    settings.CATENA_REQUESTS_PER_MINUTE = 10
    conf.catena_client.cache_clear()
    try:
        list(conf.catena_client().list_fleets())
        with pytest.raises(OverBudget):
            list(conf.catena_client().list_fleets())
    finally:
        conf.catena_client.cache_clear()
