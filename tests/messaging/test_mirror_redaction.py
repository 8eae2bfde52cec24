"""What may be kept of foreign headers and texts (security requirements S19 and S20), and how it reads."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messaging import mirror
from messaging.mirror.redaction import HEADER_LENGTH, HIDDEN, TEXT_LENGTH, keepable, scrub
from tests import factories

CANARY = "canary7f3a"
ALLOWED = ["Content-Type", "DATE", "retry-after", "X-Request-Id", "x-correlation-id", "X-Trace-ID", "RateLimit-Reset"]
REFUSED = ["Set-Cookie", "Cookie", "AUTHORIZATION", "Proxy-Authorization", "Location", "X-Api-Key", "WWW-Authenticate"]

names = st.one_of(
    st.sampled_from(ALLOWED + REFUSED),
    st.sampled_from(REFUSED).map(lambda name: f"X-Request-Id\r\n{name}"),
    st.sampled_from(REFUSED).map(lambda name: f" {name.swapcase()} "),
    st.text(max_size=30),
)
values = st.one_of(st.just(CANARY), st.text(max_size=20).map(lambda text: f"{text}\r\nSet-Cookie: {CANARY}"))


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(names, values, max_size=8))
def test_no_header_outside_the_list_survives_in_any_spelling(headers: dict[str, str]) -> None:
    kept = mirror.redact_headers(headers)
    for name, value in kept.items():
        assert re.fullmatch(
            r"content-type|date|retry-after|x-request-id|x-correlation-id|x-trace-id|(x-)?ratelimit-[a-z0-9-]*",
            name,
            re.IGNORECASE,
        )
        assert "\r" not in value
        assert "\n" not in value
        assert "set-cookie" not in value.lower()
        assert len(value) <= HEADER_LENGTH
    assert {name for name in headers if name in ALLOWED} <= set(kept)


def test_values_are_cut_and_secrets_in_them_hidden() -> None:
    kept = mirror.redact_headers({"X-Request-Id": "r" * 400, "X-Trace-Id": "Bearer abc.def.ghi"})
    assert kept == {"X-Request-Id": "r" * 256, "X-Trace-Id": HIDDEN}


def test_a_header_that_is_no_text_is_dropped() -> None:
    odd: dict[Any, Any] = {"X-Request-Id": 7, "Date": None, 5: "x", "Retry-After": "20"}
    assert mirror.redact_headers(odd) == {"Retry-After": "20"}


SECRETS = [
    "Authorization: Bearer {}.x", "authorization=Basic {}==", "bearer {}", "Proxy-Authorization: Digest user={}",
    "Basic {}1==", "Cookie: session={}; theme=dark", "set-cookie: a={}", "key={}", "api_key: '{}'", "apikey=\"{}\"",
    "X-Api-Key: {}", "?access_token={}&x=1", '{{"client_secret": "{}"}}', "password={}", "pwd: {}", "sessionid={}",
    "signature={}", "https://dana:{}@example.com/x", "{}@example.com", "eyJ{}.eyJzdWIiOiIxIn0.c2ln", "eyJ{}aaaaaaa",
]  # fmt: skip


@pytest.mark.parametrize("shape", SECRETS)
@pytest.mark.parametrize("around", ["{}", "The provider said: {} (try later)", "line one\n{}\nline three"])
def test_secrets_in_error_texts_are_hidden(shape: str, around: str) -> None:
    clean = scrub(around.format(shape.format(CANARY)))
    assert CANARY not in clean
    assert HIDDEN in clean


@pytest.mark.parametrize(
    "text",
    [
        "Recipient device offline",
        "Too many requests at the provider",
        "Basic validation failed: text is too long",
        "HTTP 503",
    ],
)
def test_an_ordinary_error_text_stays_as_it_is(text: str) -> None:
    assert scrub(text) == text


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=()), max_size=200))
def test_any_text_can_be_stored_afterwards(text: str) -> None:
    clean = scrub(text)
    clean.encode("utf-8")
    assert "\x00" not in clean
    assert len(scrub(text * 100)) <= TEXT_LENGTH * len(HIDDEN)


def test_a_hostile_text_is_scrubbed_in_no_time() -> None:
    for hostile in ("a" * 100_000, "key" * 30_000, "@" * 100_000, "eyJ" * 30_000, "bearer " * 20_000):
        assert len(scrub(hostile)) <= 3 * TEXT_LENGTH


def test_a_raw_body_loses_whatever_hangs_below_a_telling_name() -> None:
    body = {"a": {"Credentials": {"user": CANARY}, "token": CANARY, "b": [{"response_headers": {"x": CANARY}}]}, "n": 1}
    assert keepable(body) == {"a": {"b": [{}]}, "n": 1}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"response_status_code": 503}, "Samsara answered 503 (unavailable)"),
        ({"response_status_code": 504}, "Samsara did not answer in time"),
        ({"response_status_code": 408}, "Samsara did not answer in time"),
        ({"response_status_code": 401}, "Samsara refused the stored credentials"),
        ({"error_type": "auth"}, "Samsara refused the stored credentials"),
        ({"error_type": "network", "error_details": "Timed out"}, "Samsara did not answer in time: Timed out"),
        ({"error_type": "network"}, "Samsara could not be reached"),
        ({"error_type": "validation"}, "Samsara did not accept the message"),
        ({"error_type": "tsp"}, "Samsara reported an error"),
        ({"error_type": "escalation"}, "Samsara reported an error (escalation)"),
        ({"response_status_code": 418}, "Samsara answered 418"),
        ({"response_status_code": 429, "error_details": "Slow\n  down"}, "Samsara answered 429 (too many requests): Slow down"),
    ],
)  # fmt: skip
def test_a_failed_attempt_reads_as_a_sentence(columns: dict[str, Any], words: str) -> None:
    blank = {"error_type": "", "error_details": "", "response_status_code": None}
    log = factories.OperationLogFactory(**{**blank, **columns})
    assert mirror.plain_reason(log) == words


@pytest.mark.django_db
def test_a_long_explanation_is_shortened() -> None:
    log = factories.OperationLogFactory(error_details="word " * 200)
    reason = mirror.plain_reason(log)
    assert len(reason) <= 300
    assert reason.endswith("…")
