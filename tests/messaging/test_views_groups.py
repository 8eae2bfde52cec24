"""A group message on the pages: in the thread, in the list and on its own page, and nowhere a receipt of one person."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from messaging import mirror, models
from tests import factories
from tests.messaging import records
from tests.messaging.records import moment

pytestmark = pytest.mark.django_db


@pytest.fixture
def shown(conversation: models.Conversation) -> models.Message:
    """A group message to Luis Ortega and a colleague, reported as delivered."""
    colleague = factories.FleetUserFactory(connection=conversation.connection, name="Bill Hendricks")
    to = [conversation.driver.catena_id, colleague.catena_id]
    record = records.group_message(conversation.connection, to, status="delivered", delivered_at=moment(1))
    mirror.apply_group_messages([record])
    return models.Message.objects.get(conversation=conversation)


@pytest.fixture
def client(mara: models.User, client_of: Any) -> Client:
    found: Client = client_of(mara)
    return found


WORDS = "Group message to 2 drivers, reported as delivered to the group"


def test_the_thread_says_that_it_went_to_a_group(shown: models.Message, client: Client) -> None:
    body = client.get(shown.conversation.get_absolute_url()).content.decode()
    bubble = body.split(f'id="m-{shown.uuid}"')[1].split("</li>")[0]
    assert "I-80 westbound is closed" in bubble
    assert "Dana Whitfield" in bubble
    assert WORDS in bubble
    assert "Delivered " not in bubble


def test_the_inbox_shows_it_as_the_latest_message(shown: models.Message, client: Client) -> None:
    row = client.get("/").content.decode().split(f'id="c-{shown.conversation.uuid}"')[1].split("</li>")[0]
    assert "I-80 westbound is closed" in row
    assert "Group" in row


def test_its_page_explains_that_nobody_says_who_got_it(shown: models.Message, client: Client) -> None:
    body = client.get(shown.get_absolute_url()).content.decode()
    assert WORDS in body
    assert "Who of the group got it is not reported." in body
    assert ">Delivered<" not in body


def test_it_is_found_by_its_status(shown: models.Message, client: Client) -> None:
    assert str(shown.uuid) in client.get(reverse("operations") + "?status=group&range=all").content.decode()
    assert str(shown.uuid) not in client.get(reverse("operations") + "?status=delivered&range=all").content.decode()


def test_a_withdrawn_one_is_gone_from_the_thread(shown: models.Message, client: Client) -> None:
    group = shown.group
    assert group is not None
    mirror.apply_group_messages(
        [records.group_message(group.connection, [], id=group.catena_id, updated_at=moment(9), deleted_at=moment(9))]
    )
    body = client.get(shown.conversation.get_absolute_url()).content.decode()
    assert f'id="m-{shown.uuid}"' not in body


@pytest.mark.django_db(transaction=True)
def test_an_open_thread_hears_of_it(conversation: models.Conversation, client: Client, mara: models.User) -> None:
    page = client.get(conversation.get_absolute_url()).content.decode()
    poll = page.split('id="live"')[1].split('hx-get="')[1].split('"')[0].replace("&amp;", "&")
    mirror.apply_group_messages([records.group_message(conversation.connection, [conversation.driver.catena_id])])
    answer = client.get(poll, headers={"HX-Request": "true", "HX-Current-URL": conversation.get_absolute_url()})
    assert answer.status_code == 200
    assert "Group message to 1 driver, accepted by Samsara" in answer.content.decode()


def test_outsiders_get_404(shown: models.Message, outsider: models.User, client_of: Any) -> None:
    for address in (shown.get_absolute_url(), shown.conversation.get_absolute_url()):
        assert client_of(outsider).get(address).status_code == 404
