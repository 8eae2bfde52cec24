"""How far each sweep has read, in words: for support, who wonders whether the screen can be believed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Min, Q

from messaging.insight.meanings import rough_span
from messaging.models import Connection, SyncCursor
from messaging.models.inbound import ROUND
from messaging.sync.windows import FEEDS, HISTORY, imported_days

Row = Mapping[str, Any]
# A sweep that comes this many beats late, and a while, does not run.
LATE_BEATS, LATE_AT_LEAST = 5, timedelta(minutes=1)
PROBLEM_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Sweep:
    """One sweep: what it reads, how far it has come, and what stopped it (empty: nothing)."""

    what: str
    words: str
    problem: str
    is_late: bool

    @property
    def is_well(self) -> bool:
        return not self.problem and not self.is_late


@dataclass(frozen=True, slots=True)
class _Kind:
    """One line: the cursors behind it and their beat in seconds. `history` is the cursor of its first import."""

    what: str
    names: tuple[str, ...]
    every: float
    history: str = ""


def sweeps(now: datetime, connection: Connection | None = None) -> list[Sweep]:
    """Of the whole installation, or of one connection; what has never begun is left out. One query."""
    rows = {row["name"]: row for row in _cursors(connection)}
    return [sweep for kind in _kinds() for sweep in _told(kind, rows, now)]


def _kinds() -> Iterator[_Kind]:
    yield _Kind("Fleets and connections", ("fleets", "connections", "freshness", "providers"), _directory())
    yield _Kind("Users", ("users",), _directory())
    for feed in FEEDS:
        yield _Kind(feed.kind.capitalize(), (feed.name,), settings.MESSAGE_SWEEP_SECONDS, feed.history)
        for name, back, every in reversed(feed.wider):
            reach = f"{back.days} days" if back > timedelta(days=2) else "48 hours"
            yield _Kind(f"{feed.kind.capitalize()} of {reach}", (name,), every.total_seconds())
    yield _Kind("Pending operations", (f"{ROUND}operations",), settings.OPERATION_SWEEP_SECONDS)


def _directory() -> float:
    return float(settings.DIRECTORY_SWEEP_SECONDS)


def _cursors(connection: Connection | None) -> Iterable[Row]:
    """By name, over the connections that are still listed: how many, the one furthest behind, and what went wrong."""
    listed = Q(connection__withdrawn_at=None) & ~Q(connection__status="deleted")
    mine = Q(connection=None) | listed if connection is None else Q(connection=connection)
    return (
        SyncCursor.objects.filter(mine)
        .order_by("name")
        .values("name")
        .annotate(
            sources=Count("id"),
            unread=Count("id", filter=Q(finished_at=None)),
            read_at=Min("finished_at"),
            begun_at=Max("started_at"),
            least=Min("position", filter=Q(finished_at=None)),
            failing=Count("id", filter=~Q(last_error="")),
            error=Max("last_error"),
        )
    )


def _told(kind: _Kind, rows: Mapping[str, Row], now: datetime) -> Iterator[Sweep]:
    found = [rows[name] for name in kind.names if name in rows]
    if not found:
        return
    history = rows.get(kind.history)
    if history is not None and history["unread"]:
        yield Sweep(kind.what, _importing(history, now), _problem(found), is_late=False)
        return
    moments = [row["read_at"] or row["begun_at"] for row in found]
    is_unread = any(row["unread"] for row in found) and not any(row["name"].startswith(ROUND) for row in found)
    # The row of a round may be there before its first one has begun: somebody asked for it, or it was made just now.
    if is_unread or None in moments:
        yield Sweep(kind.what, "not read yet", _problem(found), is_late=False)
        return
    at = min(moments)
    late = timedelta(seconds=LATE_BEATS * kind.every) + LATE_AT_LEAST
    yield Sweep(kind.what, f"read up to {rough_span(now - at)} ago", _problem(found), is_late=now - at > late)


def _importing(history: Row, now: datetime) -> str:
    days = f"first import: {imported_days(history['least'], now)} of {HISTORY.days} days"
    return days if history["sources"] == 1 else f"{days} on the last of {history['sources']} connections"


def _problem(found: list[Row]) -> str:
    failing = next((row for row in found if row["failing"]), None)
    if failing is None:
        return ""
    where = "" if failing["sources"] == 1 else f" ({failing['failing']} of {failing['sources']} connections)"
    return f"{failing['error'][:PROBLEM_LENGTH]}{where}"
