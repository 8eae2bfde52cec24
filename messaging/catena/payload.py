"""From bytes to plain values: bounded inflate and defensive JSON. Knows nothing of what the values mean."""

import json
import math
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from .errors import BadPayload, TooLarge

MAX_DEPTH = 64
STEP = 64 * 1024
# Neither PostgreSQL text nor UTF-8 can hold these, so they are replaced before anything tries to store them.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
MAY_BE_UNSTORABLE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


def bounded_inflate(
    raw: bytes, encoding: str | None, limit: int, feed: Callable[[bytes], object] | None = None
) -> bytes:
    """The body behind a `Content-Encoding` of gzip or identity (None or empty count as identity).

    Unpacks in 64 KiB steps and gives each to `feed`, so memory stays under `limit` plus one step. Exactly one gzip
    member with a good checksum and nothing behind it. Raises `TooLarge` over `limit` bytes, `BadPayload` otherwise.
    """
    coding = (encoding or "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise BadPayload(f"unknown content encoding {coding[:40]!r}")
    unpacked = bytearray()
    for piece in [raw] if coding == "identity" else _gunzip(raw):
        unpacked += piece
        if len(unpacked) > limit:
            raise TooLarge(f"more than {limit} bytes after unpacking")
        if feed is not None:
            feed(piece)
    return bytes(unpacked)


def _gunzip(raw: bytes) -> Iterator[bytes]:
    machine = zlib.decompressobj(wbits=31)
    rest = raw
    try:
        while not machine.eof:
            piece = machine.decompress(rest, STEP)
            rest = machine.unconsumed_tail
            if not piece and not rest and not machine.eof:
                raise BadPayload("the gzip data ends early")
            yield piece
    except zlib.error as error:
        raise BadPayload("the gzip data is damaged") from error
    if machine.unused_data:
        raise BadPayload("something follows the gzip data")


def decode_json(
    raw: bytes, *, max_depth: int = MAX_DEPTH, max_values: int | None = None, unique_keys: bool = False
) -> object:
    """UTF-8 JSON as plain values that can be stored: finite numbers, no NUL, no lone surrogate.

    Raises `BadPayload` for everything else, including nesting deeper than `max_depth`, more than `max_values` values and,
    when `unique_keys`, a repeated key.
    """
    if max_values is not None and len(raw) > max_values:
        _check_values(raw, max_values)
    try:
        body = json.loads(
            raw.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_unique if unique_keys else None,
        )
    except (ValueError, RecursionError) as error:
        raise BadPayload("the body is not JSON that can be read") from _cause(error)
    _check_depth(body, max_depth)
    return _storable(body) if MAY_BE_UNSTORABLE.search(raw) else body


def _check_values(raw: bytes, limit: int) -> None:
    """Before anything is made of them: a value takes two bytes of a body, and a hundred of memory. Those within texts
    count too; it is an estimate from above.
    """
    if sum(map(raw.count, (b",", b"[", b"{"))) > limit:
        raise BadPayload(f"the body may hold more than {limit} values")


def _cause(error: Exception) -> Exception | None:
    """A decoder's error quotes the whole document in its attributes; only its class is worth keeping."""
    return RecursionError("nested too deep") if isinstance(error, RecursionError) else None


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number beyond all bounds")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is repeated")
    return found


def _check_depth(body: object, limit: int) -> None:
    level = [body]
    for _ in range(limit):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise BadPayload(f"the body is nested deeper than {limit}")


def _storable(value: object) -> Any:
    if isinstance(value, str):
        return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list) else value
