"""Our webhook subscriptions at Catena: made, read, repaired, given another secret, removed (contract sections 11 and 12).

Catena lists addresses masked. A subscription is ours when we made it (its id is kept), or when Catena refuses a new one
because it is there already. What belongs to other addresses is never touched.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings

from messaging import mirror
from messaging.catena import errors, types
from messaging.catena.client import CatenaClient
from messaging.models import WebhookEvent, WebhookSubscription
from messaging.models.subscriptions import ACTIVE, DELETED, hook_address, hook_obstacle, known_marks, secret_mark
from messaging.sync.cursors import BadItems, Round, check_pause
from messaging.sync.summary import Summary

SUBSCRIPTIONS = "subscriptions"
# Every event of contract section 13; `family.*` subscribes to a whole line.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "resource_operation": ("created", "succeeded", "failed"),
    "message": ("added", "modified"),
    "group_message": ("added", "modified"),
    "user": ("added", "modified", "removed"),
    "connection": ("created", "staled"),
    "fleet_connection": ("created",),
    "share_agreement": ("created", "updated", "deleted"),
    "schedule": ("deactivated",),
    "webhook": ("staled", "paused", "activated"),
}
# A mask with more pieces is no address; each costs the comparison more than the one before.
MOST_MASKS = 6
FORBIDDEN, NOT_FOUND, TAKEN, NOT_OFFERED = 403, 404, 409, 422


@dataclass
class Report(Summary):
    """What was done, as numbers by word; `problems` and `stopped` say what could not be done."""

    did: Counter[str] = field(default_factory=Counter)

    @property
    def words(self) -> str:
        """One sentence."""
        done = ", ".join(f"{number} {what}" for what, number in self.did.items() if number)
        return f"Done: {done}." if done else "There was nothing to do."

    @property
    def is_good(self) -> bool:
        return not self.stopped and not self.problems


def ensure(client: CatenaClient, now: datetime) -> Report:
    """Subscribes to every event that is missing and leaves alone what is there. Idempotent, also after a lost answer.

    Like its siblings it never raises one of Catena's failures: the report tells, and the rows tell how far it came.
    """
    return _perform(client, now, _read, _create)


def check(client: CatenaClient, now: datetime) -> Report:
    """Reads status and dead letters of ours. Changes nothing at Catena."""
    return _perform(client, now, _read, _measure)


def rotate(client: CatenaClient, now: datetime) -> Report:
    """Gives every subscription of ours the last secret of CATENA_WEBHOOK_SECRET; from then on it signs with that one alone.

    Those first that sign with another one, and again all of them when there is none.
    """
    return _perform(client, now, _read, _rotate)


def activate(client: CatenaClient, now: datetime) -> Report:
    """Makes again what is gone, gives a secret that we take, and activates what Catena or somebody has stopped."""
    return _perform(client, now, _read, _recreate, _secure, _activate)


def replay(client: CatenaClient, now: datetime) -> Report:
    """Asks for what could not be delivered, where there is such. Deliveries that were there before are recognised."""
    return _perform(client, now, _read, _measure, _replay)


def repair(client: CatenaClient, now: datetime) -> Report:
    """`activate`, then `replay` by the figures of the last check: the way back that the contract names."""
    return _perform(client, now, _read, _recreate, _secure, _activate, _replay)


def remove(client: CatenaClient, now: datetime) -> Report:
    """Removes every subscription of ours. News comes by sweeps alone from then on."""
    return _perform(client, now, _read, _remove)


@dataclass
class _Job:
    """One piece of work on the subscriptions of one address."""

    client: CatenaClient
    now: datetime
    url: str
    report: Report
    listed: list[types.Webhook] = field(default_factory=list)
    # Made by us, but the answer named no id; or refused because it is there already.
    unknown: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def secret(self) -> str:
        return settings.CATENA_WEBHOOK_SECRETS[-1]

    def alive(self) -> list[WebhookSubscription]:
        """Ours that Catena still has, those first that were not looked at for longest."""
        rows = WebhookSubscription.objects.filter(url=self.url).alive()
        return sorted(rows, key=lambda row: (row.checked_at is not None, row.checked_at))

    def gone(self) -> list[WebhookSubscription]:
        """Ours that Catena has no longer, though we did not remove them."""
        return list(WebhookSubscription.objects.filter(url=self.url, status=DELETED))

    def forget_gone(self) -> None:
        for row in self.gone():
            mirror.forget_webhook(row)

    def each(
        self, rows: Iterable[WebhookSubscription], what: str, act: Callable[[WebhookSubscription], object]
    ) -> None:
        """Acts on each; one that Catena refuses is noted and keeps no other from it."""
        for row in rows:
            try:
                act(row)
            except (errors.Refused, errors.BadPayload) as problem:
                if problem.http_status == FORBIDDEN:
                    raise
                mirror.note_webhook_problem(row, str(problem))
                self.report.problems.append(f"{row.event_name}: {problem}")
            else:
                self.report.did[what] += 1


type _Step = Callable[[_Job], None]


def _perform(client: CatenaClient, now: datetime, *steps: _Step) -> Report:
    report, work = Report(stopped=hook_obstacle().removesuffix(".")), Round(SUBSCRIPTIONS, now, patience=1)
    if report.stopped:
        return report
    job = _Job(client, now, hook_address(), report)
    with report.watching(work):
        check_pause(now)
        with work.source() as progress:
            _take_steps(job, steps)
            progress.read = len(job.listed)
    mirror.summarise_webhooks(job.url, now)
    return report


def _take_steps(job: _Job, steps: Sequence[_Step]) -> None:
    try:
        for step in steps:
            step(job)
    except errors.Refused as refusal:
        if refusal.http_status != FORBIDDEN:
            raise
        sentence = f"{refusal}. This client id may not manage webhooks: ask Catena for the permission"
        raise errors.Refused(sentence, http_status=FORBIDDEN) from refusal


def _read(job: _Job) -> None:
    # What is subscribed while we read is not in the list, and yet not gone.
    known = [row.catena_id for row in job.alive()]
    bad = BadItems("subscription")
    job.listed = list(job.client.list_webhooks(on_bad=bad))
    for record in job.listed:
        mirror.apply_webhook(record)
    if not bad.count:
        mirror.withdraw_webhooks(set(known) - {record.id for record in job.listed})


def _create(job: _Job) -> None:
    have = {row.event_name for row in job.alive()}
    for family, actions in FAMILIES.items():
        missing = [f"{family}.{action}" for action in actions if f"{family}.{action}" not in have]
        if len(missing) == len(actions) and _subscribe(job, f"{family}.*"):
            continue
        for name in missing:
            if not _subscribe(job, name):
                job.unknown.append(name)
    _conclude(job)


def _recreate(job: _Job) -> None:
    have = {row.event_name for row in job.alive()}
    for name in sorted({row.event_name for row in job.gone()} - have):
        if not _subscribe(job, name):
            job.unknown.append(name)
    _conclude(job)


def _conclude(job: _Job) -> None:
    """An event that Catena does not offer is no trouble, unless that is all it says: then it is about the address."""
    _take_over(job)
    job.forget_gone()
    if job.refused and not job.alive():
        job.report.problems += job.refused
    else:
        job.report.did["not offered by Catena"] += len(job.refused)


def _subscribe(job: _Job, name: str) -> bool:
    """False when Catena says that it is there already, in a family for any of its events."""
    try:
        made = job.client.create_webhook(job.url, name, job.secret)
    except errors.Refused as refusal:
        if refusal.http_status == TAKEN:
            return False
        if refusal.http_status != NOT_OFFERED:
            raise
        job.refused.append(f"{name}: {refusal}")
        return True
    for record in made:
        if record.id is None:
            job.unknown.append(record.event_name)
        else:
            mirror.apply_subscribed(record, job.url, secret_mark(job.secret), job.now)
            job.report.did["subscribed"] += 1
    return True


def _take_over(job: _Job) -> None:
    """Finds out which of the listed subscriptions are those at our address, and gives them our secret."""
    if not job.unknown:
        return
    listed = list(job.client.list_webhooks(on_bad=BadItems("subscription")))
    known = set(WebhookSubscription.objects.values_list("catena_id", flat=True))
    for name in job.unknown:
        record = _only([one for one in listed if _may_be_ours(one, name) and one.id not in known], job.url)
        if record is None:
            job.report.problems.append(
                f"{name}: Catena has a subscription for {job.url}, but its list does not show which one it is."
                " Remove it in Catena's console, then try again"
            )
            continue
        mirror.apply_subscribed(record, job.url)
        row = WebhookSubscription.objects.get(catena_id=record.id)
        job.each([row], "found and taken over", lambda row: _give_secret(job, row))


def _may_be_ours(record: types.Webhook, name: str) -> bool:
    """We subscribe without filters."""
    return record.event_name == name and record.status != DELETED and not any((record.filters or {}).values())


def _only(candidates: list[types.Webhook], url: str) -> types.Webhook | None:
    """The one candidate at this address; None when nothing tells it from others."""
    if len(candidates) > 1:
        candidates = [one for one in candidates if _fits(one.url, url)]
    if len(candidates) > 1:
        # What has delivered here, signed with a secret of ours, is ours.
        delivered = set(
            WebhookEvent.objects.filter(webhook_id__in=[one.id for one in candidates]).values_list(
                "webhook_id", flat=True
            )
        )
        candidates = [one for one in candidates if one.id in delivered]
    return candidates[0] if len(candidates) == 1 else None


def _fits(masked: str | None, url: str) -> bool:
    """Whether a masked address could be this one; its asterisks stand for anything."""
    shown = re.split(r"\*+", masked or "")
    return len(shown) <= MOST_MASKS and re.fullmatch(".*".join(map(re.escape, shown)), url) is not None


def _give_secret(job: _Job, row: WebhookSubscription) -> None:
    job.client.update_webhook(row.catena_id, secret=job.secret)
    mirror.note_secret(row, secret_mark(job.secret), job.now)


def _rotate(job: _Job) -> None:
    rows = job.alive()
    others = [row for row in rows if row.secret_mark != secret_mark(job.secret)]
    job.each(others or rows, "given the last secret", lambda row: _give_secret(job, row))


def _secure(job: _Job) -> None:
    """A secret that the receiver does not take would have every delivery refused, and so lost."""
    marks = known_marks()
    wrong = [row for row in job.alive() if row.secret_mark not in marks]
    job.each(wrong, "given the last secret", lambda row: _give_secret(job, row))


def _activate(job: _Job) -> None:
    stopped = [row for row in job.alive() if row.status != ACTIVE]
    job.each(stopped, "re-activated", lambda row: mirror.apply_webhook(job.client.activate_webhook(row.catena_id)))


def _measure(job: _Job) -> None:
    job.each(job.alive(), "checked", lambda row: _measure_one(job, row))


def _measure_one(job: _Job, row: WebhookSubscription) -> None:
    mirror.apply_webhook_metrics(job.client.webhook_metrics(row.catena_id), job.now)


def _replay(job: _Job) -> None:
    def replay_one(row: WebhookSubscription) -> None:
        job.client.replay_webhook(row.catena_id)
        _measure_one(job, row)

    # Where the number is not known, as after an activation, there may be some.
    job.each([row for row in job.alive() if row.dead_letters != 0], "replayed", replay_one)


def _remove(job: _Job) -> None:
    def remove_one(row: WebhookSubscription) -> None:
        try:
            job.client.delete_webhook(row.catena_id)
        except errors.Refused as refusal:
            if refusal.http_status != NOT_FOUND:
                raise
        mirror.forget_webhook(row)

    job.each(job.alive(), "removed", remove_one)
    job.forget_gone()
