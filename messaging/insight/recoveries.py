"""What a recovery's page shows: every message of its set in exactly one line, with how many and which. Reads only."""

from dataclasses import dataclass, replace
from typing import Any

from django.db.models import Case, CharField, Count, F, Q, Value, When

from messaging.models import Connection, Recovery, RecoveryItem, User
from messaging.models.directory import provider_name
from messaging.states import LIVELY_STATES, RESENDABLE_STATES, UNDECIDED_STATES, MessageState

V = RecoveryItem.Verdict
S = Recovery.State
PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report. `after` says what it means."""

    key: str
    words: str
    icon: str
    tone: str
    after: str
    count: int = 0
    begins: float = 0.0  # on the bar, of 100
    width: float = 0.0


LINES = (
    Line("accepted", "Sent again and accepted", "circle-check", "ok", "The provider has taken them."),
    Line("moving", "On their way", "clock", "wait", "Sent again; the provider has not answered yet."),
    Line("unclear", "May have been sent", "help-circle", "hi", "No clear answer: being looked for, or a person decides."),
    Line("failed", "Failed again", "octagon-x", "bad", "Sent again, and not accepted this time either."),
    Line("withdrawn", "Withdrawn", "undo", "neutral", "Sent again, then withdrawn or closed by a person."),
    Line("due", "Will be sent again", "send", "wait", "Certainly not with the driver, and still of use."),
    Line("problem", "Left out at the last moment", "circle-minus", "hi", "Something had changed when their turn came."),
    Line("may_have_arrived", "May have arrived", "help-circle", "hi", "Left out: ask the driver, or send each by hand."),
    Line("superseded", "A later message was written", "message-square", "neutral", "Left out: read both and decide."),
    Line("too_old", "Too old to be of use", "clock-alert", "neutral", "Left out: their time has passed."),
    Line("done", "Sent again or handled already", "check", "neutral", "Left out: somebody has taken care of them."),
)  # fmt: skip
KEYS = frozenset(line.key for line in LINES)
DUE_WORDS = {
    S.CANARY: ("Still to come", "They follow when the first three are accepted."),
    S.RUNNING: ("Still to come", "They follow at a safe rate."),
    S.STOPPED: ("Not sent again", "It was stopped before their turn."),
}


def _line() -> Case:
    """The line of an item: the first that holds, and one of them always does."""
    ended = {"resent__state__in": sorted(RESENDABLE_STATES)}
    rules = [
        When(~Q(verdict=V.SAFE), then=F("verdict")),
        When(~Q(problem=""), then=Value("problem")),
        When(resent=None, then=Value("due")),
        When(resent__state=MessageState.SUCCEEDED, then=Value("accepted")),
        When(**ended, then=Value("failed")),
        When(resent__state__in=sorted(UNDECIDED_STATES), then=Value("unclear")),
        When(resent__state__in=sorted(LIVELY_STATES), then=Value("moving")),
    ]
    return Case(*rules, default=Value("withdrawn"), output_field=CharField())


def lines(recovery: Recovery) -> list[Line]:
    """Each line that holds anything, in order; their counts add up to the set. One query."""
    found = recovery.items.order_by().annotate(line=_line()).values_list("line").annotate(count=Count("pk"))
    counts = dict(found)
    total, before, told = sum(counts.values()) or 1, 0, []
    for line in LINES:
        count = counts.get(line.key, 0)
        if count:
            told.append(_told(line, recovery, count, before, total))
            before += count
    return told


def _told(line: Line, recovery: Recovery, count: int, before: int, total: int) -> Line:
    begins, width = round(100 * before / total, 2), round(100 * count / total, 2)
    return replace(_worded(line, recovery), count=count, begins=begins, width=width)


def _worded(line: Line, recovery: Recovery) -> Line:
    """What has not gone out is another thing before, during and after."""
    if line.key != "due":
        return line
    words, after = DUE_WORDS.get(S(recovery.state), (line.words, line.after))
    return replace(line, words=words, after=after)


def is_moving(recovery: Recovery, told: list[Line]) -> bool:
    """Whether anything of it may still change by itself."""
    return recovery.is_under_way or any(line.key in {"moving", "unclear"} for line in told)


def rows(user: User, recovery: Recovery, line: str, after: int) -> tuple[list[dict[str, Any]], bool]:
    """The messages of one line (of all, when empty) behind the item `after`, those that this person sees, and whether more
    follow. One query.
    """
    found = recovery.items.filter(pk__gt=after, message__connection__in=Connection.objects.visible_to(user)).annotate(
        line=_line()
    )
    if line:
        found = found.filter(Q(("line", line)))
    listed = list(found.order_by("id").values(*_COLUMNS)[: PAGE_SIZE + 1])
    return [_row(row, recovery) for row in listed[:PAGE_SIZE]], len(listed) > PAGE_SIZE


_COLUMNS = (
    "id", "line", "is_canary", "problem", "resent_at", "message__uuid", "message__text", "message__reason",
    "message__occurred_at", "message__conversation__driver__name", "message__connection__description",
    "message__connection__tsp_slug", "message__connection__source_name", "resent__uuid", "resent__reason",
)  # fmt: skip
_BY_KEY = {line.key: line for line in LINES}


def _row(row: dict[str, Any], recovery: Recovery) -> dict[str, Any]:
    slug = row["message__connection__tsp_slug"] or row["message__connection__source_name"]
    return {
        "id": row["id"],
        "line": _worded(_BY_KEY[row["line"]], recovery),
        "uuid": row["message__uuid"],
        "resent_uuid": row["resent__uuid"],
        "driver": row["message__conversation__driver__name"],
        "label": row["message__connection__description"] or provider_name(slug),
        "snippet": " ".join((row["message__text"] or "").split())[:160],
        "why": row["problem"] or (row["resent__reason"] if row["line"] == "failed" else row["message__reason"]),
        "at": row["message__occurred_at"],
        "is_canary": row["is_canary"],
    }
