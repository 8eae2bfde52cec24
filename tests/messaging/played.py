"""The ground of a random life: its people, Catena as it plays its part, and what one look at the database shows."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from messaging import models
from messaging.catena import types
from messaging.states import PROVEN_UNSENT_OUTCOMES


@dataclass
class Ground:
    """What every life begins with; made once, because each life is rolled back to it."""

    author: models.User
    colleague: models.User
    conversations: list[models.Conversation]

    @property
    def connection(self) -> models.Connection:
        return self.conversations[0].connection


@dataclass
class Played:
    """An operation as Catena has it."""

    record: types.Operation
    is_listed: bool = True


@dataclass
class Catena:
    """Answers listings as Catena would. The network's edge: everything behind it is the product."""

    operations: list[Played] = field(default_factory=list)

    def take(self, draft: types.MessageDraft, at: datetime, *, is_listed: bool = True) -> types.Operation:
        body = {
            "id": str(uuid.uuid4()), "connection_id": str(draft.connection_id), "resource": "message",
            "operation_type": "create", "status": "pending", "payload": draft.body(), "logs": [],
            "created_at": at.isoformat(), "updated_at": at.isoformat(),
        }  # fmt: skip
        record = types.Operation.parse(body)
        self.operations.append(Played(record, is_listed))
        return record

    def list_operations(self, *, from_datetime: datetime, to_datetime: datetime, **_: Any) -> Iterator[types.Operation]:
        for one in self.operations:
            created = one.record.created_at
            if one.is_listed and created is not None and from_datetime <= created < to_datetime:
                yield one.record


def changed(record: types.Operation, status: str, at: datetime) -> types.Operation:
    body = {**record.raw, "status": status, "updated_at": at.isoformat()}
    return types.Operation.parse(body)


class Seen(NamedTuple):
    """What one look at the database shows of a message. `posts` leaves out those that provably were not processed."""

    pk: int
    conversation: int
    state: str
    detached: bool
    text: str
    operation: uuid.UUID | None
    is_sent_twice: bool
    posts: int
    decisions: int


SEEN_SQL = f"""
SELECT m.id, m.conversation_id, m.state, m.detached, m.text, o.catena_id, m.is_sent_twice,
    (SELECT count(*) FROM messaging_sendattempt a WHERE a.message_id = m.id
        AND (a.outcome IS NULL OR a.outcome NOT IN ({", ".join(f"'{one}'" for one in sorted(PROVEN_UNSENT_OUTCOMES))}))),
    (SELECT count(*) FROM messaging_decision d WHERE d.message_id = m.id AND d.kind = 'send_again')
FROM messaging_message m LEFT JOIN messaging_operation o ON o.id = m.operation_id ORDER BY m.id
"""
