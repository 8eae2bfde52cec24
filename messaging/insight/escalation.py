"""Texts that support hands on: our request as a command without secrets, and what a provider's support needs to know.

Neither holds a secret: the token is a name, headers pass the allow-list, error texts are scrubbed. No query.
"""

import json
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from messaging.insight.story import Attempt, Story
from messaging.mirror.redaction import redact_headers, request_ids, scrub
from messaging.models import Message
from messaging.states import MessageState

# Where a direct message is POSTed to (contract section 7).
POST_PATH = "/v2/telematics/messages"
PHONE = re.compile(r"\+?\d[\d\s()./-]{5,24}\d", re.ASCII)
# So many digits at the end of two phone numbers make them one.
TELLING_DIGITS = 7


def posted_body(message: Message) -> dict[str, Any] | None:
    """The JSON body that is POSTed for this message; None for one that was not composed here.

    Reads connection, sender, recipient and `reply_to` (select_related them).
    """
    if message.state == MessageState.MIRRORED or message.sender is None or message.recipient is None:
        return None
    body = {
        "connection_id": str(message.connection.catena_id),
        "sender_id": str(message.sender.catena_id),
        "recipient_id": str(message.recipient.catena_id),
        "message_text": message.text or "",
    }
    if message.priority is not None:
        body["priority"] = message.priority
    # A reply is linked only if Catena knows the message that it answers.
    if message.reply_to is not None and message.reply_to.catena_id is not None:
        body["reply_to_message_id"] = str(message.reply_to.catena_id)
    return body


def curl(message: Message, api_url: str) -> str:
    """Our request as a command for a POSIX shell, every value quoted; empty for a message that was not composed here.

    The token is the shell's variable CATENA_TOKEN. A comment warns that running it sends a real message.
    """
    body = posted_body(message)
    if body is None:
        return ""
    data = json.dumps(body, ensure_ascii=False)
    return (
        "# Running this sends a real message to the driver, once more than Backhaul knows of.\n"
        f"curl --request POST {shlex.quote(api_url.rstrip('/') + POST_PATH)} \\\n"
        '  --header "Authorization: Bearer $CATENA_TOKEN" \\\n'
        "  --header 'Content-Type: application/json' \\\n"
        f"  --data-raw {shlex.quote(data)}\n"
    )


def escalation(story: Story) -> str:
    """What the provider's support needs: ids, UTC times, each attempt's code and words. Neither the message's words nor the
    driver's name or phone number.
    """
    return "\n".join(_lines(story)) + "\n"


def _lines(story: Story) -> Iterator[str]:
    message, operation = story.message, story.message.operation
    yield f"To: {story.provider} support"
    yield f"About: a message sent through Catena that is “{story.badge.short}”"
    yield ""
    yield "Please look up what became of the requests below, and why."
    yield ""
    ids: list[tuple[str, object]] = [
        ("Provider's message id", message.source_id or (operation.source_id if operation else "")),
        ("Provider's driver id", message.conversation.driver.source_id),
        ("Provider's request ids", ", ".join(_request_ids(story))),
        ("Catena operation", operation.catena_id if operation else ""),
        ("Catena message", message.catena_id or (operation.resource_id if operation else "")),
        ("Catena connection", message.connection.catena_id),
        ("Our reference", message.uuid),
    ]
    yield from (f"{name}: {value}" for name, value in ids if value)
    yield ""
    yield f"Written: {_utc(message.occurred_at)}"
    if message.accepted_at:
        yield f"Accepted by Catena: {_utc(message.accepted_at)}"
    if message.settled_at:
        yield f"Ended: {_utc(message.settled_at)}"
    yield f"Priority: {message.priority or 'not set'}"
    yield f"Length of the text: {len(message.text or '')} characters"
    yield ""
    yield "Attempts (all times UTC):" if story.attempts else "Catena reported no attempt."
    for attempt in story.attempts:
        yield from _attempt(story, attempt)


def _attempt(story: Story, attempt: Attempt) -> Iterator[str]:
    parts = [attempt.status, f"HTTP {attempt.code}" if attempt.code else "", attempt.error_type]
    yield f"{attempt.number}. {_utc(attempt.at)} {', '.join(part for part in parts if part)}"
    phone = story.message.conversation.driver.phone_number
    if attempt.details:
        yield f"   {without_phone(' '.join(scrub(attempt.details).split()), phone)}"
    for name, value in sorted(redact_headers(attempt.headers).items()):
        yield f"   {name}: {without_phone(value, phone)}"


def _request_ids(story: Story) -> list[str]:
    found = (name for attempt in story.attempts for name in request_ids(redact_headers(attempt.headers)))
    return list(dict.fromkeys(found))


def without_phone(text: str, phone: str) -> str:
    """The text with this phone number hidden, however it is written."""
    own = "".join(filter(str.isdigit, phone))[-TELLING_DIGITS:]
    if len(own) < TELLING_DIGITS:
        return text.replace(phone, "[phone]") if phone else text

    def hide(found: re.Match[str]) -> str:
        digits = "".join(filter(str.isdigit, found[0]))
        return "[phone]" if own in digits else found[0]

    return PHONE.sub(hide, text)


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
