"""The directory as Catena lists it: what is stored, what never is, and that nothing is written without need."""

import json
import uuid
from collections import Counter
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from messaging import mirror, models
from messaging.catena import types
from messaging.mirror import Change
from tests import factories
from tests.messaging import records
from tests.messaging.records import moment

pytestmark = pytest.mark.django_db


def writes_of(apply: Any, *arguments: Any) -> list[str]:
    with CaptureQueriesContext(database) as queries:
        apply(*arguments)
    return [query["sql"] for query in queries if query["sql"].split()[0] in {"INSERT", "UPDATE", "DELETE"}]


def test_a_fleet_is_stored_once_and_follows_newer_records() -> None:
    first = records.fleet(name="Ridgeline", display_name=None)
    later = records.fleet(id=first.id, name="Ridgeline", display_name="Ridgeline West", updated_at=moment(5))
    assert [mirror.apply_fleet(record) for record in (first, later, first)] == [Change.NEW, Change.CHANGED, Change.SAME]
    fleet = models.Fleet.objects.get()
    assert (fleet.catena_id, fleet.name, fleet.catena_updated_at) == (first.id, "Ridgeline West", moment(5))


def test_a_fleet_without_reference_is_accepted() -> None:
    mirror.apply_fleet(records.fleet(fleet_ref=None))
    assert models.Fleet.objects.get().fleet_ref is None


def test_a_connection_is_linked_to_its_fleet_and_its_credentials_are_stored_nowhere() -> None:
    fleet = factories.FleetFactory()
    mirror.apply_connection(records.connection(fleet_id=fleet.catena_id, nested={"credentials": "also-here"}))
    row = models.Connection.objects.get()
    assert (row.fleet, row.status, row.source_name, row.description) == (fleet, "active", "samsara", "Main account")
    assert "dispatch@example.com" not in json.dumps(row.raw)
    assert "credentials" not in json.dumps(row.raw)


def test_a_connection_of_a_fleet_that_we_do_not_see_has_no_fleet_until_it_is_listed() -> None:
    record = records.connection(fleet_id=uuid.uuid4())
    mirror.apply_connection(record)
    assert models.Connection.objects.get().fleet is None
    assert record.fleet_id is not None
    mirror.apply_fleet(records.fleet(id=record.fleet_id))
    mirror.apply_connection(record)
    assert models.Connection.objects.get().fleet == models.Fleet.objects.get()


def test_an_unknown_connection_status_is_stored_as_it_is() -> None:
    mirror.apply_connection(records.connection(status="hibernating"))
    row = models.Connection.objects.get()
    assert (row.status, row.sending_obstacle) == (
        "hibernating",
        "The connection is hibernating. Ask support what that means.",
    )


def test_what_the_fleet_shares_of_its_messages_is_noted_on_the_connection(connection: models.Connection) -> None:
    record = records.freshness(connection, share_level="read", schedule_status="cancelled_insufficient_scope")
    assert mirror.apply_freshness(record) == Change.CHANGED
    connection.refresh_from_db()
    assert (connection.share_level, connection.schedule_status) == ("read", "cancelled_insufficient_scope")
    assert (connection.last_successful_execution_at, connection.next_execution_at) == (moment(), moment(10))


def test_the_freshness_of_other_resources_does_not_concern_messages(connection: models.Connection) -> None:
    record = records.freshness(connection, resource="vehicle", share_level="read")
    assert mirror.apply_freshness(record) == Change.SAME
    connection.refresh_from_db()
    assert connection.share_level == "read_write"


def test_a_provider_tells_all_its_connections_whether_messages_are_implemented() -> None:
    tsp_id = uuid.uuid4()
    ours = [factories.ConnectionFactory(tsp_id=tsp_id, tsp_slug="") for _ in range(2)]
    other = factories.ConnectionFactory()
    body = {"tsp_id": str(tsp_id), "slug": "geotab", "integrations": {"message": "not_supported"}}
    record = types.TspIntegrations.parse(body)
    assert mirror.apply_tsp(record) == Counter({Change.CHANGED: 2})
    assert mirror.apply_tsp(record) == Counter({Change.SAME: 2})
    for row in (*ours, other):
        row.refresh_from_db()
    assert [(row.message_support, row.tsp_slug) for row in ours] == [("not_supported", "geotab")] * 2
    assert other.message_support is None


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "Luis Ortega"),
        ({"first_name": " Luis ", "last_name": None}, "Luis"),
        ({"first_name": None, "last_name": "  ", "username": "unit2290"}, "unit2290"),
        ({"first_name": "", "last_name": "", "source_id": "samsara-driver-0088120"}, "Driver -0088120"),
        ({"first_name": None, "last_name": None, "is_driver": False, "source_id": "u-7"}, "User u-7"),
        ({"first_name": "x" * 900}, "x" * 300),
    ],
)
def test_a_fleet_user_always_has_a_name_to_show(connection: models.Connection, fields: Any, name: str) -> None:
    record = records.user(connection, **fields)
    mirror.apply_fleet_user(record, connection)
    assert models.FleetUser.objects.get(catena_id=record.id).name == name


def test_personal_data_that_nobody_is_shown_is_not_stored(connection: models.Connection) -> None:
    record = records.user(
        connection, user_email="luis@example.com", employee_number="E-4711", license_number="D123", mood="fine"
    )
    mirror.apply_fleet_user(record, connection)
    stored = json.dumps(models.FleetUser.objects.get(catena_id=record.id).raw)
    assert [word for word in ("luis@example.com", "E-4711", "D123") if word in stored] == []


def test_an_older_user_record_never_overwrites_a_newer_one(connection: models.Connection) -> None:
    newer = records.user(connection, first_name="Louis", updated_at=moment(5), deleted_at=moment(5))
    older = records.user(connection, id=newer.id, updated_at=moment(1))
    assert mirror.apply_fleet_user(newer, connection) == Change.NEW
    assert mirror.apply_fleet_user(older, connection) == Change.SAME
    row = models.FleetUser.objects.get(catena_id=newer.id)
    assert (row.name, row.deleted_at) == ("Louis Ortega", moment(5))


def test_applying_the_same_directory_again_writes_nothing(connection: models.Connection) -> None:
    fleet = records.fleet()
    theirs = records.connection(fleet_id=fleet.id)
    user, shared = records.user(connection), records.freshness(connection)
    calls: list[tuple[Any, ...]] = [
        (mirror.apply_fleet, fleet),
        (mirror.apply_connection, theirs),
        (mirror.apply_freshness, shared),
        (mirror.apply_fleet_user, user, connection),
    ]
    assert all(writes_of(*call) for call in calls)
    before = list(models.Connection.objects.order_by("id").values_list("id", "changed_xid", "synced_at"))
    assert [writes_of(*call) for call in calls] == [[]] * len(calls)
    assert list(models.Connection.objects.order_by("id").values_list("id", "changed_xid", "synced_at")) == before


def test_what_a_whole_listing_no_longer_contains_is_withdrawn_and_comes_back() -> None:
    kept, gone = factories.ConnectionFactory(), factories.ConnectionFactory()
    assert mirror.withdraw_unlisted(models.Connection, [kept.catena_id], moment(1)) == 1
    assert mirror.withdraw_unlisted(models.Connection, [kept.catena_id], moment(2)) == 0
    gone.refresh_from_db()
    assert gone.withdrawn_at == moment(1)
    assert gone.sending_obstacle is not None
    assert mirror.withdraw_unlisted(models.Connection, [kept.catena_id, gone.catena_id], moment(3)) == 1
    gone.refresh_from_db()
    assert gone.withdrawn_at is None
