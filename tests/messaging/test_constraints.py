"""The database refuses what the rules forbid, whatever the code does."""

import uuid
from typing import Any

import pytest
from django.apps import apps
from django.db import DatabaseError, IntegrityError, transaction
from django.db import connection as database
from django.utils import timezone

from messaging import models
from messaging.states import AttemptOutcome, Authority, MessageState
from tests import factories

pytestmark = pytest.mark.django_db
S = MessageState


def refused(make: Any) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make()


def test_a_client_token_is_unique_per_author(conversation: models.Conversation, mara: models.User) -> None:
    token = uuid.uuid4()
    factories.OutgoingFactory(conversation=conversation, author=mara, client_token=token)
    refused(
        lambda: factories.OutgoingFactory(conversation=conversation, author=mara, client_token=token, state=S.CANCELLED)
    )
    factories.OutgoingFactory(conversation=conversation, client_token=token, state=S.CANCELLED)


@pytest.mark.parametrize("state", [S.QUEUED, S.UNKNOWN, S.NEEDS_DECISION])
def test_a_conversation_has_one_head(conversation: models.Conversation, state: MessageState) -> None:
    factories.OutgoingFactory(conversation=conversation)
    refused(lambda: factories.OutgoingFactory(conversation=conversation, state=state, unknown_since=timezone.now()))


def test_a_detached_head_leaves_room_for_the_next(conversation: models.Conversation) -> None:
    factories.OutgoingFactory(conversation=conversation, state=S.NEEDS_DECISION, detached=True)
    assert factories.OutgoingFactory(conversation=conversation).state == S.QUEUED


@pytest.mark.parametrize(
    "columns",
    [
        {"state": S.ACCEPTED},
        {"state": S.SUCCEEDED},
        {"state": S.POSTING},
        {"state": S.QUEUED, "lease_until": timezone.now()},
        {"state": S.QUEUED, "detached": True},
        {"state": S.UNKNOWN},
        {"state": "sleeping"},
        {"priority": "urgent"},
        {"text": None},
        {"sender": None},
        {"direction": "in"},
    ],
)
def test_nonsense_states_are_refused(conversation: models.Conversation, columns: dict[str, Any]) -> None:
    refused(lambda: factories.OutgoingFactory(conversation=conversation, **columns))


def test_one_operation_proves_one_message_at_most(conversation: models.Conversation) -> None:
    message = factories.accepted(conversation)
    refused(lambda: factories.OutgoingFactory(conversation=conversation, state=S.ACCEPTED, operation=message.operation))


def test_a_message_has_one_open_attempt(conversation: models.Conversation) -> None:
    message = factories.OutgoingFactory(conversation=conversation)
    factories.SendAttemptFactory(message=message, outcome=None, finished_at=None)
    refused(
        lambda: factories.SendAttemptFactory(
            message=message, fence=2, outcome=None, finished_at=None, authority=Authority.PROOF_NOT_SENT
        )
    )


def test_a_second_post_needs_a_proof_or_a_decision(conversation: models.Conversation, mara: models.User) -> None:
    message = factories.OutgoingFactory(conversation=conversation)
    first = factories.SendAttemptFactory(message=message, outcome=AttemptOutcome.UNSENT)
    refused(lambda: factories.SendAttemptFactory(message=message, fence=2))
    refused(lambda: factories.SendAttemptFactory(message=message, fence=2, authority=Authority.PROOF_NOT_SENT))
    refused(lambda: factories.SendAttemptFactory(message=message, fence=2, authority=Authority.HUMAN))
    proven = factories.SendAttemptFactory(
        message=message, fence=2, authority=Authority.PROOF_NOT_SENT, prior_attempt=first
    )
    refused(
        lambda: factories.SendAttemptFactory(
            message=message, fence=3, authority=Authority.PROOF_NOT_SENT, prior_attempt=first
        )
    )
    decision = models.Decision.objects.create(message=message, user=mara, kind="send_again", reason="He did not get it")
    factories.SendAttemptFactory(message=message, fence=3, authority=Authority.HUMAN, decision=decision)
    refused(
        lambda: factories.SendAttemptFactory(message=message, fence=4, authority=Authority.HUMAN, decision=decision)
    )
    assert proven.prior_attempt == first


def test_history_is_append_only(conversation: models.Conversation, mara: models.User) -> None:
    message = factories.OutgoingFactory(conversation=conversation)
    entry = models.AuditEntry.objects.create(user=mara, action="compose", message=message)
    decision = models.Decision.objects.create(message=message, user=mara, kind="was_sent", reason="He said so")
    attempt = factories.SendAttemptFactory(message=message)
    for row in (entry, decision, attempt):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            type(row).objects.filter(pk=row.pk).delete()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        models.AuditEntry.objects.filter(pk=entry.pk).update(action="nothing")
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        models.SendAttempt.objects.filter(pk=attempt.pk).update(outcome=AttemptOutcome.UNSENT)


def test_the_credential_has_one_gate() -> None:
    models.Gate.objects.create()
    refused(models.Gate.objects.create)


def test_every_constraint_and_index_of_the_models_stands_in_the_database() -> None:
    """A migration that drops the index of a column takes a partial unique one along, and no check of Django's sees it."""
    for model in apps.get_app_config("messaging").get_models():
        with database.cursor() as cursor:
            found = set(database.introspection.get_constraints(cursor, model._meta.db_table))
        named = {one.name for one in (*model._meta.constraints, *model._meta.indexes)}
        assert named <= found, f"{model.__name__} lacks {named - found}"
