"""The steps of a message's life, newest first: people and receipts, Catena's attempts, our own sending.

Steps are ordered by cause first and by time second, because Catena's clock and ours may disagree by seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from django.utils.timezone import localdate

from messaging.insight.escalation import POST_PATH
from messaging.insight.meanings import code_hint, code_phrase, error_type_words, span
from messaging.insight.sentence import clock
from messaging.insight.story import Attempt, Post, Story
from messaging.mirror.redaction import redact_headers, scrub
from messaging.models import User
from messaging.states import HOLD_MARGIN, AttemptOutcome, DecisionKind, Direction, MessageState, OperationStatus, Tone

S = MessageState
LONGEST_HOLD = timedelta(seconds=max(User.UndoTime.values))
# How one POST of ours ended, told to people; None while it is open.
OUTCOMES: dict[str | None, tuple[str, Tone]] = {
    None: ("Being handed to Catena", Tone.WAIT),
    AttemptOutcome.ACCEPTED: ("Accepted by Catena", Tone.OK),
    AttemptOutcome.REFUSED: ("Refused by Catena", Tone.BAD),
    AttemptOutcome.UNAUTHORIZED: ("Catena did not accept our credentials", Tone.HIGH),
    AttemptOutcome.RATE_LIMITED: ("Catena asked us to slow down", Tone.HIGH),
    AttemptOutcome.UNSENT: ("Not sent: Catena could not be reached", Tone.HIGH),
    AttemptOutcome.AMBIGUOUS: ("May have been sent: the answer was lost", Tone.HIGH),
    AttemptOutcome.LOST: ("May have been sent: the worker vanished", Tone.HIGH),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One entry. `key` is stable, so that a refresh finds it again; `at` None means that nobody knows when."""

    key: str
    title: str
    at: datetime | None
    tone: str
    gap: str = ""
    code: int | None = None
    phrase: str = ""
    kind: str = ""
    text: str = ""
    hint: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    shows_day: bool = False  # its day is another one than that of the step above it, or than today at the top


def timeline(story: Story, *, with_headers: bool) -> list[Step]:
    """Every step, newest first. Response headers only `with_headers`, and only those of the allow-list."""
    if story.message.state == S.MIRRORED:
        steps = list(_mirrored(story))
    else:
        steps = [*_ours(story, with_headers=with_headers), *_attempts(story, with_headers=with_headers), *_ends(story)]
        steps = _with_escalation(steps, story)
    return _dated(steps[::-1], localdate(story.now))


def _with_escalation(steps: list[Step], story: Story) -> list[Step]:
    """Where its own clock puts it: before the first step that came later."""
    at = story.message.escalated_at
    if at is None:
        return steps
    place = next((n for n, step in enumerate(steps) if step.at and step.at > at), len(steps))
    words = f"Not accepted {span(at - story.message.occurred_at)} after it was written"
    step = Step("escalated", words, at, Tone.HIGH, text="It is urgent, so it was put before people.")
    return [*steps[:place], step, *steps[place:]]


def _dated(steps: list[Step], day: date) -> list[Step]:
    dated = []
    for step in steps:
        own = localdate(step.at) if step.at else day
        dated.append(replace(step, shows_day=own != day))
        day = own
    return dated


def _mirrored(story: Story) -> Iterator[Step]:
    message = story.message
    if message.direction == Direction.IN:
        who = message.sender_name or "the driver"
        yield Step("written", f"Written by {who}", message.occurred_at, Tone.NEUTRAL)
        yield Step(
            "arrived",
            "Reached Backhaul",
            message.created_at,
            Tone.OK,
            gap=_later(message.occurred_at, message.created_at),
        )
        return
    who = f" by {message.sender_name}" if message.sender_name else ""
    yield Step("written", f"Written outside Backhaul{who}", message.occurred_at, Tone.NEUTRAL)
    yield from _receipts(story)


def _ours(story: Story, *, with_headers: bool) -> Iterator[Step]:
    message = story.message
    yield Step("composed", f"Written by {_name(message.author)}", message.occurred_at, Tone.NEUTRAL)
    yield from _hold(story)
    for post in story.posts:
        yield _post_step(post, with_headers=with_headers)
        yield from _search_steps(post, story.now)
    if message.accepted_at and not any(post.outcome == AttemptOutcome.ACCEPTED for post in story.posts):
        yield Step("accepted", "Found at Catena", message.accepted_at, Tone.OK)


def _search_steps(post: Post, now: datetime) -> Iterator[Step]:
    """How one without an answer was looked for, all looks in one step, and what was found that is not the message's own."""
    if post.looked_at:
        times = "once" if post.looks == 1 else f"{post.looks} times"
        following = f"The next look is at {clock(post.next_look_at, now)}." if post.next_look_at else ""
        title = (
            f"Looked for it at Catena {times}" if post.looks else "Looked for it, but Catena's list could not be read"
        )
        yield Step(f"looks-{post.id}", title, post.looked_at, Tone.NEUTRAL, kind="the last time", text=following)
    if post.is_second:
        text = "Catena has another operation of this message: the driver may have got it twice."
        yield Step(f"second-{post.id}", "Found at Catena as well", post.found_at, Tone.HIGH, text=text)


def _hold(story: Story) -> Iterator[Step]:
    """The undo time as the author saw it. A longer wait is a back-off, which the next POST tells."""
    message = story.message
    if message.not_before is None:
        return
    held_for = message.not_before - HOLD_MARGIN - message.occurred_at
    if timedelta() < held_for <= LONGEST_HOLD:
        yield Step("held", f"Held {span(held_for)} for undo", message.occurred_at, Tone.NEUTRAL)


def _post_step(post: Post, *, with_headers: bool) -> Step:
    title, tone = OUTCOMES[post.outcome]
    took = post.finished_at - post.posting_at if post.finished_at else timedelta()
    return Step(
        key=f"post-{post.id}",
        title=title,
        at=post.finished_at or post.posting_at,
        tone=tone,
        gap=f"took {span(took)}" if took else "",
        code=post.http_status,
        phrase=code_phrase(post.http_status) if post.http_status else "",
        text=scrub(post.error_text),
        hint=_particulars(post) if with_headers else "",
    )


def _particulars(post: Post) -> str:
    """Which request it was, for whoever must find it in a log."""
    digest = f", SHA-256 of the body {post.body_sha256[:16]}…" if post.body_sha256 else ""
    return f"POST {POST_PATH} by {post.worker or 'a worker without a name'}{digest}"


def _attempts(story: Story, *, with_headers: bool) -> Iterator[Step]:
    before = story.message.accepted_at
    newest_of_code = {attempt.code: attempt for attempt in story.attempts}
    for attempt in story.attempts:
        step = _attempt_step(story, attempt, before, with_headers=with_headers)
        # What a code means is said once, where it is read first.
        yield step if newest_of_code[attempt.code] is attempt else replace(step, hint="")
        before = attempt.at
    if story.message.state == S.ACCEPTED:
        text = "" if story.attempts else "Catena has the message and has not reported a try at the provider."
        ordinal = "next" if story.attempts else "first"
        yield Step("awaited", f"Waiting for the {ordinal} attempt", None, Tone.WAIT, text=text)


def _attempt_step(story: Story, attempt: Attempt, before: datetime | None, *, with_headers: bool) -> Step:
    is_success = attempt.status == OperationStatus.SUCCESS
    headers = sorted(redact_headers(attempt.headers).items()) if with_headers else []
    words = f"Accepted by {story.provider}." if is_success else _own_words(attempt)
    return Step(
        key=f"attempt-{attempt.catena_id}",
        title=f"Attempt {attempt.number}",
        at=attempt.at,
        tone=_tone(attempt.status),
        gap=_later(before, attempt.at),
        code=attempt.code,
        phrase=code_phrase(attempt.code) if attempt.code else "",
        kind=error_type_words(attempt.error_type),
        text=words,
        hint="" if is_success or not attempt.code else code_hint(attempt.code),
        headers=tuple(headers),
    )


def _own_words(attempt: Attempt) -> str:
    known = {OperationStatus.FAILED, OperationStatus.SUCCESS}
    status = "" if attempt.status in known else f"Status: {attempt.status}. "
    return status + scrub(attempt.details)


def _tone(status: str) -> Tone:
    tones: dict[str, Tone] = {OperationStatus.SUCCESS: Tone.OK, OperationStatus.FAILED: Tone.BAD}
    return tones.get(status, Tone.NEUTRAL)


def _ends(story: Story) -> Iterator[Step]:
    message = story.message
    if message.state in {S.SUCCEEDED, S.FAILED}:
        yield from _final(story)
    yield from sorted([*_people(story), *_receipts(story)], key=lambda step: step.at or story.now)


def _final(story: Story) -> Iterator[Step]:
    message = story.message
    is_success = message.state == S.SUCCEEDED
    if is_success and any(one.status == OperationStatus.SUCCESS for one in story.attempts):
        return
    text = "" if story.attempts else "The provider returned no log."
    title = f"Accepted by {story.provider}" if is_success else "Given up by Catena"
    yield Step("ended", title, message.settled_at, Tone.OK if is_success else Tone.BAD, text=text)


def _people(story: Story) -> Iterator[Step]:
    message = story.message
    for verdict in story.verdicts:
        title = f"{verdict.by} decided: {DecisionKind(verdict.kind).label.lower()}"
        yield Step(f"decision-{verdict.id}", title, verdict.at, Tone.NEUTRAL, text=verdict.reason)
    if message.corrected_at:
        text = "It had been left unsent; then its operation turned up at Catena."
        yield Step("corrected", "Sent after all", message.corrected_at, Tone.HIGH, text=text)
    if message.state == S.CANCELLED:
        yield Step("cancelled", f"Cancelled by {_name(message.settled_by)}", message.settled_at, Tone.NEUTRAL)
    if message.state == S.EXPIRED:
        yield Step("expired", "Expired, not sent", message.settled_at, Tone.BAD)
    if story.resent:
        yield Step("resent", f"Sent again by {story.resent.by}", story.resent.at, Tone.NEUTRAL)
    if message.handled_at and (story.resent is None or message.handled_at != story.resent.at):
        title = f"Marked as handled by {_name(message.handled_by)}"
        yield Step("handled", title, message.handled_at, Tone.NEUTRAL, text=message.handled_note)


def _receipts(story: Story) -> Iterator[Step]:
    message = story.message
    if message.group_size is not None:
        return  # what is said of a group is said of nobody in it
    if message.delivered_at or message.record_status == "delivered":
        yield Step("delivered", "Delivered", message.delivered_at, Tone.OK)
    if message.read_at or message.record_status == "read":
        yield Step("read", "Read", message.read_at, Tone.OK, gap=_later(message.delivered_at, message.read_at))


def _later(before: datetime | None, at: datetime | None) -> str:
    """`30 s later`; nothing when a moment is not known or the two clocks disagree."""
    if before is None or at is None or at <= before:
        return ""
    return f"{span(at - before)} later"


def _name(user: User | None) -> str:
    return user.label if user else "somebody"
