"""Webhook deliveries: bounded inflate, signature, age, parse (CONTRACT sections 12 and 13). Pure functions on bytes.

Decides nothing about HTTP or storage: the receiver maps each refusal to its answer.
"""

import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from .errors import BadPayload
from .payload import bounded_inflate, decode_json
from .records import Record
from .types import GroupMessage, Message, Operation, User, Webhook

__all__ = ["BadSignature", "Event", "StaleDelivery", "Verified", "bounded_inflate", "parse", "record_type", "verify"]

MAX_BODY = 4 * 1024 * 1024
MAX_DEPTH = 20
MAX_RECORDS = 1000
# A hundred for each of the most records: more than any record has, and few enough to be read in a fifth of a second.
MAX_VALUES = 100 * MAX_RECORDS
TOLERANCE = timedelta(minutes=5)


class BadSignature(Exception):
    """Not provably from Catena; the text says why and quotes nothing of the delivery."""


@dataclass(frozen=True, slots=True)
class Verified:
    """An authentic body, unpacked; `key` is the index of the secret that signed it."""

    body: bytes
    key: int


class StaleDelivery(BadSignature):
    """Signed by Catena, but more than 5 minutes old or ahead; nothing of it may be applied. `verified` is what it was."""

    def __init__(self, verified: Verified) -> None:
        super().__init__("the delivery is older or newer than 5 minutes")
        self.verified = verified


def verify(
    raw: bytes,
    *,
    encoding: str | None,
    signature: str | None,
    timestamp: str | None,
    secrets: Sequence[str],
    now: datetime,
    limit: int = MAX_BODY,
) -> Verified:
    """Checks a delivery against each secret in use (current, next) without early exit.

    `raw` are the bytes as received, `signature` and `timestamp` the header texts as received. Raises `BadSignature`,
    `StaleDelivery`, `TooLarge` over `limit` unpacked bytes, or `BadPayload` when it cannot be unpacked. At least one
    secret is needed: `ValueError` otherwise, so that a receiver without one can never pass anything.
    """
    if not secrets:
        raise ValueError("no secret to verify with")
    wanted, sent_at = _signature_bytes(signature), _sent_at(timestamp)
    prefix = f"{timestamp}.".encode()
    machines = [hmac.new(secret.encode(), prefix, hashlib.sha256) for secret in secrets]

    def feed(piece: bytes) -> None:
        for machine in machines:
            machine.update(piece)

    body = bounded_inflate(raw, encoding, limit, feed)
    matches = [hmac.compare_digest(machine.digest(), wanted) for machine in machines]
    if not any(matches):
        raise BadSignature("the signature does not fit")
    verified = Verified(body, matches.index(True))
    if abs(now - sent_at) > TOLERANCE:
        raise StaleDelivery(verified)
    return verified


def _signature_bytes(signature: str | None) -> bytes:
    try:
        wanted = b64decode(signature or "", validate=True)
    except (Base64Error, ValueError):
        wanted = b""
    # The last character before the padding has two bits that the decoder ignores: one signature has one spelling.
    if len(wanted) != hashlib.sha256().digest_size or b64encode(wanted).decode() != signature:
        raise BadSignature("no usable signature")
    return wanted


def _sent_at(timestamp: str | None) -> datetime:
    try:
        sent_at = datetime.fromisoformat(timestamp or "")
    except ValueError:
        raise BadSignature("no usable timestamp") from None
    if sent_at.tzinfo is None:
        raise BadSignature("the timestamp has no zone")
    return sent_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Record):
    """The envelope. `data` holds one record or more; parse each by itself with `record_type`, so that one bad record
    does not sink its siblings. Never order by `timestamp`, which is the time of dispatch.
    """

    version: str
    event_name: str | None = None
    data: tuple[Mapping[str, Any], ...]
    webhook_id: UUID
    id: UUID | None = None
    timestamp: datetime | None = None
    delivery_attempt: int = 0

    @property
    def dedupe_key(self) -> str:
        """The same for every delivery of one event: its id, else a digest of all but the attempt counter."""
        if self.id is not None:
            return str(self.id)
        steady = {name: value for name, value in self.raw.items() if name != "delivery_attempt"}
        return hashlib.sha256(json.dumps(steady, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionNotice(Record):
    """`connection.created` and `connection.staled`; there is none for a recovery, so connections are polled too."""

    id: UUID
    source_name: str
    fleet_id: UUID
    tsp_id: UUID
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConnectionNotice(Record):
    """`fleet_connection.created`: a connection was attached to a fleet."""

    id: UUID
    fleet_id: UUID
    connection_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareAgreementNotice(Record):
    """`share_agreement.*`: `scopes` maps a resource to `read` or `read_write`."""

    id: UUID
    fleet_id: UUID
    status: str
    scopes: Mapping[str, str]
    fleet_ref: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleNotice(Record):
    """`schedule.deactivated`: fetching of a resource stopped after repeated errors."""

    id: UUID
    connection_id: UUID
    resource: str
    status: str


RECORD_TYPES: Mapping[str, type[Record]] = {
    "resource_operation": Operation,
    "message": Message,
    "group_message": GroupMessage,
    "user": User,
    "connection": ConnectionNotice,
    "fleet_connection": FleetConnectionNotice,
    "share_agreement": ShareAgreementNotice,
    "schedule": ScheduleNotice,
    "webhook": Webhook,
}


def record_type(event_name: str | None) -> type[Record] | None:
    """What the entries of `data` are; None for an event that we do not know."""
    return RECORD_TYPES.get((event_name or "").partition(".")[0])


def parse(body: bytes) -> Event:
    """The envelope of a verified body: strict JSON, no repeated key, at most 20 levels deep, 1,000 records and
    100,000 values.

    Raises `BadPayload`; since the sender is authentic by then, that is our problem and no reason for a 4xx.
    """
    event = Event.parse(decode_json(body, max_depth=MAX_DEPTH, max_values=MAX_VALUES, unique_keys=True))
    if len(event.data) > MAX_RECORDS:
        raise BadPayload(f"holds more than {MAX_RECORDS} records", path="data")
    return event
