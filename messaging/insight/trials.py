"""The last test messages of a connection with what came of each: badge, both codes, and how long the answer took. Reads only."""

from datetime import datetime
from typing import Any

from django.db.models import OuterRef, Subquery

from messaging.models import Connection, FleetUser, Message, OperationLog, SendAttempt, User
from messaging.models.outlook import DELIVERY_COLUMNS, ClosedGates, delivery_of

MOST_SHOWN = 5
MOST_DRIVERS = 300


def tests_of(user: User, connection: Connection, now: datetime, gates: ClosedGates) -> list[dict[str, Any]]:
    """The newest tests, newest first. One query."""
    posts = SendAttempt.objects.filter(message=OuterRef("pk")).order_by("-id")
    tries = OperationLog.objects.filter(operation=OuterRef("operation")).order_by("-catena_created_at", "-id")
    found = Message.objects.visible_to(user).filter(connection=connection, is_test=True, deleted_at=None)
    told = found.order_by("-id").annotate(
        posting_at=Subquery(posts.values("posting_at")[:1]),
        finished_at=Subquery(posts.values("finished_at")[:1]),
        http_status=Subquery(posts.values("http_status")[:1]),
        provider_code=Subquery(tries.values("response_status_code")[:1]),
    )
    columns = (
        *DELIVERY_COLUMNS, "uuid", "conversation__driver__name", "author__first_name", "author__last_name",
        "author__username", "posting_at", "finished_at", "http_status", "provider_code",
    )  # fmt: skip
    return [_told(row, now, gates) for row in told.values(*columns)[:MOST_SHOWN]]


def _told(row: dict[str, Any], now: datetime, gates: ClosedGates) -> dict[str, Any]:
    name = f"{row['author__first_name'] or ''} {row['author__last_name'] or ''}".strip()
    took = (
        (row["finished_at"] - row["posting_at"]).total_seconds() if row["finished_at"] and row["posting_at"] else None
    )
    return {
        "uuid": row["uuid"],
        "at": row["occurred_at"],
        "driver": row["conversation__driver__name"],
        "by": name or row["author__username"],
        "badge": delivery_of(row, now, gates),
        "code": row["provider_code"],
        "http_status": row["http_status"],
        "took": "" if took is None else f"{took:.1f} s" if took >= 1 else f"{took * 1000:.0f} ms",
    }


def drivers_of(connection: Connection) -> list[FleetUser]:
    """Whom a test may go to, by name; one more than MOST_DRIVERS when there are more. One query."""
    return list(FleetUser.objects.reachable().filter(connection=connection).order_by("name", "id")[: MOST_DRIVERS + 1])
