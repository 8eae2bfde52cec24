"""Messages as CSV for people who go on in a spreadsheet: streamed in flat memory, and inert there. Writes nothing but lines."""

import csv
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet

from messaging.insight.listing import OperationFilter, outgoing
from messaging.mirror.redaction import scrub
from messaging.models import AuditEntry, Message, User
from messaging.models.directory import provider_name
from messaging.models.outlook import DELIVERY_COLUMNS, ClosedGates, delivery_of

MOST_ROWS = 50_000
CHUNK = 2_000
# How many exports a person gets within this time, and the advisory lock under which they are counted.
MOST_EXPORTS = 10
WITHIN = timedelta(hours=1)
LOCK = 0x0E590127
AUDIT_ACTION = "export"

HEADS = (
    "Written (UTC)", "Status", "Status in words", "Reason", "Error type", "Code", "Attempts", "Priority", "Driver",
    "Connection", "Provider", "Fleet", "Written by", "Text", "Handed to Catena (UTC)", "Ended (UTC)", "Delivered (UTC)",
    "Read (UTC)", "Handled (UTC)", "Message", "Operation", "Provider's id",
)  # fmt: skip
_COLUMNS = (
    *DELIVERY_COLUMNS, "uuid", "text", "priority", "error_type", "response_status_code", "attempt_count", "settled_at",
    "handled_at", "sender_name", "source_id", "operation__catena_id", "operation__source_id", "author__first_name",
    "author__last_name", "author__username", "conversation__driver__name", "connection__description",
    "connection__fleet__name",
)  # fmt: skip

# What a spreadsheet takes for the beginning of a formula, also after blanks and invisible signs, and in its wide forms.
_BLANK = r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060\ufeff'\"]*"
FORMULA = re.compile(rf"(?:{_BLANK}[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\x00])")
# Where the list separator of the country is another one, a cell may end at one of these: what follows is guarded as well.
INNER = re.compile(rf"([;\t|\r\n])(?={_BLANK}[=+\-@\uff1d\uff0b\uff0d\uff20])")


def cell(value: object) -> str:
    """The value as text that no spreadsheet reads as a formula: a `'` stands before what could be one. None is empty.

    NUL is gone. Nothing else of the text changes.
    """
    text = "" if value is None else str(value)
    text = text.replace("\x00", "")
    text = INNER.sub(r"\1'", text)
    return f"'{text}" if FORMULA.match(text) else text


class _Line:
    """A file that hands back what was written to it: the writer of `csv` makes one line of it."""

    def write(self, line: str) -> str:
        return line


_writer = csv.writer(_Line(), quoting=csv.QUOTE_ALL, lineterminator="\r\n")


def line(values: Any) -> bytes:
    """One line of CSV, every cell quoted and inert."""
    return str(_writer.writerow([cell(value) for value in values])).encode()


def chosen_messages(user: User, chosen: OperationFilter, now: datetime, gates: ClosedGates) -> "QuerySet[Message]":
    """What an export holds: the filter of the list, without its page, as far as this person sees, newest first."""
    return outgoing(user, chosen, now, gates).filter(occurred_at__lte=now).order_by("-occurred_at", "-id")


def count(found: "QuerySet[Message]") -> int:
    """How many rows an export of these has, one more than MOST_ROWS when there are more. One bounded query."""
    return found.order_by()[: MOST_ROWS + 1].count()


def lines(found: "QuerySet[Message]", now: datetime, gates: ClosedGates) -> Iterator[bytes]:
    """The file, line by line, through a cursor of the server: memory stays flat. The last line says when it was cut."""
    yield b"\xef\xbb\xbf" + line(HEADS)
    rows = found.values(*_COLUMNS)[: MOST_ROWS + 1].iterator(chunk_size=CHUNK)
    for written, row in enumerate(rows):
        if written == MOST_ROWS:
            yield line([f"Cut after {MOST_ROWS} rows: there are more. Narrow the filter to get the others."])
            return
        yield line(_cells(row, now, gates))


def _cells(row: dict[str, Any], now: datetime, gates: ClosedGates) -> list[object]:
    badge = delivery_of(row, now, gates)
    provider = provider_name(row["connection__tsp_slug"] or row["connection__source_name"])
    author = f"{row['author__first_name'] or ''} {row['author__last_name'] or ''}".strip()
    return [
        utc(row["occurred_at"]), badge.short, scrub(badge.long), scrub(row["reason"]), row["error_type"],
        row["response_status_code"], row["attempt_count"] or "", row["priority"], row["conversation__driver__name"],
        row["connection__description"] or provider, provider, row["connection__fleet__name"],
        author or row["author__username"] or row["sender_name"], row["text"], utc(row["accepted_at"]),
        utc(row["settled_at"]), utc(row["delivered_at"]), utc(row["read_at"]), utc(row["handled_at"]), row["uuid"],
        row["operation__catena_id"], row["source_id"] or row["operation__source_id"],
    ]  # fmt: skip


def utc(at: datetime | None) -> str:
    """ISO 8601 in UTC to the second; empty when the moment is not known."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if at else ""


def file_name(rows: int, now: datetime) -> str:
    """`backhaul-messages-2026-05-12T1403Z.csv`; one that was cut says so."""
    cut = f"-first-{MOST_ROWS}" if rows > MOST_ROWS else ""
    return f"backhaul-messages-{now.astimezone(UTC):%Y-%m-%dT%H%MZ}{cut}.csv"


def reserve(user: User, detail: dict[str, object], now: datetime) -> timedelta | None:
    """Takes one of the person's exports of this hour and writes it to the audit. None: go on; else the time until the next.

    Of any number of presses at the same moment no more than the limit get through. Opens a transaction.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCK, user.pk])
        mine = AuditEntry.objects.filter(user=user, action=AUDIT_ACTION, at__gt=now - WITHIN)
        recent = mine.order_by("-id").values_list("at", flat=True)[:MOST_EXPORTS]
        if len(recent) == MOST_EXPORTS:
            return max(recent[MOST_EXPORTS - 1] + WITHIN - now, timedelta(seconds=1))
        AuditEntry.objects.create(user=user, action=AUDIT_ACTION, detail=detail)
    return None
