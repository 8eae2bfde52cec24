"""The token endpoint: client credentials for a bearer token. Contract, section 2.

Tokens look like JWTs and are compared as a whole; nobody checks their signature. What is unknown is decided here as
follows: a form that is incomplete or asks for another grant or scope gets 400 in the same error form, HTTP Basic is not accepted.
"""

import base64
import hmac
import json
import secrets
from datetime import timedelta
from urllib.parse import parse_qs

from messaging.simulator.exchange import Answer, Refusal, Request
from messaging.simulator.faults import TOKEN_KINDS, Circumstances
from messaging.simulator.world import World

PREFIX = "/realms/catena/protocol/openid-connect"
PERMISSIONS = (
    "telematics:read telematics:write connection:read resource_operation:read fleet:read schedule:read "
    "webhook:read webhook:create webhook:update webhook:delete"
)


class TokenDesk:
    """Knows the one client. Call with the world's lock held."""

    def __init__(self, world: World, client_id: str, client_secret: str) -> None:
        self._world, self._client_id, self._client_secret = world, client_id, client_secret

    def issue(self, request: Request) -> Answer:
        world = self._world
        fault = world.faults.take(TOKEN_KINDS, Circumstances(method=request.method, path=request.path))
        if fault and fault.kind == "token_down":
            return Answer(fault.status or 503, {"error": "temporarily_unavailable"})
        form = {name: values[-1] for name, values in parse_qs(request.body.decode(errors="replace")).items()}
        if fault or not self._is_client(form):
            return _error(401, "invalid_client", "The client could not be authenticated")
        if form.get("grant_type") != "client_credentials":
            return _error(400, "unsupported_grant_type", "Only client_credentials is offered")
        if form.get("scope") != "organization":
            return _error(400, "invalid_scope", "Scope must be organization")
        return Answer(200, self._token(), {"Cache-Control": "no-store"})

    def revoke(self, request: Request) -> Answer:
        form = {name: values[-1] for name, values in parse_qs(request.body.decode(errors="replace")).items()}
        if not self._is_client(form):
            return _error(401, "invalid_client", "The client could not be authenticated")
        self._world.tokens.pop(form.get("token", ""), None)
        return Answer(200, has_body=False)

    def check(self, request: Request) -> None:
        """Raises Refusal with 401 unless the request carries a token that is alive."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        ends_at = self._world.tokens.get(token.strip())
        if scheme.lower() != "bearer" or ends_at is None or ends_at <= self._world.now():
            raise Refusal(401, "Token is missing, expired or refused")

    def _is_client(self, form: dict[str, str]) -> bool:
        return hmac.compare_digest(
            form.get("client_id", "").encode(), self._client_id.encode()
        ) and hmac.compare_digest(form.get("client_secret", "").encode(), self._client_secret.encode())

    def _token(self) -> dict[str, object]:
        world, lifetime = self._world, self._world.pace.token_lifetime
        ends_at = world.now() + timedelta(seconds=lifetime)
        org = {"Backhaul Demo": {"id": world.partner_id, "org_type": ["partner"]}}
        claims = {"exp": int(ends_at.timestamp()), "sub": self._client_id, "org": org}
        token = ".".join((_part({"alg": "RS256", "typ": "JWT"}), _part(claims), secrets.token_urlsafe(32)))
        world.tokens = {old: end for old, end in world.tokens.items() if end > world.now()} | {token: ends_at}
        return {
            "access_token": token,
            "expires_in": lifetime,
            "refresh_expires_in": 0,
            "token_type": "Bearer",
            "not-before-policy": 0,
            "scope": PERMISSIONS,
        }


def _part(claims: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


def _error(status: int, error: str, description: str) -> Answer:
    return Answer(status, {"error": error, "error_description": description})
