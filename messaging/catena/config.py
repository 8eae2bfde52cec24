"""Where Catena is, who we are there, and every bound of a call."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit


class BeforeRequest(Protocol):
    """Told what the request is for: sending a message, or anything else."""

    def __call__(self, *, is_send: bool) -> None: ...


@dataclass(frozen=True)
class CatenaConfig:
    """Times in seconds, sizes in bytes. `verify` is True, False (tests only) or the path of a CA bundle.

    Raises `ValueError` for an address that is not https; plain http is taken for loopback only, so a credential never
    crosses a network in clear.

    `before_request` is called before each request to the API, not before one for a token. What it raises ends the call with
    nothing sent: from a read as it is, from a write as `ProvenUnsent`.
    """

    api_url: str
    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    connect_timeout: float = 5.0
    read_timeout: float = 20.0
    total_timeout: float = 25.0
    read_total_timeout: float = 30.0
    max_write_response: int = 1024 * 1024
    max_read_response: int = 32 * 1024 * 1024
    page_size: int = 300
    max_pages: int = 2000
    verify: bool | str = True
    before_request: BeforeRequest | None = None

    def __post_init__(self) -> None:
        for name in ("api_url", "token_url"):
            parts = urlsplit(getattr(self, name))
            if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
                raise ValueError(f"{name} must be an https address (http is for loopback only)")
            if not parts.hostname or parts.username or parts.query or parts.fragment:
                raise ValueError(f"{name} must name a host and a path, nothing else")


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False
