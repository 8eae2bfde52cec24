"""Hostile bytes: nothing that cannot be read, unpacked or stored gets through, at a bounded price."""

import gzip
import json
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.catena.errors import BadPayload, TooLarge
from messaging.catena.payload import bounded_inflate, decode_json


@pytest.mark.parametrize("encoding", [None, "", "identity", " Identity "])
def test_plain_bytes_pass_as_they_are(encoding: str | None) -> None:
    assert bounded_inflate(b"{}", encoding, 2) == b"{}"


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
def test_gzip_is_unpacked_and_fed_piece_by_piece(encoding: str) -> None:
    whole = bytes(range(256)) * 1000
    fed: list[bytes] = []
    assert bounded_inflate(gzip.compress(whole), encoding, len(whole), fed.append) == whole
    assert b"".join(fed) == whole
    assert len(fed) > 1


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        (b"", "gzip"),
        (b"{}", "gzip"),
        (gzip.compress(b"{}")[:-1], "gzip"),
        (gzip.compress(b"{}") + b"\x00", "gzip"),
        (gzip.compress(b"{}") * 2, "gzip"),
        (gzip.compress(b"{}")[:-8] + bytes(8), "gzip"),
        (zlib.compress(b"{}"), "gzip"),
        (zlib.compress(b"{}"), "deflate"),
        (b"{}", "br"),
        (b"{}", "gzip, gzip"),
    ],
    ids=range(10),
)
def test_anything_but_one_sound_member_is_refused(raw: bytes, encoding: str) -> None:
    with pytest.raises(BadPayload):
        bounded_inflate(raw, encoding, 1000)


def test_the_limit_counts_unpacked_bytes() -> None:
    assert bounded_inflate(gzip.compress(b"x" * 1000), "gzip", 1000) == b"x" * 1000
    with pytest.raises(TooLarge):
        bounded_inflate(gzip.compress(b"x" * 1001), "gzip", 1000)
    with pytest.raises(TooLarge):
        bounded_inflate(b"x" * 1001, None, 1000)


def test_a_gzip_bomb_costs_no_more_memory_than_its_limit() -> None:
    machine = zlib.compressobj(9, wbits=31)
    bomb = b"".join(machine.compress(bytes(1024 * 1024)) for _ in range(256)) + machine.flush()
    tracemalloc.start()
    with pytest.raises(TooLarge):
        bounded_inflate(bomb, "gzip", 1024 * 1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"NaN",
        b"[Infinity]",
        b'{"a": -1e999}',
        b'"\x00"',
        b"[" * 100_000,
        b"[" * 66 + b"]" * 66,
        b"9" * 10_000,
    ],
    ids=range(11),
)
def test_json_that_cannot_be_read_or_stored_is_a_bad_payload(raw: bytes) -> None:
    with pytest.raises(BadPayload):
        decode_json(raw)


def test_what_no_database_holds_is_replaced() -> None:
    raw = rb'{"a\u0000": ["\ud83d", "\ud83d\ude9a", "\\u0000"]}'
    assert decode_json(raw) == {"a\N{REPLACEMENT CHARACTER}": ["\N{REPLACEMENT CHARACTER}", "🚚", "\\u0000"]}


def test_a_repeated_key_is_refused_on_demand() -> None:
    assert decode_json(b'{"a": 1, "a": 2}') == {"a": 2}
    with pytest.raises(BadPayload):
        decode_json(b'{"a": 1, "a": 2}', unique_keys=True)


def test_depth_is_counted_in_levels() -> None:
    assert decode_json(b"[" * 3 + b"]" * 3, max_depth=3) == [[[]]]
    with pytest.raises(BadPayload, match="deeper than 2"):
        decode_json(b'{"a": [{"b": 1}]}', max_depth=2)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
        max_leaves=20,
    )
)
def test_ordinary_json_comes_through_unchanged(value: object) -> None:
    assert decode_json(json.dumps(value).encode()) == value


def test_values_are_counted_before_any_is_made() -> None:
    """A million empty objects are 3 MB of body, a second of a parser and 70 MB of memory."""
    many = b"[" + b"{}," * 1_000_000 + b"0]"
    tracemalloc.start()
    start = time.thread_time()
    with pytest.raises(BadPayload, match="more than 200000 values"):
        decode_json(many, max_values=200_000)
    spent, most = time.thread_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert spent < 0.1
    assert most < 1024 * 1024
    assert decode_json(b"[" + b"1," * 199_998 + b"1]", max_values=200_000) == [1] * 199_999
