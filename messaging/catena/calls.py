"""Authorized calls: token, connection, deadline and the outcome class of each; the endpoints are `client.py`'s.

A read keeps one connection per thread and is repeated once, after a 401. A write has its own connection and is never
repeated.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from .config import CatenaConfig
from .errors import (
    Ambiguous,
    BadPayload,
    CatenaError,
    ProvenUnsent,
    TooLarge,
    Unavailable,
    failed_read,
    failed_write,
)
from .payload import decode_json
from .records import Record
from .session import USER_AGENT, TokenSource
from .transport import Answer, Clock, Deadline, Transport, Wire
from .types import Operation

ACCEPTED = frozenset({200, 201, 202})

logger = logging.getLogger(__name__)

type Params = Mapping[str, str | int | list[str]]
type Hook = Callable[[], None]
type BadItem = Callable[[BadPayload], None]


class Caller:
    """Thread-safe; one per process, because it holds the process's token."""

    def __init__(self, config: CatenaConfig, *, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._tokens = TokenSource(config, clock=clock)
        self._api = Transport(
            config.api_url,
            connect_timeout=config.connect_timeout,
            read_timeout=config.read_timeout,
            verify=config.verify,
        )
        self._kept = threading.local()

    def send(self, path: str, params: Params, body: object, before_first_byte: Hook | None) -> Answer:
        """POSTs once, on its own connection, and answers whatever complete answer came.

        Raises `ProvenUnsent` or `Ambiguous`, by whether the first byte was about to be written. `before_first_byte`
        runs with everything ready; what it raises passes through unchanged and nothing has been sent.
        """
        deadline = Deadline.after(self._config.total_timeout, self._clock)
        token, wire = self._ready(deadline)
        try:
            self._load(wire, token, "POST", path, params, body)
            if before_first_byte is not None:
                before_first_byte()
            answer = self._sent(wire)
        finally:
            wire.close()
        if answer.status == 401:
            self._tokens.drop(token)
        return answer

    def forget_token(self) -> None:
        self._tokens.forget()

    def hang_up(self) -> None:
        wire: Wire | None = getattr(self._kept, "wire", None)
        if wire is not None:
            wire.close()

    def read(self, path: str, params: Params | None = None) -> object:
        """GETs; the decoded body. Repeated once with a new token after a 401, and for no other reason."""
        wire = self._kept_wire()
        answer = self._exchange("GET", path, params or {}, None, wire)
        if answer.status == 401:
            answer = self._exchange("GET", path, params or {}, None, wire)
        return _useful(answer)

    def change(self, method: str, path: str, body: object = None) -> object:
        """Changes a subscription; the decoded body, None when there is none. Not repeated; fails as reads do."""
        wire = self._api.wire()
        try:
            return _useful(self._exchange(method, path, {}, body, wire), may_be_empty=True)
        finally:
            wire.close()

    def pages[R: Record](
        self, record: type[R], path: str, params: Params, on_bad: BadItem | None = None
    ) -> Iterator[R]:
        """Every item of every page, with identical filters on each request (CONTRACT section 3).

        An unreadable item goes to `on_bad` and is skipped, or is raised without it. Ends at a null `next_page` and at
        one that was seen before; raises `BadPayload` rather than stop short at `max_pages`.
        """
        asked: dict[str, str | int | list[str]] = {**params, "size": self._config.page_size}
        seen: set[str] = set()
        for _ in range(self._config.max_pages):
            page = self.read(path, asked)
            if not isinstance(page, Mapping):
                raise BadPayload("the page is not an object")
            yield from parse_each(record, page.get("items"), "items", on_bad)
            cursor = _next_cursor(page)
            if cursor is None:
                return
            if cursor in seen:
                logger.warning("Catena repeats a page cursor on %s; stopping there", path)
                return
            seen.add(cursor)
            asked["cursor"] = cursor
        raise BadPayload(f"more than {self._config.max_pages} pages", path="next_page")

    def _ready(self, deadline: Deadline) -> tuple[str, Wire]:
        try:
            self._announce(is_send=True)
            return self._tokens.value(deadline), self._api.open(deadline)
        except CatenaError as error:
            raise ProvenUnsent(f"Nothing was sent: {error}", retry_after=error.retry_after) from error
        except Exception as error:
            raise ProvenUnsent(f"Nothing was sent: no connection ({type(error).__name__})") from error

    def _announce(self, *, is_send: bool) -> None:
        if self._config.before_request is not None:
            self._config.before_request(is_send=is_send)

    def _sent(self, wire: Wire) -> Answer:
        try:
            wire.transmit()
            return wire.receive(self._config.max_write_response)
        except Exception as error:
            if not wire.first_byte_started:
                raise ProvenUnsent(f"Nothing was sent ({type(error).__name__})") from error
            raise Ambiguous(f"Catena may have taken the message ({type(error).__name__})") from error

    def _exchange(self, method: str, path: str, params: Params, body: object, wire: Wire) -> Answer:
        """A complete answer of any status; the connection stays open only if it came whole."""
        self._announce(is_send=False)
        deadline = wire.deadline = Deadline.after(self._config.read_total_timeout, self._clock)
        token = self._tokens.value(deadline)
        answer: Answer | None = None
        try:
            if not wire.is_connected:
                wire.close()
                wire.connect()
            self._load(wire, token, method, path, params, body)
            wire.transmit()
            answer = wire.receive(self._config.max_read_response)
        except TooLarge as error:
            raise BadPayload(str(error)) from error
        except CatenaError:
            raise
        except Exception as error:
            raise Unavailable(f"Catena could not be reached ({type(error).__name__})") from error
        finally:
            if answer is None:
                wire.close()
        if answer.status == 401:
            self._tokens.drop(token)
        return answer

    def _kept_wire(self) -> Wire:
        wire: Wire | None = getattr(self._kept, "wire", None)
        if wire is None:
            wire = self._kept.wire = self._api.wire()
        return wire

    def _load(self, wire: Wire, token: str, method: str, path: str, params: Params, body: object) -> None:
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
        }
        if method != "GET":
            headers["Connection"] = "close"
        if body is not None:
            headers["Content-Type"] = "application/json"
        query = f"?{urlencode(params, doseq=True)}" if params else ""
        encoded = None if body is None else json.dumps(body).encode()
        wire.load(method, f"{self._api.path}{path}{query}", headers, encoded)


def operation_of(answer: Answer, resource: str, connection_id: UUID, *, is_sync: bool) -> Operation:
    """The operation behind a complete answer to a POST; raises its outcome class otherwise.

    A synchronous send answers 502 with the failed operation (CONTRACT section 7). Whatever goes wrong in here, the
    message is out: the default is `Ambiguous`.
    """
    try:
        if answer.status in ACCEPTED:
            return _receipt(answer, resource, connection_id)
        if is_sync and answer.status == 502:
            return _failed_receipt(answer, resource, connection_id)
        raise failed_write(answer.status, answer.headers, _error_body(answer))
    except BadPayload as error:
        summary = f"Catena may have taken the message, its answer is unreadable: {error}"
        raise Ambiguous(summary, http_status=answer.status) from error
    except CatenaError:
        raise
    except Exception as error:
        summary = f"Catena may have taken the message ({type(error).__name__})"
        raise Ambiguous(summary, http_status=answer.status) from error


def _receipt(answer: Answer, resource: str, connection_id: UUID) -> Operation:
    operation = Operation.parse_receipt(decode_json(answer.body), resource)
    if operation.connection_id != connection_id:
        raise BadPayload("is not the connection we wrote to", path="connection_id")
    return operation


def _failed_receipt(answer: Answer, resource: str, connection_id: UUID) -> Operation:
    operation = _receipt(answer, resource, connection_id)
    if operation.status != "failed":
        raise BadPayload("does not say failed", path="status")
    return operation


def parse_each[R: Record](record: type[R], found: object, path: str, on_bad: BadItem | None) -> Iterator[R]:
    """The readable entries of a list; the others go to `on_bad`, or are raised without it."""
    if not isinstance(found, list):
        raise BadPayload("is missing or not a list", path=path)
    for index, item in enumerate(found):
        try:
            parsed = record.parse(item, f"{path}[{index}]")
        except BadPayload as error:
            if on_bad is None:
                raise
            on_bad(error)
        else:
            yield parsed


def _next_cursor(page: Mapping[str, Any]) -> str | None:
    cursor = page.get("next_page")
    if cursor is not None and not isinstance(cursor, str):
        raise BadPayload("is not text", path="next_page")
    return cursor or None


def _useful(answer: Answer, *, may_be_empty: bool = False) -> object:
    if not 200 <= answer.status < 300:
        raise failed_read(answer.status, answer.headers, _error_body(answer))
    if may_be_empty and not answer.body.strip():
        return None
    return decode_json(answer.body)


def _error_body(answer: Answer) -> object:
    """A proxy in front of the API may answer HTML or nothing at all (CONTRACT section 4)."""
    try:
        return decode_json(answer.body)
    except BadPayload:
        return None
