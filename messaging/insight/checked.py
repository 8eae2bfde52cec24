"""What support is told of the invariant checker: when it last ran, what it found, and whether it still runs."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from messaging.models import Verification

# Lines on the page; `manage.py verify` prints them all.
MOST_LINES = 20
# A check comes when it is due and a worker has been up for a while; later than this means that none does it.
LATE = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Checked:
    """The last check. `lines` are its first breaches, `more` counts the others; `is_late` says that the next is overdue."""

    at: datetime
    rules: int
    lines: list[str]
    more: int
    is_late: bool

    @property
    def breaches(self) -> int:
        return len(self.lines) + self.more


def last_check(now: datetime) -> Checked | None:
    """None when nothing has been checked yet. One query."""
    latest = Verification.objects.first()
    if latest is None:
        return None
    lines = [str(line) for line in latest.breaches]
    return Checked(
        at=latest.at,
        rules=latest.rule_count,
        lines=lines[:MOST_LINES],
        more=max(0, len(lines) - MOST_LINES),
        is_late=latest.at < now - timedelta(seconds=settings.VERIFY_SECONDS) - LATE,
    )
