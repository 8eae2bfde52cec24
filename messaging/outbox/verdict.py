"""What became of one POST. The table of reliability plan 2.6: the only place that may decide that a message goes again."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from messaging.catena import types
from messaging.catena.errors import (
    Ambiguous,
    CatenaError,
    OverBudget,
    ProvenUnsent,
    RateLimited,
    Refused,
    Unauthorized,
)
from messaging.mirror.redaction import scrub
from messaging.states import AttemptOutcome

LONGEST_REASON = 300

# What a person can do about a refusal; Catena's own words follow.
CURES = {
    403: "Catena does not allow it. The fleet must share its messages with read and write access",
    404: "Catena no longer knows this driver or connection",
    409: "Catena reports a conflict",
    413: "The message is too long for Catena",
}


class Hindrance(StrEnum):
    """What kept a message from leaving that is not this message's own affair."""

    LOGIN = "Catena refuses our client credentials"
    NO_ACCESS = "Catena gives us no access token"
    BUDGET = "Waiting for this installation's share of requests"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is for people. `retry_after` is in seconds; None when nobody said. `hindrance` is None for what happened to
    this message alone.
    """

    outcome: AttemptOutcome
    operation: types.Operation | None = None
    reason: str = ""
    http_status: int | None = None
    error_class: str = ""
    error_text: str = ""
    retry_after: float | None = None
    hindrance: Hindrance | None = None


def accepted(operation: types.Operation, *, is_sync: bool = False) -> Verdict:
    """Catena has taken it. In synchronous mode the operation has ended already, and 502 is the answer of one that failed."""
    statuses = {"success": 200, "failed": 502} if is_sync else {}
    return Verdict(AttemptOutcome.ACCEPTED, operation=operation, http_status=statuses.get(operation.status, 202))


def verdict_of(error: Exception) -> Verdict:
    """The verdict on a POST that ended in this exception after intent was recorded. What is not listed is ambiguous."""
    match error:
        case ProvenUnsent():
            return _unsent(error)
        case Unauthorized():
            return _verdict(AttemptOutcome.UNAUTHORIZED, error, "Catena refuses our access token")
        case RateLimited():
            return _verdict(AttemptOutcome.RATE_LIMITED, error, "Catena asks us to slow down")
        case Refused():
            return _verdict(AttemptOutcome.REFUSED, error, _refusal(error))
        case Ambiguous():
            return _verdict(AttemptOutcome.AMBIGUOUS, error, str(error))
        case _:
            return unlisted(error)


def unlisted(error: Exception) -> Verdict:
    """Nobody foresaw this one, so the message may have left. Its text may hold anything and is not kept."""
    return Verdict(
        AttemptOutcome.AMBIGUOUS,
        reason="Sending stopped on an unexpected error",
        error_class=type(error).__name__,
    )


def unsent(reason: str) -> Verdict:
    """We stopped before the first byte ourselves."""
    return Verdict(AttemptOutcome.UNSENT, reason=reason, error_text=reason)


def _unsent(error: ProvenUnsent) -> Verdict:
    hindrance = _hindrance(error.cause)
    return _verdict(AttemptOutcome.UNSENT, error, hindrance or "Catena cannot be reached", hindrance=hindrance)


def _hindrance(cause: BaseException | None) -> Hindrance | None:
    match cause:
        case OverBudget():
            return Hindrance.BUDGET
        case Unauthorized():
            return Hindrance.LOGIN
        case CatenaError():
            # Before the first byte only the request for a token ends in an answer of Catena.
            return Hindrance.NO_ACCESS
        case _:
            return None


def _verdict(outcome: AttemptOutcome, error: CatenaError, reason: str, **more: Any) -> Verdict:
    return Verdict(
        outcome,
        reason=reason[:LONGEST_REASON],
        http_status=error.http_status,
        error_class=type(error).__name__,
        error_text=str(error),
        retry_after=error.retry_after,
        **more,
    )


def _refusal(error: Refused) -> str:
    """Why Catena does not take it, with the fields it complains about."""
    cure = CURES.get(error.http_status or 0, "Catena did not accept it")
    problems = [f"{problem.path}: {problem.message}".strip(": ") for problem in error.field_problems]
    said = "; ".join(problem for problem in problems if problem) or (
        error.message if error.message != str(error) else ""
    )
    said = " ".join(scrub(said).split())
    return f"{cure} ({said})" if said and error.http_status in CURES else f"{cure}: {said}" if said else cure
