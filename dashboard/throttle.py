"""Slows down guessing of passwords. Counts in the database, so that every process sees every try."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.http import HttpRequest

from messaging.models import LogInAttempt

WINDOW = timedelta(minutes=15)
# One person who mistypes meets the first; a guesser of many names the second; a guesser with many addresses the third.
LIMITS = ((("account", "address"), 10), (("address",), 50), (("account",), 100))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who tries, as far as can be told before the password is checked."""

    account: str
    address: str


def caller_of(request: HttpRequest) -> Caller:
    """The typed name as a digest, and the address: the one that our proxy saw when there is a proxy."""
    name = request.POST.get("username", "").strip().lower()
    address = request.META.get("REMOTE_ADDR", "")
    if settings.BEHIND_PROXY:
        address = request.headers.get("X-Forwarded-For", "").rsplit(",", 1)[-1].strip() or address
    return Caller(account=hashlib.sha256(name.encode()).hexdigest(), address=address[:45])


def reserve(caller: Caller, now: datetime) -> timedelta | None:
    """Takes one of the tries that are left. None: go on and check the password; else the time until the next try.

    The row is written before the count: of any number of tries at the same moment, no more than the limit get through.
    """
    LogInAttempt.objects.filter(at__lt=now - WINDOW).delete()
    mine = LogInAttempt.objects.create(account=caller.account, address=caller.address, at=now)
    waits = [wait for fields, limit in LIMITS if (wait := _wait(mine, fields, limit, now))]
    if not waits:
        return None
    # A try that is refused here counts for nothing, or impatience would lengthen the wait.
    mine.delete()
    return max(waits)


def _wait(mine: LogInAttempt, fields: tuple[str, ...], limit: int, now: datetime) -> timedelta | None:
    same = {field: getattr(mine, field) for field in fields}
    earlier = LogInAttempt.objects.filter(**same, at__gte=now - WINDOW).exclude(pk=mine.pk).order_by("-at", "-pk")
    last_in_the_way = earlier.values_list("at", flat=True)[limit - 1 : limit].first()
    return None if last_in_the_way is None else last_in_the_way + WINDOW - now


def forget(caller: Caller) -> None:
    """After a success: this person at this address starts afresh."""
    LogInAttempt.objects.filter(account=caller.account, address=caller.address).delete()
