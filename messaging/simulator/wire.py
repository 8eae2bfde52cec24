"""How Catena writes things down: identifiers, moments, digests. Knows no record."""

import hashlib
import json
import threading
from datetime import UTC, datetime
from random import Random
from uuid import UUID

Json = dict[str, object]

# Not os.urandom: it lets go of the interpreter lock, and whoever holds the world's lock then makes everyone wait.
_tails = Random()  # noqa: S311 - no secret
_sequence_lock = threading.Lock()
_last_sequence = 0


def stable_id(*names: object) -> str:
    """A version 5 UUID that is the same for the same names, in every process and on every day."""
    named = "/".join(["catena-simulator", *map(str, names)])
    return _hyphenated(hashlib.sha1(named.encode(), usedforsecurity=False).hexdigest(), "5")


def fresh_id() -> str:
    """A version 7 UUID. Ids made by one process sort in the order in which they were made."""
    stamp, fraction = divmod(_next_sequence(), 4096)
    return _hyphenated(f"{stamp:012x}0{fraction:03x}{_tails.getrandbits(64):016x}", "7")


def _hyphenated(digits: str, version: str) -> str:
    """Without the `uuid` module: a list of messages makes thousands of them."""
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def _next_sequence() -> int:
    """Milliseconds of the wall clock times 4096, raised where needed so that it never repeats or falls back."""
    global _last_sequence
    wall = int(datetime.now(UTC).timestamp() * 1000) * 4096
    with _sequence_lock:
        _last_sequence = max(_last_sequence + 1, wall)
        return _last_sequence


def write_moment(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with milliseconds and a `Z`."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_moment(text: str) -> datetime:
    """An RFC 3339 moment; one without an offset is UTC.

    Raises ValueError for a date alone and for everything else that is not a moment.
    """
    if len(text) < len("2026-01-01T00:00"):
        raise ValueError(text)
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def is_uuid(text: object) -> bool:
    if not isinstance(text, str):
        return False
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def digest(*parts: object) -> str:
    """64 hexadecimal characters."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()


def dump(payload: object) -> bytes:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
