"""Applying events, in the worker: each in one transaction with its own mark "done", any number of workers side by side.

Order of arrival means nothing: the mirror compares the records' own times and never goes backwards. What an event brings of
a POST of ours that has no answer yet is stored like what a listing brings, and bound by the reconciliation.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import OperationalError, transaction
from django.db.models import F, QuerySet

from messaging import mirror
from messaging.catena import types, webhooks
from messaging.catena.errors import BadPayload
from messaging.catena.records import Record
from messaging.mirror import Change
from messaging.models import Connection, SyncCursor, WebhookEvent
from messaging.models.inbound import OPEN_STATES
from messaging.states import EventState

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=1), timedelta(hours=1)
MOST_TRIES = 10
REASON_LENGTH = 1000
# So many events are applied in one transaction: as long as a conversation may be locked without a sender noticing.
PAGE = 50
PAGED = ("message.added", "message.modified")
UNKNOWN_CONNECTION = "It is about a connection that we do not know yet"
UNKNOWN_EVENT = "This event is not known to this version"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the records of one event. `problems` name the records that could not be applied, and why."""

    is_parked: bool = False
    problems: tuple[str, ...] = ()


class _OneByOne(Exception):
    """A page holds an event that has to wait."""


def process_due(now: datetime, most: int = 500, is_stopping: Callable[[], bool] = lambda: False) -> int:
    """Applies the events that are due, oldest first; answers how many were taken up.

    Safe beside other workers: an event that one has in hand is passed over by the others. An event that fails is tried again
    after 1 s to 1 h, ten times, and is then dead, with the reason.
    """
    taken = singly = 0
    # One by itself first: that there is none, as most often, is then known by one query.
    while taken < most and not is_stopping() and _process_next(now):
        taken += 1
        if singly:
            singly -= 1
            continue
        together = _process_together(now)
        taken += together
        if not together:
            singly = PAGE
    return taken


def _due(now: datetime) -> QuerySet[WebhookEvent]:
    """What is due and in nobody's hand, oldest first; locked."""
    due = WebhookEvent.objects.filter(state__in=OPEN_STATES, next_at__lte=now)
    return due.select_for_update(skip_locked=True).order_by("next_at", "id")


def _process_together(now: datetime) -> int:
    """Applies the messages of several events as one page of a listing, for a fraction of what they cost one by one.

    0 when there are too few, or when one of them is not as it should be: then nothing has changed, and each is looked at by
    itself.
    """
    try:
        with transaction.atomic():
            page = _page(list(_due(now).filter(event_name__in=PAGED)[:PAGE]))
            if len(page) < 2:
                return 0
            records = [record for _, given in page for record in given]
            if mirror.apply_messages(records)[Change.SKIPPED]:
                raise _OneByOne
            WebhookEvent.objects.filter(pk__in=[event.pk for event, _ in page]).update(
                state=EventState.DONE, tries=F("tries") + 1, reason="", processed_at=now, next_at=None
            )
            return len(page)
    except Exception as error:
        # Whatever it was, the event that caused it meets it again by itself, where it is told apart from the others.
        logger.info("Events are applied one by one, because of %s", type(error).__name__)
        return 0


def _page(events: Sequence[WebhookEvent]) -> list[tuple[WebhookEvent, list[types.Message]]]:
    """The events that can be read, with their records; of events about one message only the first."""
    page: list[tuple[WebhookEvent, list[types.Message]]] = []
    seen: set[UUID] = set()
    for event in events:
        try:
            records = [types.Message.parse(body) for body in webhooks.Event.parse(event.body).data]
        except BadPayload:
            continue
        ids = [record.id for record in records]
        if len(set(ids)) == len(ids) and seen.isdisjoint(ids):
            page.append((event, records))
        seen.update(ids)
    return page


def _process_next(now: datetime) -> bool:
    event_id = None
    try:
        with transaction.atomic():
            event = _due(now).first()
            if event is None:
                return False
            event_id = event.pk
            _finish(event, _apply(event), now)
    except Exception as error:
        # Two workers that met over one conversation, a rule of the schema, or what nobody foresaw: this event waits, the
        # others go on. When it is the database that has gone, so is this, and the caller is told.
        if event_id is None:
            raise
        if not isinstance(error, OperationalError):
            logger.exception("Event %d could not be applied", event_id)
        with transaction.atomic():
            event = WebhookEvent.objects.select_for_update().get(pk=event_id)
            _put_off(event, f"{type(error).__name__}: {error}", now)
    return True


def _finish(event: WebhookEvent, outcome: Outcome, now: datetime) -> None:
    if outcome.is_parked:
        SyncCursor.objects.ask("directory")
        _put_off(event, UNKNOWN_CONNECTION, now, EventState.PARKED)
        return
    event.tries += 1
    event.state = EventState.DEAD if outcome.problems else EventState.DONE
    event.reason = "; ".join(outcome.problems)[:REASON_LENGTH]
    event.processed_at, event.next_at = now, None
    event.save(update_fields=["tries", "state", "reason", "processed_at", "next_at"])
    if outcome.problems:
        logger.error("Event %s (%s) is dead: %s", event.key, event.event_name, event.reason)


def _put_off(event: WebhookEvent, reason: str, now: datetime, state: EventState = EventState.NEW) -> None:
    event.tries += 1
    event.reason = reason[:REASON_LENGTH]
    if event.tries >= MOST_TRIES:
        event.state, event.next_at, event.processed_at = EventState.DEAD, None, now
        logger.error("Event %s (%s) is dead after %d tries: %s", event.key, event.event_name, event.tries, reason)
    else:
        event.state = state
        event.next_at = now + min(FIRST_PAUSE * 3 ** (event.tries - 1), LONGEST_PAUSE)
    event.save(update_fields=["tries", "state", "reason", "next_at", "processed_at"])


def release_parked(now: datetime) -> int:
    """Has what waits for an unknown connection tried at once, because new ones have become known; answers how many."""
    return WebhookEvent.objects.filter(state=EventState.PARKED, next_at__gt=now).update(next_at=now)


def process_again(events: Sequence[WebhookEvent], now: datetime) -> int:
    """Has events that are dead or parked tried anew, from the first try on; answers how many. What has no body stays."""
    chosen = WebhookEvent.objects.filter(
        pk__in=[one.pk for one in events], state__in=[EventState.DEAD, EventState.PARKED]
    )
    return chosen.exclude(body={}).update(state=EventState.NEW, tries=0, next_at=now, processed_at=None)


def _apply(event: WebhookEvent) -> Outcome:
    handler = HANDLERS.get(event.event_name)
    if handler is None:
        return Outcome(problems=(UNKNOWN_EVENT,))
    try:
        given = webhooks.Event.parse(event.body).data
    except BadPayload as error:
        return Outcome(problems=(f"It cannot be read: {error}",))
    kind = webhooks.record_type(event.event_name)
    records, problems = _parsed(given, kind) if kind and handler.reads else ([], [])
    results = _applied(handler, event, records, problems)
    return Outcome(is_parked=Change.SKIPPED in results, problems=tuple(problems))


def _parsed(given: Sequence[Mapping[str, Any]], kind: type[Record]) -> tuple[list[Any], list[str]]:
    records, problems = [], []
    for number, body in enumerate(given, 1):
        try:
            records.append(kind.parse(body))
        except BadPayload as error:
            problems.append(f"record {number} cannot be read: {error}")
    return records, problems


def _applied(handler: "Handler", event: WebhookEvent, records: list[Any], problems: list[str]) -> list[Change]:
    """All records at once, so that locks are taken in one order; one by one when that fails, so that none sinks the others."""
    results: list[Change] = []
    try:
        with transaction.atomic():
            results += handler.apply(records)
    except DatabaseError:
        raise
    except Exception:
        if len(records) < 2:
            raise
        for number, record in enumerate(records, 1):
            try:
                with transaction.atomic():
                    results += handler.apply([record])
            except DatabaseError:
                raise
            except Exception as error:
                logger.exception("Record %d of event %s met something unforeseen", number, event.key)
                problems.append(f"record {number}: {type(error).__name__}")
    for sweep in handler.asks:
        SyncCursor.objects.ask(sweep)
    return results


@dataclass(frozen=True, slots=True)
class Handler:
    """What the records of one event do, and which sweep then knows more. Without `reads` the event is only a hint."""

    apply: Callable[[Sequence[Any]], list[Change]] = lambda records: []
    asks: tuple[str, ...] = ()
    reads: bool = True


def _operations(records: Sequence[Any]) -> list[Change]:
    return [Change.SKIPPED if mirror.apply_operation(one) is None else Change.CHANGED for one in records]


def _messages(records: Sequence[Any]) -> list[Change]:
    return list(mirror.apply_messages(records))


def _groups(records: Sequence[Any]) -> list[Change]:
    return list(mirror.apply_group_messages(records))


def _users(records: Sequence[Any]) -> list[Change]:
    known = {
        one.catena_id: one for one in Connection.objects.filter(catena_id__in={one.connection_id for one in records})
    }
    changes = [
        mirror.apply_fleet_user(one, known[one.connection_id]) if one.connection_id in known else Change.SKIPPED
        for one in records
    ]
    for connection in known.values():
        mirror.complete_groups(connection)
    return changes


def _connections(records: Sequence[Any]) -> list[Change]:
    return [mirror.apply_connection_status(one.id, one.status) for one in records]


def _agreements(records: Sequence[Any]) -> list[Change]:
    for one in records:
        mirror.apply_share_agreement(one.fleet_id, one.scopes)
    return []


def _ended_agreements(records: Sequence[Any]) -> list[Change]:
    """Whatever its scopes still say. Nothing is sent until the directory says that another agreement allows it."""
    for one in records:
        mirror.apply_share_agreement(one.fleet_id, {})
    return []


def _schedules(records: Sequence[Any]) -> list[Change]:
    for one in records:
        mirror.apply_schedule_status(one.connection_id, one.resource, one.status)
    return []


OPERATIONS, MESSAGES, GROUPS, USERS = Handler(_operations), Handler(_messages), Handler(_groups), Handler(_users)
DIRECTORY = ("directory",)
HANDLERS: Mapping[str, Handler] = {
    "resource_operation.created": OPERATIONS,
    "resource_operation.succeeded": OPERATIONS,
    "resource_operation.failed": OPERATIONS,
    "message.added": MESSAGES,
    "message.modified": MESSAGES,
    "group_message.added": GROUPS,
    "group_message.modified": GROUPS,
    "user.added": USERS,
    "user.modified": USERS,
    # Announced as not reliable yet, and without what a user record must hold.
    "user.removed": Handler(asks=DIRECTORY, reads=False),
    "connection.created": Handler(asks=DIRECTORY, reads=False),
    "connection.staled": Handler(_connections, DIRECTORY),
    "fleet_connection.created": Handler(asks=DIRECTORY, reads=False),
    "share_agreement.created": Handler(_agreements, DIRECTORY),
    "share_agreement.updated": Handler(_agreements, DIRECTORY),
    "share_agreement.deleted": Handler(_ended_agreements, DIRECTORY),
    "schedule.deactivated": Handler(_schedules, DIRECTORY),
    "webhook.staled": Handler(asks=("subscriptions",), reads=False),
    "webhook.paused": Handler(asks=("subscriptions",), reads=False),
    "webhook.activated": Handler(asks=("subscriptions",), reads=False),
}
