"""Tells people outside Backhaul of an incident: by e-mail and by an outgoing webhook, once for each opening.

An alert says where, why and how many, and where to read on. It never holds the text of a message, the name of a driver or
a secret. Nothing here is sent inside a transaction.
"""

import hashlib
import hmac
import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction

from messaging.incidents.timeline import counted, enter
from messaging.models import Incident, IncidentEntry

logger = logging.getLogger(__name__)

Kind = IncidentEntry.Kind
EMAIL, WEBHOOK = "e-mail", "webhook"
# After the first and after the second try; there is no fourth.
BACKOFF = (timedelta(minutes=1), timedelta(minutes=5))
MOST_TRIES = len(BACKOFF) + 1
# A worker that claimed an alert and was not heard of again has died: what it had not told is due again. Longer than any
# mail server may take for one letter.
CLAIMED_FOR = timedelta(minutes=10)
# Of the whole exchange with the receiver of the webhook, however slowly it answers.
WEBHOOK_SECONDS = 15.0
# Hosts that may be told without https: this machine.
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class NotTold(Exception):
    """An alert did not go out; the text says why, without an address or a secret."""


def ways() -> list[str]:
    """How people are told in this installation; empty when nobody is."""
    return [*([EMAIL] if settings.ALERT_EMAILS else []), *([WEBHOOK] if settings.ALERT_WEBHOOK_URL else [])]


def tell_due(now: datetime) -> int:
    """Sends every alert that is due; answers how many were this worker's.

    An alert is claimed before anything is sent, so that no two workers send it. One whose worker dies in between is due
    again ten minutes later: what went out at that moment may then be told twice, with a `try` above 1. A failure is noted
    in the timeline and tried again, three times in all.
    """
    due = Incident.objects.open().filter(alert_due_at__lte=now).select_related("connection__fleet")
    return sum(_tell(incident, now) for incident in due)


def _tell(incident: Incident, now: datetime) -> bool:
    claimed = Incident.objects.open().filter(pk=incident.pk, alert_due_at=incident.alert_due_at)
    tries, claim = incident.alert_tries + 1, now + CLAIMED_FOR
    if tries > MOST_TRIES:  # its worker died each time
        _give_up(incident, now)
        return False
    if not claimed.update(alert_due_at=claim, alerted_at=now, alert_tries=tries):
        return False
    # What is no longer set up is not told.
    left = [way for way in incident.alert_left if way in ways()]
    problems: dict[str, str] = {}
    for way in list(left):
        problem = _send(way, incident, now)
        if problem:
            problems[way] = problem
        else:
            left.remove(way)
            _told(incident, way, left, claim, now)
    _note(incident, problems, tries, claim, now)
    return True


def _give_up(incident: Incident, now: datetime) -> None:
    with transaction.atomic():
        still = Incident.objects.open().filter(pk=incident.pk, alert_due_at=incident.alert_due_at)
        if still.update(alert_due_at=None, alert_tries=0, alert_left=[]):
            enter(incident, Kind.ALERT_FAILED, now, "Each worker that tried ended meanwhile. Nobody is told.")
            logger.error("The alert of incident %s was given up: each worker that tried ended", incident.uuid)


def _told(incident: Incident, way: str, left: list[str], claim: datetime, now: datetime) -> None:
    """Notes at once what went out, so that whoever goes on after a death does not send it again."""
    with transaction.atomic():
        enter(incident, Kind.ALERTED, now, f"By {way}.")
        Incident.objects.open().filter(pk=incident.pk, alert_due_at=claim).update(alert_left=left)


def _send(way: str, incident: Incident, now: datetime) -> str:
    """Why it did not go out; empty when it did."""
    by_way: dict[str, Callable[[Incident, datetime], None]] = {EMAIL: send_email, WEBHOOK: send_webhook}
    try:
        by_way[way](incident, now)
    except NotTold as problem:
        logger.warning("The alert of incident %s by %s was not sent: %s", incident.uuid, way, problem)
        return str(problem)
    except Exception as problem:  # a setting that nobody foresaw: the other way must go out all the same
        logger.exception("The alert of incident %s by %s was not sent", incident.uuid, way)
        return type(problem).__name__
    return ""


def _note(incident: Incident, problems: Mapping[str, str], tries: int, claim: datetime, now: datetime) -> None:
    """One line for each way that failed; it is due again, unless this was the last try."""
    left = list(problems)
    is_over = tries >= MOST_TRIES
    with transaction.atomic():
        for way, problem in problems.items():
            end = "Nobody is told." if is_over else f"Tried again in {BACKOFF[tries - 1].seconds // 60} min."
            enter(incident, Kind.ALERT_FAILED, now, f"By {way}: {problem}. {end}")
        due = None if is_over or not left else now + BACKOFF[tries - 1]
        # Somebody resolved or claimed it meanwhile: then its time is not this worker's to set.
        Incident.objects.open().filter(pk=incident.pk, alert_due_at=claim).update(
            alert_due_at=due, alert_left=left, alert_tries=tries if due else 0
        )


def where(incident: Incident) -> str:
    """The place in words: the provider, and the fleet when it is one connection's."""
    one = incident.connection
    if one is None:
        return f"{incident.provider}, every fleet"
    return f"{one.provider}, {one.fleet.name if one.fleet else one.label}"


def address(incident: Incident) -> str:
    return f"{settings.PUBLIC_URL}{incident.get_absolute_url()}"


def _why(incident: Incident) -> str:
    parts = [incident.error_type or "refused", str(incident.response_status_code or "")]
    return " ".join(part for part in parts if part)


def send_email(incident: Incident, now: datetime) -> None:
    """Raises NotTold."""
    body = "\n".join(
        [
            f"{counted(incident.failures, 'message')} to {counted(incident.drivers, 'driver')} failed.",
            "",
            f"Where: {where(incident)}",
            f"Cause: {_why(incident)}",
            f"Since: {incident.first_failed_at:%Y-%m-%d %H:%M} UTC",
            f"Last failure: {incident.last_failed_at:%Y-%m-%d %H:%M} UTC",
            "",
            f"What is known, and what to do: {address(incident)}",
            "",
            "Backhaul is quiet about this incident from now on, unless failures return after an hour.",
        ]
    )
    # A subject is one line: names come from Catena.
    subject = " ".join(f"Incident: {where(incident)}: {_why(incident)}".split())[:200]
    try:
        EmailMessage(subject, body, to=settings.ALERT_EMAILS).send()
    except OSError as error:  # smtplib's own errors are such, and so are time-outs and name servers
        raise NotTold(f"the mail server did not take it ({type(error).__name__})") from error


def payload(incident: Incident, now: datetime) -> dict[str, Any]:
    """What the webhook says, as JSON. A receiver knows a repetition by the incident's `id` and a `try` above 1."""
    one = incident.connection
    return {
        "event": "incident",
        "try": incident.alert_tries + 1,
        "sent_at": now.isoformat(),
        "incident": {
            "id": str(incident.uuid),
            "url": address(incident),
            "provider": incident.source_name,
            "connection_id": str(one.catena_id) if one else None,
            "fleet": one.fleet.name if one and one.fleet else None,
            "error_type": incident.error_type,
            "response_status_code": incident.response_status_code,
            "failures": incident.failures,
            "drivers": incident.drivers,
            "opened_at": incident.opened_at.isoformat(),
            "first_failed_at": incident.first_failed_at.isoformat(),
            "last_failed_at": incident.last_failed_at.isoformat(),
        },
    }


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """`t=<epoch seconds>,v1=<hex>`: HMAC-SHA256 of the timestamp, a dot and the body."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def is_allowed(url: str) -> bool:
    """Whether alerts may go there: https, or plain http on this machine; never with a password in the address."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.password is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)


def send_webhook(incident: Incident, now: datetime) -> None:
    """Raises NotTold. Follows no redirect, and reads of the answer its status alone."""
    url = settings.ALERT_WEBHOOK_URL
    if not is_allowed(url):
        raise NotTold("ALERT_WEBHOOK_URL is neither https nor on this machine")
    body = json.dumps(payload(incident, now)).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "Backhaul", "Connection": "close"}
    if settings.ALERT_WEBHOOK_SECRET:
        headers["X-Backhaul-Signature"] = signature(settings.ALERT_WEBHOOK_SECRET, int(now.timestamp()), body)
    status = _post(url, body, headers)
    if not 200 <= status < 300:
        raise NotTold(f"the receiver answered {status}")


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """The status of the answer. The whole exchange ends within WEBHOOK_SECONDS, a socket that drips included."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    link = (
        HTTPSConnection(host, parts.port, timeout=WEBHOOK_SECONDS / 3, context=ssl.create_default_context())
        if parts.scheme == "https"
        else HTTPConnection(host, parts.port, timeout=WEBHOOK_SECONDS / 3)
    )
    alarm = threading.Timer(WEBHOOK_SECONDS, _cut, [link])
    alarm.daemon = True
    alarm.start()
    try:
        link.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, dict(headers))
        return int(link.getresponse().status)
    except (OSError, HTTPException, ValueError) as error:
        raise NotTold(f"the receiver could not be reached ({type(error).__name__})") from error
    finally:
        alarm.cancel()
        link.close()


def _cut(link: HTTPConnection) -> None:
    """Wakes whoever waits for the socket; closing it alone would not."""
    with suppress(OSError):
        if link.sock is not None:
            link.sock.shutdown(socket.SHUT_RDWR)
