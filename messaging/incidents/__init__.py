"""Incidents: opens them by itself, follows them, tells people outside, and notes what people do about them."""

from messaging.incidents.alerts import tell_due
from messaging.incidents.care import (
    LONGEST_NOTE,
    SNOOZES,
    acknowledge,
    give,
    note,
    resolve,
    snooze,
    snoozed_until,
)
from messaging.incidents.failures import affected
from messaging.incidents.watch import watch

__all__ = [
    "LONGEST_NOTE",
    "SNOOZES",
    "acknowledge",
    "affected",
    "give",
    "note",
    "resolve",
    "snooze",
    "snoozed_until",
    "tell_due",
    "watch",
]
