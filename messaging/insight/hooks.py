"""How our webhook subscriptions stand, in words: for the page that tends them and for the command."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Exists, OuterRef

from messaging.models import WebhookEvent, WebhookSubscription, WebhookWatch
from messaging.models.subscriptions import ACTIVE, DELETED, hook_address, hook_obstacle, known_marks
from messaging.states import EventState, Tone
from messaging.sync import FAMILIES

# Icon, word and tone of the status words that we know; another one is shown as it is.
WORDS = {
    ACTIVE: ("circle-check", "Delivers", Tone.OK),
    "stale": ("octagon-x", "Stopped by Catena", Tone.BAD),
    "paused": ("pause-circle", "Paused", Tone.HIGH),
    DELETED: ("octagon-x", "Gone", Tone.BAD),
}
FOREIGN = "Not in use here"
# How long people are told of what was refused or could not be used.
TOLD_FOR = timedelta(hours=24)
# A worker begins within seconds.
WAITS_LONG = timedelta(minutes=1)


TURNED = """
SELECT coalesce(sum(r.count), 0), max(r.minute), (SELECT count(*) FROM messaging_webhookevent e
    WHERE e.state = %(dead)s AND e.received_at >= %(since)s)
FROM messaging_refuseddelivery r WHERE r.minute >= %(since)s
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One subscription. `secret` is the word for the one it signs with, `is_last` says that it is the last of the variable,
    `has_delivered` that something came in after it was set.
    """

    row: WebhookSubscription
    icon: str
    word: str
    tone: Tone
    secret: str
    is_last: bool
    has_delivered: bool


@dataclass(frozen=True, slots=True)
class Overview:
    """`missing` are families of events that nothing subscribes to; `strays` counts rows of other addresses, which are left
    alone; `waits_long` says that what was asked for has not been begun: no worker runs, or it knows another address.
    """

    url: str
    obstacle: str
    lines: Sequence[Line]
    watch: WebhookWatch | None
    missing: Sequence[str]
    strays: int
    secret_count: int
    waits_long: bool
    # How many sign with the last secret, and how many of those have delivered since.
    with_last: int
    delivered_with_last: int

    @property
    def is_subscribed(self) -> bool:
        return bool(self.lines)

    @property
    def trouble(self) -> int:
        return sum(line.row.status != ACTIVE or line.secret == FOREIGN for line in self.lines)

    @property
    def dead_letters(self) -> int:
        return sum(line.row.dead_letters or 0 for line in self.lines)

    @property
    def is_good(self) -> bool:
        return self.is_subscribed and not self.obstacle and not self.trouble and not self.missing

    @property
    def rotation(self) -> str:
        """What the change of the secret needs next, as a sentence; empty when there is none under way."""
        if self.secret_count < 2 or not self.lines:
            return ""
        if self.with_last < len(self.lines):
            left = len(self.lines) - self.with_last
            return (
                f"CATENA_WEBHOOK_SECRET holds a next secret, and {left} of {len(self.lines)} do not sign with it yet."
            )
        if not self.delivered_with_last:
            return "All sign with the last secret. Keep both in CATENA_WEBHOOK_SECRET until a delivery has come in."
        return "All sign with the last secret, and a delivery has come in since. The others may leave CATENA_WEBHOOK_SECRET."


@dataclass(frozen=True, slots=True)
class Turned:
    """What came in the last 24 hours and brought no news: `refused` was not provably Catena's, the last of it in the minute
    `refused_at`; `dead` was Catena's and could not be used.
    """

    refused: int
    refused_at: datetime | None
    dead: int


def turned_away(now: datetime) -> Turned | None:
    """None when there was nothing of the kind. One query."""
    with connection.cursor() as cursor:
        cursor.execute(TURNED, {"since": now - TOLD_FOR, "dead": EventState.DEAD})
        refused, last, dead = cursor.fetchone()
    return Turned(refused, last, dead) if refused or dead else None


def overview(now: datetime) -> Overview:
    """Reads only what is kept here, in two queries."""
    marks, url = known_marks(), hook_address()
    came = WebhookEvent.objects.filter(webhook_id=OuterRef("catena_id"), signed_by=OuterRef("secret_mark"))
    rows = list(WebhookSubscription.objects.annotate(has_delivered=Exists(came)))
    lines = [_line(row, marks) for row in rows if row.url == url]
    alive = {line.row.event_name for line in lines if line.row.status != DELETED}
    last = [line for line in lines if line.is_last]
    watch = WebhookWatch.objects.select_related("wanted_by").filter(url=url).first()
    return Overview(
        url=url,
        obstacle=hook_obstacle(),
        lines=lines,
        watch=watch,
        missing=[family for family, actions in FAMILIES.items() if not alive & {f"{family}.{one}" for one in actions}],
        strays=len(rows) - len(lines),
        secret_count=len(marks),
        waits_long=watch is not None and _waits_long(watch, now),
        with_last=len(last),
        delivered_with_last=sum(line.has_delivered for line in last),
    )


def _line(row: WebhookSubscription, marks: Sequence[str]) -> Line:
    icon, word, tone = WORDS.get(row.status, ("help-circle", row.status, Tone.NEUTRAL))
    return Line(
        row,
        icon,
        word,
        tone,
        _secret_word(row.secret_mark, marks),
        is_last=row.secret_mark == marks[-1] if marks else False,
        has_delivered=bool(vars(row)["has_delivered"]),
    )


def _secret_word(mark: str, marks: Sequence[str]) -> str:
    if mark not in marks:
        return FOREIGN
    return "Current" if mark == marks[0] else "Next"


def _waits_long(watch: WebhookWatch, now: datetime) -> bool:
    return bool(watch.wanted) and watch.next_at is None and (watch.wanted_at or now) < now - WAITS_LONG
