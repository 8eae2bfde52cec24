"""Receiving: what is authentic is stored and committed before it is acknowledged; nothing is applied here.

The answer to a delivery decides whether Catena repeats it, and only a 5xx makes it do so (contract section 12). Hence three
endings: stored, which is acknowledged; `Refused`, of which Catena must never be the sender; and any failure of our own,
which the caller answers with 503.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.conf import settings

from messaging.catena import errors, webhooks
from messaging.catena.records import Record, plan
from messaging.catena.types import User
from messaging.mirror.directory import SHOWN_OF_USER
from messaging.mirror.redaction import keepable, redact_headers, scrub, storable, verbatim
from messaging.models import RefusedDelivery, SyncCursor, WebhookEvent
from messaging.models.inbound import ROUND
from messaging.models.statements import prepared_cursor
from messaging.models.subscriptions import secret_mark
from messaging.states import EventState

logger = logging.getLogger(__name__)

# Of a body that nobody can read this much is kept, for an administrator.
UNREADABLE_LENGTH = 64 * 1024
# So many refusals within the window are no accident of one sender: what Catena may have lost by them is read from its lists.
ALARM_AT = 5
ALARM_WINDOW = timedelta(minutes=5)
# Longer than Catena keeps what it could not deliver (14 days), so that nothing comes back as new.
KEYS_KEPT = timedelta(days=60)
BODIES_KEPT = timedelta(days=30)
# More in a minute than can come in.
FORGOTTEN_AT_ONCE, BATCHES = 1000, 20
OLD = "Signed, but sent more than 5 minutes ago or ahead; what it told is read from Catena's lists"

STORE_SQL = """
INSERT INTO messaging_webhookevent
    (key, webhook_id, event_name, body, body_sha256, signed_by, state, reason, received_at, tries, next_at)
VALUES (%(key)s, %(webhook_id)s, %(event_name)s, %(body)s::jsonb, %(sha256)s, %(signed_by)s, %(state)s, %(reason)s,
    clock_timestamp(), 0, CASE WHEN %(is_new)s THEN clock_timestamp() END)
ON CONFLICT (key) DO NOTHING
"""
# One statement, because whoever sends what is refused decides how often. It sees the counts as they were before it.
COUNT_SQL = """
WITH counted AS (
    INSERT INTO messaging_refuseddelivery (cause, minute, count) VALUES (%(cause)s, date_trunc('minute', %(now)s), 1)
    ON CONFLICT (cause, minute) DO UPDATE SET count = messaging_refuseddelivery.count + 1
    RETURNING 1
)
SELECT 1 + coalesce((SELECT sum(count) FROM messaging_refuseddelivery WHERE minute > %(since)s), 0)::int,
    EXISTS (SELECT FROM messaging_synccursor WHERE name = %(sweep)s AND asked_at > %(since)s)
FROM counted
"""


class Cause(StrEnum):
    """Why a delivery was refused."""

    SIGNATURE = "signature"
    PACKING = "packing"
    SIZE = "size"


class Refused(Exception):
    """Not provably from Catena. Nothing of it was stored; it is to be counted (`note_refusal`) and answered 4xx."""

    def __init__(self, cause: Cause, why: str) -> None:
        super().__init__(why)
        self.cause = cause


class NotUsable(Exception):
    """No secret is configured: the delivery can be neither trusted nor thrown away. Answer 503, so that Catena keeps it."""


def receive(raw: bytes, *, encoding: str | None, signature: str | None, timestamp: str | None, now: datetime) -> bool:
    """Verifies a delivery and stores its event. False when the event was here before.

    Authentic, but not usable by us, is stored all the same, as dead and with the reason, for an administrator to process
    again. So is what was signed too long ago: it may be somebody's replay, so it is not applied, and it may be Catena's
    own, so it is not refused, which would lose it; the sweeps read what it told (contract 16, row 13). Commits by itself.
    Raises `Refused`, `NotUsable`, and whatever the database raises.
    """
    secrets = settings.CATENA_WEBHOOK_SECRETS
    if not secrets:
        raise NotUsable
    too_old = ""
    try:
        verified = webhooks.verify(
            raw, encoding=encoding, signature=signature, timestamp=timestamp, secrets=secrets, now=now
        )
    except webhooks.StaleDelivery as stale:
        verified, too_old = stale.verified, OLD
    except webhooks.BadSignature as error:
        raise Refused(Cause.SIGNATURE, str(error)) from None
    except errors.TooLarge as error:
        raise Refused(Cause.SIZE, str(error)) from None
    except errors.BadPayload as error:
        raise Refused(Cause.PACKING, str(error)) from None
    stored = _store(verified, secret_mark(secrets[verified.key]), too_old)
    if too_old and stored:
        _ask_for_everything()
    return stored


def _store(verified: webhooks.Verified, signed_by: str, too_old: str) -> bool:
    digest = hashlib.sha256(verified.body).hexdigest()
    columns: dict[str, Any] = {"sha256": digest, "signed_by": signed_by, "state": EventState.DEAD.value}
    try:
        event = webhooks.parse(verified.body)
    except errors.BadPayload as error:
        logger.error("An authentic webhook cannot be read: %s", error)
        text = verified.body[:UNREADABLE_LENGTH].decode("utf-8", "replace")
        columns |= {
            "key": f"unread:{digest}",
            "webhook_id": None,
            "event_name": "",
            "body": {"unreadable": scrub(text)},
        }
        columns["reason"] = f"It cannot be read: {error}"[:500]
    else:
        if too_old and WebhookEvent.objects.filter(key=event.dedupe_key).exists():
            return False
        # What came too late must not take the place of the same event in time.
        columns |= {"key": f"late:{digest}" if too_old else event.dedupe_key, "webhook_id": event.webhook_id}
        columns |= {"event_name": storable(event.event_name or "")[:100], "body": redacted(event), "reason": too_old}
        if not too_old:
            columns["state"] = EventState.NEW.value
    with prepared_cursor() as cursor:
        is_new = columns["state"] == EventState.NEW
        cursor.execute(STORE_SQL, {**columns, "body": json.dumps(columns["body"]), "is_new": is_new})
        return bool(cursor.rowcount)


def redacted(event: webhooks.Event) -> dict[str, Any]:
    """The envelope as it may be kept: known fields word for word, because their columns are; of everything else no secret."""
    kind = webhooks.record_type(event.event_name)
    return {**keepable({**event.raw, "data": []}), "data": [_redacted_record(record, kind) for record in event.data]}


def _redacted_record(record: Mapping[str, Any], kind: type[Record] | None) -> dict[str, Any]:
    known = _known_names(kind) if kind else frozenset()
    kept: dict[str, Any] = {}
    for name, value in record.items():
        if name == "logs" and isinstance(value, list):
            kept[name] = [_redacted_log(log) for log in value if isinstance(log, Mapping)]
        elif name in known:
            kept[name] = verbatim(value)
        elif kind is not User:
            kept |= keepable({name: value})
    return kept


def _known_names(kind: type[Record]) -> frozenset[str]:
    """The fields that have a column. Of a person that is all that is kept: nobody is shown the rest (contract section 6)."""
    names = SHOWN_OF_USER if kind is User else [name for name, _, _ in plan(kind)]
    return frozenset(names) - kind.NEVER_KEPT


def _redacted_log(log: Mapping[str, Any]) -> dict[str, Any]:
    headers, details = log.get("response_headers"), log.get("error_details")
    rest = {name: value for name, value in log.items() if name not in {"response_headers", "error_details"}}
    return {
        **keepable(rest),
        "error_details": scrub(details) if isinstance(details, str) else None,
        "response_headers": redact_headers(headers) if isinstance(headers, Mapping) else None,
    }


def note_refusal(cause: Cause, why: str, now: datetime) -> None:
    """Counts a refused delivery. Several within minutes raise an alarm, and what they may have told is read from the lists:
    Catena repeats nothing that was answered 4xx.
    """
    with prepared_cursor() as cursor:
        since = now - ALARM_WINDOW
        cursor.execute(COUNT_SQL, {"cause": cause.value, "now": now, "since": since, "sweep": f"{ROUND}messages"})
        recent, is_asked = cursor.fetchone()
    if recent < ALARM_AT:
        logger.warning("A webhook was refused: %s", why)
    elif not is_asked:
        _ask_for_everything()
        logger.error(
            "%d webhooks were refused within minutes, the last because %s; reading the lists instead", recent, why
        )


def _ask_for_everything() -> None:
    """Has the sweeps run soon."""
    for sweep in ("messages", "operations"):
        SyncCursor.objects.ask(sweep)


def forget_old(now: datetime) -> int:
    """Empties the bodies of old events and deletes those that Catena cannot deliver again; answers how many rows.

    A thousand of each at a time, some thousands in all; what is not done with is kept.
    """
    RefusedDelivery.objects.filter(minute__lt=now - BODIES_KEPT).delete()
    total = 0
    for _ in range(BATCHES):
        count = _forget_batch(now)
        total += count
        if count < FORGOTTEN_AT_ONCE:
            break
    return total


def _forget_batch(now: datetime) -> int:
    done = WebhookEvent.objects.filter(state__in=[EventState.DONE, EventState.DEAD])
    gone = done.filter(received_at__lt=now - KEYS_KEPT).order_by("received_at").values("pk")[:FORGOTTEN_AT_ONCE]
    empty = done.filter(received_at__lt=now - BODIES_KEPT).exclude(body={}).order_by("received_at").values("pk")
    emptied = WebhookEvent.objects.filter(pk__in=list(empty[:FORGOTTEN_AT_ONCE].values_list("pk", flat=True)))
    count = emptied.update(body={})
    deleted, _ = WebhookEvent.objects.filter(pk__in=list(gone.values_list("pk", flat=True))).delete()
    return count + deleted
