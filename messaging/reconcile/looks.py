"""Looks for lost POSTs in Catena's listings, on a schedule, and keeps each look as evidence."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import batched
from typing import Any

from django.db import transaction
from django.db.models import Case, DateTimeField, F, Prefetch, Value, When, prefetch_related_objects
from django.db.models.functions import Cast

from messaging import gates, mirror
from messaging.catena import errors
from messaging.catena.client import CatenaClient
from messaging.models import Connection, Look, SendAttempt
from messaging.reconcile.absence import absence, ask_at, question_for, self_test
from messaging.reconcile.matching import ask, match, nearest, unsettled, window_of
from messaging.states import GateCause, MessageState, Question

logger = logging.getLogger(__name__)

S = MessageState
# After the POST ended, in seconds; then hourly. A day is enough, unless people are asked later than that.
SCHEDULE = (5.0, 15.0, 45.0, 120.0, 300.0, 600.0, 1200.0)
HOURLY = 3600.0
LAST_LOOK_AFTER = timedelta(hours=24)
# Between two looks at least, also after one that came late.
LEAST_GAP = timedelta(seconds=5)
# A listing that could not be read to its end says nothing, so it is asked for again soon: after a minute at first, later
# after a tenth of the time that has gone by.
FAILED_GAP = timedelta(minutes=1)
FAILED_PART = 10
# Listings further apart than this are asked for one by one, rather than all that lies between them.
JOINED_GAP = timedelta(minutes=30)
AT_ONCE = 500
RECORDS_AT_ONCE = 500
# Few enough that a worker which dies in the middle of a round has settled most of what it looked for.
CONCLUDED_AT_ONCE = 50
REASONS = {
    Question.ABSENT: "Catena shows no trace of it",
    Question.UNPROVEN: "It was not found at Catena, which does not prove that it was not sent",
}


@dataclass(slots=True)
class Summary:
    """What one round did. `problems` are sentences."""

    looked: int = 0
    bound: int = 0
    asked: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Sight:
    """What one listing showed: its window, whether it was read to the end, the creation time of each operation, and how
    many POSTs it settled.

    `stops_all` says that Catena does not answer anybody now: the other connections stay due.
    """

    since: datetime
    until: datetime
    is_complete: bool = False
    problem: str = ""
    stops_all: bool = False
    created: list[datetime] = field(default_factory=list)
    bound: int = 0


def look(client: CatenaClient, now: datetime) -> Summary:
    """Looks for every lost POST that is due, binds what is found and asks people where nothing more can be learnt.

    Idempotent, and safe in two places at once. Never raises one of Catena's failures: the summary tells.
    """
    summary = Summary(bound=match(now))
    if gates.reading_paused_until(now) is not None:
        return summary
    for connection, attempts in _groups(now):
        sights = [_list(client, connection, since, until, now) for since, until in _spans(attempts, now)]
        summary.problems += [f"{connection}: {sight.problem}" for sight in sights if sight.problem]
        summary.bound += sum(sight.bound for sight in sights)
        for some in batched(attempts, CONCLUDED_AT_ONCE):
            _conclude(some, sights, now, summary)
        if any(sight.stops_all for sight in sights):
            break
    return summary


def _groups(now: datetime) -> list[tuple[Connection, list[SendAttempt]]]:
    """What is due, by connection: on all of them first what was lost a short while ago, which most often is found, and by a
    short listing; then what was looked for in vain again and again, whose listings reach far back.
    """
    due = unsettled().filter(next_look_at__lte=now).select_related("message__connection")
    groups: dict[tuple[bool, Connection], list[SendAttempt]] = defaultdict(list)
    for attempt in due.order_by("next_look_at", "id")[:AT_ONCE]:
        groups[attempt.looks >= len(SCHEDULE), attempt.message.connection].append(attempt)
    recent_first = sorted(groups.items(), key=lambda group: group[0][0])
    return [(connection, attempts) for (_, connection), attempts in recent_first]


def _spans(attempts: Sequence[SendAttempt], now: datetime) -> list[tuple[datetime, datetime]]:
    """The windows of these attempts, neighbours joined: one busy minute is one listing."""
    spans: list[tuple[datetime, datetime]] = []
    for since, until in sorted((since, min(until, now)) for since, until in map(window_of, attempts)):
        if spans and since <= spans[-1][1] + JOINED_GAP:
            spans[-1] = (spans[-1][0], max(spans[-1][1], until))
        else:
            spans.append((since, until))
    return spans


def _list(client: CatenaClient, connection: Connection, since: datetime, until: datetime, now: datetime) -> _Sight:
    sight = _Sight(since, until)
    unreadable: list[errors.BadPayload] = []
    listing = client.list_operations(
        from_datetime=since,
        to_datetime=until,
        connection_id=connection.catena_id,
        resource="message",
        operation="create",
        on_bad=unreadable.append,
    )
    try:
        for page in batched(listing, RECORDS_AT_ONCE):
            mirror.apply_listed(page, now)
            sight.bound += match(now)  # what a page shows is settled, whatever becomes of the next one
            sight.created += [record.created_at for record in page if record.created_at]
    except errors.CatenaError as error:
        sight.problem = str(error)[:300]
        if isinstance(error, errors.RateLimited):
            gates.slow_down(now, error.retry_after)
        if isinstance(error, errors.Unauthorized):
            gates.close_gate(None, GateCause.LOGIN, now)
        sight.stops_all = isinstance(error, errors.RateLimited | errors.Unauthorized | errors.Unavailable)
        logger.warning("Looking for lost sends of connection %d failed: %s", connection.pk, error)
    else:
        sight.problem = f"{len(unreadable)} operations could not be read" if unreadable else ""
        sight.is_complete = not unreadable
    return sight


def _conclude(attempts: Sequence[SendAttempt], sights: Sequence[_Sight], now: datetime, summary: Summary) -> None:
    """Keeps what was seen of those that were not found, plans their next look, and asks a person where looking is over."""
    summary.looked += len(attempts)
    related = ("message__connection", "message__sender", "message__recipient", "message__reply_to")
    left = list(unsettled().filter(pk__in=[attempt.pk for attempt in attempts]).select_related(*related))
    if not left:
        return
    near = nearest(left)
    with transaction.atomic():
        _plan_next(Look.objects.bulk_create(_seen(attempt, sights, near[attempt.pk], now) for attempt in left), now)
    open_ = [attempt for attempt in left if attempt.message.state == S.UNKNOWN]
    prefetch_related_objects(
        open_, Prefetch("searches", Look.objects.only("attempt", "is_complete", "at", "newest_at"))
    )
    test = self_test(left[0].message.connection_id)
    for attempt in open_:
        found = absence(attempt, list(attempt.searches.all()), test)
        question = question_for(attempt.message, attempt, found, now)
        if question is not None:
            summary.asked += ask(attempt.message_id, question, REASONS[question])


def _seen(attempt: SendAttempt, sights: Sequence[_Sight], near: list[dict[str, Any]], now: datetime) -> Look:
    since, until = window_of(attempt)
    sight = next(one for one in sights if one.since <= since and min(until, now) <= one.until)
    shown = [moment for moment in sight.created if since <= moment]
    return Look(
        attempt=attempt,
        at=now,
        window_from=since,
        window_to=min(until, now),
        is_complete=sight.is_complete,
        read_count=len(shown),
        newest_at=max(shown, default=None),
        nearest=near,
        problem=sight.problem,
    )


def _plan_next(looks: Sequence[Look], now: datetime) -> None:
    """In one statement; a POST that was settled meanwhile is left alone. Only whole listings count as looks."""
    planned = [When(pk=look.attempt_id, then=Value(_next_look_after(look, now))) for look in looks]
    whole = When(pk__in=[look.attempt_id for look in looks if look.is_complete], then=1)
    unsettled().filter(pk__in=[look.attempt_id for look in looks]).update(
        looks=F("looks") + Case(whole, default=0), next_look_at=Cast(Case(*planned), DateTimeField())
    )


def _next_look_after(look: Look, now: datetime) -> datetime | None:
    attempt = look.attempt
    ended, asked = attempt.finished_at or attempt.posting_at, ask_at(attempt, attempt.message.priority)
    following = next_look(ended, attempt.looks + look.is_complete, now, asked)
    if look.is_complete or following is None:
        return following
    return max(following, now + max(FAILED_GAP, (now - ended) / FAILED_PART))


def next_look(ended: datetime, looks: int, now: datetime, asked: datetime) -> datetime | None:
    """When to look again after so many looks; None when a day has passed: whoever is asked must decide without more.

    There is always a look at the moment `asked` or soon after it, because looking is what puts a message before a person.
    """
    last = max(ended + LAST_LOOK_AFTER, asked)
    if now >= last:
        return None
    offset = SCHEDULE[looks] if looks < len(SCHEDULE) else HOURLY * (looks - len(SCHEDULE) + 1)
    following = min(ended + timedelta(seconds=offset), last)
    if now < asked:
        following = min(following, asked)
    return max(following, now + LEAST_GAP)
