"""Deliveries as Catena sends them: signed, packed, with their headers; and the receiver they are sent to."""

import base64
import gzip
import hashlib
import hmac
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from django.test import Client

from messaging import inbox
from messaging.models import WebhookEvent
from messaging.outbox import database_clock

SECRET, NEXT_SECRET = "the-current-secret-of-the-tests-" * 2, "the-next-secret-of-the-tests-" * 2
ADDRESS = "/hooks/catena/"


def envelope(event_name: str, *records: Any, **fields: Any) -> dict[str, Any]:
    """An event with these records, as plain JSON."""
    return {
        "version": "1.0", "event_name": event_name, "data": list(records), "webhook_id": str(uuid.uuid4()),
        "timestamp": datetime.now(UTC).isoformat(), "id": str(uuid.uuid4()), "delivery_attempt": 1, **fields,
    }  # fmt: skip


def body_of(record: Any) -> dict[str, Any]:
    """A record as it was received."""
    return dict(record.raw)


def headers_of(body: bytes, secret: str = SECRET, sent: datetime | None = None) -> dict[str, str]:
    timestamp = (sent or datetime.now(UTC)).isoformat(timespec="seconds")
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).digest()
    return {"X-Catena-Timestamp": timestamp, "X-Catena-Signature": base64.b64encode(digest).decode()}


def deliver(
    event: dict[str, Any] | bytes,
    secret: str = SECRET,
    *,
    age: timedelta = timedelta(),
    packed: bool = True,
    **more: str,
) -> int:
    """Sends it to the receiver and answers the status."""
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    headers = {**headers_of(body, secret, datetime.now(UTC) - age), **more}
    if packed:
        headers["Content-Encoding"] = "gzip"
    response = Client(raise_request_exception=False).post(
        ADDRESS, gzip.compress(body) if packed else body, content_type="application/json", headers=headers
    )
    assert not response.content
    assert not response.cookies
    return response.status_code


def process(after: timedelta = timedelta()) -> int:
    return inbox.process_due(database_clock() + after)


def apply(event: dict[str, Any]) -> WebhookEvent:
    """Delivers an event, processes what is due, and answers its row."""
    assert deliver(event) == 202
    process()
    return WebhookEvent.objects.latest("id")
