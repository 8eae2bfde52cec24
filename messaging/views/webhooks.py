"""The door for Catena's webhooks: reads a bounded body in bounded time, and answers so that nothing authentic is lost.

A 5xx makes Catena repeat a delivery and keep it for 14 days; any other answer ends it (contract section 12). So a genuine
event is never answered 4xx, and every fault of our own is a 503.
"""

import logging
import time
from threading import BoundedSemaphore
from typing import IO, Any

from django.contrib.auth.decorators import login_not_required
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from messaging import inbox

logger = logging.getLogger(__name__)

MOST_BYTES = 1024 * 1024
BODY_SECONDS = 2.0
STEP = 16 * 1024
# Threads that may wait for bodies: half of what a web process has (management/parts.py). The server cannot end a read, so
# whoever stops within a body keeps a thread for as long as he likes; pages must go on with the others.
READERS = 4
# An honest body is there when its head is, and its reader is done within milliseconds.
PLACE_SECONDS = 0.05
JSON_TYPE = "application/json"
CODINGS = frozenset({"", "identity", "gzip", "x-gzip"})
ANSWERS = {inbox.Cause.SIGNATURE: 401, inbox.Cause.PACKING: 400, inbox.Cause.SIZE: 413}

_places = BoundedSemaphore(READERS)


@csrf_exempt
@login_not_required
def catena(request: HttpRequest) -> HttpResponse:
    """Stores one delivery. 202 with an empty body means that it is committed, or was before."""
    refusal = _unfit(request)
    if refusal is not None:
        return refusal
    if not _places.acquire(timeout=PLACE_SECONDS):
        return HttpResponse(status=503)
    try:
        body = _read(request)
    finally:
        _places.release()
    return body if isinstance(body, HttpResponse) else _receive(request, body)


def _unfit(request: HttpRequest) -> HttpResponse | None:
    """What the head alone shows: nothing that Catena sends is refused here."""
    if request.method != "POST":
        return HttpResponse(status=405, headers={"Allow": "POST"})
    if request.content_type != JSON_TYPE or _coding(request) not in CODINGS:
        return HttpResponse(status=415)
    length = request.META.get("CONTENT_LENGTH") or ""
    if not length.isascii() or not length.isdecimal():
        return HttpResponse(status=411)
    return HttpResponse(status=413) if len(length) > 9 or int(length) > MOST_BYTES else None


def _coding(request: HttpRequest) -> str:
    return str(request.META.get("HTTP_CONTENT_ENCODING", "")).strip().lower()


def _read(request: HttpRequest) -> bytes | HttpResponse:
    """The body, or the answer to somebody who sends it drop by drop or not to its end.

    Never on a second thread with a time-out: once we had answered, the server would wait for that thread's read and, taking
    itself for idle, start no other, so that one silent sender stopped every page.
    """
    length = int(request.META["CONTENT_LENGTH"])
    source: IO[bytes] = request.META["wsgi.input"]
    body, deadline = bytearray(), time.monotonic() + BODY_SECONDS
    while len(body) < length:
        if time.monotonic() > deadline:
            return HttpResponse(status=408)
        try:
            piece = source.read(min(STEP, length - len(body)))
        except OSError:
            return HttpResponse(status=400)
        if not piece:
            return HttpResponse(status=400)
        body += piece
    return bytes(body)


def _receive(request: HttpRequest, body: bytes) -> HttpResponse:
    meta: dict[str, Any] = request.META
    now = timezone.now()
    try:
        inbox.receive(
            body, encoding=_coding(request), signature=meta.get("HTTP_X_CATENA_SIGNATURE"),
            timestamp=meta.get("HTTP_X_CATENA_TIMESTAMP"), now=now,
        )  # fmt: skip
    except inbox.Refused as refusal:
        return _refused(refusal)
    except inbox.NotUsable:
        logger.error("A webhook came, but CATENA_WEBHOOK_SECRET is not set: Catena keeps it for 14 days")
        return HttpResponse(status=503)
    except DatabaseError as error:
        logger.error("A webhook could not be stored: %s", " ".join(str(error).split()))
        return HttpResponse(status=503)
    except Exception:
        logger.exception("A webhook met something unforeseen")
        return HttpResponse(status=503)
    return HttpResponse(status=202)


def _refused(refusal: inbox.Refused) -> HttpResponse:
    try:
        inbox.note_refusal(refusal.cause, str(refusal), timezone.now())
    except DatabaseError as error:
        logger.error("A refused webhook could not be counted: %s", " ".join(str(error).split()))
    return HttpResponse(status=ANSWERS[refusal.cause])
