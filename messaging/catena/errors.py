"""Outcome classes: the class of a failure IS the retry decision (CONTRACT section 4 and 16).

Must not do I/O. No text built here holds a secret, a token or a message's text.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Self

MAX_RETRY_AFTER = 900.0
REFUSED_WRITES = frozenset({400, 403, 404, 409, 413, 415, 422})
PASSING_READS = frozenset({408, 425})
REQUEST_ID_HEADERS = ("x-request-id", "x-correlation-id", "x-trace-id")


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One entry of a 422's `detail`. `input` may repeat what a person typed, so it stays out of `repr`."""

    path: str
    input: str = field(repr=False)
    message: str
    error_type: str


class CatenaError(Exception):
    """Any failure of a call. `str()` is one sentence that is safe to log and to show.

    `message` is Catena's own wording, else the sentence; it and `detail` are untrusted and may quote what was sent.
    `retry_after` is in seconds, 0 to 900; None means Catena did not say.
    """

    def __init__(
        self,
        sentence: str,
        *,
        http_status: int | None = None,
        code: int | None = None,
        message: str | None = None,
        detail: object = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        field_problems: tuple[FieldProblem, ...] = (),
    ) -> None:
        super().__init__(sentence)
        self.http_status = http_status
        self.code = code
        self.message = message or sentence
        self.detail = detail
        self.request_id = request_id
        self.retry_after = retry_after
        self.field_problems = field_problems

    @property
    def cause(self) -> BaseException | None:
        """The failure underneath, e.g. of the token request; None when there is none."""
        return self.__cause__


class ProvenUnsent(CatenaError):
    """A write of which no byte reached the wire: it may be sent again without asking anyone."""


class Unauthorized(CatenaError):
    """401, or refused client credentials. The token has been dropped; a write was not processed and is not repeated."""


class RateLimited(CatenaError):
    """429: not processed; wait `retry_after` seconds."""


class Refused(CatenaError):
    """A final refusal; `field_problems` lists a 422's reasons."""


class Ambiguous(CatenaError):
    """A write that may have been accepted. Never send it again by machine."""


class Unavailable(CatenaError):
    """A read that failed for a passing reason; it may be repeated."""


class OverBudget(Unavailable):
    """Not asked at all: the caller's own budget of requests is spent; `retry_after` says when to try again."""


class NotSupported(CatenaError):
    """501 on a read: presumably this provider cannot do it (inferred)."""


class BadPayload(CatenaError):
    """An answer we cannot read; `path` names the field, empty when it is the whole body."""

    def __init__(self, problem: str, *, path: str = "", http_status: int | None = None) -> None:
        super().__init__(f"{path} {problem}".strip(), http_status=http_status)
        self.path = path


class TooLarge(Exception):
    """An answer over its limit; its reader decides what that means for the call."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What an error answer says, read tolerantly: any field may be absent or of another type (CONTRACT section 4)."""

    code: int | None = None
    message: str | None = None
    detail: object = None
    field_problems: tuple[FieldProblem, ...] = ()
    retry_after: float | None = None

    @classmethod
    def parse(cls, body: object) -> Self:
        """Never raises; a body that is no object gives an empty problem."""
        if not isinstance(body, Mapping):
            return cls()
        code, message, detail = body.get("code"), body.get("message"), body.get("detail")
        return cls(
            code=code if type(code) is int else None,
            message=message[:500] if isinstance(message, str) and message else None,
            detail=detail,
            field_problems=_field_problems(detail),
            retry_after=_seconds(detail.get("retry_after_seconds")) if isinstance(detail, Mapping) else None,
        )


def failed_write(status: int, headers: Mapping[str, str], body: object) -> CatenaError:
    """The outcome of a POST that was answered in full with anything but an operation.

    Unlisted statuses are `Ambiguous`: a new one can never cause a second send.
    """
    if status == 401:
        return _error(Unauthorized, "Catena refused the token", status, headers, body)
    if status == 429:
        return _error(RateLimited, "Catena asks to slow down", status, headers, body)
    if status in REFUSED_WRITES:
        return _error(Refused, "Catena refused the message", status, headers, body)
    return _error(Ambiguous, "Catena may have taken the message", status, headers, body)


def failed_read(status: int, headers: Mapping[str, str], body: object) -> CatenaError:
    """The outcome of a read, or of a change to a subscription, that was not answered with success."""
    if status == 401:
        return _error(Unauthorized, "Catena refused the token", status, headers, body)
    if status == 429:
        return _error(RateLimited, "Catena asks to slow down", status, headers, body)
    if status == 501:
        return _error(NotSupported, "Catena does not offer this", status, headers, body)
    if 400 <= status < 500 and status not in PASSING_READS:
        return _error(Refused, "Catena refused the request", status, headers, body)
    return _error(Unavailable, "Catena did not answer usefully", status, headers, body)


def _error[E: CatenaError](kind: type[E], sentence: str, status: int, headers: Mapping[str, str], body: object) -> E:
    problem = Problem.parse(body)
    request_id = _request_id(headers)
    suffix = f", request {request_id}" if request_id else ""
    return kind(
        f"{sentence} (HTTP {status}{suffix})",
        http_status=status,
        code=problem.code,
        message=problem.message,
        detail=problem.detail,
        request_id=request_id,
        retry_after=retry_after_now(headers, problem),
        field_problems=problem.field_problems,
    )


def retry_after_now(headers: Mapping[str, str], problem: Problem) -> float | None:
    """Seconds to wait, as the body says, else as the header says (CONTRACT 16, row 2)."""
    if problem.retry_after is not None:
        return problem.retry_after
    return retry_after(headers, datetime.now(UTC))


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """`Retry-After` as seconds, whether it holds seconds or a date; `headers` is looked up in any case."""
    value = _header(headers, "retry-after")
    if value is None:
        return None
    try:
        return _seconds(float(value))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return _seconds((moment - now).total_seconds())


def _seconds(value: object) -> float | None:
    """Bounds a wait, so that no answer can park the queue for a day or make us spin."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return min(max(float(value), 0.0), MAX_RETRY_AFTER)


def _field_problems(detail: object) -> tuple[FieldProblem, ...]:
    entries = detail if isinstance(detail, list) else []
    return tuple(
        FieldProblem(*(str(entry.get(name) or "") for name in ("path", "input", "message", "error_type")))
        for entry in entries
        if isinstance(entry, Mapping)
    )


def _request_id(headers: Mapping[str, str]) -> str | None:
    for name in REQUEST_ID_HEADERS:
        value = _header(headers, name)
        if value and value.isascii() and value.isprintable():
            return value[:128]
    return None


def _header(headers: Mapping[str, str], wanted: str) -> str | None:
    return next((value.strip() for name, value in headers.items() if name.lower() == wanted), None)
