"""Takes the head of a conversation for one worker, together with all that sending it asks for, in one statement."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from django.conf import settings

from messaging import access
from messaging.catena import types
from messaging.gates import OPEN_GATES_SQL, open_gates
from messaging.models import Connection, Message
from messaging.models.statements import prepared_cursor
from messaging.outbox.clock import Clock
from messaging.outbox.queue import HEADS
from messaging.states import MessageState

NO_LONGER_ALLOWED = "The author may no longer write to this fleet"
# What `Connection.sending_obstacle` looks at, in the model's own order, which `from_db` relies on.
FACTS = {"withdrawn_at", "status", "share_level", "message_support", "tsp_slug", "source_name"}
CONNECTION_FACTS = tuple(field.attname for field in Connection._meta.concrete_fields if field.attname in FACTS)
# MATERIALIZED, or the planner may run the locking query again for each row and claim more than it locked.
# A state that is looked for comes as a parameter here and in the other statements of the outbox: a kept plan then goes by
# conversation or by primary key. Written out it would allow the partial indexes of states, which look tiny to the planner
# and fill with dead entries.
CLAIM_SQL = f"""
WITH head AS MATERIALIZED (
    SELECT m.id FROM messaging_message m
    WHERE m.conversation_id = %(conversation)s AND m.state IN ({HEADS}) AND NOT m.detached AND m.state = %(queued)s
      AND m.not_before <= %(now)s AND m.expires_at > %(now)s AND {OPEN_GATES_SQL}
    FOR UPDATE OF m SKIP LOCKED),
claimed AS (
    UPDATE messaging_message m
    SET state = 'claimed', fence = m.fence + 1, claim_count = m.claim_count + 1, worker = %(worker)s,
        lease_until = %(lease_until)s
    FROM head WHERE m.id = head.id AND m.state = %(queued)s
    RETURNING m.id, m.fence, m.connection_id, m.author_id, m.sender_id, m.recipient_id, m.reply_to_id, m.retry_of_id,
        m.text, m.priority, m.is_test)
SELECT c.id, c.fence, c.connection_id, n.catena_id, s.catena_id, r.catena_id, c.text, c.priority, p.catena_id, c.is_test,
    coalesce(u.is_active, false), coalesce(u.is_superuser, false),
    EXISTS (SELECT 1 FROM messaging_fleetmembership f WHERE f.user_id = c.author_id AND f.fleet_id = n.fleet_id)
        OR (c.retry_of_id IS NOT NULL OR c.is_test) AND u.role = 'support',
    {", ".join(f"n.{name}" for name in CONNECTION_FACTS)}
FROM claimed c JOIN messaging_connection n ON n.id = c.connection_id
    JOIN messaging_fleetuser s ON s.id = c.sender_id JOIN messaging_fleetuser r ON r.id = c.recipient_id
    LEFT JOIN messaging_message p ON p.id = c.reply_to_id LEFT JOIN messaging_user u ON u.id = c.author_id
"""  # noqa: S608 (our own names)


class Client(Protocol):
    """The part of `CatenaClient` that sends."""

    def create_message(
        self,
        draft: types.MessageDraft,
        *,
        is_sync: bool = False,
        before_first_byte: Callable[[], None] | None = None,
    ) -> types.Operation: ...


@dataclass(frozen=True, slots=True)
class Sender:
    """What sending needs from outside: Catena, the time, a name for the log, chance, and whether to stop."""

    client: Client
    clock: Clock
    worker: str = ""
    is_stopping: Callable[[], bool] = field(default=lambda: False)
    jitter: Callable[[float, float], float] = random.uniform


@dataclass(frozen=True, slots=True)
class Claim:
    """One worker's right to send one message, and what it read of it. `ends_at` is on this process's monotonic clock.

    `draft` is what is POSTed; a reply is linked only if Catena knows the message it answers. `obstacle` says why the
    message must not go out any more, None when it may. `is_test`: in synchronous mode.
    """

    message_id: int
    conversation_id: int
    connection_id: int
    fence: int
    ends_at: float
    draft: types.MessageDraft
    obstacle: str | None = None
    is_test: bool = False


def due_conversations(now: datetime, limit: int) -> list[int]:
    """Conversations with a head that may be claimed now, the most urgent first: also those whose doorbell was lost."""
    heads = Message.objects.due(now).filter(open_gates(now), expires_at__gt=now)
    return list(heads.values_list("conversation_id", flat=True)[:limit])


def lease() -> timedelta:
    return timedelta(seconds=settings.LEASE_SECONDS)


def claim(conversation_id: int, sender: Sender) -> Claim | None:
    """Takes the head of a conversation if it is due, not expired and no gate is in its way; else None.

    Touches the message row alone and waits for nobody. The lease counts from here.
    """
    now = sender.clock()
    values: dict[str, int | str | datetime] = {
        "conversation": conversation_id,
        "queued": MessageState.QUEUED.value,
        "now": now,
        "worker": sender.worker[:100],
        "lease_until": now + lease(),
    }
    with prepared_cursor() as cursor:
        cursor.execute(CLAIM_SQL, values)
        row = cursor.fetchone()
    return None if row is None else _claim_of(conversation_id, row)


def _claim_of(conversation_id: int, row: tuple[Any, ...]) -> Claim:
    message_id, fence, connection_id, *drafted, is_test, is_active, is_superuser, may_write = row[
        : -len(CONNECTION_FACTS)
    ]
    connection = Connection.from_db(None, CONNECTION_FACTS, row[-len(CONNECTION_FACTS) :])
    may_send = access.may_send(is_active=is_active, is_superuser=is_superuser, may_write=may_write)
    return Claim(
        message_id,
        conversation_id,
        connection_id,
        fence,
        time.monotonic() + settings.LEASE_SECONDS,
        types.MessageDraft(*drafted),
        connection.sending_obstacle if may_send else NO_LONGER_ALLOWED,
        is_test,
    )
