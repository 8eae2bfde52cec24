"""What is known about a send that may have arrived, in plain words for the person who decides. No query, no markup."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.timezone import localtime

from messaging.insight.sentence import clock
from messaging.mirror.redaction import scrub
from messaging.models import Message
from messaging.reconcile import Evidence, is_overdue
from messaging.reconcile.absence import COMPLETE_LOOKS
from messaging.reconcile.evidence import Near, Try
from messaging.states import AttemptOutcome, MessageState, Question

FIELD_WORDS = {
    "message_text": "another text",
    "recipient_id": "another driver",
    "sender_id": "another sender",
    "priority": "another priority",
    "reply_to_message_id": "an answer to another message",
    "connection_id": "another connection",
    "created_at": "all that this message has, but was made too late to be it",
}
# What was asked for, by the question that could not be answered.
VERDICTS = {
    Question.ABSENT: "Catena shows no trace of it, although it had the time and shows what was sent after it."
    " It very probably did not leave.",
    Question.UNPROVEN: "Catena shows no trace of it, but that is not proven: it may still turn up.",
    Question.SEVERAL: "Catena has more messages like this one than were sent from here, so one of them may be it.",
    Question.POISON: "Backhaul stopped several times while it prepared this message. Nothing was sent.",
    Question.NO_AUTHORITY: "An earlier try may have been sent, so Backhaul does not repeat it by itself.",
    Question.RESTORED: "The database was restored from a backup. What happened after that backup is not known here.",
    Question.OVERDUE: "It was to be sent again and became too old before it could be. The first try may have arrived.",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the evidence: a heading, sentences for everybody, and a detail for support (empty: none)."""

    heading: str
    sentences: Sequence[str]
    detail: str = ""


def verdict(message: Message, now: datetime) -> str:
    """Why somebody is asked, or may say something unasked, as a sentence; empty when neither."""
    if is_overdue(message, now):
        since = clock(message.accepted_at, now) if message.accepted_at else "long ago"
        return f"Catena took it at {since} and has never said what became of it."
    if message.state != MessageState.NEEDS_DECISION:
        return ""
    words = VERDICTS.get(Question(message.question)) if message.question in Question.values else None
    return words or "It may have been sent."


def lines(message: Message, known: Evidence, now: datetime) -> list[Line]:
    """The evidence in the order in which a person needs it."""
    return [line for line in _lines(message, known, now) if line.sentences]


def _lines(message: Message, known: Evidence, now: datetime) -> Iterator[Line]:
    provider = message.connection.provider
    for number, one in enumerate(known.tries, start=1):
        heading = "What went wrong" if len(known.tries) == 1 else f"Try {number}"
        yield Line(heading, [_what_went_wrong(one, now)], scrub(one.error))
        yield Line("Where we looked", list(_where_we_looked(one, now)), scrub(one.problem))
    if known.tries and not known.candidates:
        yield Line("What that proves", [_proof(known)])
    yield Line("Could be it", [f"An operation of {_at(one, now)} equals it in everything." for one in known.candidates])
    yield Line("Close, but not it", [_near(one, now) for one in known.nearest])
    yield Line(f"What {provider} shows", [_echo(one.at, provider, now) for one in known.echoes])
    yield Line("What the driver wrote since", [f"{clock(one.at, now)}: {one.text}" for one in known.driver_said])
    yield Line("Behind it", [_waiting(known.waiting)] if known.waiting else [])


def _what_went_wrong(one: Try, now: datetime) -> str:
    left = clock(one.posting_at, now)
    if one.outcome == AttemptOutcome.LOST:
        return f"The program that was sending it at {left} stopped before it had an answer."
    return f"It was sent at {left}, and the answer was lost. Catena may have taken it or not."


def _where_we_looked(one: Try, now: datetime) -> Iterator[str]:
    if one.last_look_at is None:
        yield "Nowhere yet."
    else:
        times = _times(one.looks)
        is_all = one.complete_looks == one.looks
        complete = "completely each time" if is_all else f"{_times(one.complete_looks)} completely"
        since, until = localtime(one.window_from), localtime(one.window_to)
        window = f"{since:%H:%M} to {until:%H:%M}" if one.window_to <= now else f"{since:%H:%M} until now"
        yield f"Catena's list of {window} was read {times}, {complete}, the last time at {clock(one.last_look_at, now)}."
        if one.problem:
            yield "The last look failed."
    if one.next_look_at is not None:
        yield f"The next look is at {clock(one.next_look_at, now)}."


def _proof(known: Evidence) -> str:
    if all(one.is_absence_proven for one in known.tries):
        return (
            "That it is not there: the list had the time to show it, shows what was sent later, and has shown every normal"
            " message correctly."
        )
    open_one = next(one for one in known.tries if not one.is_absence_proven)
    return f"Not proven that it is absent: {'; '.join(_gaps(open_one, known))}."


def _gaps(one: Try, known: Evidence) -> Iterator[str]:
    """What is missing for the proof, each as half a sentence."""
    if known.mismatches:
        yield "normal messages of this connection come back changed, so this one may stand there unrecognised"
    elif not known.samples:
        yield "no normal message of this connection has been seen in the list yet"
    if not one.is_settled:
        yield "the list has not had the time to show it"
    if not one.is_fresh:
        yield "it shows nothing yet that was sent later"
    if one.complete_looks < COMPLETE_LOOKS:
        yield f"it was read completely {_times(one.complete_looks)}, and that takes {COMPLETE_LOOKS} times"


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count} times")


def _at(one: Near, now: datetime) -> str:
    return clock(datetime.fromisoformat(one.created_at), now)


def _near(one: Near, now: datetime) -> str:
    words = [FIELD_WORDS.get(name, name) for name in one.differs]
    return f"An operation of {_at(one, now)} has {' and '.join(words) or 'something else'}."


def _echo(at: datetime, provider: str, now: datetime) -> str:
    return f"The same text at {clock(at, now)}: sent from here, or typed by somebody in {provider} itself."


def _waiting(count: int) -> str:
    return "One message waits for it." if count == 1 else f"{count} messages wait for it."
