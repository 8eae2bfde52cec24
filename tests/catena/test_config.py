"""Addresses that would send a credential in clear are refused when the configuration is made."""

import pytest

from messaging.catena.config import CatenaConfig

API, TOKENS = "https://api.catena.test", "https://auth.catena.test/realms/catena/protocol/openid-connect/token"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost"])
def test_plain_http_is_taken_for_loopback(host: str) -> None:
    assert CatenaConfig(f"http://{host}:8400", f"http://{host}:8400/token", "id", "secret").page_size == 300


@pytest.mark.parametrize(
    ("api_url", "token_url", "name"),
    [
        ("http://api.catena.test", TOKENS, "api_url"),
        (API, "http://10.0.0.8/token", "token_url"),
        ("ftp://127.0.0.1/", TOKENS, "api_url"),
        ("api.catena.test", TOKENS, "api_url"),
        ("https:///v2", TOKENS, "api_url"),
        (API, "https://user:pass@auth.catena.test/token", "token_url"),
        (API, f"{TOKENS}?x=1", "token_url"),
        ("http://127.0.0.1.catena.test", TOKENS, "api_url"),
        ("http://localhost@catena.test", TOKENS, "api_url"),
    ],
)
def test_an_address_that_cannot_be_trusted_is_refused_by_name(api_url: str, token_url: str, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        CatenaConfig(api_url, token_url, "id", "secret")
