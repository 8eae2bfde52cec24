"""Rows for tests, each valid by itself and linked to a believable neighbourhood."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import factory
from django.db import connection as database
from django.utils import timezone

from messaging import models
from messaging.mirror.redaction import request_ids
from messaging.states import AttemptOutcome, Authority, Direction, MessageState, Priority, Question

PASSWORD = "north-yard-gate-7"
EPOCH = datetime(2026, 5, 12, 14, 3, 21, tzinfo=UTC)
TAKE_SEQ = "UPDATE messaging_conversation SET next_seq = next_seq + 1 WHERE id = %s RETURNING next_seq - 1"


class UserFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.User
        skip_postgeneration_save = True

    username = factory.Sequence(lambda n: f"person{n}")
    first_name = "Mara"
    last_name = factory.Sequence(lambda n: f"Lindqvist {n}")
    role = models.Role.MANAGER
    date_joined = EPOCH

    @classmethod
    def _create(cls, model_class: Any, *args: Any, **kwargs: Any) -> models.User:
        fleets = kwargs.pop("fleets", ())
        user = model_class.objects.create_user(*args, **{"password": PASSWORD, **kwargs})
        for fleet in fleets:
            models.FleetMembership.objects.create(user=user, fleet=fleet)
        return user


class FleetFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.Fleet

    catena_id = factory.LazyFunction(uuid.uuid4)
    name = factory.Sequence(lambda n: f"Fleet {n}")
    fleet_ref = factory.Sequence(lambda n: f"REF-{n:04}")
    catena_created_at = EPOCH
    catena_updated_at = EPOCH


class ConnectionFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.Connection

    catena_id = factory.LazyFunction(uuid.uuid4)
    fleet = factory.SubFactory(FleetFactory)
    tsp_id = factory.LazyFunction(uuid.uuid4)
    source_name = "samsara"
    tsp_slug = "samsara"
    description = factory.Sequence(lambda n: f"Samsara account {n}")
    status = "active"
    share_level = "read_write"
    catena_created_at = EPOCH
    catena_updated_at = EPOCH


class FleetUserFactory(factory.django.DjangoModelFactory):
    """A driver; `is_driver=False` makes an office user, who can be a sender."""

    class Meta:
        model = models.FleetUser

    catena_id = factory.LazyFunction(uuid.uuid4)
    connection = factory.SubFactory(ConnectionFactory)
    source_id = factory.Sequence(lambda n: f"usr_{n}")
    name = factory.Sequence(lambda n: f"Aleksandra Kowalczyk {n}")
    is_driver = True
    is_active = True
    catena_created_at = EPOCH
    catena_updated_at = EPOCH


class ConversationFactory(factory.django.DjangoModelFactory):
    """One driver on one connection that also has an office user to send from."""

    class Meta:
        model = models.Conversation

    driver = factory.SubFactory(FleetUserFactory)
    connection = factory.SelfAttribute("driver.connection")


class OutgoingFactory(factory.django.DjangoModelFactory):
    """A composed message; by default queued and due. Set `state` and what that state needs (operation, lease)."""

    class Meta:
        model = models.Message

    conversation = factory.SubFactory(ConversationFactory)
    connection = factory.SelfAttribute("conversation.connection")
    recipient = factory.SelfAttribute("conversation.driver")
    sender = factory.LazyAttribute(lambda row: office_user(row.connection))
    author = factory.SubFactory(UserFactory)
    client_token = factory.LazyFunction(uuid.uuid4)
    direction = Direction.OUT
    seq = factory.LazyAttribute(lambda row: next_seq(row.conversation))
    text = factory.Sequence(lambda n: f"Dock {n} is closed, use the south gate")
    priority = Priority.MEDIUM
    state = MessageState.QUEUED
    question = factory.LazyAttribute(lambda row: Question.ABSENT if row.state == MessageState.NEEDS_DECISION else "")
    occurred_at = factory.LazyFunction(timezone.now)
    not_before = factory.SelfAttribute("occurred_at")
    send_by = factory.LazyAttribute(lambda row: row.occurred_at + timedelta(minutes=5))
    expires_at = factory.LazyAttribute(lambda row: row.occurred_at + timedelta(hours=24))


class IncomingFactory(factory.django.DjangoModelFactory):
    """A driver's message, as a sweep mirrors it."""

    class Meta:
        model = models.Message

    conversation = factory.SubFactory(ConversationFactory)
    connection = factory.SelfAttribute("conversation.connection")
    sender = factory.SelfAttribute("conversation.driver")
    sender_name = factory.SelfAttribute("sender.name")
    direction = Direction.IN
    state = MessageState.MIRRORED
    text = factory.Sequence(lambda n: f"Copy, heading to gate {n}")
    occurred_at = factory.LazyFunction(timezone.now)
    catena_id = factory.LazyFunction(uuid.uuid4)
    catena_updated_at = factory.SelfAttribute("occurred_at")


class GroupMessageFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.GroupMessage

    catena_id = factory.LazyFunction(uuid.uuid4)
    connection = factory.SubFactory(ConnectionFactory)
    direction = Direction.OUT
    text = "I-80 westbound is closed at exit 173"
    size = 4
    occurred_at = factory.LazyFunction(timezone.now)
    catena_updated_at = factory.SelfAttribute("occurred_at")


class GroupAppearanceFactory(IncomingFactory):
    """A group message of the office, as one of its conversations shows it."""

    direction = Direction.OUT
    sender = None
    sender_name = "Dana Whitfield"
    catena_id = None
    group_size = 4
    group = factory.LazyAttribute(lambda row: GroupMessageFactory(connection=row.conversation.connection))


class OperationFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.Operation

    catena_id = factory.LazyFunction(uuid.uuid4)
    connection = factory.SubFactory(ConnectionFactory)
    resource = "message"
    operation_type = "create"
    status = "pending"
    catena_created_at = factory.LazyFunction(timezone.now)
    catena_updated_at = factory.SelfAttribute("catena_created_at")


class OperationLogFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.OperationLog

    catena_id = factory.LazyFunction(uuid.uuid4)
    operation = factory.SubFactory(OperationFactory)
    status = "failed"
    error_type = "tsp"
    error_details = "Recipient device offline"
    response_status_code = 503
    response_headers = {"X-Request-Id": "req-7c55"}
    request_ids = factory.LazyAttribute(lambda row: request_ids(row.response_headers))
    catena_created_at = factory.LazyFunction(timezone.now)
    catena_updated_at = factory.SelfAttribute("catena_created_at")


class SendAttemptFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.SendAttempt

    message = factory.SubFactory(OutgoingFactory)
    fence = 1
    authority = Authority.COMPOSE
    worker = "worker-1"
    posting_at = factory.LazyFunction(timezone.now)
    finished_at = factory.SelfAttribute("posting_at")
    outcome = AttemptOutcome.ACCEPTED
    http_status = 202
    body_sha256 = "0" * 64


def office_user(connection: models.Connection) -> models.FleetUser:
    found = models.FleetUser.objects.filter(connection=connection, is_driver=False).first()
    return found or FleetUserFactory(connection=connection, is_driver=False, name="Dana Whitfield")


def next_seq(conversation: models.Conversation) -> int:
    """Takes the next number as composing does, so that factory rows and composed rows share one order."""
    with database.cursor() as cursor:
        cursor.execute(TAKE_SEQ, [conversation.pk])
        (conversation.next_seq,) = cursor.fetchone()
    return conversation.next_seq


def accepted(conversation: models.Conversation, **columns: Any) -> models.Message:
    """A message that Catena has accepted, with its pending operation."""
    operation = OperationFactory(connection=conversation.connection, status=columns.pop("operation_status", "pending"))
    defaults = {"state": MessageState.ACCEPTED, "accepted_at": timezone.now(), "operation_status": operation.status}
    return OutgoingFactory(conversation=conversation, operation=operation, **{**defaults, **columns})


def failed(conversation: models.Conversation, **columns: Any) -> models.Message:
    """A message whose operation failed after one logged attempt, summarised on its conversation."""
    message = accepted(
        conversation,
        operation_status="failed",
        **{
            "state": MessageState.FAILED, "reason": "Samsara answered 503 (unavailable)", "failed_attempts": 1,
            "attempt_count": 1, "error_type": "tsp", "response_status_code": 503, "settled_at": timezone.now(), **columns,
        },
    )  # fmt: skip
    OperationLogFactory(
        operation=message.operation, error_type=message.error_type, response_status_code=message.response_status_code
    )
    conversation.summarise()
    return message
