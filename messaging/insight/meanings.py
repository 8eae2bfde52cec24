"""Plain words for codes, error types, headers and spans of time. Touches no table."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from math import ceil

# What a provider's answer means for the message, in one sentence; the others are explained by their class.
CODE_HINTS = {
    400: "The provider did not understand the request.",
    401: "The provider refused the stored credentials. The fleet must sign in again.",
    403: "The provider does not allow this account to do that.",
    404: "The provider does not know this driver or this address.",
    408: "The provider did not answer in time.",
    409: "The request clashed with something that the provider holds already.",
    410: "What was asked for no longer exists at the provider.",
    413: "The message is too long for the provider.",
    422: "The provider read the request and did not accept its content.",
    429: "Too many requests: the provider asks to slow down.",
    500: "Something broke inside the provider.",
    502: "A part of the provider could not be reached.",
    503: "The provider is down or overloaded, usually for a short while.",
    504: "A part of the provider did not answer in time.",
}
ERROR_TYPES = {
    "auth": "Credentials refused",
    "validation": "Content refused",
    "network": "Network trouble",
    "tsp": "Provider error",
}


def code_phrase(code: int) -> str:
    """The standard's name of a status code in sentence case; empty for a code that the standard does not name."""
    try:
        return "OK" if code == HTTPStatus.OK else HTTPStatus(code).phrase.capitalize()
    except ValueError:
        return ""


def code_hint(code: int) -> str:
    """What a provider's status code means for the message, as a sentence."""
    if code in CODE_HINTS:
        return CODE_HINTS[code]
    match code // 100:
        case 2:
            return "The provider took the message."
        case 3:
            return "The provider sent the request elsewhere."
        case 4:
            return "The provider refused the request."
        case 5:
            return "Something went wrong at the provider."
        case _:
            return "Not a code that the standard knows."


def error_type_words(error_type: str) -> str:
    """Catena's error type in words for people; one that we do not know stays as it is."""
    return ERROR_TYPES.get(error_type, error_type)


def retry_after(headers: Mapping[str, object], answered_at: datetime) -> str:
    """What the provider asked for by `Retry-After`, as a sentence; empty when it asked for nothing readable.

    The header holds seconds or an HTTP date; a date is told as the span from `answered_at`.
    """
    wanted = next((str(value).strip() for name, value in headers.items() if name.lower() == "retry-after"), "")
    if wanted.isascii() and wanted.isdigit() and len(wanted) <= 9:
        return f"The provider asked to wait {span(timedelta(seconds=int(wanted)))}."
    try:
        until = parsedate_to_datetime(wanted)
    except ValueError:
        return ""
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    seconds = ceil((until - answered_at).total_seconds())
    return f"The provider asked to wait {span(timedelta(seconds=seconds))}." if seconds > 0 else ""


def span(length: timedelta) -> str:
    """A length of time in its two largest units: `0.4 s`, `12 s`, `1 min 12 s`, `2 h 5 min`, `3 d 4 h`."""
    seconds = max(length.total_seconds(), 0)
    if 0 < seconds < 0.05:
        return "under 0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for size, word, smaller, rest in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            tail = whole % size // smaller
            return f"{whole // size} {word}" + (f" {tail} {rest}" if tail else "")
    return f"{whole} s"


def rough_span(length: timedelta) -> str:
    """A length of time in its largest unit alone, rounded down, for words beside a clock: `50 s`, `4 min`, `3 h`, `2 d`."""
    whole = max(int(length.total_seconds()), 0)
    for size, word in ((86_400, "d"), (3600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {word}"
    return f"{whole} s"
