"""One full round over everything that Catena can tell us: what `manage.py sync` and the nightly sweep do."""

import time
from datetime import datetime

from messaging.catena.client import CatenaClient
from messaging.sync.fleets import directory
from messaging.sync.pending import operations
from messaging.sync.summary import Summary, Watcher
from messaging.sync.windows import messages_all


def full_round(client: CatenaClient, now: datetime, progress: Watcher | None = None) -> Summary:
    """Directory, messages of 7 days (45 on the first run), and every pending operation. Repeating it is harmless.

    `progress` is told the kind of record and how many have been read. Stops at the first failure that concerns all of
    Catena; the summary then says why. Never raises one of Catena's failures.
    """
    began = time.monotonic()
    summary = Summary(watcher=progress)
    directory(client, now, summary)
    if not summary.stopped:
        messages_all(client, now, summary, full=True)
    if not summary.stopped:
        operations(client, now, summary, everything=True)
    summary.seconds = time.monotonic() - began
    return summary
