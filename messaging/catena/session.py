"""Access tokens: OAuth 2.0 client credentials by requests-oauthlib (CONTRACT section 2).

Owns the one cached token of the process. Neither a token nor the secret may reach a log record or an exception.
"""

import io
import json
import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from oauthlib.oauth2 import BackendApplicationClient
from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from requests_oauthlib import OAuth2Session

from .config import CatenaConfig
from .errors import BadPayload, CatenaError, Problem, Unauthorized, Unavailable, retry_after_now
from .payload import decode_json
from .transport import Answer, Clock, Deadline, Transport

logger = logging.getLogger(__name__)

USER_AGENT = "Backhaul/0.1.0"
MAX_TOKEN_RESPONSE = 64 * 1024
RENEW_AHEAD = 30.0
SHORTEST_LIFE = 1.0
REFUSALS = frozenset({"invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type"})
SENDABLE = re.compile(r"[\x21-\x7e]{1,16384}")


def _silence_token_logs() -> None:
    """At DEBUG requests-oauthlib writes the secret and the token; a filter holds even when levels are configured."""
    for name in ("requests_oauthlib", "requests_oauthlib.oauth2_session", "oauthlib"):
        logging.getLogger(name).addFilter(lambda record: record.levelno >= logging.WARNING)


_silence_token_logs()


@dataclass(frozen=True, slots=True)
class Token:
    """`renew_at` is on the source's clock."""

    value: str = field(repr=False)
    renew_at: float


class TokenSource:
    """Hands out the cached token and renews it, one renewal at a time over all threads.

    Renews 30 s ahead of expiry, or after a tenth of the life when that is later, so that a short-lived token is still
    used and not asked for at every call.
    """

    def __init__(self, config: CatenaConfig, *, clock: Clock = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._renewing = threading.Lock()
        # Apart from the renewal's lock, which is held during a request: dropping never waits for the network.
        self._swapping = threading.Lock()
        self._token: Token | None = None
        self._transport = Transport(
            config.token_url,
            connect_timeout=config.connect_timeout,
            read_timeout=config.read_timeout,
            verify=config.verify,
        )

    def value(self, deadline: Deadline) -> str:
        """A token to send. Raises `Unauthorized` when our credentials are refused, `Unavailable` for all else."""
        token = self._fresh()
        if token is not None:
            return token.value
        try:
            held = self._renewing.acquire(timeout=deadline.left())
        except TimeoutError:
            held = False
        if not held:
            raise Unavailable("No access token in time")
        try:
            return (self._fresh() or self._renewed(deadline)).value
        finally:
            self._renewing.release()

    def drop(self, value: str) -> None:
        """Forgets the token if it is still this one, so that many threads refused with it cause one renewal."""
        with self._swapping:
            if self._token is not None and self._token.value == value:
                self._token = None

    def forget(self) -> None:
        """The next call asks for a new token, whatever is held."""
        with self._swapping:
            self._token = None

    def _fresh(self) -> Token | None:
        token = self._token
        return token if token is not None and self._clock() < token.renew_at else None

    def _renewed(self, deadline: Deadline) -> Token:
        token = self._request(deadline)
        with self._swapping:
            self._token = token
        return token

    def _request(self, deadline: Deadline) -> Token:
        asked_at = self._clock()
        try:
            answer = self._fetch(deadline)
        except CatenaError:
            raise
        except Exception as error:
            # Not chained: parsers of OAuth libraries quote the answer, which may hold a token.
            raise Unavailable(f"No access token: the request failed ({type(error).__name__})") from None
        value, life = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(value, str) or not SENDABLE.fullmatch(value):
            raise Unavailable("No access token: the answer holds none that can be sent")
        seconds = float(life) if isinstance(life, int) and not isinstance(life, bool) else 0.0
        seconds = max(seconds, SHORTEST_LIFE)
        logger.info("Catena access token renewed, life %d s", seconds)
        return Token(value, asked_at + max(seconds - RENEW_AHEAD, seconds / 10))

    def _fetch(self, deadline: Deadline) -> Mapping[str, Any]:
        """The form of CONTRACT section 2: all four fields in the body, no Basic authentication."""
        client = BackendApplicationClient(client_id=self._config.client_id, scope="organization")
        with OAuth2Session(client=client) as session:
            session.trust_env = False
            session.max_redirects = 0
            session.headers.clear()
            session.mount("https://", _TransportAdapter(self._transport, deadline))
            session.register_compliance_hook("access_token_response", _checked)
            token: Mapping[str, Any] = session.fetch_token(
                # OAuth libraries refuse anything but https; the transport decides, and takes http for loopback only.
                urlsplit(self._config.token_url)._replace(scheme="https").geturl(),
                include_client_id=True,
                client_secret=self._config.client_secret,
                headers={
                    "Accept": "application/json",
                    "Content-Type": "application/x-www-form-urlencoded",
                    "User-Agent": USER_AGENT,
                },
            )
        return token


class _TransportAdapter(BaseAdapter):
    """Lets requests speak through our transport, so that token requests have the same bounds as all others."""

    def __init__(self, transport: Transport, deadline: Deadline) -> None:
        super().__init__()
        self._transport = transport
        self._deadline = deadline

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Response:
        headers = {**request.headers, "Accept-Encoding": "identity", "Connection": "close"}
        body = request.body.encode() if isinstance(request.body, str) else request.body
        wire = self._transport.open(self._deadline)
        try:
            wire.load(str(request.method), request.path_url, headers, body)
            wire.transmit()
            return _as_response(wire.receive(MAX_TOKEN_RESPONSE), request)
        finally:
            wire.close()

    def close(self) -> None:
        """Nothing is kept between requests."""


def _as_response(answer: Answer, request: PreparedRequest) -> Response:
    response = Response()
    response.status_code = answer.status
    response.headers = CaseInsensitiveDict(answer.headers)
    response.raw = io.BytesIO(answer.body)
    response.url = str(request.url)
    response.request = request
    response.encoding = "utf-8"
    return response


def _checked(response: Response) -> Response:
    """Judges by status, which oauthlib ignores, and leaves only what we rely on.

    `scope` goes because it lists permissions, not the scope asked for: oauthlib would take that for a change and raise.
    A life that is no number goes too, so that a usable token is used, if only for a moment.
    """
    try:
        body = decode_json(response.content)
    except BadPayload:
        body = None
    if response.status_code != 200:
        raise _refusal(response, body)
    if not isinstance(body, Mapping):
        raise Unavailable("No access token: the answer is not a JSON object")
    wanted = {name: body[name] for name in ("access_token", "token_type", "error") if name in body}
    if str(body.get("expires_in")).isdecimal():
        wanted["expires_in"] = int(body["expires_in"])
    response._content = json.dumps(wanted).encode()
    return response


def _refusal(response: Response, body: object) -> CatenaError:
    status = response.status_code
    word = body.get("error") if isinstance(body, Mapping) else None
    if status == 401 or (status == 400 and word in REFUSALS):
        return Unauthorized("Catena refused the client credentials", http_status=status)
    return Unavailable(
        f"No access token: the token endpoint answered HTTP {status}",
        http_status=status,
        retry_after=retry_after_now(response.headers, Problem.parse(body)),
    )
