"""Doorbells and sweeps: what runs when. Each calls one function of an engine, and none is needed for safety.

A doorbell (a Procrastinate job) brings a message to a worker within milliseconds. The sweeps of `rounds.py` find every
row whose doorbell was lost, doubled or late.
"""

import logging
import os
import socket
import threading

from django.db import InterfaceError, OperationalError, connection
from procrastinate.contrib.django import app

from messaging import budget, conf, doorbell, outbox
from messaging.budget import Share

logger = logging.getLogger(__name__)

# Set once, when this process has been asked to end: from then on nothing new is claimed.
stopping = threading.Event()
# One for all threads: each asks the database by turns, and most sends ask it not at all.
clock = outbox.DatabaseClock()


def worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def drain(conversation_id: int) -> None:
    """Sends what is due in one conversation. Harmless when repeated, late or about a conversation with nothing due."""
    if budget.is_spent(Share.SENDS):
        # Claiming what cannot go would only cost; the sweep of due heads comes back to it.
        return
    try:
        outbox.drain(conversation_id, conf.catena_client(), clock, worker=worker_name(), is_stopping=stopping.is_set)
    except (OperationalError, InterfaceError) as error:
        # Not a failed job: the row is still there, and the sweep of due heads will find it.
        logger.warning("Conversation %d not drained, the database: %s", conversation_id, " ".join(str(error).split()))
        connection.close()


app.task(name=doorbell.DRAIN)(drain)
