"""The door for webhooks in this process: the product's WSGI application, asked as a server asks it."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from django.core.signals import request_finished, request_started
from django.db import close_old_connections

from dashboard.handler import make_application
from tests.messaging.forgeries import TYPE, Delivery


class Receiver:
    """Called with a delivery, tells the status of the answer. `source` is what the body is read from, when not from memory."""

    def __init__(self) -> None:
        self._application = make_application()

    def __call__(self, sent: Delivery, source: BytesIO | None = None) -> int:
        status: list[str] = []
        environ = _environ(sent) | ({} if source is None else {"wsgi.input": source})
        answer = self._application(environ, lambda line, headers: status.append(line))
        for _ in answer:
            pass
        answer.close()
        return int(status[0][:3])


def _environ(sent: Delivery) -> dict[str, Any]:
    headers = dict(sent.headers)
    environ = {
        "REQUEST_METHOD": sent.method, "PATH_INFO": "/hooks/catena/", "SERVER_NAME": "testserver", "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "testserver", "REMOTE_ADDR": "192.0.2.7", "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(sent.raw), "wsgi.errors": sys.stderr,
    }  # fmt: skip
    if (kind := headers.pop(TYPE, None)) is not None:
        environ["CONTENT_TYPE"] = kind
    if sent.length is not None:
        environ["CONTENT_LENGTH"] = sent.length or str(len(sent.raw))
    return environ | {f"HTTP_{name.upper().replace('-', '_')}": text for name, text in headers.items()}


@contextmanager
def open_receiver() -> Iterator[Receiver]:
    """A receiver that writes no log and leaves the connection open, since it holds the test's transaction."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    logging.disable(logging.CRITICAL)
    try:
        yield Receiver()
    finally:
        logging.disable(logging.NOTSET)
        for signal in signals:
            signal.connect(close_old_connections)
