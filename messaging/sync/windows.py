"""The message sweeps: overlapping windows on `occurred_at`, because providers report late (contract 16, rows 16 and 17).

Three rhythms per connection. Every sweep re-reads at least the last 2 hours; every 10 minutes the last 48 hours; every
day the last 7 days. So a message that Catena ingests late, with an old `occurred_at`, appears within 10 minutes when it is
up to 48 hours old, within a day when up to 7 days; so do receipts, which cannot be asked for as a difference. A new
connection first gets 45 days of history, oldest first, so that row ids follow time. Group messages are another listing with
cursors of their own, so that a provider without them hinders nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import batched
from typing import Any

from messaging import mirror
from messaging.catena import errors
from messaging.catena.client import CatenaClient
from messaging.mirror import Change
from messaging.models import Connection, SyncCursor
from messaging.sync.ahead import read_ahead
from messaging.sync.cursors import BadItems, Progress, Round, advance, check_pause, cursor_of
from messaging.sync.fleets import listed_connections
from messaging.sync.summary import Summary

MESSAGES = "messages"
OVERLAP = timedelta(hours=2)
HISTORY = timedelta(days=45)
# One request window: far below Catena's 45 days, and what is read again after an interruption.
SLICE = timedelta(days=5)
RECORDS_AT_ONCE = 2000
# What a listing answers to a cursor that it no longer knows; the contract leaves the code open.
CURSOR_REFUSALS = frozenset({400, 404, 409, 410, 422})
type InBatches = Callable[[Iterator[Any], int], Iterator[Sequence[Any]]]
type Wider = tuple[str, timedelta, timedelta]


@dataclass(frozen=True)
class Feed:
    """One of the two listings: its cursors' names, what it calls its records, how it lists and who takes them.

    `wider` are the wider windows, widest first: name of the cursor, how far back, how often.
    """

    name: str
    history: str
    wider: tuple[Wider, ...]
    item: str
    listing: Callable[..., Iterator[Any]]
    apply: Callable[[Sequence[Any]], Counter[Change]]

    @property
    def kind(self) -> str:
        return self.name.replace("_", " ")


def _wider(week: str, two_days: str) -> tuple[Wider, ...]:
    return (
        (week, timedelta(days=7), timedelta(hours=24)),
        (two_days, timedelta(hours=48), timedelta(minutes=10)),
    )


DIRECT = Feed(
    MESSAGES,
    "message_import",
    _wider("messages_week", "messages_two_days"),
    "message",
    lambda client, **window: client.list_messages(**window),
    mirror.apply_messages,
)
GROUPS = Feed(
    "group_messages",
    "group_import",
    _wider("groups_week", "groups_two_days"),
    "group message",
    lambda client, **window: client.list_group_messages(**window),
    mirror.apply_group_messages,
)
FEEDS = (DIRECT, GROUPS)


def messages_all(client: CatenaClient, now: datetime, summary: Summary | None = None, *, full: bool = False) -> Summary:
    """Sweeps every listed connection, each as far back as its rhythm says; `full` reads the 7 days in any case.

    Idempotent, resumable after any interruption. Never raises one of Catena's failures: the summary tells.
    """
    summary = summary or Summary()
    work = Round(MESSAGES, now)
    with summary.watching(work):
        check_pause(now)
        for feed in FEEDS:
            for connection in _with(feed):
                with work.source(connection, feed.name) as progress:
                    _sweep(_Reader(client, connection, feed, progress, summary), now, full=full)
    return summary


def _with(feed: Feed) -> Iterator[Connection]:
    """The connections worth asking: not for group messages where the provider has none or the fleet shares none."""
    return (one for one in listed_connections() if feed is DIRECT or one.has_groups)


def messages(client: CatenaClient, connection: Connection, now: datetime, window: timedelta) -> Summary:
    """Reads one connection's messages of the last `window`. Idempotent; the summary tells of failures."""
    summary, work = Summary(), Round(MESSAGES, now)
    with summary.watching(work):
        check_pause(now)
        for feed in FEEDS if connection.has_groups else (DIRECT,):
            with work.source(connection, f"{feed.name}_asked") as progress:
                _Reader(client, connection, feed, progress, summary).read(now - window, now)
    return summary


def _sweep(reader: "_Reader", now: datetime, *, full: bool) -> None:
    if _import(reader, now):
        return
    rows, cursor = reader.feed.wider, reader.progress.cursor
    wider = [row for row in rows if full or _is_due(row[0], reader.connection, now - row[2])]
    back = max((row[1] for row in wider), default=OVERLAP)
    since = min(cursor.position or now - HISTORY, now - OVERLAP, now - back)
    # Never past "now minus overlap": what comes late must be seen by the next sweep.
    reader.read(max(since, now - HISTORY), now, lambda end: advance(cursor, min(end, now - OVERLAP)))
    # The widest window contains the others.
    _note_read(reader.connection, now, rows[rows.index(wider[0]) :] if wider else ())


def _import(reader: "_Reader", now: datetime) -> bool:
    """The first reading of a connection; after an interruption it goes on at the slice where it stopped. False: done."""
    history = cursor_of(reader.feed.history, reader.connection)
    if history.finished_at is not None:
        return False

    def reached(end: datetime) -> None:
        advance(history, end)
        words = f"first import of {reader.connection}: {imported_days(end, now)} of {HISTORY.days} days"
        reader.summary.told(reader.feed.kind, words)

    with read_ahead(reader.client.hang_up) as ahead:
        reader.read(max(history.position or now - HISTORY, now - HISTORY), now, reached, ahead.batches)
    reader.summary.told(reader.feed.kind, "")
    history.finished_at, history.read_count = now, reader.progress.read
    history.save(update_fields=["finished_at", "read_count"])
    _note_read(reader.connection, now, reader.feed.wider)
    advance(reader.progress.cursor, now - OVERLAP)
    return True


def imported_days(position: datetime | None, now: datetime) -> int:
    """How many of the 45 days an import has behind it that has read up to `position`."""
    done = HISTORY - (now - position) if position is not None else timedelta()
    return max(0, min(done.days, HISTORY.days))


def _is_due(name: str, connection: Connection, latest: datetime) -> bool:
    finished_at = cursor_of(name, connection).finished_at
    return finished_at is None or finished_at <= latest


def _note_read(connection: Connection, now: datetime, rows: Sequence[Wider]) -> None:
    for name, _, _ in rows:
        SyncCursor.objects.update_or_create(name=name, connection=connection, defaults={"finished_at": now})


@dataclass(frozen=True)
class _Reader:
    client: CatenaClient
    connection: Connection
    feed: Feed
    progress: Progress
    summary: Summary

    def read(
        self,
        since: datetime,
        until: datetime,
        reached: Callable[[datetime], None] = lambda end: None,
        in_batches: InBatches = batched,
    ) -> None:
        """Applies every record that occurred in the window, slice by slice; `reached` is told the end of each."""
        while since < until:
            end = min(since + SLICE, until)
            try:
                self._slice(since, end, in_batches)
            except errors.Refused as refusal:
                if refusal.http_status not in CURSOR_REFUSALS:
                    raise
                # Nobody says how long a cursor lives: the same window once more, from its start (contract 16, row 25).
                self._slice(since, end, in_batches)
            reached(end)
            since = end

    def _slice(self, since: datetime, end: datetime, in_batches: InBatches) -> None:
        listing = self.feed.listing(
            self.client,
            from_datetime=since,
            to_datetime=end,
            connection_id=self.connection.catena_id,
            on_bad=BadItems(self.feed.item),
        )
        for page in in_batches(listing, RECORDS_AT_ONCE):
            self.summary.add(self.feed.kind, self.feed.apply(page))
            self.progress.read += len(page)
