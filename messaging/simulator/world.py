"""The state of the simulated Catena: its records, its clock, its one lock. No HTTP.

Whoever reads or changes records holds `world.lock`. Things that take time are put on `world.agenda` and happen in `tick`,
which somebody has to call (the server's thread does, and a test with its own clock can).
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from random import Random
from threading import RLock
from typing import Any

from messaging.simulator import directory, story
from messaging.simulator.agenda import Agenda
from messaging.simulator.faults import WORD_KINDS, Circumstances, Faults
from messaging.simulator.journal import JournalFile, StateFile
from messaging.simulator.pace import Pace, Range
from messaging.simulator.records import (
    Attempt,
    Connection,
    Delivery,
    Event,
    Fleet,
    JournalEntry,
    LogEntry,
    Message,
    Operation,
    Provider,
    Schedule,
    Subscription,
    User,
)
from messaging.simulator.wire import Json, fresh_id, read_moment, stable_id, write_moment

Record = Connection | Fleet | Message | Operation | Subscription | User

_KINDS: dict[str, type[Record]] = {
    "operation": Operation,
    "message": Message,
    "user": User,
    "connection": Connection,
    "subscription": Subscription,
}


def utc_now() -> datetime:
    return datetime.now(UTC)


class World:
    """One Catena account with its fleets. Thread-safe by `lock`, which is re-entrant.

    The same seed gives the same people. The story is told as the week before the moment `began`; a state file brings
    that moment back after a restart.
    """

    def __init__(
        self,
        seed: int = 7,
        now: Callable[[], datetime] = utc_now,
        pace: Pace | None = None,
        magic_words: bool = True,
    ) -> None:
        self.seed, self.pace, self.magic_words = seed, pace or Pace(), magic_words
        self.lock = RLock()
        self.agenda = Agenda(self.lock)
        self.rng = Random(seed)  # noqa: S311 - a repeatable world, no secret
        self.faults = Faults(self.rng)
        self.partner_id = stable_id("partner")
        self.providers: dict[str, Provider] = directory.build_providers()
        self.subscriptions: dict[str, Subscription] = {}
        self.operations: dict[str, Operation] = {}
        self.tokens: dict[str, datetime] = {}
        self.journal: list[JournalEntry] = []
        self.listeners: list[Callable[[Event], None]] = []
        self.replayers: list[Callable[[Delivery], None]] = []
        self.webhook_secret: str | None = None
        """For subscriptions that bring none; None means that each gets its own."""
        self.webhook_logs: dict[str, list[LogEntry]] = {}
        self.dead_letters: dict[str, deque[Event]] = {}
        self.is_served = False
        """Whether a server has been started for it, now or before."""
        self.is_chatting = False
        self.posts_seen = 0
        """POST requests to the two write endpoints, accepted or not, counted before anything else happens to them."""
        self.requests_seen: Counter[str] = Counter()
        """Requests of every kind by method and path with `{id}` for identifiers, those of the control plane left out."""
        self._now = now
        self._journal_file: JournalFile | None = None
        self._state_file: StateFile | None = None
        self._settle(self.now())

    def _settle(self, began: datetime) -> None:
        self.began = began
        self.fleets: dict[str, Fleet] = {fleet.id: fleet for fleet in directory.build_fleets(self.seed, began)}
        connections = directory.build_connections(self.seed, began)
        self.connections: dict[str, Connection] = {connection.id: connection for connection in connections}
        self.users: dict[str, User] = {user.id: user for user in directory.build_users(self.seed, began)}
        casts = [
            story.Cast(connection, self.providers[connection.slug], driver, self.dispatchers(connection.id)[0])
            for connection in connections
            for driver in self.drivers(connection.id)
        ]
        self.messages: dict[str, Message] = {message.id: message for message in story.tell(self.seed, began, casts)}

    # A millisecond is all that the API shows, so nothing here is finer: a window taken from an answer then fits exactly.
    def now(self) -> datetime:
        moment = self._now().astimezone(UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def later(self, seconds: float | Range) -> datetime:
        """A moment that many seconds from now, drawn from the range if one is given."""
        if isinstance(seconds, tuple):
            seconds = self.rng.uniform(*seconds)
        return self.now() + timedelta(seconds=seconds)

    def next_poll(self, moment: datetime) -> datetime:
        """When Catena polls the providers next, at or after that moment."""
        interval = self.pace.ingest_interval
        if not interval:
            return moment
        beats = -(-moment.timestamp() // interval)
        return datetime.fromtimestamp(beats * interval, UTC)

    def tick(self) -> int:
        """Does everything that is due, in order, and what becomes due by it. Returns how many things that were."""
        done = 0
        while True:
            with self.lock:
                action = self.agenda.take_due(self.now())
                if action is None:
                    return done
                action()
                done += 1

    def drivers(self, connection_id: str) -> list[User]:
        return [user for user in self.users.values() if user.connection_id == connection_id and user.is_driver]

    def dispatchers(self, connection_id: str) -> list[User]:
        return [user for user in self.users.values() if user.connection_id == connection_id and not user.is_driver]

    def provider_of(self, connection_id: str) -> Provider:
        return self.providers[self.connections[connection_id].slug]

    def fleet_of(self, connection_id: str) -> Fleet:
        return self.fleets[self.connections[connection_id].fleet_id]

    def word(self, target: str, true_word: str, connection_id: str, text: str = "") -> str:
        """A status word, or the undocumented one that a fault puts in its place."""
        fault = self.faults.take(WORD_KINDS, Circumstances(connection_id=connection_id, text=text, target=target))
        return fault.word if fault else true_word

    def expire_tokens(self) -> None:
        """Every token that was issued so far is refused from now on."""
        with self.lock:
            self.tokens.clear()

    def emit(self, name: str, record: Json, connection_id: str | None, text: str = "") -> None:
        """Tells the listeners that something happened. Hold the lock."""
        fleet_id = self.connections[connection_id].fleet_id if connection_id else None
        event = Event(fresh_id(), name, record, fleet_id, connection_id, text)
        for listener in self.listeners:
            listener(event)

    def enter_journal(self, operation: Operation) -> int:
        """Notes an accepted write. Returns the ticket to give to `settle`. Hold the lock."""
        payload = operation.payload
        entry = JournalEntry(
            sequence=len(self.journal) + 1,
            operation_id=operation.id,
            resource=operation.resource,
            connection_id=operation.connection_id,
            sender_id=str(payload["sender_id"]),
            recipient_id=",".join(operation.recipient_ids),
            message_text=_text_or_none(payload.get("message_text")),
            priority=_text_or_none(payload.get("priority")),
            reply_to_message_id=_text_or_none(payload.get("reply_to_message_id")),
            accepted_at=str(write_moment(operation.created_at)),
        )
        self.journal.append(entry)
        return self._journal_file.add(entry) if self._journal_file else 0

    def settle(self, ticket: int = 0) -> None:
        """Returns once that journal entry is on the disk and the state is written. Do not hold the lock."""
        journal, state = self._journal_file, self._state_file
        if state:
            state.flush()
        if journal and ticket:
            journal.settle(ticket)

    def remember(self, kind: str, record: Record) -> None:
        """Puts this version of a record into the state file, if there is one. Hold the lock."""
        if self._state_file:
            self._state_file.add(kind, record.id, vars(record))

    def forget(self, kind: str, identity: str) -> None:
        """Notes that a record is gone. Hold the lock."""
        if self._state_file:
            self._state_file.add(kind, identity, {})

    def open_files(self, journal: JournalFile | None, state: StateFile | None) -> bool:
        """Continues what the files say, unless this world has lived already, and writes to them from now on.

        True when records were restored, whose next steps are not on the agenda yet.
        """
        with self.lock:
            is_fresh, self.is_served = not self.is_served, True
            self._journal_file, self._state_file = journal, None
            if journal and is_fresh:
                self.journal[:0] = journal.past
            if state and is_fresh:
                self._restore(state)
            self._state_file = state
            return bool(state) and is_fresh

    def close_files(self) -> None:
        with self.lock:
            if self._journal_file:
                self._journal_file.close()
            if self._state_file:
                self._state_file.close()
            self._journal_file = self._state_file = None

    def _restore(self, state: StateFile) -> None:
        past = state.past.get(("world", str(self.seed)))
        if past is None:
            state.add("world", str(self.seed), {"began": write_moment(self.began)})
        else:
            assert isinstance(past["record"], dict)
            self._settle(read_moment(str(past["record"]["began"])))
        for (kind, identity), line in state.past.items():
            if kind in _KINDS:
                self._adopt(kind, identity, line["record"])

    def _adopt(self, kind: str, identity: str, packed: object) -> None:
        shelves: dict[str, dict[str, Any]] = {
            "operation": self.operations,
            "message": self.messages,
            "user": self.users,
            "connection": self.connections,
            "subscription": self.subscriptions,
        }
        if packed:
            shelves[kind][identity] = _unpack(_KINDS[kind], packed)


def _text_or_none(given: object) -> str | None:
    return None if given is None else str(given)


def _unpack(record_class: type, packed: object) -> object:
    """A record from its packed form. Fields named `..._at` are moments; the two nested lists hold records."""
    assert isinstance(packed, dict)
    known = {one.name for one in fields(record_class)}
    values = {name: value for name, value in packed.items() if name in known}
    for name, value in values.items():
        if name.endswith("_at") and value is not None:
            values[name] = read_moment(value)
    for name, nested in (("attempts", Attempt), ("schedules", Schedule)):
        if name in values:
            values[name] = [_unpack(nested, one) for one in _listed(values[name])]
    return record_class(**values)


def _listed(value: object) -> Iterable[object]:
    assert isinstance(value, list)
    return value
