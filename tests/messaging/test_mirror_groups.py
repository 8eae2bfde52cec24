"""Group messages: shown once in each conversation they belong to, with the group's one state and no receipt of anybody."""

import itertools
import uuid
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from messaging import mirror, models
from messaging.catena import types
from messaging.insight.situations import WORDS, situation_q
from messaging.mirror import Change
from messaging.models import closed_gates, message_delivery
from messaging.states import Direction, MessageState
from tests import factories
from tests.messaging import records
from tests.messaging.records import moment

pytestmark = pytest.mark.django_db


@pytest.fixture
def drivers(connection: models.Connection) -> list[models.FleetUser]:
    names = ("Luis Ortega", "Tanya Kowalczyk", "Bill Hendricks")
    return [factories.FleetUserFactory(connection=connection, name=name) for name in names]


def group(connection: models.Connection, recipients: list[Any], **fields: Any) -> types.GroupMessage:
    return records.group_message(connection, [getattr(one, "catena_id", one) for one in recipients], **fields)


def shown() -> dict[str, str | None]:
    """By driver, the words that their conversation shows."""
    rows = models.Message.objects.filter(deleted_at=None).select_related("conversation__driver").order_by("id")
    found = {row.conversation.driver.name: row.text for row in rows}
    assert len(found) == len(rows), "shown twice"
    return found


def badge(row: models.Message) -> str:
    return message_delivery(row, moment(), closed_gates(moment())).long


def everything() -> list[dict[str, Any]]:
    kept = models.GroupMessage.objects.order_by("id").values()
    return [
        *kept,
        *models.Message.objects.order_by("id").values(),
        *models.Conversation.objects.order_by("id").values(),
    ]


def test_it_stands_once_in_the_conversation_of_each_recipient(
    connection: models.Connection, drivers: list[models.FleetUser]
) -> None:
    record = group(connection, drivers, message_text="I-80 is closed")
    assert mirror.apply_group_messages([record]) == {Change.NEW: 1}
    assert shown() == {one.name: "I-80 is closed" for one in drivers}
    for row in models.Message.objects.select_related("conversation", "connection", "settled_by"):
        assert (row.direction, row.state, row.recipient_id) == ("out", "mirrored", row.conversation.driver_id)
        assert (row.conversation.last_message_id, row.conversation.last_text) == (row.pk, "I-80 is closed")
        assert badge(row) == "Group message to 3 drivers, accepted by Samsara"


def test_a_redelivery_changes_nothing(connection: models.Connection, drivers: list[models.FleetUser]) -> None:
    record = group(connection, drivers)
    mirror.apply_group_messages([record])
    before = everything()
    assert mirror.apply_group_messages([record, record]) == {Change.SAME: 2}
    assert everything() == before


def test_question_22_the_group_has_one_state_and_nobody_in_it_a_receipt(
    connection: models.Connection, drivers: list[models.FleetUser]
) -> None:
    record = group(connection, drivers, status="delivered", delivered_at=moment(1))
    mirror.apply_group_messages([record])
    rows = list(models.Message.objects.select_related("connection", "settled_by"))
    assert {badge(row) for row in rows} == {"Group message to 3 drivers, reported as delivered to the group"}
    assert {(row.delivered_at, row.read_at) for row in rows} == {(None, None)}
    assert models.GroupMessage.objects.get().delivered_at == moment(1)
    for column in ("delivered_at", "read_at"):
        with pytest.raises(IntegrityError, match="message_group_has_no_receipt"), transaction.atomic():
            models.Message.objects.filter(pk=rows[0].pk).update(**{column: moment(1)})


def test_its_state_never_goes_back(connection: models.Connection, drivers: list[models.FleetUser]) -> None:
    record = group(connection, drivers, status="delivered", updated_at=moment(5))
    identity = record.id
    mirror.apply_group_messages([record])
    mirror.apply_group_messages([group(connection, drivers, id=identity, status="pending", updated_at=moment(9))])
    assert set(models.Message.objects.values_list("record_status", flat=True)) == {"delivered"}


def test_a_recipient_who_was_unknown_is_added_when_they_come(
    connection: models.Connection, drivers: list[models.FleetUser]
) -> None:
    stranger = uuid.uuid4()
    mirror.apply_group_messages([group(connection, [drivers[0], stranger])])
    assert set(shown()) == {"Luis Ortega"}
    assert mirror.complete_groups(connection) == 0
    mirror.apply_fleet_user(records.user(connection, id=stranger, first_name="Amara", last_name="Okafor"), connection)
    assert mirror.complete_groups(connection) == 1
    assert set(shown()) == {"Luis Ortega", "Amara Okafor"}
    assert mirror.complete_groups(connection) == 0
    assert models.GroupMessage.objects.get().unplaced == 0
    assert set(models.Message.objects.values_list("group_size", flat=True)) == {2}


def test_recipients_without_a_catena_id_are_found_by_the_providers(
    connection: models.Connection, drivers: list[models.FleetUser]
) -> None:
    sources = [one.source_id for one in drivers]
    mirror.apply_group_messages([group(connection, drivers[:1], source_recipient_ids=sources)])
    assert set(shown()) == {one.name for one in drivers}


def test_office_people_have_no_conversation_and_are_not_counted(
    connection: models.Connection, drivers: list[models.FleetUser]
) -> None:
    office = factories.FleetUserFactory(connection=connection, is_driver=False, name="Marcus Oyelaran")
    mirror.apply_group_messages([group(connection, [*drivers, office])])
    assert set(shown()) == {one.name for one in drivers}
    assert set(models.Message.objects.values_list("group_size", flat=True)) == {3}


def test_what_a_driver_says_to_a_group_stands_in_their_own_conversation(
    connection: models.Connection, drivers: list[models.FleetUser]
) -> None:
    record = group(
        connection, drivers[1:], sender_id=drivers[0].catena_id, sent_by_driver=True, sender_name="Luis Ortega"
    )
    mirror.apply_group_messages([record])
    row = models.Message.objects.get()
    assert (row.conversation.driver, row.direction) == (drivers[0], Direction.IN)
    assert row.conversation.last_incoming_id == row.pk


def test_a_sender_who_becomes_known_is_linked_and_never_forgotten(
    connection: models.Connection, drivers: list[models.FleetUser]
) -> None:
    office = uuid.uuid4()
    record = group(connection, drivers, sender_id=office)
    mirror.apply_group_messages([record])
    assert set(models.Message.objects.values_list("sender__name", "sender_name")) == {(None, "Dana Whitfield")}
    user = records.user(connection, id=office, first_name="Dana", last_name="Whitfield", is_driver=False)
    mirror.apply_fleet_user(user, connection)
    assert mirror.apply_group_messages([record]) == {Change.CHANGED: 1}
    mirror.apply_group_messages([group(connection, drivers, id=record.id, updated_at=moment(5))])
    assert set(models.Message.objects.values_list("sender__name", flat=True)) == {"Dana Whitfield"}


def test_a_withdrawn_one_is_hidden_and_comes_back_with_a_newer_version(
    connection: models.Connection, drivers: list[models.FleetUser]
) -> None:
    record = group(connection, drivers)
    mirror.apply_group_messages([record])
    withdrawn = group(connection, drivers, id=record.id, updated_at=moment(5), deleted_at=moment(5))
    assert mirror.apply_group_messages([withdrawn]) == {Change.CHANGED: 1}
    assert shown() == {}
    assert {talk.last_message_id for talk in models.Conversation.objects.all()} == {None}
    assert mirror.apply_group_messages([record]) == {Change.SAME: 1}
    assert shown() == {}
    mirror.apply_group_messages([group(connection, drivers, id=record.id, updated_at=moment(6))])
    assert len(shown()) == 3
    assert models.Message.objects.count() == 3


def test_whoever_is_no_longer_a_recipient_no_longer_sees_it(
    connection: models.Connection, drivers: list[models.FleetUser]
) -> None:
    record = group(connection, drivers)
    mirror.apply_group_messages([record])
    mirror.apply_group_messages([group(connection, drivers[:2], id=record.id, updated_at=moment(5))])
    assert set(shown()) == {"Luis Ortega", "Tanya Kowalczyk"}


def test_the_order_in_which_versions_arrive_does_not_matter(
    connection: models.Connection, drivers: list[models.FleetUser]
) -> None:
    identity = uuid.uuid4()
    versions = [
        group(connection, drivers, id=identity, updated_at=moment(1), message_text="First", status="sent"),
        group(connection, drivers[:2], id=identity, updated_at=moment(2), message_text="Second", status="read"),
        group(connection, drivers[1:], id=identity, updated_at=moment(3), message_text="Third", status="delivered"),
    ]
    ends = []
    for order in itertools.permutations(versions):
        with transaction.atomic():
            for record in order:
                mirror.apply_group_messages([record])
            kept = models.GroupMessage.objects.values(
                "text", "record_status", "recipient_ids", "size", "deleted_at"
            ).get()
            ends.append((kept, shown()))
            transaction.set_rollback(True)
    assert ends == [ends[0]] * 6
    assert ends[0][1] == {"Tanya Kowalczyk": "Third", "Bill Hendricks": "Third"}
    assert ends[0][0]["record_status"] == "read"


def test_one_of_a_connection_that_is_not_ours_is_passed_over(connection: models.Connection) -> None:
    foreign = group(connection, [], connection_id=uuid.uuid4())
    assert mirror.apply_group_messages([foreign]) == {Change.SKIPPED: 1}
    assert models.GroupMessage.objects.count() == 0


def test_an_outsider_sees_none_of_it(
    connection: models.Connection, drivers: list[models.FleetUser], mara: models.User, outsider: models.User
) -> None:
    mirror.apply_group_messages([group(connection, drivers)])
    assert models.GroupMessage.objects.visible_to(mara).count() == 1
    assert models.GroupMessage.objects.visible_to(outsider).count() == 0
    assert models.Message.objects.visible_to(outsider).count() == 0


@pytest.mark.parametrize(
    ("message", "groups", "support", "may_read", "may_send"),
    [
        ("read_write", None, None, True, True),
        ("read_write", "read_write", "implemented", True, True),
        ("read_write", "read", "implemented", True, False),
        ("read", "read_write", "implemented", True, False),
        ("read", None, None, True, False),
        (None, None, None, True, False),
        ("read_write", "", "implemented", False, False),
        ("read_write", "read_write", "not_implemented", False, False),
    ],
)
def test_question_23_writing_to_groups_needs_both_permissions(
    message: str | None, groups: str | None, support: str | None, may_read: bool, may_send: bool
) -> None:
    connection = models.Connection(share_level=message, group_share_level=groups, group_support=support)
    assert (connection.has_groups, connection.may_send_groups) == (may_read, may_send)


def test_freshness_tells_what_is_shared_of_group_messages(connection: models.Connection) -> None:
    for said, kept in (("read", "read"), (None, "")):
        mirror.apply_freshness(records.freshness(connection, resource="group_message", share_level=said))
        connection.refresh_from_db()
        assert connection.group_share_level == kept


def test_a_group_message_is_filtered_by_the_word_of_its_badge(
    connection: models.Connection, drivers: list[models.FleetUser]
) -> None:
    mirror.apply_group_messages(
        [group(connection, drivers[:1], status=word) for word in (None, "pending", "read", "odd")]
    )
    assert models.Message.objects.filter(state=MessageState.MIRRORED).count() == 4
    found = {word: models.Message.objects.filter(situation_q(word, moment(), {})).count() for word in WORDS}
    assert {word: count for word, count in found.items() if count} == {"group": 4}
