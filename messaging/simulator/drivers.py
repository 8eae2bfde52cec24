"""What happens in the cabs: messages arrive, are read and answered, and drivers write by themselves.

The provider knows at once, Catena on its next poll (`Pace.ingest_interval`): only then a reply or a receipt shows in lists and
is announced, with the time at which it happened. Contract, sections 5 (ingestion) and 8.
"""

import re
from collections.abc import Callable
from datetime import datetime
from random import Random

from messaging.simulator import render
from messaging.simulator.records import Message
from messaging.simulator.scripts import CHATTER
from messaging.simulator.story import fill
from messaging.simulator.wire import fresh_id, stable_id
from messaging.simulator.world import World

Change = Callable[[World, Message, datetime], bool]
"""Applies what happened, unless it is known already, and says whether anything changed."""

_EXPLICIT_REPLY_SHARE = 0.35
_ANSWERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"\bdock (\w+)", ("Copy, heading to dock {0}.", "Dock {0}, on my way.", "10-4, backing into dock {0} shortly.")),
    (r"\b(south|north|east|west) gate", ("Copy, heading to {0} gate.", "On my way to the {0} gate.")),
    (r"\bgate (\w+)", ("Copy, heading to gate {0}.", "At gate {0} in 10.", "Gate {0}, got it.")),
    (r"\bdoor (\w+)", ("Copy, door {0}.", "Going to door {0} now.")),
    (r"\beta\b|how far|how long", ("About 40 minutes out.", "ETA one hour, traffic is light.", "20 miles to go.")),
    (r"\b(?:call|phone)\b", ("Will call when I am parked.", "Calling you in 10.", "At my next stop, yes.")),
    (r"\b(?:wind|snow|ice\b|fog|storm|weather)", ("Copy, taking it slow.", "Parking until it clears.", "Roads are OK here.")),
    (r"\bdetention\b|\bcheck(?:ed)?.in\b", ("Checked in at 07:40, have the slip.", "Sending the slip now.")),
    (r"\b(?:inspect|scale|dot\b)", ("No violations, all clear.", "Papers are in order, moving again.")),
    (r"\b(?:tire|brake|engine|light|shop|repair)", ("Pulling over to look at it.", "Shop says about an hour.")),
    (r"\btrailer (\w+)", ("Got it, hooking to {0}.", "I see {0} on the fence line.")),
    (r"\bload (\w+)", ("Copy, load {0}.", "Load {0} confirmed, rolling.")),
    (r"\b(?:appointment|reschedul)", ("Works for me.", "I can make that.")),
    (r"\bthank", ("No problem.", "Any time.", "You bet.")),
    (r"\?\s*$", ("Yes.", "Yes, no problem.", "Give me 5 minutes and I will tell you.", "Not yet.")),
    (r"", ("Copy.", "10-4", "Copy that, thanks.", "Will do.", "Got it.")),
)  # fmt: skip


def receive(world: World, message: Message) -> None:
    """A message of ours reached the provider: plans its receipts and maybe an answer. Hold the lock."""
    can_answer = message.resource == "message" and world.users[message.recipient_ids[0]].is_driver
    message.owes_reply = can_answer and not message.sent_by_driver and world.rng.random() < world.pace.reply_chance
    plan(world, message)


def plan(world: World, message: Message) -> None:
    """Plans what is still missing of a message to a driver: receipts, and the answer that is owed. Hold the lock."""
    provider = world.provider_of(message.connection_id)
    if provider.reports_delivered and message.delivered_at is None:
        _at_poll(world, world.later(world.pace.receipt_delay), message, _delivered)
    elif provider.reports_read and message.resource == "message" and message.read_at is None:
        _at_poll(world, world.later(world.pace.read_delay), message, _read)
    if message.owes_reply:
        _plan_reply(world, message)


def resume(world: World) -> None:
    """Plans again what an earlier run left open, for the messages that were sent since the seed. Hold the lock."""
    sent = {operation.resource_id for operation in world.operations.values()}
    for identity in filter(None, sent):
        if message := world.messages.get(identity):
            plan(world, message)


def write(world: World, driver_id: str, text: str, reply_to_id: str | None = None) -> Message:
    """A driver writes now. Catena shows it at its next poll. Hold the lock.

    Raises KeyError for an unknown driver.
    """
    return _written(world, driver_id, text, world.now(), reply_to_id)


def start_chatter(world: World) -> None:
    """Has drivers write unprompted, for as long as `Pace.chatter_interval` is set. Idempotent. Hold the lock."""
    interval = world.pace.chatter_interval
    if interval and not world.is_chatting:
        world.is_chatting = True
        world.agenda.at(world.later((interval * 0.5, interval * 1.5)), lambda: _chatter(world))


def answer_to(rng: Random, text: str) -> str:
    """What a driver answers to this text. The last pattern matches everything."""
    for pattern, answers in _ANSWERS:
        match = re.search(pattern, text, re.IGNORECASE)
        if match:
            return rng.choice(answers).format(*match.groups())
    raise AssertionError("the last pattern matches everything")


def _at_poll(world: World, happened: datetime, message: Message, change: Change) -> None:
    def arrive() -> None:
        if not change(world, message, happened):
            return
        message.updated_at = world.now()
        event = render.message_event(world, message)
        world.emit(f"{message.resource}.modified", event, message.connection_id, message.text or "")
        world.remember("message", message)

    world.agenda.at(world.next_poll(happened), arrive)


def _delivered(world: World, message: Message, happened: datetime) -> bool:
    if message.delivered_at is not None:
        return False
    message.delivered_at, message.status = happened, "delivered"
    provider = world.provider_of(message.connection_id)
    if provider.reports_read and message.resource == "message":
        _at_poll(world, world.later(world.pace.read_delay), message, _read)
    return True


def _read(world: World, message: Message, happened: datetime) -> bool:
    if message.read_at is not None:
        return False
    message.delivered_at = message.delivered_at or happened
    message.read_at, message.status = happened, "read"
    return True


def _plan_reply(world: World, message: Message) -> None:
    moment = world.later(world.pace.reply_delay)

    def reply() -> None:
        explicit = world.rng.random() < _EXPLICIT_REPLY_SHARE
        text = answer_to(world.rng, message.text or "")
        message.owes_reply = False
        world.remember("message", message)
        if world.provider_of(message.connection_id).reports_read:
            _at_poll(world, moment, message, _read)
        _written(world, message.driver_id, text, moment, message.id if explicit else None, message.sender_id)

    world.agenda.at(moment, reply)


def _chatter(world: World) -> None:
    world.is_chatting = False
    if world.pace.chatter_interval is None:
        return
    speakers = [
        user
        for user in world.users.values()
        if user.is_driver and user.is_active and world.connections[user.connection_id].status == "active"
    ]
    write(world, world.rng.choice(speakers).id, fill(world.rng.choice(CHATTER), world.rng))
    start_chatter(world)


def _written(
    world: World,
    driver_id: str,
    text: str,
    moment: datetime,
    reply_to_id: str | None = None,
    recipient_id: str | None = None,
) -> Message:
    driver = world.users[driver_id]
    recipient = world.users[recipient_id] if recipient_id else world.dispatchers(driver.connection_id)[0]
    provider = world.provider_of(driver.connection_id)
    identity = stable_id("driver-message", fresh_id())
    message = Message(
        id=identity,
        resource="message",
        connection_id=driver.connection_id,
        source_id=f"{provider.prefix}_{int(identity[:8], 16)}",
        sender_id=driver.id,
        recipient_ids=[recipient.id],
        sent_by_driver=True,
        text=text,
        priority=None,
        occurred_at=moment,
        created_at=moment,
        updated_at=moment,
        sender_name=driver.full_name,
        recipient_name=recipient.full_name,
        reply_to_id=reply_to_id,
    )
    if provider.reports_delivered:
        message.status, message.delivered_at = "delivered", moment
    world.agenda.at(world.next_poll(moment), lambda: _ingest(world, message))
    return message


def _ingest(world: World, message: Message) -> None:
    message.created_at = message.updated_at = world.now()
    world.messages[message.id] = message
    world.emit("message.added", render.message_event(world, message), message.connection_id, message.text or "")
    world.remember("message", message)
