"""Deliveries that no honest Catena sends, each with the answers that it may get: a grammar, driven by seeded chance.

Two kinds are kept apart. What is not provably Catena's may be refused only. What is, but cannot be used, may also be
answered 202, since Catena does not send it again; nothing of it may be applied.
"""

import base64
import gzip
import hashlib
import hmac
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random
from typing import Any

SECRET, NEXT_SECRET, RETIRED = "current-" * 5, "next-one-" * 5, "retired-" * 5
REFUSED = frozenset({400, 401, 405, 408, 411, 413, 415})
UNUSABLE = frozenset({202})
# Signed by Catena, but out of its time: may be refused or set aside.
OUT_OF_TIME = frozenset({202, 401})
MAX_PACKED, MAX_UNPACKED = 1024 * 1024, 4 * 1024 * 1024
MIB = 1024 * 1024
EVENT: dict[str, Any] = {
    "version": "1.0",
    "event_name": "message.added",
    "data": [{"id": "019de3a1-4b7c-7d10-8f52-2a6b9c0d1e31"}],
    "webhook_id": "019de3a1-0000-7d10-8f52-2a6b9c0d1e31",
    "id": "019de3a1-1111-7d10-8f52-2a6b9c0d1e31",
    "delivery_attempt": 1,
}
NAMELESS = {**EVENT, "id": None}
TYPE, CODING, SIGNATURE, TIMESTAMP = "Content-Type", "Content-Encoding", "X-Catena-Signature", "X-Catena-Timestamp"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request to the receiver. `length` is the text of Content-Length: empty for the true one, None for none."""

    kind: str
    answers: frozenset[int]
    raw: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    method: str = "POST"
    length: str | None = ""

    @property
    def is_authentic(self) -> bool:
        return 202 in self.answers


def pack(body: bytes) -> bytes:
    return gzip.compress(body, 1, mtime=0)


def dump(event: object) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


BODY = dump(EVENT)


def moment(age: timedelta = timedelta(0)) -> str:
    return (datetime.now(UTC) - age).isoformat(timespec="seconds")


def mac(message: bytes, secret: str = SECRET, kind: str = "sha256") -> str:
    return base64.b64encode(hmac.new(secret.encode(), message, kind).digest()).decode()


def signature(body: bytes, timestamp: str, secret: str = SECRET) -> str:
    return mac(timestamp.encode() + b"." + body, secret)


def signed(body: bytes, timestamp: str = "", secret: str = SECRET, raw: bytes | None = None) -> Delivery:
    """As Catena would send this body; `raw` is what travels instead of its gzip."""
    timestamp = timestamp or moment()
    headers = {TYPE: "application/json", CODING: "gzip", SIGNATURE: signature(body, timestamp, secret)}
    return Delivery("signed", UNUSABLE, pack(body) if raw is None else raw, {**headers, TIMESTAMP: timestamp})


def plain(body: bytes) -> Delivery:
    """The same when a proxy has removed gzip."""
    sent = signed(body, raw=body)
    return replace(sent, headers={name: text for name, text in sent.headers.items() if name != CODING})


def refused(sent: Delivery, *answers: int, **headers: str | None) -> Delivery:
    """`sent` with other headers (`_` for `-`, None to leave one out), to be refused."""
    changes = {name.replace("_", "-"): text for name, text in headers.items()}
    kept = {name: text for name, text in {**sent.headers, **changes}.items() if text is not None}
    return replace(sent, answers=frozenset(answers) or REFUSED, headers=kept)


def word(chance: Random) -> str:
    """Anything at all that a header can carry."""
    return chance.choice(
        (
            "", " ", "0", "-1", "null", "%s%n", "\x7f", "é" * 30, "a" * chance.randrange(1, 9000), ",", ";", "=" * 44,
            "\x80\xff", "'; DROP TABLE x; --", "A" * 44, "../" * 20, "\u00a0", "{}", "gzip", "application/json",
        )
    )  # fmt: skip


def methods(chance: Random) -> Delivery:
    method = chance.choice(("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "X" * 99))
    return replace(refused(signed(BODY), 405), method=method)


def types(chance: Random) -> Delivery:
    name = chance.choice(
        (
            None, "", "text/plain", "text/json", "application/json-patch+json", "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x", "application/jsonx", "application/*", "json", "application/json/x",
            "application/ json", "é", "x" * 5000, "x" * 20_000, "application/octet-stream", "application/json; x*=none''y",
            "multipart/form-data; x*0*=a'b'" + "c" * 99,
        )
    )  # fmt: skip
    return refused(signed(BODY), 415, **{TYPE: name})


def codings(chance: Random) -> Delivery:
    name = chance.choice(
        ("br", "deflate", "zstd", "compress", "gzip, gzip", "gzip,identity", "*", "gzip;q=1", "é", "x" * 5000, "gz ip")
    )
    return refused(signed(BODY), 415, **{CODING: name})


def lengths(chance: Random) -> Delivery:
    if chance.random() < 0.3:
        return replace(refused(signed(BODY), 411), length=None)
    length = chance.choice(("abc", "-1", "1.5", "0x10", "1e3", "9" * 5000, "\u00b2", " ", "+-3"))
    return replace(refused(signed(BODY), 400, 411, 413), length=length)


def lying_lengths(chance: Random) -> Delivery:
    sent, true = refused(signed(BODY), 400, 401, 408), len(pack(BODY))
    if chance.random() < 0.3:
        return replace(sent, answers=frozenset({413}), length=str(MAX_PACKED + chance.choice((1, 2**20, 2**31, 2**63))))
    return replace(sent, length=str(chance.choice((true - 1, true + 1, 1, true * 3, chance.randrange(1, true)))))


def too_much(chance: Random) -> Delivery:
    return replace(refused(plain(b"x" * (MAX_PACKED + 1 + chance.randrange(9))), 413), kind="too much")


def signatures(chance: Random) -> Delivery:
    sent, body = signed(BODY), BODY
    right, at = sent.headers[SIGNATURE], sent.headers[TIMESTAMP]
    return refused(
        sent,
        401,
        **{
            SIGNATURE: chance.choice(
                (
                    None, "", right[:-1], right + "=", right + ",", right + ", " + right, right + "," + right, "=" + right,
                    right[:20] + " " + right[20:], right.lower(), right.swapcase(), "sha256=" + right, "v1," + right,
                    right[:-2] + "==", right[:-2] + "*=",
                    base64.b64decode(right).hex(), mac(body), mac(at.encode() + body), mac(at.encode() + b"." + pack(body)),
                    mac(b"." + body), mac(at.encode() + b".\n" + body), signature(body, at, ""),
                    signature(body, at, RETIRED), signature(body, moment(timedelta(seconds=9))), "A" * 43 + "=",
                    mac(at.encode() + b"." + body, kind="sha1"), mac(at.encode() + b"." + body, kind="sha512"),
                    right * 200, "\x00" * 44, "é" * 44, word(chance), "".join(chance.choices("AZaz09+/=-_", k=44)),
                    base64.b64encode(chance.randbytes(32)).decode(), base64.b64encode(right.encode()).decode(),
                )
            )
        },
    )  # fmt: skip


def noncanonical(chance: Random) -> Delivery:
    """The right 32 bytes in another spelling: the last character before the padding has two bits that say nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    sent = signed(BODY)
    right = sent.headers[SIGNATURE]
    spelled = right[:42] + alphabet[alphabet.index(right[42]) ^ chance.randrange(1, 4)] + "="
    return refused(sent, 401, **{SIGNATURE: spelled})


def times(chance: Random) -> Delivery:
    """No moment, or one without a zone; each signed properly with that very text."""
    now = datetime.now(UTC)
    text = chance.choice(
        (
            now.replace(tzinfo=None).isoformat(), now.date().isoformat(), str(int(now.timestamp())), "now", "0", "-",
            now.strftime("%a, %d %b %Y %H:%M:%S GMT"), now.isoformat() + "[Europe/Paris]", now.isoformat() + "junk",
            now.isoformat() + "," + now.isoformat(), "2026-02-30T00:00:00+00:00", "2026-01-01T25:00:00Z", "9" * 4000,
            "2026-01-01T00:00:00+99:99", "2026-01-01T00:00:60+00:00", "026-01-01T00:00:00Z", "Z", "+00:00",
            "".join(chance.choices("0123456789-:TZ+. ", k=25)), "24:00", "2026-W01-1", "infinity", "NaN",
        )
    )  # fmt: skip
    return replace(signed(BODY, timestamp=text), answers=frozenset({401}))


def unsigned_times(chance: Random) -> Delivery:
    text = chance.choice((None, "", moment(), moment(timedelta(seconds=1)), word(chance), "é" + moment()))
    sent = signed(BODY, timestamp=moment(timedelta(seconds=3)))
    return refused(sent, 401, **{TIMESTAMP: text})


def ages(chance: Random) -> Delivery:
    """Signed by Catena, but long ago or far ahead: a replay of what was overheard."""
    away = timedelta(seconds=chance.choice((900, 3600, 86400, 10**8, 10**9)) * chance.choice((1, -1)))
    zone = chance.choice((0, 5, -11, 14))
    stamp = (datetime.now(UTC) - away + timedelta(hours=zone)).replace(tzinfo=None).isoformat(timespec="seconds")
    edge = chance.choice(("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"))
    text = edge if chance.random() < 0.1 else f"{stamp}{'-' if zone < 0 else '+'}{abs(zone):02}:00"
    event = {**EVENT, "id": f"019de3a1-2222-7d10-8f52-{chance.getrandbits(48):012x}"}
    return replace(signed(dump(event), timestamp=text), answers=OUT_OF_TIME)


@cache
def bomb(size: int) -> bytes:
    machine = zlib.compressobj(9, wbits=31)
    return b"".join(machine.compress(bytes(MIB)) for _ in range(size // MIB)) + machine.flush()


def bombs(chance: Random) -> Delivery:
    return refused(signed(BODY, raw=bomb(chance.choice((5, 64, 512)) * MIB)), 413)


def damaged_gzip(chance: Random) -> Delivery:
    packed = pack(BODY)
    cut = chance.randrange(1, len(packed))
    extra = chance.choice((b"\x00", packed, b"x" * 100, pack(b""), bomb(64 * MIB)))
    raw = chance.choice(
        (
            packed[:cut], packed[cut:], packed + extra, pack(BODY[:50]) + pack(BODY[50:]), pack(b"") + packed,
            packed[:-8] + bytes(4) + packed[-4:], packed[:-4] + bytes(4), zlib.compress(BODY), BODY, b"\x1f\x8b", b"\x1f",
            packed[10:-8], b"\x1f\x8b\x08\x1f" + packed[4:], b"\x1f\x8b\x08\x04\0\0\0\0\0\0\xff\xff", b"\n" + packed,
            b"\x1f\x8b\x09" + packed[3:], packed[:2] + bytes(len(packed) - 2), chance.randbytes(chance.randrange(1, 400)),
        )
    )  # fmt: skip
    return refused(signed(BODY, raw=raw), 400)


def mistaken_gzip(chance: Random) -> Delivery:
    """Unpacks, but not to what was signed."""
    nested = pack(pack(BODY))
    if chance.random() < 0.3:
        return refused(signed(BODY), 401, **{CODING: chance.choice((None, "identity", ""))})
    raw = chance.choice((nested, pack(nested), pack(b""), pack(BODY + b" "), pack(BODY[:-1]), pack(bytes(3 * MIB))))
    return refused(signed(BODY, raw=raw), 401)


def nothing(chance: Random) -> Delivery:
    return refused(signed(BODY, raw=b""), 400, 401, 411, **{CODING: chance.choice((None, "gzip", "identity"))})


@cache
def huge_bodies() -> tuple[bytes, ...]:
    """A million elements, and other things that cost a parser much; each within the unpacked limit."""
    return (
        dump({**EVENT, "data": None})[:-1] + b',"x":[' + b"0," * 999_999 + b"0]}",
        dump(EVENT).replace(b'"data":[', b'"data":[' + b"{}," * 1_000_000),
        b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * (3 * MIB),
        dump({**EVENT, "id": "1" * (3 * MIB), "webhook_id": 3}),
        b'{"version":' + b"9" * 100_000 + b"}",
        b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(150_000)) + b"}",
    )


def unusable_bodies(chance: Random) -> bytes:
    """Bodies that strict JSON or the envelope refuses, whoever signed them."""
    deep = chance.randrange(21, 3000)
    number = chance.choice((b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e400", b"01", b"1.", b".5", b"+1", b"0x1"))
    field_name = chance.choice(("version", "data", "webhook_id"))
    odd = chance.choice((None, 3, True, "x", {}, [], -1.5, "\ud800", "\x00", "9" * 999))
    return chance.choice(
        (
            BODY[:-1] + b',"version":"1.0"}', BODY[:-1] + b',"id":"019de3a1-3333-7d10-8f52-2a6b9c0d1e31"}',
            BODY.replace(b'"1.0"', number), BODY[:-1] + b',"x":' + number + b"}", BODY[:-1], BODY + b"x", BODY + BODY,
            BODY[:-1] + b',"x":' + b"[" * deep + b"]" * deep + b"}", BODY[:-1] + b',"x":{"a":1,"a":2}}',
            BODY[:-1] + b',"x":"\xed\xa0\x80"}', BODY[:-1] + b',"x":"\xff"}', BODY[:-1] + b',"x":"\x00"}',
            BODY.replace(b"{", b"{\x00", 1), b"\xef\xbb\xbf" + BODY, BODY.decode().encode("utf-16"), b"", b" ", b"null",
            b"[]", b"0", b'"x"', b"[" + BODY + b"]", BODY.replace(b'"', b"'"), BODY[:-1] + b",}", b"/**/" + BODY,
            BODY[:-1] + b',"x":1' + b"0" * 5000 + b"}", dump({**EVENT, "data": [{}] * 1001}), pack(BODY), b"\\u0000",
            dump({name: value for name, value in EVENT.items() if name != field_name}), b"<xml/>", b"{" * deep,
            dump({**EVENT, "webhook_id": odd}), dump({**EVENT, "data": chance.choice((None, 3, "x", {}, {"0": {}}))}),
            dump({**EVENT, "version": chance.choice((None, 3, [], {}))}), chance.randbytes(chance.randrange(1, 400)),
        )
    )  # fmt: skip


def unusable(chance: Random) -> Delivery:
    body = unusable_bodies(chance)
    return signed(body) if chance.random() < 0.7 or not body else plain(body)


def huge(chance: Random) -> Delivery:
    return signed(chance.choice(huge_bodies()))


def forged_bodies(chance: Random) -> Delivery:
    """The same bodies, signed by somebody else: what is in them must not matter."""
    body = chance.choice(huge_bodies()) if chance.random() < 0.05 else unusable_bodies(chance)
    return replace(signed(body, secret=RETIRED), answers=frozenset({401}))


def replays(chance: Random) -> Delivery:
    """An honest event once more, under other unsigned headers: known by now, so nothing may come of it."""
    event = chance.choice((EVENT, NAMELESS))
    sent = signed(dump({**event, "delivery_attempt": chance.randrange(9)}), secret=chance.choice((SECRET, NEXT_SECRET)))
    names = ("X-Request-ID", "X-Event-Type", "X-Webhook-ID", "X-Schema-Version", "X-Delivery-Attempt", "User-Agent")
    return replace(sent, headers={**sent.headers, **{name: word(chance) for name in names if chance.random() < 0.5}})


def noise(chance: Random) -> Delivery:
    """Nothing about it is right but the address."""
    headers = {name: word(chance) for name in (TYPE, CODING, SIGNATURE, TIMESTAMP) if chance.random() < 0.7}
    method = chance.choice(("POST", "POST", "POST", "PUT"))
    return Delivery("noise", REFUSED, chance.randbytes(chance.randrange(2000)), headers, method)


SINGLE: tuple[Callable[[Random], Delivery], ...] = (
    methods, types, codings, lengths, lying_lengths, signatures, signatures, signatures, noncanonical, times, times,
    unsigned_times, ages, damaged_gzip, damaged_gzip, damaged_gzip, mistaken_gzip, nothing, unusable, unusable, unusable,
    forged_bodies, forged_bodies, replays, noise,
)  # fmt: skip
COSTLY: tuple[Callable[[Random], Delivery], ...] = (bombs, too_much, huge)


def mixed(chance: Random) -> Delivery:
    """A refused delivery with a second fault in a header."""
    sent = chance.choice(SINGLE)(chance)
    name = chance.choice((TYPE, CODING, SIGNATURE, TIMESTAMP))
    text = chance.choice((None, word(chance), sent.headers.get(name, "") + "," + sent.headers.get(name, "")))
    # Signed over another timestamp, in another coding or not at all: whatever was authentic is no more.
    headers = {**sent.headers, SIGNATURE: mac(chance.randbytes(9)), **({name: text} if text is not None else {})}
    return replace(sent, answers=REFUSED, headers=headers)


def random_delivery(chance: Random) -> Delivery:
    dice = chance.random()
    make = chance.choice(COSTLY) if dice < 0.01 else mixed if dice < 0.2 else chance.choice(SINGLE)
    return replace(sent := make(chance), kind=make.__name__ if make is not mixed else f"mixed {sent.kind}")


def bits(text: bytes) -> Iterator[bytes]:
    for place in range(len(text) * 8):
        flipped = bytearray(text)
        flipped[place // 8] ^= 1 << place % 8
        yield bytes(flipped)


def flips() -> Iterator[Delivery]:
    """Every flip of one bit in the body, in its gzip, in the signature and in the timestamp of the honest event."""
    sent = signed(BODY)
    for body in bits(BODY):
        yield replace(refused(plain(BODY), 401), raw=body, kind="flipped body")
    for raw in bits(pack(BODY)):
        # Some bits of a gzip header say nothing about what is inside: then it is the event that we know.
        is_same = _unpacked(raw) == BODY
        answers = UNUSABLE if is_same else frozenset({400, 401})
        yield replace(signed(BODY), raw=raw, answers=answers, kind="flipped gzip")
    for name in (SIGNATURE, TIMESTAMP):
        for text in bits(sent.headers[name].encode()):
            yield replace(refused(sent, 401, **{name: text.decode("latin-1")}), kind=f"flipped {name}")


def _unpacked(raw: bytes) -> bytes:
    machine = zlib.decompressobj(wbits=31)
    try:
        return machine.decompress(raw) if not machine.unused_data else b""
    except zlib.error:
        return b""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
