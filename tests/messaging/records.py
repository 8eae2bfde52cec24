"""Bodies as Catena sends them, parsed by our own reader: what the mirror is fed in tests."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from messaging import models
from messaging.catena import types
from tests.factories import EPOCH


def moment(minutes: float = 0) -> datetime:
    return EPOCH + timedelta(minutes=minutes)


def _body(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in columns.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value


def message(conversation: models.Conversation, **fields: Any) -> types.Message:
    """A driver's message in this conversation; `by_driver=False` makes it one from the office."""
    by_driver = fields.pop("by_driver", True)
    driver, office = conversation.driver, None
    at = fields.pop("at", moment())
    sender, recipient = (driver, office) if by_driver else (office, driver)
    body = {
        "id": uuid.uuid4(),
        "connection_id": conversation.connection.catena_id,
        "fleet_id": None,
        "source_name": "samsara",
        "source_id": "msg_1",
        "sender_id": sender.catena_id if sender else None,
        "recipient_id": recipient.catena_id if recipient else None,
        "sent_by_driver": by_driver,
        "message_text": "At the gate",
        "occurred_at": at,
        "created_at": at,
        "updated_at": at,
        **fields,
    }
    return types.Message.parse(_body(body))


def group_message(connection: models.Connection, recipients: Sequence[uuid.UUID], **fields: Any) -> types.GroupMessage:
    """A message from the office to these users."""
    at = fields.pop("at", moment())
    body = {
        "id": uuid.uuid4(),
        "connection_id": connection.catena_id,
        "fleet_id": None,
        "source_name": "samsara",
        "source_id": "grp_msg_1",
        "sender_name": "Dana Whitfield",
        "sent_by_driver": False,
        "message_text": "I-80 westbound is closed at exit 173",
        "status": "sent",
        "group_id": uuid.UUID(int=77),
        "occurred_at": at,
        "created_at": at,
        "updated_at": at,
        **fields,
    }
    return types.GroupMessage.parse({**_body(body), "recipient_ids": [str(one) for one in recipients]})


def fleet(**fields: Any) -> types.Fleet:
    body = {
        "id": uuid.uuid4(),
        "name": "Northern Haulage",
        "fleet_ref": "REF-1",
        "created_at": moment(),
        "updated_at": moment(),
        **fields,
    }
    return types.Fleet.parse(_body(body))


def connection(**fields: Any) -> types.Connection:
    body = {
        "id": uuid.uuid4(),
        "fleet_id": None,
        "tsp_id": uuid.uuid4(),
        "source_name": "samsara",
        "status": "active",
        "credentials": {"username": "dispatch@example.com", "password": "*****"},
        "description": "Main account",
        "created_at": moment(),
        "updated_at": moment(),
        **fields,
    }
    return types.Connection.parse(_body(body))


def user(connection: models.Connection, **fields: Any) -> types.User:
    body = {
        "id": uuid.uuid4(),
        "connection_id": connection.catena_id,
        "fleet_id": None,
        "source_id": "drv_88120",
        "source_name": "samsara",
        "first_name": "Luis",
        "last_name": "Ortega",
        "is_driver": True,
        "is_active": True,
        "created_at": moment(),
        "updated_at": moment(),
        **fields,
    }
    return types.User.parse(_body(body))


def freshness(connection: models.Connection, **fields: Any) -> types.Freshness:
    body = {
        "connection_id": connection.catena_id,
        "resource": "message",
        "share_level": "read_write",
        "schedule_status": "active",
        "last_successful_execution_at": moment(),
        "next_execution_at": moment(10),
        "tsp_slug": "samsara",
        **fields,
    }
    return types.Freshness.parse(_body(body))


def operation(message: models.Message, **fields: Any) -> types.Operation:
    """The operation of a message that was composed here; `success` needs a `resource_id`."""
    known = message.operation
    body = {
        "id": known.catena_id if known else uuid.uuid4(),
        "connection_id": message.connection.catena_id,
        "resource": "message",
        "operation_type": "create",
        "status": "success",
        "payload": {"message_text": message.text},
        "resource_id": None,
        "source_id": None,
        "logs": [],
        "source_name": "samsara",
        "created_at": known.catena_created_at if known else moment(),
        "updated_at": moment(60 * 24 * 365),
        **fields,
    }
    return types.Operation.parse(_body(body))
