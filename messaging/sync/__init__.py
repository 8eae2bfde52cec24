"""Reads back from Catena by sweeps, and hands everything to `mirror`, the only writer. Sends nothing."""

from messaging.sync import subscriptions
from messaging.sync.fleets import directory
from messaging.sync.pending import operations
from messaging.sync.rounds import full_round
from messaging.sync.subscriptions import FAMILIES, Report
from messaging.sync.summary import Summary
from messaging.sync.wanted import WORKS, fulfil, note, outcome_of, want
from messaging.sync.windows import messages, messages_all

__all__ = [
    "FAMILIES",
    "WORKS",
    "Report",
    "Summary",
    "directory",
    "fulfil",
    "full_round",
    "messages",
    "messages_all",
    "note",
    "operations",
    "outcome_of",
    "subscriptions",
    "want",
]
