"""Whether a worker is alive: one row in `SyncCursor`, written by every worker's sweep."""

from datetime import datetime, timedelta

from messaging.models import SyncCursor

NAME = "worker"
FRESH_FOR = timedelta(seconds=60)


def beat(now: datetime) -> None:
    SyncCursor.objects.update_or_create(name=NAME, connection=None, defaults={"position": now, "finished_at": now})


def is_fresh(now: datetime) -> bool:
    return SyncCursor.objects.filter(name=NAME, position__gte=now - FRESH_FOR).exists()
