"""The only writer of what Catena says: idempotent, and never backwards."""

from messaging.mirror.operations import apply_operation, bind_operation
from messaging.mirror.reasons import plain_reason
from messaging.mirror.redaction import redact_headers

__all__ = [
    "apply_operation",
    "bind_operation",
    "plain_reason",
    "redact_headers",
]
