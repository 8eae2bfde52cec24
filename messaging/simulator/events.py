"""The names of the webhook events and what their records must hold. Contract, section 13."""

from messaging.simulator.wire import Json

VERSION = "1.0"
_TELEMATICS = "id fleet_id fleet_ref source_name connection_id source_id created_at updated_at occurred_at"
_REQUIRED = {
    "resource_operation": (
        "id created_at updated_at partner_id connection_id source_name resource operation_type status payload"
    ),
    "message": _TELEMATICS,
    "group_message": _TELEMATICS,
    "user": _TELEMATICS,
    "connection": "id source_name fleet_id tsp_id status",
    "fleet_connection": "id fleet_id connection_id",
    "share_agreement": "id fleet_id partner_id status scopes",
    "schedule": (
        "id connection_id resource execution_interval_seconds status consecutive_error_threshold "
        "max_concurrent_executions"
    ),
    "webhook": "id url event_name status",
}
_ACTIONS = {
    "resource_operation": ("created", "succeeded", "failed"),
    "message": ("added", "modified"),
    "group_message": ("added", "modified"),
    "user": ("added", "modified", "removed"),
    "connection": ("created", "staled"),
    "fleet_connection": ("created",),
    "share_agreement": ("created", "updated", "deleted"),
    "schedule": ("deactivated",),
    "webhook": ("staled", "paused", "activated"),
}
NAMES = frozenset(f"{family}.{action}" for family, actions in _ACTIONS.items() for action in actions)


def named(name: str) -> tuple[str, ...]:
    """The events that a subscription to this name gets: one, all of a family for `family.*`, or none if unknown."""
    family, _, action = name.partition(".")
    if action == "*":
        return tuple(f"{family}.{one}" for one in _ACTIONS.get(family, ()))
    return (name,) if name in NAMES else ()


def schema(name: str) -> Json:
    """A small OpenAPI document of one event's payload."""
    required = _REQUIRED[name.partition(".")[0]].split()
    if name == "user.removed":
        required.remove("fleet_ref")
    record = {"type": "object", "required": required, "properties": {field: {} for field in required}}
    envelope = {
        "type": "object",
        "required": ["version", "data", "webhook_id"],
        "properties": {
            "version": {"type": "string"},
            "event_name": {"const": name},
            "data": {"type": "array", "items": {"$ref": "#/components/schemas/Record"}},
            "webhook_id": {"type": "string", "format": "uuid"},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": VERSION},
        "paths": {},
        "components": {"schemas": {"Envelope": envelope, "Record": record}},
    }
