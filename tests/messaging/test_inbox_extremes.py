"""Signed records that hold the most extreme values: none puts its event off, and none takes its sibling with it."""

from typing import Any
from uuid import uuid4

import pytest

from messaging import models
from messaging.states import EventState
from tests.catena.fake_catena import example
from tests.messaging import records
from tests.messaging.hooks import SECRET, apply, body_of, envelope

pytestmark = pytest.mark.django_db
EXTREMES: tuple[Any, ...] = (
    None, "", "\x00", "\ud800", "x" * 20_000, 0, -1, 2**31, 2**63, 10**40, -1e308, True, [], {}, [[]] * 50, {"": None},
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00", "00000000-0000-0000-0000-000000000000",
)  # fmt: skip


@pytest.fixture(autouse=True)
def secrets(settings: Any) -> None:
    settings.CATENA_WEBHOOK_SECRETS = [SECRET]


def spoilt(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The record with this field at each extreme, as records of their own."""
    return [{**record, "id": str(uuid4()), name: value} for value in EXTREMES]


def unsettled(event_name: str, record: dict[str, Any], sibling: Any) -> list[str]:
    """The fields whose extremes put their event off, or took its sibling with them. `sibling` makes a record and tells
    whether it was applied.
    """
    found = []
    for name in record:
        good, was_applied = sibling()
        event = apply(envelope(event_name, *spoilt(record, name), good))
        event.refresh_from_db()
        # A connection that we do not know may come to be known: such an event waits for the directory.
        is_settled = event.state in {EventState.DONE, EventState.DEAD} or name == "connection_id"
        if not is_settled or not was_applied():
            found.append(f"{name}: {event.state} {event.reason[:300]}")
    return found


def test_an_extreme_message_is_settled_at_once_and_alone(conversation: models.Conversation) -> None:
    def sibling() -> Any:
        good = records.message(conversation)
        return body_of(good), models.Message.objects.filter(catena_id=good.id).exists

    found = unsettled("message.added", body_of(records.message(conversation)), sibling)

    assert found == []


def test_an_extreme_user_is_settled_at_once_and_alone(connection: models.Connection) -> None:
    def sibling() -> Any:
        good = {**person, "id": str(uuid4())}
        return good, models.FleetUser.objects.filter(catena_id=good["id"]).exists

    person = {**example("event_user_added")["data"][0], "connection_id": str(connection.catena_id)}
    found = unsettled("user.added", person, sibling)

    assert found == []


def test_an_extreme_operation_is_settled_at_once_and_alone(connection: models.Connection) -> None:
    def sibling() -> Any:
        good = {**operation, "id": str(uuid4()), "logs": []}
        return good, models.Operation.objects.filter(catena_id=good["id"]).exists

    operation = {
        **example("event_resource_operation_succeeded")["data"][0], "connection_id": str(connection.catena_id), "logs": [],
    }  # fmt: skip
    found = unsettled("resource_operation.succeeded", operation, sibling)

    assert found == []
