"""Applies a page of listed operations, and notes what the listing proves about our own matching (reliability plan 3.4)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Max

from messaging.catena import types
from messaging.mirror.changes import Change
from messaging.mirror.fingerprint import fingerprint
from messaging.mirror.operations import apply_operation
from messaging.models import Operation

# How far Catena's creation time of an operation may lie from our POST: clocks differ, and answers take time.
CREATED_BEFORE = timedelta(minutes=4)
CREATED_AFTER = timedelta(minutes=10)


def apply_listed(page: Sequence[types.Operation], now: datetime) -> Counter[Change]:
    """Stores each record as `apply_operation` does, and notes on operations of normal sends when a listing first showed
    them and whether they are what we had posted. Idempotent.

    A listing shows the finished ones of its window again each time: those cost one look-up for the page.
    """
    known = _known(page)
    changes = Counter(_apply(record, known.get(record.id)) for record in page)
    _note_listed(page, known, now)
    return changes


def _known(page: Sequence[types.Operation]) -> dict[UUID, Mapping[str, Any]]:
    rows = (
        Operation.objects.filter(catena_id__in=[record.id for record in page])
        .annotate(log_at=Max("logs__catena_updated_at"))
        .values(
            "id", "catena_id", "status", "catena_updated_at", "log_at", "listed_at", "fingerprint", "payload",
            "send_attempt__fingerprint", "send_attempt__outcome", "send_attempt__posting_at", "send_attempt__finished_at",
        )
    )  # fmt: skip
    return {row["catena_id"]: row for row in rows}


def _apply(record: types.Operation, row: Mapping[str, Any] | None) -> Change:
    if row is not None and (row["status"], row["catena_updated_at"], row["log_at"]) == _said(record):
        return Change.SAME
    if apply_operation(record) is None:
        return Change.SKIPPED
    return Change.NEW if row is None else Change.CHANGED


def _said(record: types.Operation) -> tuple[str, datetime | None, datetime | None]:
    return record.status, record.updated_at, max((log.updated_at for log in record.logs), default=None)


def _note_listed(page: Sequence[types.Operation], known: Mapping[UUID, Mapping[str, Any]], now: datetime) -> None:
    """The matcher's self-test. An operation that was found by matching proves nothing about matching."""
    fresh = [record for record in page if record.id not in known or known[record.id]["listed_at"] is None]
    if not fresh:
        return
    verdicts: dict[bool | None, list[UUID]] = {True: [], False: [], None: []}
    for record in fresh:
        verdicts[_is_as_posted(record, known.get(record.id))].append(record.id)
    for verdict, ids in verdicts.items():
        if ids:
            Operation.objects.filter(catena_id__in=ids, listed_at=None).update(listed_at=now, is_as_posted=verdict)


def _is_as_posted(record: types.Operation, row: Mapping[str, Any] | None) -> bool | None:
    if row is None or row["send_attempt__outcome"] != "accepted" or not row["send_attempt__fingerprint"]:
        return None
    ours = row["send_attempt__fingerprint"]
    is_echo_ours = not row["payload"] or row["fingerprint"] == ours
    return is_echo_ours and fingerprint(record.payload) == ours and _is_in_time(record, row)


def _is_in_time(record: types.Operation, row: Mapping[str, Any]) -> bool:
    created, began, ended = record.created_at, row["send_attempt__posting_at"], row["send_attempt__finished_at"]
    return created is not None and began - CREATED_BEFORE <= created <= (ended or began) + CREATED_AFTER
