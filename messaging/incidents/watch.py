"""The watch: opens an incident when failures share a place and a cause, follows it, and says when sends succeed again.

Every number is read from the messages themselves, so that a round that is lost, doubled or late harms nothing. Several
workers may watch at once: the constraint `incident_open_once` lets one of them open an incident, and every move of a row
asks whether it still stands where it was read.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, OperationalError, transaction
from django.db.models import Q
from psycopg.errors import QueryCanceled

from messaging.incidents.alerts import ways
from messaging.incidents.failures import Cause, Figures, Group, accepted, accepted_since, figures, groups
from messaging.incidents.timeline import counted, enter
from messaging.models import Incident, IncidentEntry

logger = logging.getLogger(__name__)

Kind = IncidentEntry.Kind
# Sends succeed again: so many after the last failure and none failed for so long, or nothing failed for long.
RECOVERED_AFTER = 3
CALM = timedelta(minutes=5)
QUIET = timedelta(minutes=30)
# People who were told are not told of a relapse before this.
SILENCE = timedelta(minutes=60)


def watch(now: datetime) -> None:
    """One look at the failures of the last minutes. Idempotent; each incident moves in a transaction of its own."""
    since = now - timedelta(seconds=settings.INCIDENT_WINDOW_SECONDS)
    found = groups(since, now)
    _open_new(found, since, now)
    for incident in Incident.objects.open():
        _follow(incident, found, now)


def _open_new(found: Sequence[Group], since: datetime, now: datetime) -> None:
    """Opens what qualifies and is not open; what qualifies on several connections of one provider is the provider's."""
    heavy = {group.connection_id for group in found if group.failures >= settings.INCIDENT_FAILURES}
    went_out = accepted(heavy, since, now)
    alike: dict[tuple[str, Cause], list[Group]] = defaultdict(list)
    for group in found:
        if _qualifies(group, went_out.get(group.connection_id, 0)):
            alike[group.source_name, group.cause].append(group)
    if not alike:
        return
    standing: dict[tuple[str, Cause], list[Incident]] = defaultdict(list)
    for incident in Incident.objects.open().order_by("opened_at", "id"):
        standing[incident.source_name, cause_of(incident)].append(incident)
    for key, qualified in alike.items():
        _settle_place(qualified, standing[key], since, now)


def _qualifies(group: Group, went_out: int) -> bool:
    """Enough failures of one cause, and enough of a share: what else fails there does not water it down."""
    if group.failures < settings.INCIDENT_FAILURES:
        return False
    return group.failures >= settings.INCIDENT_SHARE * (group.failures + went_out)


def cause_of(incident: Incident) -> Cause:
    return Cause(incident.error_type, incident.response_status_code)


def _settle_place(qualified: Sequence[Group], standing: Sequence[Incident], since: datetime, now: datetime) -> None:
    """`standing`: the open incidents of the same provider and cause, the oldest first."""
    whole = next((incident for incident in standing if incident.connection_id is None), None)
    if whole is not None:
        _gather(whole, [one for one in standing if one.pk != whole.pk], now)
        return
    alive = [one for one in standing if one.last_failed_at > since]
    places = {group.connection_id for group in qualified} | {one.connection_id for one in alive}
    if len(places) == 1:
        if not any(one.connection_id in places for one in standing):
            open_incident(qualified, qualified[0].connection_id, now)
    elif alive:
        _widen(alive[0], alive[1:], qualified, now)
    else:
        open_incident(qualified, None, now)


def open_incident(qualified: Sequence[Group], connection_id: int | None, now: datetime) -> Incident | None:
    """Opens one for these groups; None when another worker was quicker."""
    first = qualified[0]
    incident = Incident(
        source_name=first.source_name,
        connection_id=connection_id,
        error_type=first.cause.error_type,
        response_status_code=first.cause.code,
        cause=max(qualified, key=lambda group: group.failures).words,
        opened_at=now,
        first_failed_at=min(group.first_at for group in qualified),
        last_failed_at=max(group.last_at for group in qualified),
        alert_left=ways(),
        alert_due_at=now if ways() else None,
    )
    incident.failures, incident.drivers, _ = figures(incident, incident.last_failed_at)
    try:
        with transaction.atomic():
            incident.save(force_insert=True)
            enter(incident, Kind.OPENED, now, _told(incident))
    except IntegrityError:
        return None
    logger.warning("Incident %s was opened: %s", incident.uuid, incident)
    return incident


def _told(incident: Incident) -> str:
    return f"{counted(incident.failures, 'message')} to {counted(incident.drivers, 'driver')} failed."


def _widen(incident: Incident, others: Iterable[Incident], qualified: Sequence[Group], now: datetime) -> None:
    """Makes the incident of a connection that of its provider, and ends the others in it."""
    first = min([incident.first_failed_at, *(group.first_at for group in qualified)])
    try:
        with transaction.atomic():
            still = Incident.objects.open().filter(pk=incident.pk, connection=incident.connection)
            if not still.update(connection=None, first_failed_at=first):
                return
            enter(incident, Kind.WIDENED, now, f"The same fails on other connections of {incident.provider}.")
    except IntegrityError:
        return
    logger.warning("Incident %s is now one of the whole provider", incident.uuid)
    incident.connection, incident.first_failed_at = None, first
    _gather(incident, others, now)


def _gather(whole: Incident, others: Iterable[Incident], now: datetime) -> None:
    """Ends the incidents of single connections in the one of their provider, which reaches back to the first of them."""
    for other in others:
        with transaction.atomic():
            if not Incident.objects.open().filter(pk=other.pk).update(resolved_at=now, alert_due_at=None):
                continue
            enter(other, Kind.RESOLVED, now, f"Goes on as the incident of the whole provider {whole.provider}.")
            enter(whole, Kind.WIDENED, now, f"Took over the incident on {other.connection}.")
            Incident.objects.filter(pk=whole.pk, first_failed_at__gt=other.first_failed_at).update(
                first_failed_at=other.first_failed_at
            )


def _follow(incident: Incident, found: Sequence[Group], now: datetime) -> None:
    own = [group for group in found if _is_of(group, incident)]
    if own:
        _count(incident, max(group.last_at for group in own))
    if incident.closing_proposed_at is None:
        _propose_closing(incident, now)
    elif incident.last_failed_at > incident.closing_proposed_at:
        _relapse(incident, now)


def _is_of(group: Group, incident: Incident) -> bool:
    is_here = incident.connection_id in (None, group.connection_id)
    return is_here and group.source_name == incident.source_name and group.cause == cause_of(incident)


def _count(incident: Incident, last_at: datetime) -> None:
    """Brings the figures up to date. Writes only what differs: each write is news for every open page."""
    known, last_at = (
        (incident.failures, incident.drivers, incident.last_failed_at),
        max(last_at, incident.last_failed_at),
    )
    try:
        found = figures(incident, last_at)
    except OperationalError as error:
        if not isinstance(error.__cause__, QueryCanceled):
            raise
        # Its messages are those up to the last failure: that must be true although nobody can count them in time.
        logger.warning("Incident %s is too large to be counted in time", incident.uuid)
        found = Figures(incident.failures, incident.drivers, last_at)
    if found.last_failed_at is None or found == known:
        return
    Incident.objects.open().filter(pk=incident.pk).update(**found._asdict())
    incident.failures, incident.drivers, incident.last_failed_at = found.failures, found.drivers, found.last_failed_at


def _propose_closing(incident: Incident, now: datetime) -> None:
    calm = now - incident.last_failed_at
    if calm < CALM:
        return
    succeeded = accepted_since(incident, incident.last_failed_at, now, RECOVERED_AFTER)
    if succeeded < RECOVERED_AFTER and calm < QUIET:
        return
    said = "Sends succeed again." if succeeded >= RECOVERED_AFTER else "Nothing failed for 30 minutes."
    still = Incident.objects.open().filter(
        pk=incident.pk, closing_proposed_at=None, last_failed_at=incident.last_failed_at
    )
    with transaction.atomic():
        if still.update(closing_proposed_at=now):
            enter(incident, Kind.RECOVERING, now, f"{said} Close it?")


def _relapse(incident: Incident, now: datetime) -> None:
    """Failures returned. Whoever was told long ago is told again."""
    still = Incident.objects.open().filter(pk=incident.pk, closing_proposed_at=incident.closing_proposed_at)
    with transaction.atomic():
        if not still.update(closing_proposed_at=None):
            return
        enter(incident, Kind.RELAPSED, now, f"{_told(incident)[:-1]} so far.")
        if ways():
            told_long_ago = Q(alerted_at=None) | Q(alerted_at__lte=now - SILENCE)
            Incident.objects.open().filter(told_long_ago, pk=incident.pk, alert_due_at=None).update(
                alert_due_at=now, alert_left=ways(), alert_tries=0
            )
