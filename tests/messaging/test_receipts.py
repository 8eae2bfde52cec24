"""Silence about a message means something only where the provider reports receipts at all (contract 16, row 21)."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from messaging import mirror, models
from messaging.states import MessageState
from tests import factories
from tests.messaging import records
from tests.messaging.records import moment

pytestmark = pytest.mark.django_db
SILENT = "No receipt reported by this provider."


@pytest.fixture
def accepted(conversation: models.Conversation) -> models.Message:
    """A message that the provider took."""
    return factories.accepted(
        conversation, state=MessageState.SUCCEEDED, operation_status="success", settled_at=timezone.now()
    )


def pages(client: Any, message: models.Message) -> tuple[str, str]:
    addresses = (f"/m/{message.uuid}/", f"/c/{message.conversation.uuid}/")
    return tuple(client.get(address).content.decode() for address in addresses)  # type: ignore[return-value]


def test_a_provider_that_never_reported_a_receipt_is_named_so(
    client_of: Any, mara: models.User, accepted: models.Message
) -> None:
    page, thread = pages(client_of(mara), accepted)
    assert SILENT in page
    assert "None reported by this provider" in thread


def test_one_receipt_anywhere_at_the_provider_takes_the_words_away(
    client_of: Any, mara: models.User, accepted: models.Message
) -> None:
    twin = factories.ConnectionFactory(tsp_id=accepted.connection.tsp_id, first_receipt_at=timezone.now())
    page, thread = pages(client_of(mara), accepted)
    assert SILENT not in page
    assert "Reported by Samsara" in thread
    models.Connection.objects.filter(pk=twin.pk).update(tsp_id="00000000-0000-0000-0000-000000000001")
    assert SILENT in pages(client_of(mara), accepted)[0]


def test_delivered_and_read_are_told_with_their_times(
    client_of: Any, mara: models.User, accepted: models.Message
) -> None:
    now = timezone.localtime()
    models.Message.objects.filter(pk=accepted.pk).update(delivered_at=now, read_at=now + timedelta(minutes=2))
    for page in pages(client_of(mara), accepted):
        assert re.search(r"Delivered \d\d:\d\d, Read \d\d:\d\d", page)
        assert SILENT not in page


def test_the_mirror_notes_the_first_receipt_of_a_connection_and_no_other(conversation: models.Conversation) -> None:
    def noted(**fields: Any) -> datetime | None:
        mirror.apply_messages([records.message(conversation, **fields)])
        conversation.connection.refresh_from_db()
        return conversation.connection.first_receipt_at

    # That a driver's own message reached Catena is no receipt of ours.
    assert noted(status="delivered", delivered_at=moment(1)) is None
    assert noted(by_driver=False, status="sent") is None
    assert noted(by_driver=False, status="delivered", delivered_at=moment(2)) == moment(2)
    assert noted(by_driver=False, status="read", read_at=moment(3)) == moment(2)
