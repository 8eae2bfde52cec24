"""The message sweeps: overlapping windows on `occurred_at`, because providers report late (contract 16, rows 16 and 17).

Three rhythms per connection. Every sweep re-reads at least the last 2 hours; every 10 minutes the last 48 hours; every
day the last 7 days. So a message that Catena ingests late, with an old `occurred_at`, appears within 10 minutes when it is
up to 48 hours old, within a day when up to 7 days; so do receipts, which cannot be asked for as a difference. A new
connection first gets 45 days of history, oldest first, so that row ids follow time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import batched

from messaging import mirror
from messaging.catena.client import CatenaClient
from messaging.models import Connection, SyncCursor
from messaging.sync.cursors import BadItems, Progress, Round, advance, check_pause, cursor_of
from messaging.sync.fleets import listed_connections
from messaging.sync.summary import Summary

MESSAGES = "messages"
IMPORT = "message_import"
OVERLAP = timedelta(hours=2)
HISTORY = timedelta(days=45)
# One request window: far below Catena's 45 days, and what is read again after an interruption.
SLICE = timedelta(days=5)
RECORDS_AT_ONCE = 2000
# The wider windows, widest first: name of the cursor, how far back, how often.
WIDER = (
    ("messages_week", timedelta(days=7), timedelta(hours=24)),
    ("messages_two_days", timedelta(hours=48), timedelta(minutes=10)),
)


def messages_all(client: CatenaClient, now: datetime, summary: Summary | None = None, *, full: bool = False) -> Summary:
    """Sweeps every listed connection, each as far back as its rhythm says; `full` reads the 7 days in any case.

    Idempotent, resumable after any interruption. Never raises one of Catena's failures: the summary tells.
    """
    summary = summary or Summary()
    work = Round(MESSAGES, now)
    with summary.watching(work):
        check_pause(now)
        for connection in listed_connections():
            with work.source(connection) as progress:
                _sweep(client, connection, now, progress, summary, full=full)
    return summary


def messages(client: CatenaClient, connection: Connection, now: datetime, window: timedelta) -> Summary:
    """Reads one connection's messages of the last `window`. Idempotent; the summary tells of failures."""
    summary, work = Summary(), Round(MESSAGES, now)
    with summary.watching(work):
        check_pause(now)
        with work.source(connection, f"{MESSAGES}_asked") as progress:
            _Reader(client, connection, progress, summary).read(now - window, now)
    return summary


def _sweep(
    client: CatenaClient, connection: Connection, now: datetime, progress: Progress, summary: Summary, *, full: bool
) -> None:
    reader = _Reader(client, connection, progress, summary)
    if not _import(reader, now):
        wider = [row for row in WIDER if full or _is_due(row[0], connection, now - row[2])]
        back = max((row[1] for row in wider), default=OVERLAP)
        since = min(progress.cursor.position or now - HISTORY, now - OVERLAP, now - back)
        # Never past "now minus overlap": what comes late must be seen by the next sweep.
        reader.read(max(since, now - HISTORY), now, lambda end: advance(progress.cursor, min(end, now - OVERLAP)))
        # The widest window contains the others.
        _note_read(connection, now, WIDER[WIDER.index(wider[0]) :] if wider else ())


def _import(reader: "_Reader", now: datetime) -> bool:
    """The first reading of a connection; after an interruption it goes on at the slice where it stopped. False: done."""
    history = cursor_of(IMPORT, reader.connection)
    if history.finished_at is not None:
        return False
    reader.read(max(history.position or now - HISTORY, now - HISTORY), now, lambda end: advance(history, end))
    history.finished_at, history.read_count = now, reader.progress.read
    history.save(update_fields=["finished_at", "read_count"])
    _note_read(reader.connection, now, WIDER)
    advance(reader.progress.cursor, now - OVERLAP)
    return True


def _is_due(name: str, connection: Connection, latest: datetime) -> bool:
    finished_at = cursor_of(name, connection).finished_at
    return finished_at is None or finished_at <= latest


def _note_read(connection: Connection, now: datetime, rows: Sequence[tuple[str, timedelta, timedelta]]) -> None:
    for name, _, _ in rows:
        SyncCursor.objects.update_or_create(name=name, connection=connection, defaults={"finished_at": now})


@dataclass(frozen=True)
class _Reader:
    client: CatenaClient
    connection: Connection
    progress: Progress
    summary: Summary

    def read(self, since: datetime, until: datetime, reached: Callable[[datetime], None] = lambda end: None) -> None:
        """Applies every message that occurred in the window, slice by slice; `reached` is told the end of each."""
        while since < until:
            end = min(since + SLICE, until)
            listing = self.client.list_messages(
                from_datetime=since,
                to_datetime=end,
                connection_id=self.connection.catena_id,
                on_bad=BadItems("message"),
            )
            for page in batched(listing, RECORDS_AT_ONCE):
                self.summary.add("messages", mirror.apply_messages(page))
                self.progress.read += len(page)
            reached(end)
            since = end
