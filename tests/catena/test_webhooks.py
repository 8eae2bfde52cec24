"""Deliveries: the signature recipe against the contract's vector, and what is refused for which reason."""

import base64
import gzip
import hashlib
import hmac
import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from messaging.catena.errors import BadPayload, TooLarge
from messaging.catena.webhooks import BadSignature, StaleDelivery, parse, record_type, verify
from tests.catena.fake_catena import example

VECTOR = example("signature_vector")
SENT_AT = datetime.fromisoformat(VECTOR["x_catena_timestamp"])
PACKED = base64.b64decode(VECTOR["gzip_body_base64"])
BODY = VECTOR["uncompressed_body"].encode()


def checked(raw: bytes = PACKED, **changes: Any) -> Any:
    delivery: dict[str, Any] = {
        "encoding": "gzip",
        "signature": VECTOR["x_catena_signature"],
        "timestamp": VECTOR["x_catena_timestamp"],
        "secrets": [VECTOR["secret"]],
        "now": SENT_AT,
    }
    return verify(raw, **(delivery | changes))


def signed(body: bytes, secret: str = VECTOR["secret"]) -> str:
    message = VECTOR["x_catena_timestamp"].encode() + b"." + body
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()


def test_the_contracts_vector_is_authentic() -> None:
    verified = checked()
    assert (verified.body, verified.key) == (BODY, 0)
    assert parse(verified.body).event_name == "resource_operation.succeeded"


def test_a_proxy_may_have_removed_gzip() -> None:
    assert checked(BODY, encoding=None).body == BODY


def test_either_secret_of_a_rotation_passes_and_is_named() -> None:
    assert checked(secrets=["the one before", VECTOR["secret"]]).key == 1
    assert checked(secrets=[VECTOR["secret"], "the next one"]).key == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"secrets": ["another secret"]},
        {"signature": None},
        {"signature": ""},
        {"signature": "not base64 at all"},
        {"signature": VECTOR["x_catena_signature"] + ", " + VECTOR["x_catena_signature"]},
        {"signature": VECTOR["x_catena_signature"][:-4]},
        {"signature": "ü" * 44},
        {"timestamp": None},
        {"timestamp": "yesterday"},
        {"timestamp": "2026-05-12T14:03:22"},
        {"timestamp": "2026-05-12T14:03:22Z"},
    ],
)
def test_a_delivery_that_is_not_provably_catenas_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadSignature) as caught:
        checked(**changes)
    assert type(caught.value) is BadSignature


def test_every_flipped_bit_of_the_body_is_noticed() -> None:
    for position in range(0, len(BODY) * 8, 7):
        flipped = bytearray(BODY)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(BadSignature):
            checked(bytes(flipped), encoding=None)


def test_a_signature_has_one_spelling() -> None:
    """Its last character before the padding has two bits that say nothing."""
    *rest, last, padding = VECTOR["x_catena_signature"]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for bit in (1, 2, 3):
        other = "".join([*rest, alphabet[alphabet.index(last) ^ bit], padding])
        assert base64.b64decode(other) == base64.b64decode(VECTOR["x_catena_signature"])
        with pytest.raises(BadSignature):
            checked(signature=other)


@pytest.mark.parametrize("seconds", [300, -300])
def test_a_delivery_of_five_minutes_is_still_taken(seconds: int) -> None:
    assert checked(now=SENT_AT + timedelta(seconds=seconds)).body == BODY


@pytest.mark.parametrize("seconds", [301, -301, 10**6])
def test_a_genuine_delivery_of_another_time_is_stale_and_not_forged(seconds: int) -> None:
    with pytest.raises(StaleDelivery):
        checked(now=SENT_AT + timedelta(seconds=seconds))


def test_a_forged_old_delivery_is_forged_and_not_stale() -> None:
    with pytest.raises(BadSignature) as caught:
        checked(BODY + b" ", encoding=None, now=SENT_AT + timedelta(days=1))
    assert type(caught.value) is BadSignature


def test_without_a_secret_nothing_can_pass() -> None:
    with pytest.raises(ValueError, match="no secret"):
        checked(secrets=[])


def test_damaged_and_oversized_bodies_are_told_apart_from_forgeries() -> None:
    with pytest.raises(BadPayload):
        checked(PACKED[:-3])
    with pytest.raises(TooLarge):
        checked(gzip.compress(bytes(5 * 1024 * 1024)))
    with pytest.raises(TooLarge):
        checked(limit=100)


def envelope(**changes: Any) -> bytes:
    return json.dumps({**json.loads(BODY), **changes}).encode()


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"[]", ""),
        (b"{", ""),
        (b'{"version": "1.0", "version": "1.0"}', ""),
        (envelope(data=[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]), ""),
        (envelope(data={}), "data"),
        (envelope(data=[{}] * 1001), "data"),
        (envelope(data=[{"logs": [0] * 100_000}]), ""),
        (envelope(webhook_id="mine"), "webhook_id"),
        (envelope(version=None), "version"),
    ],
)
def test_an_authentic_body_of_another_shape_is_a_bad_payload(body: bytes, path: str) -> None:
    with pytest.raises(BadPayload) as caught:
        parse(body)
    assert caught.value.path == path


def test_a_bad_record_does_not_hide_its_siblings() -> None:
    event = parse(envelope(data=[{"id": 1}, *json.loads(BODY)["data"]]))
    kind = record_type(event.event_name)
    assert kind is not None
    with pytest.raises(BadPayload):
        kind.parse(event.data[0])
    assert kind.parse(event.data[1]).raw == json.loads(BODY)["data"][0]


def test_an_unknown_event_is_kept_without_a_type() -> None:
    event = parse(envelope(event_name="driver_score.added", data=[{"id": 7}]))
    assert record_type(event.event_name) is None
    assert record_type(None) is None
    assert event.data == ({"id": 7},)


def test_the_same_event_has_the_same_key_whatever_the_attempt() -> None:
    assert parse(envelope(delivery_attempt=3)).dedupe_key == str(UUID(json.loads(BODY)["id"]))
    first, again, other = (
        parse(body).dedupe_key
        for body in (envelope(id=None), envelope(id=None, delivery_attempt=3), envelope(id=None, data=[]))
    )
    assert first == again != other
    assert len(first) == 64


def test_our_own_signature_of_a_body_passes() -> None:
    body = b'{"any": "body"}'
    assert checked(gzip.compress(body), signature=signed(body)).body == body
