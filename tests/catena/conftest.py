"""A Catena to call, and drafts to send to it."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from messaging.catena.client import CatenaClient
from messaging.catena.types import GroupMessageDraft, MessageDraft
from tests.catena.fake_catena import FakeCatena, example, fake_catena


@pytest.fixture
def catena() -> Iterator[FakeCatena]:
    with fake_catena() as running:
        yield running


@pytest.fixture
def client(catena: FakeCatena) -> CatenaClient:
    return CatenaClient(catena.config())


@pytest.fixture
def draft() -> MessageDraft:
    """The message of `message_create_request.json`, which the 202 example answers."""
    body = example("message_create_request")
    return MessageDraft(
        UUID(body["connection_id"]), UUID(body["sender_id"]), UUID(body["recipient_id"]), body["message_text"], "high"
    )


@pytest.fixture
def group_draft() -> GroupMessageDraft:
    body = example("group_message_create_request")
    return GroupMessageDraft(
        UUID(body["connection_id"]),
        UUID(body["sender_id"]),
        tuple(map(UUID, body["recipient_ids"])),
        body["message_text"],
        body.get("priority"),
    )
