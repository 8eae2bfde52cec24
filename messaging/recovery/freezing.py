"""The dry run: picks the failures of a filter once, judges each, and keeps both as a draft. Sends nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.core.exceptions import EmptyResultSet
from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet
from psycopg.errors import QueryCanceled

from messaging.models import Incident, Message, Recovery, User
from messaging.recovery.verdicts import JUDGED_SQL
from messaging.states import RESENDABLE_STATES

# The newest so many: older ones are the first to be of no use.
MOST = 10_000
TIME_LIMIT_MS = 2000
FREEZE_SQL = """
WITH RECURSIVE picked AS MATERIALIZED ({picked}), {judged}
INSERT INTO messaging_recoveryitem (recovery_id, message_id, verdict, is_canary, problem)
SELECT %s, id, verdict, FALSE, '' FROM judged ORDER BY occurred_at, id
"""


# A draft that nobody started: what it counted is no longer so.
DRAFTS_KEPT = timedelta(days=7)


class NothingToRecover(Exception):
    """No failure is in the set."""


class TooMuch(Exception):
    """The set could not be judged in time."""


def freeze(
    user: User,
    found: "QuerySet[Message]",
    now: datetime,
    *,
    query: str = "",
    about: str = "",
    incident: Incident | None = None,
) -> Recovery:
    """A draft with every failure among `found` that this person may see and send again, each with its verdict.

    At most MOST, the newest; the set never changes afterwards. Sends that may be out (unknown, or waiting for a decision) are
    no failures and never in it; neither are tests. Raises `NothingToRecover`, and `TooMuch` after two seconds; then nothing
    is kept. Whoever sees a message may send it again (`access.can_resend`).
    """
    mine = Message.objects.visible_to(user).outgoing().filter(
        pk__in=found.order_by().values("pk"), state__in=sorted(RESENDABLE_STATES), deleted_at=None, is_test=False
    )  # fmt: skip
    newest = mine.order_by("-occurred_at", "-id").values("id")[:MOST]
    try:
        picked, parameters = newest.query.sql_with_params()
    except EmptyResultSet:
        raise NothingToRecover from None
    with _time_limit(), transaction.atomic():
        recovery = Recovery.objects.create(
            author=user, incident=incident, query=query[:1000], about=about[:300], created_at=now
        )
        with connection.cursor() as cursor:
            cursor.execute(FREEZE_SQL.format(picked=picked, judged=JUDGED_SQL), [*parameters, now, recovery.pk])
            if not cursor.rowcount:
                raise NothingToRecover
    return recovery


def forget_drafts(now: datetime) -> int:
    """Removes a few of the drafts that nobody started within a week; how many. What was started is kept for good."""
    old = Recovery.objects.filter(state=Recovery.State.DRAFT, created_at__lt=now - DRAFTS_KEPT).order_by("id")[:10]
    forgotten = 0
    for draft in old:
        with transaction.atomic():
            # Started at this moment: then it is no draft any more
            held = Recovery.objects.select_for_update(skip_locked=True).filter(pk=draft.pk, state=Recovery.State.DRAFT)
            if held.values_list("pk").first() is not None:
                draft.delete()
                forgotten += 1
    return forgotten


@contextmanager
def _time_limit() -> Iterator[None]:
    """Ends the statements of the block after two seconds with `TooMuch`, and leaves the session as it was."""
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL statement_timeout = {TIME_LIMIT_MS}")
            yield
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            raise TooMuch from error
        raise
