"""One request and its answer, and the error bodies of the contract (section 4). Knows neither sockets nor records."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from messaging.simulator.wire import Json

if TYPE_CHECKING:
    from messaging.simulator.world import World

_PHRASES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    raw_query: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    client_host: str = "127.0.0.1"

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.raw_query, keep_blank_values=True)


@dataclass
class Answer:
    status: int
    payload: object = None
    headers: dict[str, str] = field(default_factory=dict)
    has_body: bool = True
    journal_ticket: int = 0
    """To be settled before the answer leaves; 0 when nothing was accepted."""


@dataclass
class Refusal(Exception):
    """An error answer. `problems` makes the 422 form, `retry_after_seconds` the 429 form of the body."""

    status: int
    detail: str | None = None
    problems: list[Json] | None = None
    retry_after_seconds: int | None = None

    def answer(self) -> Answer:
        message = _PHRASES.get(self.status, "Refused")
        if self.status == 500:
            return Answer(500, {"message": self.detail or message})
        detail: object = self.detail
        if self.status == 422:
            message = "Invalid Request"
            detail = self.problems or [problem("request", "", self.detail or "Not accepted", "value_error")]
        if self.status == 429:
            wait = self.retry_after_seconds
            detail = None if wait is None else {"retry_after_seconds": wait, "message": "Slow down"}
        return Answer(self.status, {"code": self.status, "message": message, "detail": detail})


def problem(path: str, given: object, message: str, error_type: str) -> Json:
    return {"path": path, "input": "" if given is None else str(given), "message": message, "error_type": error_type}


def invalid(path: str, given: object, message: str, error_type: str = "value_error") -> Refusal:
    return Refusal(422, problems=[problem(path, given, message, error_type)])


Handler = Callable[["World", Request, dict[str, str]], Answer]
"""Takes the identifiers from the path by name. Raises Refusal. Called with the world's lock held."""
