"""The directory sweep: fleets, connections, what they can do, and their users. Reads everything; there is no delta."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import batched
from uuid import UUID

from django.utils import timezone

from messaging import mirror
from messaging.catena.client import CatenaClient
from messaging.catena.types import Connection as ConnectionRecord
from messaging.catena.types import Fleet as FleetRecord
from messaging.mirror import SHARED, Change
from messaging.models import Connection, Fleet
from messaging.sync.cursors import BadItems, Progress, Round, check_pause
from messaging.sync.summary import Summary

USERS_AT_ONCE = 500


def directory(client: CatenaClient, now: datetime | None = None, summary: Summary | None = None) -> Summary:
    """Mirrors the whole directory; what a complete listing no longer contains is marked as withdrawn.

    One call for each of fleets, connections, freshness and providers (and their further pages), and one for the users
    of each connection. Idempotent. Never raises one of Catena's failures: the summary tells.
    """
    now, summary = now or timezone.now(), summary or Summary()
    work = Round("directory", now)
    with summary.watching(work):
        check_pause(now)
        with work.source(name="fleets") as progress:
            seen = _listed(client.list_fleets, mirror.apply_fleet, "fleets", progress, summary)
            _withdraw(Fleet, seen, now, summary)
        with work.source(name="connections") as progress:
            seen = _listed(client.list_connections, mirror.apply_connection, "connections", progress, summary)
            _withdraw(Connection, seen, now, summary)
        with work.source(name="freshness") as progress:
            _freshness(client, progress, summary)
        with work.source(name="providers") as progress:
            for tsp in client.list_tsps(on_bad=BadItems("provider")):
                summary.add("providers", mirror.apply_tsp(tsp) or Counter({Change.SAME: 1}))
                progress.read += 1
        for connection in listed_connections():
            with work.source(connection, "users") as progress:
                _users(client, connection, progress, summary)
    return summary


def listed_connections() -> Iterable[Connection]:
    """The connections that Catena lists to us: the only ones that can be asked about."""
    return Connection.objects.filter(withdrawn_at=None).exclude(status="deleted").order_by("id")


def _listed[R: (FleetRecord, ConnectionRecord)](
    listing: Callable[..., Iterable[R]],
    apply: Callable[[R], Change],
    kind: str,
    progress: Progress,
    summary: Summary,
) -> set[UUID] | None:
    """The ids that a complete listing contains; None when an item was unreadable, so that it is not taken for gone."""
    bad = BadItems(kind.removesuffix("s"))
    seen: set[UUID] = set()
    for record in listing(on_bad=bad):
        summary.add(kind, Counter([apply(record)]))
        seen.add(record.id)
        progress.read += 1
    return None if bad.count else seen


def _withdraw(model: type[Fleet] | type[Connection], seen: set[UUID] | None, now: datetime, summary: Summary) -> None:
    if seen is not None:
        summary.note(mirror.withdraw_unlisted(model, seen, now))


def _freshness(client: CatenaClient, progress: Progress, summary: Summary) -> None:
    for record in client.data_freshness(on_bad=BadItems("freshness entry")):
        if record.resource in SHARED:
            summary.add("freshness", Counter([mirror.apply_freshness(record)]))
            progress.read += 1


def _users(client: CatenaClient, connection: Connection, progress: Progress, summary: Summary) -> None:
    users = client.list_users(connection_id=connection.catena_id, on_bad=BadItems("user"))
    for page in batched(users, USERS_AT_ONCE):
        summary.add("users", mirror.apply_fleet_users(page, connection))
        progress.read += len(page)
    mirror.complete_groups(connection)
