"""What makes two payloads the same message. Pure: our own body and Catena's echo of it give the same answer."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from typing import Any

FINGERPRINTED = ("connection_id", "sender_id", "recipient_id", "message_text", "priority", "reply_to_message_id")


def fingerprint(payload: Mapping[str, Any]) -> str:
    """SHA-256 of what makes two payloads the same message, in hexadecimal.

    Equal for our own body and for Catena's echo of it: only the fields that we send count, an absent one equals null,
    and text is compared in NFC with LF line ends and without outer blanks.
    """
    kept = {name: _normal(payload.get(name)) for name in FINGERPRINTED}
    kept |= {name: value.lower() for name, value in kept.items() if value is not None and name.endswith("_id")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")).hexdigest()


def _normal(value: Any) -> str | None:
    if value is None:
        return None
    return unicodedata.normalize("NFC", str(value)).replace("\r\n", "\n").replace("\r", "\n").strip()


def is_new_message(resource: str, operation_type: str) -> bool:
    """Whether an operation makes a message to one person: only such a one can be what a POST of ours became."""
    return resource == "message" and operation_type == "create"
