"""What became of a message, in one or two sentences for people, and as a block of plain text for a support ticket."""

from collections.abc import Iterator
from datetime import UTC, datetime

from django.utils.timezone import localtime

from messaging.insight.meanings import retry_after, span
from messaging.insight.story import Attempt, Story
from messaging.mirror.redaction import redact_headers, scrub
from messaging.states import AttemptOutcome, Direction, MessageState, OperationStatus

S = MessageState


def clock(at: datetime, now: datetime) -> str:
    """The local clock time with seconds, led by the date when it is not today."""
    local = localtime(at)
    is_today = local.date() == localtime(now).date()
    return f"{local:%H:%M:%S}" if is_today else f"{local.day} {local:%b %Y, %H:%M:%S}"


def sentence(story: Story) -> str:
    """What became of the message, for a person who never heard of operations."""
    return " ".join(part for part in _parts(story) if part)


def _parts(story: Story) -> Iterator[str]:
    message, badge = story.message, story.badge
    match badge.key:
        case "failed":
            yield _counted("Failed after", len(story.attempts)) if story.attempts else "Failed."
            yield from _last_try(story)
        case "retrying":
            yield f"{_number(message.failed_attempts)} failed so far."
            yield from _last_try(story)
            yield "Catena tries again by itself."
        case "slow":
            yield f"Taking longer than usual: Catena has had it for {_since(message.accepted_at, story.now)}."
            yield from _last_try(story)
        case "sending":
            yield _sending(story)
        case "sent" | "delivered" | "read":
            yield from _taken(story)
        case _:
            yield _ending(badge.long)
            yield EXPLANATIONS.get(badge.key, "")


EXPLANATIONS = {
    "held": "Nothing has left yet; it can still be undone.",
    "waiting": "Messages to one driver go out in the order they were written.",
    "paused": "It goes out by itself when sending resumes.",
    "not_sent": "Nothing reached the driver.",
    "late": "It is urgent, so it asks for somebody until the provider accepts it or it is marked as handled.",
    "checking": "The answer to our request was lost, so the driver may have it. Backhaul never sends it again by itself.",
    "needs_you": "It is not sent again unless somebody decides so.",
    "sent_after_all": "Somebody had left it unsent; then its operation turned up at Catena.",
    "sent_twice": "It was sent again by a decision, and Catena has an operation of each time.",
    "group": "Written outside Backhaul. Who of the group got it is not reported.",
    "cancelled": "Nothing was sent.",
    "expired": "It became too old before it could be sent.",
    "unknown_status": "Backhaul does not know this word and keeps looking.",
}


NO_RECEIPT = "No receipt reported by this provider."


def _ending(words: str) -> str:
    return words if words.endswith((".", "!", "?", "…")) else f"{words}."


def _number(count: int) -> str:
    return f"{count} attempt{'' if count == 1 else 's'}"


def _counted(words: str, count: int) -> str:
    return f"{words} {_number(count)}."


def _since(at: datetime | None, now: datetime) -> str:
    return span(now - at) if at else "a while"


def _last_try(story: Story) -> Iterator[str]:
    if not story.attempts:
        yield "The provider returned no log." if not story.is_pending else "No attempt has been reported yet."
        return
    last = story.attempts[-1]
    if story.message.reason:
        yield _ending(story.message.reason)
    yield f"Last try {clock(last.at, story.now)}."
    yield retry_after(last.headers, last.at)


def _sending(story: Story) -> str:
    message = story.message
    if message.state == S.MIRRORED:
        return f"{_ending(story.badge.long)} Written outside Backhaul."
    if message.state == S.ACCEPTED:
        when = f" at {clock(message.accepted_at, story.now)}" if message.accepted_at else ""
        return f"Handed to Catena{when}. Waiting for the first attempt."
    if message.state == S.QUEUED and message.claim_count and message.not_before and message.not_before > story.now:
        return f"Not sent yet. The next try is at {clock(message.not_before, story.now)}."
    return "On its way to Catena."


def _taken(story: Story) -> Iterator[str]:
    message = story.message
    if story.badge.key != "sent":
        yield _ending(story.badge.long)
    if message.state == S.MIRRORED:
        yield (
            "Written outside Backhaul."
            if story.badge.key != "sent"
            else f"{_ending(story.badge.long)} Written outside Backhaul."
        )
        yield from _missing_receipt(story)
        return
    taken = next((one for one in reversed(story.attempts) if one.status == OperationStatus.SUCCESS), None)
    at = taken.at if taken else message.settled_at
    words = f"Accepted by {story.provider}" + (f" at {clock(at, story.now)}" if at else "")
    yield f"{words} on attempt {taken.number}." if taken and taken.number > 1 else f"{words}."
    yield from _missing_receipt(story)


def _missing_receipt(story: Story) -> Iterator[str]:
    """Whether silence means anything: it does not where the provider never reports (contract section 16, row 21)."""
    if story.badge.key == "sent" and not story.has_receipts:
        yield NO_RECEIPT


def support_text(story: Story, *, with_headers: bool) -> str:
    """A block of plain text with ids and UTC times, for a ticket. Neither the message's words nor secrets are in it.

    Headers pass the allow-list once more on their way out; without `with_headers` none are given.
    """
    return "\n".join(_support_lines(story, with_headers=with_headers)) + "\n"


def _support_lines(story: Story, *, with_headers: bool) -> Iterator[str]:
    message = story.message
    yield f"Backhaul message {message.uuid}"
    yield f"Status: {story.badge.short} ({story.badge.long})"
    for label, value in identities(story):
        yield f"{label}: {value}"
    if message.direction == Direction.OUT:
        yield f"Priority: {message.priority or 'not set'}"
    yield f"Text: {len(message.text or '')} characters, left out"
    yield f"Written: {_utc(message.occurred_at)}"
    for post in story.posts:
        words = AttemptOutcome(post.outcome).label if post.outcome else "open"
        code = f", HTTP {post.http_status}" if post.http_status else ""
        yield f"Request to Catena {_utc(post.posting_at)}: {words}{code}{_detail(post.error_text)}"
    for attempt in story.attempts:
        yield _attempt_line(attempt)
        if with_headers:
            yield from (f"  {name}: {value}" for name, value in sorted(redact_headers(attempt.headers).items()))
    for label, at in (("Delivered", message.delivered_at), ("Read", message.read_at)):
        if at:
            yield f"{label}: {_utc(at)}"
    yield f"Taken: {_utc(story.now)}"


def identities(story: Story) -> list[tuple[str, str]]:
    """Every id that a colleague or Catena's support may ask for, with its name; those not known are left out."""
    message, operation = story.message, story.message.operation
    pairs = [
        ("Message record", message.catena_id or (operation.resource_id if operation else None)),
        ("Operation", operation.catena_id if operation else None),
        ("Provider's id", message.source_id or (operation.source_id if operation else "")),
        ("Connection", message.connection.catena_id),
        ("Driver", message.conversation.driver.catena_id),
    ]
    return [(label, str(value)) for label, value in pairs if value]


def _attempt_line(attempt: Attempt) -> str:
    code = f", HTTP {attempt.code}" if attempt.code else ""
    kind = f", {attempt.error_type}" if attempt.error_type else ""
    return f"Attempt {attempt.number} {_utc(attempt.at)}: {attempt.status}{code}{kind}{_detail(attempt.details)}"


def _detail(text: str) -> str:
    return f": {' '.join(scrub(text).split())}" if text else ""


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
