"""What may be kept of foreign text: header allow-list, secrets scrubbed, characters that a table cannot hold removed.

Pure functions; nothing here decides what a record means.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

HEADER_NAMES = frozenset({"content-type", "date", "retry-after", "x-request-id", "x-correlation-id", "x-trace-id"})
# What a provider calls one request, by which its support finds it again.
REQUEST_ID_NAMES = frozenset({"x-request-id", "x-correlation-id", "x-trace-id"})
HEADER_PREFIXES = ("x-ratelimit-", "ratelimit-")
HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
HEADER_LENGTH = 256
HIDDEN = "[hidden]"
TEXT_LENGTH = 4000

# A JSON key with one of these in it never goes into a `raw` column, nor does what hangs below it.
SECRET_KEY = re.compile(
    r"credential|authorization|cookie|password|passwd|secret|token|api[-_]?key|headers?$|private[-_]?key", re.IGNORECASE
)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]+")
# The most telling shapes first: a bearer token would otherwise be cut in two by a later rule.
SECRETS = (
    re.compile(r"\beyJ[\w-]{6,}(?:\.[\w-]*)*"),
    re.compile(r"\b(?:(?:proxy-)?authorization|(?:set-)?cookie)[\"']?\s*[:=][^\r\n]*", re.IGNORECASE),
    re.compile(r"\bbearer[\s:=]+\S+", re.IGNORECASE),
    re.compile(r"\bbasic\s+(?=[A-Za-z+/]*[\d=])[\w+/]{6,}={0,2}", re.IGNORECASE),
    re.compile(
        r"[\w-]{0,40}(?:key|token|secret|password|passwd|pwd|session(?:[-_]?id)?|signature|sig)[\"']?\s*[:=]\s*"
        r"(?:\"[^\"]*\"?|'[^']*'?|[^\s,;&\"']+)",
        re.IGNORECASE,
    ),
    re.compile(r"(?<=://)[^/\s@]{1,200}:[^/\s@]{1,200}(?=@)"),
    re.compile(r"[\w.%+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+"),
)


# Every rule above needs one of these; identifiers and single words, which most texts of a record are, have none.
TELLING = re.compile(r"eyJ|[:=@\s]")


def redact_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that may be stored and shown: those of the allow-list in any case, values on one line of at most 256
    characters. Everything else is dropped, above all cookies, authorization and locations.
    """
    return {name: _value(value) for name, value in headers.items() if _is_allowed(name) and isinstance(value, str)}


def request_ids(headers: Mapping[str, str]) -> list[str]:
    """What the provider calls this request, from headers that passed `redact_headers`: sorted, each once, none empty."""
    found = {value.strip() for name, value in headers.items() if name.lower() in REQUEST_ID_NAMES}
    return sorted(found - {"", HIDDEN})


def _is_allowed(name: object) -> bool:
    if not isinstance(name, str) or not HEADER_NAME.fullmatch(name):
        return False
    lowered = name.lower()
    return lowered in HEADER_NAMES or lowered.startswith(HEADER_PREFIXES)


def _value(value: str) -> str:
    # A folded header would smuggle the next one in as text: only its first line is its own.
    first = value.splitlines()[0] if value else ""
    return scrub(first)[:HEADER_LENGTH]


def scrub(text: str) -> str:
    """At most 4,000 characters of the text, storable, with tokens, keys, cookies, passwords and e-mail addresses hidden."""
    clean = storable(text[:TEXT_LENGTH])
    if not TELLING.search(clean):
        return clean
    for pattern in SECRETS:
        clean = pattern.sub(HIDDEN, clean)
    return clean


def storable(text: str) -> str:
    """The text without what PostgreSQL refuses (NUL, lone surrogates) and without other control characters."""
    if text.isascii() and text.isprintable():
        return text
    return CONTROL.sub(" ", text).encode("utf-8", "replace").decode("utf-8")


@lru_cache(maxsize=1024)
def is_telling(key: str) -> bool:
    """Whether what hangs below this key may never be stored. The keys of a listing are always the same few."""
    return SECRET_KEY.search(key) is not None


def keepable(value: Any) -> Any:
    """A JSON value for a `raw` column: unknown fields stay, whatever hangs below a telling key goes, texts scrubbed."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, Mapping):
        return {storable(str(key)): keepable(item) for key, item in value.items() if not is_telling(str(key))}
    return [keepable(item) for item in value] if isinstance(value, list | tuple) else value


def verbatim(value: Any) -> Any:
    """A JSON value word for word, but storable."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, Mapping):
        return {storable_text(str(key)): verbatim(item) for key, item in value.items()}
    return [verbatim(item) for item in value] if isinstance(value, list | tuple) else value


def storable_text(text: str) -> str:
    """What a person wrote, line ends and tabs kept; only what PostgreSQL refuses is gone."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
