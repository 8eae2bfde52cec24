"""How Catena writes things down: identifiers, moments, digests. Knows no record."""

import hashlib
import json
import threading
from datetime import UTC, datetime
from random import Random
from uuid import NAMESPACE_URL, UUID, uuid5

Json = dict[str, object]

# Not os.urandom: it lets go of the interpreter lock, and whoever holds the world's lock then makes everyone wait.
_tails = Random()  # noqa: S311 - no secret
_sequence_lock = threading.Lock()
_last_sequence = 0


def stable_id(*names: object) -> str:
    """A version 5 UUID that is the same for the same names, in every process and on every day."""
    return str(uuid5(NAMESPACE_URL, "catena-simulator/" + "/".join(str(name) for name in names)))


def fresh_id() -> str:
    """A version 7 UUID. Ids made by one process sort in the order in which they were made."""
    stamp, fraction = divmod(_next_sequence(), 4096)
    tail = _tails.getrandbits(62)
    return str(UUID(int=(stamp & ((1 << 48) - 1)) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | tail))


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
