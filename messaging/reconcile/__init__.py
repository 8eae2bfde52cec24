"""Finds out what became of POSTs whose answer was lost, and records what people decide where that cannot be found out.

Absence never sends. What is found is bound one to one; what is not found goes to a person with the evidence
(reliability plan 3.4).
"""

from messaging.reconcile.decide import (
    AlreadyDecided,
    NotDecidable,
    Option,
    decide,
    is_overdue,
    options,
    stamp,
    with_stamp,
)
from messaging.reconcile.evidence import Evidence, evidence
from messaging.reconcile.looks import look
from messaging.reconcile.matching import match
from messaging.reconcile.restore import NotUnlockable, open_restore, survey, survey_open, unlock

__all__ = [
    "AlreadyDecided",
    "Evidence",
    "NotDecidable",
    "NotUnlockable",
    "Option",
    "decide",
    "evidence",
    "is_overdue",
    "look",
    "match",
    "open_restore",
    "options",
    "stamp",
    "survey",
    "survey_open",
    "unlock",
    "with_stamp",
]
