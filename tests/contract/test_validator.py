"""The validator itself: what it accepts, and that it refuses what the contract does not declare."""

import json
from typing import Any

import pytest

from tests.contract.validator import EXAMPLES, Contract, ContractViolation

CONTRACT = Contract.load()
BEARER = {"Authorization": "Bearer t"}
JSON_HEADERS = {**BEARER, "Content-Type": "application/json"}
FORM_HEADERS = {"Content-Type": "application/x-www-form-urlencoded"}
MESSAGES = "https://catena.test/v2/telematics/messages"
TOKEN = "https://auth.test/realms/catena/protocol/openid-connect/token"
GRANT = b"grant_type=client_credentials&client_id=a&client_secret=b&scope=organization"
ID = "019de3a1-4b7c-7d10-8f52-2a6b9c0d1e31"


def example(name: str) -> Any:
    return json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("method", "url", "headers", "body", "name"),
    [
        (
            "POST",
            f"{MESSAGES}?is_sync=false",
            JSON_HEADERS,
            encoded(example("message_create_request")),
            "createMessage",
        ),
        ("GET", f"{MESSAGES}?size=300&fleet_ids={ID}&fleet_ids={ID}", BEARER, None, "listMessages"),
        ("GET", "/v2/integrations/connections/data-freshness", BEARER, None, "getDataFreshness"),
        ("GET", f"/v2/integrations/connections/{ID}", BEARER, None, "getConnection"),
        ("POST", TOKEN, FORM_HEADERS, GRANT, "requestToken"),
    ],
)
def test_a_declared_request_is_accepted_and_named(
    method: str, url: str, headers: dict[str, str], body: bytes | None, name: str
) -> None:
    assert CONTRACT.check_request(method, url, headers, body) == name


@pytest.mark.parametrize(
    ("method", "url", "headers", "body", "reason"),
    [
        ("GET", "/v2/telematics/message", BEARER, None, "no such operation"),
        ("PUT", MESSAGES, BEARER, None, "no such operation"),
        ("GET", f"{MESSAGES}?colour=red", BEARER, None, "colour is not declared"),
        ("GET", f"{MESSAGES}?size=0", BEARER, None, "size: "),
        ("GET", f"{MESSAGES}?size=ten", BEARER, None, "size: "),
        ("GET", f"{MESSAGES}?size=1&size=2", BEARER, None, "more than once"),
        ("GET", f"{MESSAGES}?fleet_ids=acme", BEARER, None, "fleet_ids: "),
        ("GET", f"{MESSAGES}?from_datetime=yesterday", BEARER, None, "from_datetime: "),
        ("GET", f"{MESSAGES}?include_source_data=True", BEARER, None, "include_source_data: "),
        ("GET", "/v2/integrations/connections/seven", BEARER, None, "connection_id: "),
        ("GET", MESSAGES, {}, None, "Bearer token is required"),
        ("GET", MESSAGES, BEARER, b"{}", "none is declared"),
        ("POST", MESSAGES, JSON_HEADERS, encoded({"connection_id": ID}), "'sender_id' is a required property"),
        ("POST", MESSAGES, JSON_HEADERS, b"{", "not application/json"),
        ("POST", MESSAGES, BEARER, b"{}", "content type"),
        ("POST", TOKEN, {**FORM_HEADERS, "Authorization": "Basic eDp5"}, GRANT, "no Authorization header"),
        ("POST", TOKEN, FORM_HEADERS, GRANT.replace(b"organization", b"all"), "scope"),
    ],
)
def test_an_undeclared_request_is_refused_with_its_reason(
    method: str, url: str, headers: dict[str, str], body: bytes | None, reason: str
) -> None:
    with pytest.raises(ContractViolation, match=reason):
        CONTRACT.check_request(method, url, headers, body)


def test_a_declared_answer_is_accepted() -> None:
    name = CONTRACT.check_response("POST", MESSAGES, 202, JSON_HEADERS, encoded(example("message_create_202")))
    assert name == "createMessage"


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (201, b"{}", "status 201 is not declared"),
        (202, b"", "not application/json"),
        (202, encoded({**example("message_create_202"), "status": "queued"}), "'queued' is not one of"),
        (429, encoded({"detail": {"message": "slow"}}), "429"),
    ],
)
def test_an_undeclared_answer_is_refused_with_its_reason(status: int, body: bytes, reason: str) -> None:
    with pytest.raises(ContractViolation, match=reason):
        CONTRACT.check_response("POST", MESSAGES, status, JSON_HEADERS, body)


def test_an_event_must_carry_its_signature_headers() -> None:
    body = encoded(example("event_message_added"))
    headers = {
        "Content-Type": "application/json",
        "X-Catena-Signature": "eA==",
        "X-Catena-Timestamp": "2026-05-12T14:03:22+00:00",
        "X-Event-Type": "message.added",
        "X-Webhook-ID": ID,
        "X-Request-ID": ID,
        "X-Delivery-Attempt": "1",
    }
    CONTRACT.check_event("message.added", headers, body)
    headers.pop("X-Catena-Signature")
    with pytest.raises(ContractViolation, match="X-Catena-Signature is required"):
        CONTRACT.check_event("message.added", headers, body)
