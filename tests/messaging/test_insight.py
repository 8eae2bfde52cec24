"""Filters, figures and health say the same as the badges and the rows they stand for."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from messaging import live, models
from messaging.insight import listing
from messaging.insight.figures import figures
from messaging.insight.health import Counts, counts, health, with_counts
from messaging.insight.situations import ATTENTION, PENDING, WORDS, situation_q
from messaging.models.outlook import ClosedGate, ClosedGates, message_delivery
from messaging.states import LIVELY_STATES, SITUATIONS, Direction, MessageState
from tests import factories

S = MessageState
GATES_OF_INTEREST = ["open", "connection", "credential"]


def fresh(connection: models.Connection) -> models.Conversation:
    """A conversation of its own, because one conversation holds one head at a time."""
    return factories.ConversationFactory(driver=factories.FleetUserFactory(connection=connection))


def every_kind_of_message(connection: models.Connection, now: datetime) -> None:
    """Each state in each variant that the badge tells apart, near and on both sides of its limits."""

    def make(state: S, **columns: Any) -> None:
        factories.OutgoingFactory(conversation=fresh(connection), state=state, **columns)

    def taken(**columns: Any) -> None:
        factories.accepted(fresh(connection), **columns)

    receipts: list[dict[str, Any]] = [
        {}, {"delivered_at": now}, {"read_at": now}, {"delivered_at": now, "read_at": now}, {"record_status": "delivered"},
        {"record_status": "read"}, {"record_status": "queued"}, {"record_status": "pending"}, {"record_status": "sent"},
        {"record_status": "read", "delivered_at": now},
    ]  # fmt: skip
    lease = {"lease_until": now + timedelta(minutes=1)}
    for after in (-5, 1, 3, 60):
        for claims in (0, 1):
            make(S.QUEUED, not_before=now + timedelta(seconds=after), claim_count=claims)
    make(S.CLAIMED, **lease)
    make(S.POSTING, **lease)
    make(S.UNKNOWN, unknown_since=now)
    for state in (S.WAITING, S.NEEDS_DECISION, S.CANCELLED, S.EXPIRED, S.CLOSED_SENT, S.CLOSED_NOT_SENT, S.REJECTED):
        make(state)
    make(S.REJECTED, handled_at=now)
    for minutes in (0, 9, 11):
        for attempts in (0, 2):
            for word in ("pending", "sleeping", ""):
                taken(accepted_at=now - timedelta(minutes=minutes), failed_attempts=attempts, operation_status=word)
    taken(accepted_at=None)
    taken(escalated_at=now, priority="high")
    taken(escalated_at=now, state=S.SUCCEEDED, operation_status="success")
    for surprise in ({"corrected_at": now}, {"is_sent_twice": True}, {"corrected_at": now, "is_sent_twice": True}):
        taken(**surprise, escalated_at=now)
        taken(**surprise, operation_status="sleeping")
        taken(**surprise, state=S.SUCCEEDED, operation_status="success", delivered_at=now)
        taken(**surprise, state=S.SUCCEEDED, operation_status="success", handled_at=now)
        taken(**surprise, state=S.FAILED, operation_status="failed", handled_at=now)
    taken(state=S.FAILED, operation_status="failed")
    taken(state=S.FAILED, operation_status="failed", handled_at=now)
    for receipt in receipts:
        taken(state=S.SUCCEEDED, operation_status="success", **receipt)
        factories.IncomingFactory(conversation=fresh(connection), **receipt)
        factories.IncomingFactory(conversation=fresh(connection), direction=Direction.OUT, **receipt)
    for word in ("", "pending", "sent", "delivered", "read", "queued"):
        for direction in Direction:
            factories.GroupAppearanceFactory(conversation=fresh(connection), direction=direction, record_status=word)


def gates_of(kind: str, connection: models.Connection) -> ClosedGates:
    closed = ClosedGate("Too many requests", None)
    return {"open": {}, "connection": {connection.pk: closed}, "credential": {None: closed}}[kind]


@pytest.mark.django_db
@pytest.mark.parametrize("kind", GATES_OF_INTEREST)
def test_every_filter_finds_exactly_the_messages_whose_badge_says_its_word(
    connection: models.Connection, kind: str
) -> None:
    now = timezone.now()
    every_kind_of_message(connection, now)
    every_kind_of_message(factories.ConnectionFactory(), now)
    gates = gates_of(kind, connection)
    shown: dict[str, set[int]] = {word: set() for word in SITUATIONS}
    for message in models.Message.objects.select_related("connection", "settled_by"):
        shown[message_delivery(message, now, gates).key].add(message.pk)
    found = {
        word: set(models.Message.objects.filter(situation_q(word, now, gates)).values_list("pk", flat=True))
        for word in SITUATIONS
    }
    assert found == shown
    # Every word was tried with at least one message, or the comparison above would prove little.
    assert {word for word, rows in shown.items() if not rows} == ({"paused"} if kind == "open" else set())
    assert set(WORDS) == set(SITUATIONS) - {"received"}


@pytest.mark.django_db
def test_the_wide_words_gather_unhandled_failures_and_everything_on_its_way(connection: models.Connection) -> None:
    now = timezone.now()
    every_kind_of_message(connection, now)
    rows = models.Message.objects.all()
    urgent = rows.filter(situation_q(ATTENTION, now, {})).values_list("state", "handled_at")
    pending = rows.filter(situation_q(PENDING, now, {})).values_list("state", flat=True)
    late_or_surprising = {S.ACCEPTED, S.SUCCEEDED}
    failed = {S.FAILED, S.REJECTED, S.EXPIRED, S.NEEDS_DECISION}
    assert set(urgent) == {(state, None) for state in failed | late_or_surprising}
    assert set(pending) == set(LIVELY_STATES)


def test_a_word_that_is_no_situation_is_refused() -> None:
    with pytest.raises(KeyError):
        situation_q("delightful", timezone.now(), {})


@pytest.mark.django_db
def test_figures_count_the_day_of_what_a_person_sees(connection: models.Connection, mara: models.User) -> None:
    now = timezone.now()

    def ended(state: S, minutes_ago: int, seconds: int, where: models.Connection = connection) -> None:
        at = now - timedelta(minutes=minutes_ago)
        word = "success" if state == S.SUCCEEDED else "failed"
        settled = at + timedelta(seconds=seconds)
        factories.accepted(
            fresh(where), state=state, operation_status=word, occurred_at=at, accepted_at=at, settled_at=settled
        )

    for seconds in (2, 4, 6):
        ended(S.SUCCEEDED, 10, seconds)
    ended(S.FAILED, 10, 100)
    ended(S.FAILED, 70, 8)
    ended(S.SUCCEEDED, 25 * 60, 4)  # yesterday
    ended(S.FAILED, 10, 4, factories.ConnectionFactory())  # of another fleet
    factories.OutgoingFactory(conversation=fresh(connection), occurred_at=now - timedelta(hours=30))
    factories.IncomingFactory(conversation=fresh(connection))
    found = figures(mara)
    assert (found.accepted, found.failed, found.finished, found.rate) == (3, 2, 5, 60.0)
    assert (found.failed_hours[-1], found.failed_hours[-2], sum(found.failed_hours)) == (1, 1, 2)
    assert found.pending == 1
    assert found.oldest_pending is not None
    assert abs(found.oldest_pending - timedelta(hours=30)) < timedelta(minutes=1)
    assert found.median == timedelta(seconds=6)
    assert found.p95 is not None
    assert timedelta(seconds=8) < found.p95 <= timedelta(seconds=100)
    assert not found.is_capped


@pytest.mark.django_db
def test_figures_of_an_empty_house_say_nothing_rather_than_zero_percent(mara: models.User) -> None:
    found = figures(mara)
    assert (found.rate, found.median, found.p95, found.oldest_pending) == (None, None, None, None)
    assert found.failed_hours == [0] * 24


@pytest.mark.django_db
def test_pages_of_the_list_meet_without_gap_or_repetition(connection: models.Connection, mara: models.User) -> None:
    now = timezone.now()
    talk = fresh(connection)
    same_moment = now - timedelta(minutes=5)
    for number in range(2 * listing.PAGE_SIZE + 10):
        factories.accepted(talk, occurred_at=same_moment - timedelta(seconds=number // 7))
    whole = [row["id"] for row in listing.read_rows(_ordered(mara, now), 200, now, {})]
    first, more = listing.page(mara, listing.OperationFilter(), now, {})
    second, more_again = listing.page(mara, listing.OperationFilter(before=_key(first[-1])), now, {})
    third, even_more = listing.page(mara, listing.OperationFilter(before=_key(second[-1])), now, {})
    assert [row["id"] for row in first + second + third] == whole
    assert (more, more_again, even_more) == (True, True, False)
    back, before_that = listing.page(mara, listing.OperationFilter(after=_key(second[0])), now, {})
    assert ([row["id"] for row in back], before_that) == ([row["id"] for row in first], False)


def _ordered(user: models.User, now: datetime) -> Any:
    return listing.outgoing(user, listing.OperationFilter(), now, {}).order_by("-occurred_at", "-id")


def _key(row: listing.Row) -> listing.Key:
    return row["occurred_at"], row["id"]


@pytest.mark.django_db(transaction=True)
def test_changed_rows_carry_the_figures_and_nothing_older(connection: models.Connection, mara: models.User) -> None:
    now = timezone.now()
    factories.failed(fresh(connection))
    since = live.glance(mara).cursor
    changed = factories.failed(fresh(connection))
    found = listing.outgoing(mara, listing.OperationFilter(), now, {}).filter(live.news(since))
    rows = listing.read_changed(mara, found, 10, now, {})
    assert [row["id"] for row in rows] == [changed.pk]
    assert rows[0]["figures"]["failed"] == 2


@pytest.mark.django_db
def test_counts_of_a_connection_come_from_its_own_operations(connection: models.Connection) -> None:
    now = timezone.now()

    def operation(status: str, minutes_ago: float, **columns: Any) -> None:
        at = now - timedelta(minutes=minutes_ago)
        factories.OperationFactory(connection=connection, status=status, catena_created_at=at, **columns)

    operation("success", 2)
    operation("failed", 10)
    operation("failed", 40)
    operation("success", 90)
    operation("failed", 30 * 60)
    operation("pending", 1)
    operation("failed", 1, resource="group_message")
    factories.OperationFactory(status="failed")
    factories.OutgoingFactory(conversation=fresh(connection))
    found = counts(with_counts(models.Connection.objects.filter(pk=connection.pk)).get())
    assert found == Counts(
        finished=4, accepted=2, hour_finished=3, hour_accepted=1, quarter_finished=2, quarter_accepted=1,
        run_finished=5, run_accepted=2, last_success=now - timedelta(minutes=2), pending=1,
    )  # fmt: skip
    assert (found.failed, found.rate) == (2, 50.0)


@pytest.mark.parametrize(
    ("obstacle", "found", "word"),
    [
        ("The fleet must sign in again.", Counts(finished=9, accepted=9), "disabled"),
        (None, Counts(), "no_data"),
        (None, Counts(finished=5, run_finished=5), "failing"),
        (None, Counts(finished=4, run_finished=4, hour_finished=0), "healthy"),
        (None, Counts(finished=9, accepted=6, quarter_finished=3, run_finished=5, run_accepted=2), "failing"),
        (None, Counts(finished=9, accepted=7, quarter_finished=2, run_finished=5, run_accepted=3), "healthy"),
        (None, Counts(finished=99, accepted=90, hour_finished=20, hour_accepted=18, run_accepted=5), "degraded"),
        (None, Counts(finished=99, accepted=90, hour_finished=20, hour_accepted=19, run_accepted=5), "healthy"),
    ],
)
def test_health_is_the_word_that_the_rules_on_the_page_say(obstacle: str | None, found: Counts, word: str) -> None:
    assert health(obstacle, found).key == word
