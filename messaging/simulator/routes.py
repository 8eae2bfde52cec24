"""Which handler answers which method and path, and the control plane's own paths. Contract, sections 2, 5 to 9 and 11."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from messaging.simulator import reads, subscriptions, writes
from messaging.simulator.exchange import Handler, Refusal

WRITE_PATHS = ("/v2/telematics/messages", "/v2/telematics/group-messages")
_CONNECTIONS = "/v2/integrations/connections"
_WEBHOOKS = "/v2/notifications/webhooks"
_SCHEMAS = "/v2/notifications/schemas"


@dataclass(frozen=True)
class Route:
    method: str
    pattern: re.Pattern[str]
    handler: Handler


def route(method: str, path: str, handler: Handler) -> Route:
    """`{name}` stands for one path segment. Literal paths have to come before those that could swallow them."""
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)
    return Route(method, re.compile(f"^{pattern}/?$"), handler)


ROUTES = (
    route("GET", "/v2/telematics/messages", reads.list_messages),
    route("POST", "/v2/telematics/messages", writes.create_message),
    route("GET", "/v2/telematics/group-messages", reads.list_group_messages),
    route("POST", "/v2/telematics/group-messages", writes.create_group_message),
    route("GET", "/v2/telematics/users", reads.list_users),
    route("GET", "/v2/telematics/users/{user_id}", reads.get_user),
    route("GET", f"{_CONNECTIONS}", reads.list_connections),
    route("GET", f"{_CONNECTIONS}/data-freshness", reads.list_freshness),
    route("GET", f"{_CONNECTIONS}/resource-operations", reads.list_operations),
    route("GET", f"{_CONNECTIONS}/{{connection_id}}", reads.get_connection),
    route(
        "GET", f"{_CONNECTIONS}/{{connection_id}}/resource-operations/{{resource_operation_id}}", reads.get_operation
    ),
    route("GET", "/v2/integrations/tsps", reads.list_providers),
    route("GET", "/v2/integrations/tsps/{tsp_id}", reads.get_provider),
    route("GET", "/v2/orgs/fleets", reads.list_fleets),
    route("GET", "/v2/orgs/fleets/{fleet_id}", reads.get_fleet),
    route("GET", _WEBHOOKS, subscriptions.list_all),
    route("POST", _WEBHOOKS, subscriptions.create),
    route("GET", f"{_WEBHOOKS}/{{webhook_id}}", subscriptions.get),
    route("PATCH", f"{_WEBHOOKS}/{{webhook_id}}", subscriptions.change),
    route("DELETE", f"{_WEBHOOKS}/{{webhook_id}}", subscriptions.remove),
    route("POST", f"{_WEBHOOKS}/{{webhook_id}}/activate", subscriptions.activate),
    route("POST", f"{_WEBHOOKS}/{{webhook_id}}/pause", subscriptions.pause),
    route("POST", f"{_WEBHOOKS}/{{webhook_id}}/replay", subscriptions.replay),
    route("GET", f"{_WEBHOOKS}/{{webhook_id}}/metrics", subscriptions.metrics),
    route("GET", f"{_WEBHOOKS}/{{webhook_id}}/logs", subscriptions.logs),
    route("GET", f"{_SCHEMAS}/{{event_name}}", subscriptions.event_schema),
    route("GET", f"{_SCHEMAS}/{{event_name}}/versions/{{version}}", subscriptions.event_schema),
)


def find(routes: Iterable[Route], method: str, path: str) -> tuple[Handler, dict[str, str]]:
    """Raises Refusal with 404, or with 405 where the path is known and the method is not offered."""
    status = 404
    for route in routes:
        match = route.pattern.match(path)
        if match and route.method == method:
            return route.handler, {name: value.lower() for name, value in match.groupdict().items()}
        if match:
            status = 405
    raise Refusal(status)
