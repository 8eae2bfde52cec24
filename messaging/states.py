"""The life of a message as data: states, the moves that are allowed, and the words a person reads. Touches no table."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from math import ceil
from typing import NamedTuple

from django.db.models import TextChoices
from django.utils.timezone import localtime


class Priority(TextChoices):
    LOW = "low", "Low"
    MEDIUM = "medium", "Medium"
    HIGH = "high", "High"


class Direction(TextChoices):
    OUT = "out", "Outgoing"
    IN = "in", "Incoming"


class MessageState(TextChoices):
    """Where a message stands in our hands. `MIRRORED` is a message that Catena told us of and that we did not send."""

    WAITING = "waiting", "Waiting"
    QUEUED = "queued", "Queued"
    CLAIMED = "claimed", "Claimed"
    POSTING = "posting", "Posting"
    ACCEPTED = "accepted", "Accepted by Catena"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    REJECTED = "rejected", "Rejected"
    UNKNOWN = "unknown", "Unknown"
    NEEDS_DECISION = "needs_decision", "Needs a decision"
    CANCELLED = "cancelled", "Cancelled"
    EXPIRED = "expired", "Expired"
    CLOSED_SENT = "closed_sent", "Closed as sent"
    CLOSED_NOT_SENT = "closed_not_sent", "Closed as not sent"
    MIRRORED = "mirrored", "Mirrored"


S = MessageState

# At most one message of a conversation is in one of these (unless a person detached it): order and single flight.
HEAD_STATES = frozenset({S.QUEUED, S.CLAIMED, S.POSTING, S.UNKNOWN, S.NEEDS_DECISION})
# A lease belongs to exactly these.
LEASED_STATES = frozenset({S.CLAIMED, S.POSTING})
# Catena knows an operation for exactly these.
OPERATION_STATES = frozenset({S.ACCEPTED, S.SUCCEEDED, S.FAILED})
# A person may still withdraw these: no byte has left.
CANCELLABLE_STATES = frozenset({S.WAITING, S.QUEUED})
# A POST may have arrived and nobody knows; the conversation waits behind it unless a person lets the next one past.
UNDECIDED_STATES = frozenset({S.UNKNOWN, S.NEEDS_DECISION})
# Catena took the message, and it has not failed.
TAKEN_STATES = frozenset({S.ACCEPTED, S.SUCCEEDED})
# Nothing more happens by itself.
SETTLED_STATES = frozenset(
    {S.SUCCEEDED, S.FAILED, S.REJECTED, S.CANCELLED, S.EXPIRED, S.CLOSED_SENT, S.CLOSED_NOT_SENT, S.MIRRORED}
)
# These ask for a person until somebody has handled them.
ATTENTION_STATES = frozenset({S.FAILED, S.REJECTED, S.EXPIRED, S.NEEDS_DECISION})
# Certainly not with the driver, and nothing more comes of them: the author may send the text anew. A failure is not among
# them: after a network error or without an answer the provider may have taken the message.
REPEATABLE_STATES = frozenset({S.REJECTED, S.CANCELLED, S.EXPIRED})
# Nothing of these reached the driver for all that is known, so they answer nobody until a person takes care of it.
UNANSWERING_STATES = frozenset({S.FAILED, S.REJECTED, S.EXPIRED, S.CANCELLED, S.CLOSED_NOT_SENT})
# Failures with a cause upstream: refused by Catena, or given up by the provider.
CAUSED_STATES = frozenset({S.FAILED, S.REJECTED})
# A failure that may be sent once more, as a new message that is linked to it.
RESENDABLE_STATES = frozenset({S.FAILED, S.REJECTED, S.EXPIRED})
# Something may still change on the screen within seconds. An urgent message that stays here too long escalates.
LIVELY_STATES = frozenset({S.WAITING, S.QUEUED, S.CLAIMED, S.POSTING, S.ACCEPTED, S.UNKNOWN})

# Where a message goes whose earlier attempt turns up at Catena. From WAITING, QUEUED, CLAIMED and REJECTED only a message
# that a person sends again has such an attempt; being found then takes it out of the queue.
_FOUND = frozenset({S.ACCEPTED, S.SUCCEEDED, S.FAILED})
# The same message, withdrawn or too old before it went again: "cancelled" and "expired" would say that nothing was sent.
_RESENT_IN_VAIN = frozenset({S.NEEDS_DECISION, S.CLOSED_NOT_SENT})
# Every move of reliability plan 3.2. A move that is not here does not exist.
TRANSITIONS: dict[MessageState, frozenset[MessageState]] = {
    S.WAITING: frozenset({S.QUEUED, S.CANCELLED, S.EXPIRED, *_FOUND, S.CLOSED_NOT_SENT}),
    S.QUEUED: frozenset({S.CLAIMED, S.CANCELLED, S.EXPIRED, *_FOUND, *_RESENT_IN_VAIN}),
    S.CLAIMED: frozenset({S.QUEUED, S.POSTING, S.NEEDS_DECISION, S.REJECTED, *_FOUND}),
    S.POSTING: frozenset({S.QUEUED, S.ACCEPTED, S.SUCCEEDED, S.FAILED, S.REJECTED, S.UNKNOWN}),
    S.ACCEPTED: frozenset({S.SUCCEEDED, S.FAILED, S.CLOSED_SENT}),
    S.UNKNOWN: frozenset({S.ACCEPTED, S.SUCCEEDED, S.FAILED, S.NEEDS_DECISION}),
    S.NEEDS_DECISION: frozenset(
        {S.QUEUED, S.WAITING, S.CLOSED_SENT, S.CLOSED_NOT_SENT, S.ACCEPTED, S.SUCCEEDED, S.FAILED}
    ),
    S.CLOSED_SENT: frozenset({S.ACCEPTED, S.SUCCEEDED, S.FAILED}),
    S.CLOSED_NOT_SENT: frozenset({S.ACCEPTED, S.SUCCEEDED, S.FAILED}),
    # Only when Catena calls one operation both success and failed: its later word stands (reliability plan 3.3).
    S.SUCCEEDED: frozenset({S.FAILED}),
    S.FAILED: frozenset({S.SUCCEEDED}),
    S.REJECTED: frozenset(_FOUND),
    S.CANCELLED: frozenset(),
    S.EXPIRED: frozenset(),
    S.MIRRORED: frozenset(),
}


def may_move(before: MessageState, after: MessageState) -> bool:
    return after in TRANSITIONS[before]


class OperationStatus(StrEnum):
    """Catena's words for an operation (contract section 9). Stored as text: an unknown word must survive."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILED = "failed"


FINAL_OPERATION_STATUSES = frozenset({OperationStatus.SUCCESS, OperationStatus.FAILED})


class AttemptOutcome(TextChoices):
    """How one POST of ours ended (reliability plan 2.6)."""

    ACCEPTED = "accepted", "Accepted by Catena"
    REFUSED = "refused", "Refused"
    UNAUTHORIZED = "unauthorized", "Not authorised"
    RATE_LIMITED = "rate_limited", "Too many requests"
    UNSENT = "unsent", "Provably not sent"
    AMBIGUOUS = "ambiguous", "May have been sent"
    LOST = "lost", "Worker vanished; may have been sent"


# Nobody knows what became of such a POST, until its operation is found.
UNSETTLED_OUTCOMES = frozenset({AttemptOutcome.AMBIGUOUS, AttemptOutcome.LOST})
# After these the POST is known not to have been processed, which entitles to exactly one more.
PROVEN_UNSENT_OUTCOMES = frozenset({AttemptOutcome.UNSENT, AttemptOutcome.UNAUTHORIZED, AttemptOutcome.RATE_LIMITED})


class Authority(TextChoices):
    """What entitles a POST: the composing itself, a proof that the one before never left, or a person's decision."""

    COMPOSE = "compose", "Composed"
    PROOF_NOT_SENT = "proof_not_sent", "Proof that nothing was sent"
    HUMAN = "human", "A person's decision"


class Question(TextChoices):
    """Why a message asks for a person's decision."""

    ABSENT = "absent", "Catena shows no trace of it"
    UNPROVEN = "unproven", "It was not found, and its absence is not proven"
    SEVERAL = "several", "Several operations could be it"
    POISON = "poison", "Preparing it stopped Backhaul several times"
    NO_AUTHORITY = "no_authority", "An earlier attempt may have been sent"
    RESTORED = "restored", "It may have been sent before the database was restored"
    OVERDUE = "overdue", "It was to be sent again and became too old"


class DecisionKind(TextChoices):
    SEND_AGAIN = "send_again", "Send again"
    WAS_SENT = "was_sent", "It was sent"
    LEAVE_UNSENT = "leave_unsent", "Leave it unsent"
    SEND_NEXT = "send_next", "Send the next one anyway"


class GateState(TextChoices):
    OPEN = "open", "Open"
    CLOSED = "closed", "Closed"
    LOCKED = "locked", "Locked"


class GateCause(TextChoices):
    """Why a gate is not open. Only reads may find out whether it can open again."""

    RATE_LIMIT = "rate_limit", "Catena asks us to slow down"
    LOGIN = "login", "Catena refuses our credentials"
    AMBIGUITY = "ambiguity", "Too many sends without a clear answer"
    OPERATOR = "operator", "Paused by a person"
    RESTORE = "restore", "The database was restored"


class EventState(TextChoices):
    NEW = "new", "New"
    DONE = "done", "Done"
    PARKED = "parked", "Parked"
    DEAD = "dead", "Dead"


class Tone(StrEnum):
    NEUTRAL = "neutral"
    WAIT = "wait"
    OK = "ok"
    BAD = "bad"
    HIGH = "hi"


@dataclass(frozen=True, slots=True)
class Badge:
    """What a person sees of a message: `short` in lists, `long` in the conversation and on the message page.

    `key` is the word for filters and exports. `quiet` badges show as a grey icon in lists: success makes no noise.
    """

    key: str
    short: str
    long: str
    icon: str
    tone: Tone
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """One row of the registry: a badge without its particulars."""

    short: str
    icon: str
    tone: Tone
    quiet: bool = False


# The one table of words on the screen: badges, filters, admin, exports and tests read it.
SITUATIONS: dict[str, Situation] = {
    "waiting": Situation("Waiting", "hourglass", Tone.WAIT),
    "held": Situation("Held", "hourglass", Tone.WAIT),
    "sending": Situation("Sending", "clock", Tone.WAIT),
    "retrying": Situation("Retrying", "rotate-cw", Tone.WAIT),
    "slow": Situation("Slow", "triangle-alert", Tone.HIGH),
    "late": Situation("Not accepted in time", "triangle-alert", Tone.HIGH),
    "paused": Situation("Paused", "pause-circle", Tone.HIGH),
    "sent": Situation("Sent", "circle-check", Tone.OK, quiet=True),
    "delivered": Situation("Delivered", "circle-check", Tone.OK, quiet=True),
    "read": Situation("Read", "check-check", Tone.OK, quiet=True),
    "failed": Situation("Failed", "octagon-x", Tone.BAD),
    "not_sent": Situation("Not sent", "ban", Tone.BAD),
    "checking": Situation("Checking", "help-circle", Tone.HIGH),
    "needs_you": Situation("Needs you", "user-check", Tone.HIGH),
    "sent_after_all": Situation("Sent after all", "user-check", Tone.HIGH),
    "sent_twice": Situation("Sent twice", "triangle-alert", Tone.HIGH),
    "cancelled": Situation("Cancelled", "x", Tone.NEUTRAL),
    "expired": Situation("Expired", "clock", Tone.BAD),
    "marked_sent": Situation("Marked sent", "user-check", Tone.NEUTRAL),
    "left_unsent": Situation("Left unsent", "user-check", Tone.NEUTRAL),
    "unknown_status": Situation("", "help-circle", Tone.NEUTRAL),
    "group": Situation("Group", "user", Tone.OK, quiet=True),
    "received": Situation("Received", "corner-down-left", Tone.NEUTRAL, quiet=True),
}

SLOW_AFTER = timedelta(minutes=10)
# The true hold is this much longer than the one shown, so that an undo in the last shown second still wins.
HOLD_MARGIN = timedelta(seconds=2)


class Facts(NamedTuple):
    """All that `delivery` reads about one message. Times are aware; `None` means not known or not happened.

    `gate_reason`, `gate_until` and `gate_probe_at` describe a closed gate in the message's way; `gate_reason` is None when
    all are open.
    `is_held` says that the author may still undo because nobody has claimed the message yet. `group_size` is the number of
    people a group message is for, None for a message to one.
    """

    direction: str
    state: str
    operation_status: str | None = None
    provider: str = ""
    reason: str = ""
    failed_attempts: int = 0
    composed_at: datetime | None = None
    accepted_at: datetime | None = None
    not_before: datetime | None = None
    is_held: bool = False
    delivered_at: datetime | None = None
    read_at: datetime | None = None
    record_status: str | None = None
    settled_by: str = ""
    escalated_at: datetime | None = None
    corrected_at: datetime | None = None
    is_sent_twice: bool = False
    gate_reason: str | None = None
    gate_until: datetime | None = None
    gate_probe_at: datetime | None = None
    group_size: int | None = None


def _clock(moment: datetime) -> str:
    return localtime(moment).strftime("%H:%M")


@lru_cache(maxsize=1024)
def _badge(key: str, long: str, short: str | None = None) -> Badge:
    row = SITUATIONS[key]
    return Badge(key, row.short if short is None else short, long, row.icon, row.tone, row.quiet)


def _with_reason(word: str, reason: str) -> str:
    return f"{word}: {reason}" if reason else word


def delivery(facts: Facts, now: datetime) -> Badge:
    """The one state a person sees of a message, in the words of the registry.

    Pure: the same facts and moment give the same badge. Times inside the long form are in the active time zone.
    """
    if facts.state == S.MIRRORED:
        return _of_mirrored(facts)
    badge = _of_operation(facts, now) if facts.state in OPERATION_STATES else _of_outbox(facts, now)
    if (facts.is_sent_twice or facts.corrected_at) and facts.state in TAKEN_STATES:
        return _surprise(badge, facts)
    if facts.escalated_at and facts.composed_at and facts.state in LIVELY_STATES:
        return _late(badge, facts.escalated_at - facts.composed_at)
    return badge


def _surprise(badge: Badge, facts: Facts) -> Badge:
    """Catena knows more than the people who decided: that comes first, then where the message is."""
    key = "sent_twice" if facts.is_sent_twice else "sent_after_all"
    words = "Sent twice: the driver may have got it twice" if facts.is_sent_twice else "Sent after all"
    return _badge(key, f"{words}. {badge.long}")


# What the message before has come to, for one that waits behind it.
HELD_UP_BY = {
    S.UNKNOWN: "which may have been sent and is being looked for",
    S.NEEDS_DECISION: "which needs a decision",
}


def held_up(badge: Badge, state: str) -> Badge:
    """The badge of a message that waits behind one in `state`, of which nobody knows whether it was sent."""
    if badge.key != "waiting":
        return badge
    return _badge("waiting", f"Waits for the message before it, {HELD_UP_BY[MessageState(state)]}")


def _late(badge: Badge, after: timedelta) -> Badge:
    """An urgent message that was not accepted in its time: that comes first, then where it is."""
    minutes, seconds = divmod(int(after.total_seconds()), 60)
    words = f"Not accepted in {minutes} min" if minutes else f"Not accepted in {seconds} s"
    return _badge("late", f"{words}. {badge.long}", short=words)


RECEIVED = _badge("received", "Received")


def _of_mirrored(facts: Facts) -> Badge:
    if facts.direction == Direction.IN:
        return RECEIVED
    if facts.group_size is not None:
        return _of_group(facts)
    return _receipt(facts) or _of_record(facts)


def _of_group(facts: Facts) -> Badge:
    """One state for all: what the provider reports of a group says nothing of any one person in it."""
    drivers = "1 driver" if facts.group_size == 1 else f"{facts.group_size} drivers"
    provider = facts.provider or "the provider"
    words = {
        "pending": f"pending at {provider}",
        "sent": f"accepted by {provider}",
        "delivered": "reported as delivered to the group",
        "read": "reported as read in the group",
    }
    status = facts.record_status or "sent"
    return _badge("group", f"Group message to {drivers}, {words.get(status, f'unknown status: {status}')}")


def _of_record(facts: Facts) -> Badge:
    """A message of the provider's own screen: no operation vouches for it, so a word we do not know is no success."""
    if facts.record_status == "pending":
        return _badge("sending", f"Pending at {facts.provider or 'the provider'}")
    if facts.record_status in {None, "", "sent"}:
        return accepted_by(facts.provider)
    return _badge("unknown_status", f"Unknown status: {facts.record_status}", short=facts.record_status)


def accepted_by(provider: str) -> Badge:
    """What is said of a message that the provider took, while nobody knows more of it."""
    return _badge("sent", f"Accepted by {provider or 'the provider'}")


def _receipt(facts: Facts) -> Badge | None:
    """Delivered or Read, only when the message record says so (never from an operation)."""
    if facts.read_at:
        before = f"Delivered {_clock(facts.delivered_at)}, " if facts.delivered_at else ""
        return _badge("read", f"{before}Read {_clock(facts.read_at)}")
    if facts.record_status == "read":
        return _badge("read", "Read")
    if facts.delivered_at:
        return _badge("delivered", f"Delivered {_clock(facts.delivered_at)}")
    if facts.record_status == "delivered":
        return _badge("delivered", "Delivered")
    return None


def _of_operation(facts: Facts, now: datetime) -> Badge:
    if facts.state == S.FAILED:
        return _badge("failed", _with_reason("Failed", facts.reason))
    if facts.state == S.SUCCEEDED:
        return _receipt(facts) or accepted_by(facts.provider)
    status = facts.operation_status
    if status is not None and status != OperationStatus.PENDING:
        return _badge("unknown_status", f"Unknown status: {status}", short=status)
    if facts.accepted_at and now - facts.accepted_at > SLOW_AFTER:
        return _badge("slow", "Taking longer than usual")
    if facts.failed_attempts:
        return _badge("retrying", _with_reason("Retrying", facts.reason))
    return _badge("sending", "Handed to Catena")


def _of_outbox(facts: Facts, now: datetime) -> Badge:
    match facts.state:
        case S.WAITING:
            return _badge("waiting", "Waiting for the message before it")
        case S.QUEUED | S.CLAIMED:
            return _of_queue(facts, now)
        case S.POSTING:
            return _badge("sending", "Sending")
        case S.UNKNOWN:
            return _badge("checking", "It may have been sent; checking")
        case S.NEEDS_DECISION:
            may_be_out = "It may have been sent; needs your decision"
            return _badge("needs_you", f"Needs your decision: {facts.reason}" if facts.reason else may_be_out)
        case S.REJECTED:
            return _badge("not_sent", _with_reason("Not sent", facts.reason))
        case S.CANCELLED:
            return _badge("cancelled", f"Cancelled by {facts.settled_by}" if facts.settled_by else "Cancelled")
        case S.EXPIRED:
            return _badge("expired", "Expired, not sent")
        case S.CLOSED_SENT:
            return _badge("marked_sent", f"Marked as sent by {facts.settled_by or 'a colleague'}")
        case S.CLOSED_NOT_SENT:
            return _badge("left_unsent", f"Left unsent by {facts.settled_by or 'a colleague'}")
        case _:
            return _badge("unknown_status", f"Unknown status: {facts.state}", short=facts.state)


def _of_queue(facts: Facts, now: datetime) -> Badge:
    if facts.state == S.QUEUED and facts.is_held and facts.not_before and facts.not_before - HOLD_MARGIN > now:
        return _badge("held", f"Sends in {ceil((facts.not_before - HOLD_MARGIN - now).total_seconds())} s")
    if facts.state == S.QUEUED and facts.gate_reason is not None:
        return _badge("paused", f"Paused: {facts.gate_reason}{_pause_ends(facts.gate_until, facts.gate_probe_at)}")
    return _badge("sending", "Sending")


def _pause_ends(until: datetime | None, probe_at: datetime | None) -> str:
    if until:
        return f", until {_clock(until)}"
    return f", tried again at {_clock(probe_at)}" if probe_at else ""
