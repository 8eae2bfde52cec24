"""The week of conversations that the seeded world begins with. Makes messages, and nothing that changes later."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from messaging.simulator.records import Connection, Message, Provider, User
from messaging.simulator.scripts import CORRIDORS, CUSTOMERS, SCRIPTS
from messaging.simulator.wire import stable_id

_LINE = re.compile(r"^(?P<who>[DO])(?P<mark>[!>-]?) (?P<gap>\d+) \| (?P<text>.+)$")
_PRIORITIES = {"!": "high", "-": "low"}
_SILENT_SHARE = 0.06
_INGESTION = timedelta(minutes=10)


@dataclass(frozen=True)
class _Line:
    from_driver: bool
    mark: str
    gap: timedelta
    text: str


@dataclass(frozen=True)
class Cast:
    """The two people of one conversation, and where they talk."""

    connection: Connection
    provider: Provider
    driver: User
    office: User


def fill(template: str, rng: Random) -> str:
    """Replaces the slots of a template: the same slot has the same value throughout."""
    highway = rng.choice(list(CORRIDORS))
    city, other_city = rng.sample(CORRIDORS[highway], 2)
    slots = {
        "customer": rng.choice(CUSTOMERS),
        "city": city,
        "city2": other_city,
        "highway": highway,
        "dock": rng.randrange(1, 48),
        "gate": rng.choice("ABCDE"),
        "exit": rng.randrange(12, 380),
        "trailer": f"T{rng.randrange(2100, 9900)}",
        "load": rng.randrange(410000, 499999),
        "seal": rng.randrange(1000, 9999),
        "minutes": rng.randrange(15, 55),
        "miles": rng.randrange(280, 610),
        "time": f"{rng.randrange(7, 18):02d}:{rng.choice(('00', '15', '30', '45'))}",
    }
    return template.format_map(slots)


def tell(seed: int, began: datetime, casts: list[Cast]) -> list[Message]:
    """Every message of the week before `began`, oldest first. A few drivers stay silent."""
    messages: list[Message] = []
    for cast in casts:
        rng = Random(f"{seed}/story/{cast.driver.id}")  # noqa: S311 - a repeatable story, no secret
        if rng.random() >= _SILENT_SHARE:
            messages += _talk(rng, began, cast)
    return sorted(messages, key=lambda message: (message.occurred_at, message.id))


def _talk(rng: Random, began: datetime, cast: Cast) -> Iterator[Message]:
    """One to three conversations on different days, so that they never run into each other."""
    quiet_days = 3 if cast.connection.status == "stale" or not cast.driver.is_active else 0
    days = sorted(rng.sample(range(quiet_days, 7), rng.choice((1, 2, 2, 3))), reverse=True)
    for day, script in zip(days, rng.sample(SCRIPTS, len(days)), strict=True):
        lines = [_parse(line) for line in fill(script, rng).strip().splitlines()]
        length = sum((line.gap for line in lines), timedelta())
        age = timedelta(minutes=rng.randrange(3, 300)) + length
        if day:
            age = timedelta(days=day, minutes=rng.randrange(0, 480))
        yield from _stage(rng, began, cast, lines, began - age)


def _parse(line: str) -> _Line:
    match = _LINE.match(line.strip())
    assert match, f"not a line of a script: {line!r}"
    return _Line(match["who"] == "D", match["mark"], timedelta(minutes=int(match["gap"])), match["text"])


def _stage(rng: Random, began: datetime, cast: Cast, lines: list[_Line], start: datetime) -> Iterator[Message]:
    moment, said = start, None
    for index, line in enumerate(lines):
        moment += line.gap + timedelta(seconds=rng.randrange(0, 45) if index else 0)
        answered_at = moment + lines[index + 1].gap if index + 1 < len(lines) else None
        message = _message(cast, line, min(moment, began), said if line.mark == ">" else None)
        _acknowledge(rng, message, cast.provider, answered_at, began)
        message.created_at = min(_next_beat(message.occurred_at), began)
        message.updated_at = max(filter(None, (message.created_at, message.delivered_at, message.read_at)))
        said = message
        yield message


def _message(cast: Cast, line: _Line, moment: datetime, said: Message | None) -> Message:
    sender, recipient = (cast.driver, cast.office) if line.from_driver else (cast.office, cast.driver)
    identity = stable_id("message", cast.driver.id, line.from_driver, line.text)
    return Message(
        id=identity,
        resource="message",
        connection_id=cast.connection.id,
        source_id=f"{cast.provider.prefix}_{int(identity[:7], 16)}",
        sender_id=sender.id,
        recipient_ids=[recipient.id],
        sent_by_driver=line.from_driver,
        text=line.text,
        priority=None if line.from_driver else _PRIORITIES.get(line.mark, "medium"),
        occurred_at=moment,
        created_at=moment,
        updated_at=moment,
        sender_name=sender.full_name,
        recipient_name=recipient.full_name,
        reply_to_id=said.id if said else None,
    )


def _acknowledge(
    rng: Random, message: Message, provider: Provider, answered_at: datetime | None, began: datetime
) -> None:
    """Receipts as the provider reports them. Whoever answered has read the message before."""
    if provider.reports_delivered:
        message.delivered_at = min(message.occurred_at + timedelta(seconds=rng.randrange(1, 20)), began)
        message.status = "delivered"
    if provider.reports_read and answered_at is not None:
        patience = max((answered_at - message.occurred_at).total_seconds() * 0.6, 21)
        message.read_at = min(message.occurred_at + timedelta(seconds=patience), began)
        message.status = "read"


def _next_beat(moment: datetime) -> datetime:
    """When Catena's next poll of the provider found it."""
    whole = int(_INGESTION.total_seconds())
    return datetime.fromtimestamp((int(moment.timestamp()) // whole + 1) * whole, tz=moment.tzinfo)
