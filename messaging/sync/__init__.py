"""Reads back from Catena by sweeps, and hands everything to `mirror`, the only writer. Sends nothing."""

from messaging.sync.fleets import directory
from messaging.sync.pending import operations
from messaging.sync.rounds import full_round
from messaging.sync.summary import Summary
from messaging.sync.windows import messages, messages_all

__all__ = ["Summary", "directory", "full_round", "messages", "messages_all", "operations"]
