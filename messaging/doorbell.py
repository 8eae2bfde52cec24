"""Wakes a worker, in the transaction of the row it concerns. A lost, doubled or late ring harms nothing.

The engines ring by task name because the tasks stand a floor above them.
"""

from datetime import datetime

from django.db import transaction
from procrastinate.contrib.django import app

from messaging.states import Priority

DRAIN = "messaging.drain"
# Procrastinate takes the highest number first.
URGENCY = {Priority.HIGH: 20, Priority.MEDIUM: 10, Priority.LOW: 0}


def ring_drain(conversation_id: int, *, at: datetime, priority: str = Priority.MEDIUM) -> None:
    """Asks for `outbox.drain(conversation_id)` at a moment. Rolls back with the caller's transaction, if there is one."""
    with transaction.atomic():
        app.configure_task(DRAIN, allow_unknown=True, schedule_at=at, priority=URGENCY[Priority(priority)]).defer(
            conversation_id=conversation_id
        )
