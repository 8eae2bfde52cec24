"""Incidents open, widen, calm down and relapse by what the messages say, and by nothing else."""

import sys
import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.db import connection as database
from django.utils import timezone
from psycopg.errors import QueryCanceled

from messaging import incidents, models
from messaging.states import MessageState
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()
Kind = models.IncidentEntry.Kind


def talks(connection: models.Connection, number: int = 2) -> list[models.Conversation]:
    return [
        factories.ConversationFactory(driver=factories.FleetUserFactory(connection=connection)) for _ in range(number)
    ]


def fail(connection: models.Connection, number: int, at: datetime = NOW, **columns: Any) -> list[models.Message]:
    """So many failures in a row, one second apart, the last one at `at`, on two conversations of the connection."""
    places = talks(connection)
    return [
        factories.failed(
            places[turn % 2],
            **{"settled_at": at - timedelta(seconds=number - 1 - turn), "occurred_at": at - timedelta(seconds=90), **columns},
        )
        for turn in range(number)
    ]  # fmt: skip


def accept(connection: models.Connection, number: int, at: datetime = NOW, **columns: Any) -> None:
    place = talks(connection, 1)[0]
    for _ in range(number):
        factories.accepted(
            place, state=MessageState.SUCCEEDED, operation_status="success", settled_at=at, occurred_at=at, **columns
        )


def kinds(incident: models.Incident) -> list[str]:
    return list(incident.entries.order_by("id").values_list("kind", flat=True))


@pytest.fixture
def other(fleet: models.Fleet) -> models.Connection:
    """Another connection at the same provider."""
    return factories.ConnectionFactory(fleet=fleet)


def test_five_failures_of_one_cause_open_an_incident_with_its_figures(connection: models.Connection) -> None:
    failed = fail(connection, 5, reason="Samsara answered 503 to request 8f31")
    incidents.watch(NOW)
    one = models.Incident.objects.get()
    assert (one.connection, one.source_name) == (connection, "samsara")
    assert (one.error_type, one.response_status_code, one.cause) == ("tsp", 503, "Samsara answered # to request #")
    assert (one.failures, one.drivers) == (5, 2)
    assert (one.first_failed_at, one.last_failed_at) == (failed[0].settled_at, failed[-1].settled_at)
    assert kinds(one) == [Kind.OPENED]


def test_four_failures_open_nothing(connection: models.Connection) -> None:
    fail(connection, 4)
    incidents.watch(NOW)
    assert not models.Incident.objects.exists()


@pytest.mark.parametrize(("accepted", "opened"), [(5, 1), (6, 0)])
def test_the_failures_must_be_half_of_what_ended(connection: models.Connection, accepted: int, opened: int) -> None:
    fail(connection, 5)
    accept(connection, accepted)
    incidents.watch(NOW)
    assert models.Incident.objects.count() == opened


def test_failures_of_other_causes_do_not_water_one_down(connection: models.Connection) -> None:
    fail(connection, 5)
    fail(connection, 9, error_type="auth", response_status_code=401)
    fail(connection, 4, error_type="network", response_status_code=None)
    incidents.watch(NOW)
    assert set(models.Incident.objects.values_list("error_type", "failures")) == {("tsp", 5), ("auth", 9)}


def test_old_failures_and_tests_of_support_do_not_count(connection: models.Connection) -> None:
    fail(connection, 5, at=NOW - timedelta(seconds=301))
    fail(connection, 5, is_test=True)
    incidents.watch(NOW)
    assert not models.Incident.objects.exists()


def test_the_thresholds_come_from_the_settings(connection: models.Connection, settings: Any) -> None:
    settings.INCIDENT_FAILURES, settings.INCIDENT_SHARE, settings.INCIDENT_WINDOW_SECONDS = 2, 0.1, 60
    fail(connection, 2)
    accept(connection, 18)
    incidents.watch(NOW)
    assert models.Incident.objects.count() == 1


def test_watching_again_changes_nothing(connection: models.Connection) -> None:
    fail(connection, 5)
    incidents.watch(NOW)
    before = models.Incident.objects.values().get()
    incidents.watch(NOW)
    assert models.Incident.objects.values().get() == before
    assert models.IncidentEntry.objects.count() == 1


def test_further_failures_are_counted(connection: models.Connection) -> None:
    fail(connection, 5)
    incidents.watch(NOW)
    later = NOW + timedelta(seconds=30)
    fail(connection, 2, at=later)
    incidents.watch(later)
    one = models.Incident.objects.get()
    assert (one.failures, one.drivers, one.last_failed_at) == (7, 4, later)


def test_one_that_cannot_be_counted_in_time_goes_on_to_its_last_failure_and_keeps_no_other_from_its_figures(
    connection: models.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(connection, 5, error_type="auth", response_status_code=401)
    fail(connection, 5)
    incidents.watch(NOW)
    first, second = models.Incident.objects.order_by("id")
    watch = sys.modules["messaging.incidents.watch"]
    real = watch.figures

    def too_slow(incident: models.Incident, until: datetime) -> Any:
        if incident.pk == first.pk:
            raise OperationalError("canceling statement due to statement timeout") from QueryCanceled()
        return real(incident, until)

    monkeypatch.setattr(watch, "figures", too_slow)
    later = NOW + timedelta(minutes=1)
    fail(connection, 2, later, error_type="auth", response_status_code=401)
    fail(connection, 2, later)
    incidents.watch(later)
    assert [models.Incident.objects.get(pk=one.pk).failures for one in (first, second)] == [5, 7]
    assert {one.last_failed_at for one in models.Incident.objects.all()} == {later}


def test_one_cause_on_two_connections_is_the_incident_of_the_provider(
    connection: models.Connection, other: models.Connection
) -> None:
    fail(connection, 5)
    fail(other, 6)
    incidents.watch(NOW)
    one = models.Incident.objects.get()
    assert (one.connection, one.failures, one.drivers) == (None, 11, 4)


def test_the_same_cause_at_two_providers_is_two_incidents(connection: models.Connection) -> None:
    fail(connection, 5)
    fail(factories.ConnectionFactory(source_name="motive", tsp_slug="motive"), 5)
    incidents.watch(NOW)
    assert set(models.Incident.objects.values_list("source_name", "connection__source_name")) == {
        ("samsara", "samsara"),
        ("motive", "motive"),
    }


def test_an_incident_of_a_connection_widens_when_another_one_fails_alike(
    connection: models.Connection, other: models.Connection
) -> None:
    first = fail(connection, 5)[0]
    incidents.watch(NOW)
    fail(other, 5, at=NOW + timedelta(seconds=20))
    incidents.watch(NOW + timedelta(seconds=20))
    one = models.Incident.objects.get()
    assert (one.connection, one.failures, one.first_failed_at) == (None, 10, first.settled_at)
    assert kinds(one) == [Kind.OPENED, Kind.WIDENED]


def test_what_stands_on_single_connections_goes_on_in_the_incident_of_the_provider(
    connection: models.Connection, other: models.Connection, fleet: models.Fleet
) -> None:
    third = factories.ConnectionFactory(fleet=fleet)
    long_ago = NOW - timedelta(hours=1)
    fail(connection, 5, at=long_ago)
    incidents.watch(long_ago)
    fail(other, 5)
    fail(third, 5)
    incidents.watch(NOW)
    incidents.watch(NOW + timedelta(seconds=15))
    whole = models.Incident.objects.open().get()
    ended = models.Incident.objects.exclude(pk=whole.pk).get()
    assert whole.connection is None
    assert whole.first_failed_at == ended.first_failed_at
    assert (ended.connection, ended.resolved_by) == (connection, None)
    assert kinds(ended)[-1] == Kind.RESOLVED


def test_an_old_incident_elsewhere_does_not_keep_another_connection_from_its_own(
    connection: models.Connection, other: models.Connection
) -> None:
    long_ago = NOW - timedelta(hours=1)
    fail(connection, 5, at=long_ago)
    incidents.watch(long_ago)
    fail(other, 5)
    incidents.watch(NOW)
    assert set(models.Incident.objects.open().values_list("connection", flat=True)) == {connection.pk, other.pk}


def test_what_a_person_resolved_is_not_opened_by_old_failures(connection: models.Connection, sol: models.User) -> None:
    fail(connection, 5)
    incidents.watch(NOW)
    assert incidents.resolve(models.Incident.objects.get(), sol, NOW + timedelta(seconds=1))
    fail(connection, 4, at=NOW + timedelta(seconds=20))
    incidents.watch(NOW + timedelta(seconds=20))
    assert not models.Incident.objects.open().exists()
    fail(connection, 1, at=NOW + timedelta(seconds=21))
    incidents.watch(NOW + timedelta(seconds=21))
    assert models.Incident.objects.open().get().failures == 5


def test_three_accepted_and_five_calm_minutes_propose_to_close(connection: models.Connection) -> None:
    fail(connection, 5)
    incidents.watch(NOW)
    accept(connection, 3, at=NOW + timedelta(minutes=1))
    incidents.watch(NOW + timedelta(minutes=4))
    assert models.Incident.objects.get().closing_proposed_at is None
    calm = NOW + timedelta(minutes=5)
    incidents.watch(calm)
    incidents.watch(calm + timedelta(seconds=15))
    one = models.Incident.objects.get()
    assert (one.closing_proposed_at, one.resolved_at) == (calm, None)
    assert kinds(one) == [Kind.OPENED, Kind.RECOVERING]


def test_two_accepted_are_too_few_but_half_an_hour_of_quiet_is_enough(connection: models.Connection) -> None:
    fail(connection, 5)
    incidents.watch(NOW)
    accept(connection, 2, at=NOW + timedelta(minutes=1))
    incidents.watch(NOW + timedelta(minutes=29))
    assert models.Incident.objects.get().closing_proposed_at is None
    incidents.watch(NOW + timedelta(minutes=30))
    assert models.Incident.objects.get().closing_proposed_at == NOW + timedelta(minutes=30)


def test_a_failure_that_returns_withdraws_the_proposal(connection: models.Connection) -> None:
    fail(connection, 5)
    incidents.watch(NOW)
    incidents.watch(NOW + timedelta(minutes=30))
    back = NOW + timedelta(minutes=40)
    fail(connection, 1, at=back)
    incidents.watch(back)
    one = models.Incident.objects.get()
    assert (one.closing_proposed_at, one.failures) == (None, 6)
    assert kinds(one) == [Kind.OPENED, Kind.RECOVERING, Kind.RELAPSED]


def test_an_act_that_came_too_late_changes_nothing(
    connection: models.Connection, sol: models.User, ada: models.User
) -> None:
    fail(connection, 5)
    incidents.watch(NOW)
    one = models.Incident.objects.get()
    assert incidents.acknowledge(one, sol, NOW)
    assert not incidents.acknowledge(one, ada, NOW)
    assert incidents.resolve(one, ada, NOW)
    for act in (
        incidents.resolve(one, sol, NOW),
        incidents.give(one, ada, sol, NOW),
        incidents.snooze(one, NOW + timedelta(hours=1), sol, NOW),
    ):
        assert not act
    one.refresh_from_db()
    assert (one.owner, one.acknowledged_by, one.resolved_by, one.snoozed_until) == (sol, sol, ada, None)
    assert kinds(one) == [Kind.OPENED, Kind.ACKNOWLEDGED, Kind.RESOLVED]
    audit = models.AuditEntry.objects.order_by("id").values_list("action", "user__username")
    assert list(audit) == [("incident_acknowledged", "sol"), ("incident_resolved", "ada")]


def test_a_snooze_ends_in_the_morning_of_the_person() -> None:
    with timezone.override("America/Chicago"):
        until = incidents.snoozed_until("tomorrow", datetime.fromisoformat("2026-05-12T03:00:00+00:00"))
    assert until.isoformat() == "2026-05-12T07:00:00-05:00"


@pytest.mark.django_db(transaction=True)
def test_several_workers_that_watch_at_once_open_one(connection: models.Connection, other: models.Connection) -> None:
    fail(connection, 5)
    fail(connection, 5, error_type="auth", response_status_code=401)
    fail(other, 5)
    barrier = threading.Barrier(4)
    problems: list[Exception] = []

    def look() -> None:
        try:
            barrier.wait(10)
            for _ in range(3):
                incidents.watch(NOW)
        except Exception as error:
            problems.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert set(models.Incident.objects.values_list("error_type", "connection", "failures")) == {
        ("tsp", None, 10),
        ("auth", connection.pk, 5),
    }
    assert models.IncidentEntry.objects.filter(kind=Kind.OPENED).count() == 2
