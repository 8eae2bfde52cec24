"""Pages, windows and filters."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from messaging.simulator import World
from tests.simulator.caller import CONNECTIONS, MESSAGES, OPERATIONS, USERS, Caller


@pytest.fixture
def week(reader: Caller) -> dict[str, str]:
    """A window around the whole story."""
    began = reader.server.world.began
    return {"from_datetime": (began - timedelta(days=9)).isoformat(), "to_datetime": began.isoformat()}


def ids(answers: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for answer in answers for item in answer["items"]]


@pytest.mark.parametrize("size", [7, 60, 1000])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_the_pages_of_a_list_hold_each_item_once_and_in_order(
    reader: Caller, week: dict[str, str], size: int, order: str
) -> None:
    world = reader.server.world
    connection = next(iter(world.connections))
    query = week | {"connection_id": connection, "sort_order": order}
    whole = reader.get(MESSAGES, size=1000, **query).json

    answers = reader.pages(MESSAGES, size=size, **query)

    assert ids(answers) == ids([whole])
    assert len(ids(answers)) == len(set(ids(answers))) == whole["total"]
    assert {answer["total"] for answer in answers} == {whole["total"]}
    moments = [item["occurred_at"] for item in whole["items"]]
    assert moments == sorted(moments, reverse=order == "desc")


def test_pages_of_one_item_lead_through_a_whole_conversation(reader: Caller, week: dict[str, str]) -> None:
    one = reader.get(MESSAGES, size=1, **week).json["items"][0]
    query = week | {"sender_ids": one["sender_id"]}

    answers = reader.pages(MESSAGES, size=1, **query)

    assert ids(answers) == ids([reader.get(MESSAGES, **query).json])
    assert [len(answer["items"]) for answer in answers] == [1] * answers[0]["total"]


def test_the_cursors_of_a_page_lead_back_and_to_itself(reader: Caller, week: dict[str, str]) -> None:
    first = reader.get(MESSAGES, size=5, **week).json
    second = reader.get(MESSAGES, size=5, cursor=first["next_page"], **week).json

    back = reader.get(MESSAGES, size=5, cursor=second["previous_page"], **week).json
    again = reader.get(MESSAGES, size=5, cursor=second["current_page"], **week).json
    backwards = reader.get(MESSAGES, size=5, cursor=second["current_page_backwards"], **week).json

    assert first["previous_page"] is None
    assert ids([back]) == ids([first])
    assert ids([again]) == ids([backwards]) == ids([second])


def test_the_same_cursors_lead_through_a_falling_order(reader: Caller, week: dict[str, str]) -> None:
    query = week | {"sort_order": "desc", "size": "5"}
    first = reader.get(MESSAGES, **query).json
    second = reader.get(MESSAGES, cursor=first["next_page"], **query).json

    assert ids([reader.get(MESSAGES, cursor=second["previous_page"], **query).json]) == ids([first])
    assert ids([reader.get(MESSAGES, cursor=second["current_page"], **query).json]) == ids([second])
    assert ids([reader.get(MESSAGES, cursor=second["current_page_backwards"], **query).json]) == ids([second])


def test_a_message_that_arrives_between_two_pages_repeats_nothing(caller: Caller, world: World) -> None:
    start = (world.began - timedelta(days=9)).isoformat()
    end = (world.began + timedelta(days=1)).isoformat()
    window = {"from_datetime": start, "to_datetime": end, "size": "200", "sort_order": "desc"}
    first = caller.get(MESSAGES, **window).json
    caller.ended(caller.send().json)

    rest = caller.get(MESSAGES, cursor=first["next_page"], **window).json

    assert not set(ids([first])) & set(ids([rest]))


@pytest.mark.parametrize("cursor", ["rubbish", "e30", "bnVsbA", "WzEsMl0"])
def test_a_cursor_that_nobody_issued_is_a_400(reader: Caller, cursor: str) -> None:
    assert reader.get(MESSAGES, cursor=cursor).status == 400


def test_a_cursor_of_another_list_is_a_400(reader: Caller, week: dict[str, str]) -> None:
    cursor = reader.get(MESSAGES, size=1, **week).json["next_page"]

    assert reader.get(USERS, cursor=cursor).status == 400


@pytest.mark.parametrize("size", ["0", "1001", "-1", "many"])
def test_a_size_out_of_bounds_is_a_422(reader: Caller, size: str) -> None:
    assert reader.get(MESSAGES, size=size).status == 422


def test_only_the_counted_lists_have_a_total(reader: Caller) -> None:
    assert "total" in reader.get(USERS).json
    assert "total" in reader.get("/v2/orgs/fleets").json
    assert "total" not in reader.get(CONNECTIONS).json
    assert "total" not in reader.get(OPERATIONS).json
    assert "total" not in reader.get("/v2/integrations/tsps").json


def test_a_page_holds_300_items_unless_asked_otherwise(reader: Caller, week: dict[str, str]) -> None:
    assert len(reader.get(MESSAGES, **week).json["items"]) == 300


def test_a_window_includes_its_start_and_excludes_its_end(reader: Caller, week: dict[str, str]) -> None:
    items = reader.get(MESSAGES, size=3, **week).json["items"]
    start, end = items[0]["occurred_at"], items[2]["occurred_at"]

    inside = reader.get(MESSAGES, from_datetime=start, to_datetime=end).json["items"]

    assert [item["id"] for item in inside] == [items[0]["id"], items[1]["id"]]


def test_without_a_window_the_last_day_is_listed(reader: Caller) -> None:
    world = reader.server.world
    oldest = world.now() - timedelta(days=1, minutes=1)

    moments = [datetime.fromisoformat(item["occurred_at"]) for item in reader.get(MESSAGES, size=1000).json["items"]]

    assert moments
    assert min(moments) >= oldest


def test_a_window_may_span_45_days_and_not_more(reader: Caller) -> None:
    exactly = {"from_datetime": "2026-01-01T00:00:00Z", "to_datetime": "2026-02-15T00:00:00Z"}
    too_long = exactly | {"to_datetime": "2026-02-15T00:00:00.001Z"}
    backwards = {"from_datetime": "2026-02-15T00:00:00Z", "to_datetime": "2026-01-01T00:00:00Z"}

    assert reader.get(MESSAGES, **exactly).status == 200
    assert reader.get(MESSAGES, **too_long).status == 422
    assert reader.get(OPERATIONS, **too_long).status == 422
    assert reader.get(MESSAGES, **backwards).status == 422


@pytest.mark.parametrize("moment", ["yesterday", "2026-01-01", "2026-13-01T00:00:00Z"])
def test_a_moment_that_is_none_is_a_422(reader: Caller, moment: str) -> None:
    assert reader.get(MESSAGES, from_datetime=moment).status == 422


def test_a_list_parameter_takes_a_hundred_values_and_not_more(reader: Caller) -> None:
    assert reader.get(USERS, source_ids=[f"drv_{number}" for number in range(100)]).status == 200
    assert reader.get(USERS, source_ids=[f"drv_{number}" for number in range(101)]).status == 422


@pytest.mark.parametrize("name", ["sender_ids", "recipient_ids", "fleet_ids", "connection_id"])
def test_an_identifier_that_is_no_uuid_is_a_422(reader: Caller, name: str) -> None:
    assert reader.get(MESSAGES, **{name: "7"}).status == 422


def test_messages_are_filtered_by_people_connection_and_fleet(reader: Caller, week: dict[str, str]) -> None:
    world = reader.server.world
    message = next(one for one in world.messages.values() if one.sent_by_driver)
    driver, fleet = world.users[message.sender_id], world.fleet_of(message.connection_id)

    def matches(**query: object) -> set[str]:
        return set(ids(reader.pages(MESSAGES, **week, **query)))

    by_sender = {one.id for one in world.messages.values() if one.sender_id == driver.id}
    to_driver = {one.id for one in world.messages.values() if driver.id in one.recipient_ids}
    assert matches(sender_ids=driver.id) == matches(source_sender_ids=driver.source_id) == by_sender
    assert matches(recipient_ids=driver.id) == matches(source_recipient_ids=driver.source_id) == to_driver
    assert (
        matches(fleet_refs=fleet.fleet_ref)
        == matches(fleet_ids=fleet.id)
        > matches(connection_id=message.connection_id)
    )
    assert matches(fleet_refs="NOBODY") == set()


def test_users_are_filtered_by_role_and_identifier(reader: Caller) -> None:
    drivers = reader.get(USERS, is_driver="true", size=1000).json
    office = reader.get(USERS, is_driver="false").json["items"]
    one = office[0]

    assert drivers["total"] == 60
    assert {user["user_designation"] for user in office} == {"DISPATCHER"}
    assert ids([reader.get(USERS, user_ids=one["id"]).json]) == [one["id"]]
    assert ids([reader.get(USERS, source_ids=one["source_id"]).json]) == [one["id"]]
    assert reader.get(USERS, is_driver="perhaps", checked=False).status == 422


def test_users_are_sorted_by_any_field_of_theirs(reader: Caller) -> None:
    names = [user["last_name"] or "" for user in reader.get(USERS, sort_by="last_name").json["items"]]
    falling = reader.pages(USERS, sort_by="updated_at", sort_order="desc", size=9)
    moments = [user["updated_at"] for answer in falling for user in answer["items"]]

    assert names == sorted(names)
    assert moments == sorted(moments, reverse=True)
    assert reader.get(USERS, sort_by="company_groups").status == 200
    assert reader.get(USERS, sort_by="shoe size").status == 422


def test_connections_are_filtered_by_provider(reader: Caller) -> None:
    world = reader.server.world
    found = reader.get(CONNECTIONS, tsp_id=world.providers["motive"].tsp_id).json["items"]

    assert [one["source_name"] for one in found] == ["motive", "motive"]


def test_operations_are_filtered(caller: Caller) -> None:
    first = caller.ended(caller.send().json)
    second = caller.ended(caller.send(connection=1).json)

    def matches(**query: object) -> list[str]:
        return ids([caller.get(OPERATIONS, **query).json])

    assert matches() == [first["id"], second["id"]]
    assert matches(connection_id=second["connection_id"]) == [second["id"]]
    assert matches(source_name="motive") == [second["id"]]
    assert matches(resource="group_message") == []
    assert matches(resource="message", source_id=first["source_id"]) == [first["id"]]
    assert matches(operation="update") == []
    assert matches(operation="create") == [first["id"], second["id"]]
    assert caller.get(OPERATIONS, source_id="sam_1").status == 422
    assert caller.get(OPERATIONS, operation="delete", checked=False).status == 422
