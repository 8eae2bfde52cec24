"""Scripted faults: what goes wrong, for whom, and how often. Decides only; others carry it out.

A fault is added with `world.faults.add(Fault("rate_limited", times=2, retry_after_seconds=1))`. The first fault that matches
wins, in the order in which they were added; one that has been used up `times` times never matches again.

Kinds, the moment at which they are asked for, and the fields they read:

| kind | what happens | fields |
|---|---|---|
| `attempt_failure` | a try of an operation fails | `error_type`, `status`, `headers`, `details`, `then_succeed` |
| `rate_limited` | 429 | `retry_after_seconds` (None leaves `detail` null) |
| `unauthorized` | 401 | |
| `refused` | the given 4xx, nothing is accepted | `status`, `details` |
| `server_error` | the given 5xx | `status`, `html`, `after` (True: after the write was accepted) |
| `slow` | answers later | `seconds` |
| `hang_before_accept` | holds the request, then closes; never accepted | `seconds` |
| `hang_after_accept` | accepts, holds the answer, then gives it | `seconds` |
| `reset_before_accept`, `reset_after_accept` | TCP reset instead of an answer | |
| `truncated_json` | the real answer, cut in the middle, then a close | |
| `not_json` | the real status with an HTML page | |
| `operation_late_in_lists` | lists show the operation later; reading it by id works | `seconds` |
| `operation_lost_in_lists` | lists never show the operation; reading it by id works | |
| `webhook_duplicate`, `webhook_reordered`, `webhook_lost` | twice, after the next one, never | `event_name` |
| `webhook_late` | that much later | `seconds`, `event_name` |
| `unknown_status` | a status word that nobody documented | `target` (operation, attempt, connection, message), `word` |
| `token_down`, `token_refused` | the token endpoint answers 503, 401 | `status` |

A `match` names a connection id, a part of the message text, a method and a path prefix; all that are given must hold. As a
string it is short for one of them: a UUID, `"POST /v2/telematics/messages"`, or else a part of the text.

Magic words in a message text do the same without any call, for the demo (only if the world has `magic_words`):

| word | what happens |
|---|---|
| `#fail-tsp` | every try fails with the provider's 503 |
| `#fail-auth`, `#fail-validation`, `#fail-network` | the tries fail with that `error_type` |
| `#retry` | two tries fail, the third succeeds |
| `#slow` | stays pending for `Pace.slow_delay` |
| `#unknown` | ends in a status word that nobody documented |
| `#lost-answer` | accepted, then the connection is reset |
| `#refuse` | refused with 422 |
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from random import Random
from threading import Lock

from messaging.simulator.wire import is_uuid

WIRE_KINDS = frozenset(
    {
        "rate_limited",
        "unauthorized",
        "refused",
        "server_error",
        "slow",
        "hang_before_accept",
        "hang_after_accept",
        "reset_before_accept",
        "reset_after_accept",
        "truncated_json",
        "not_json",
    }
)
LIST_KINDS = frozenset({"operation_late_in_lists", "operation_lost_in_lists"})
WEBHOOK_KINDS = frozenset({"webhook_duplicate", "webhook_reordered", "webhook_lost", "webhook_late"})
TOKEN_KINDS = frozenset({"token_down", "token_refused"})
ATTEMPT_KINDS = frozenset({"attempt_failure"})
WORD_KINDS = frozenset({"unknown_status"})
KINDS = WIRE_KINDS | LIST_KINDS | WEBHOOK_KINDS | TOKEN_KINDS | ATTEMPT_KINDS | WORD_KINDS


@dataclass(frozen=True)
class Circumstances:
    """What a fault may match on, at the moment it is asked for. None means that there is no such thing here."""

    connection_id: str | None = None
    text: str | None = None
    method: str | None = None
    path: str | None = None
    event_name: str | None = None
    target: str | None = None


@dataclass(frozen=True)
class Match:
    """All conditions that are given must hold. An empty one matches everything."""

    connection_id: str | None = None
    text: str | None = None
    method: str | None = None
    path: str | None = None
    """A prefix."""

    @classmethod
    def of(cls, given: "Match | Mapping[str, str | None] | str | None") -> "Match":
        if given is None:
            return cls()
        if isinstance(given, Match):
            return given
        if isinstance(given, Mapping):
            return cls(**given)
        if is_uuid(given):
            return cls(connection_id=given)
        method, _, path = given.partition(" ")
        if method.isupper() and path.startswith("/"):
            return cls(method=method, path=path)
        return cls(text=given)

    def holds(self, here: Circumstances) -> bool:
        return (
            self.connection_id in (None, here.connection_id)
            and self.method in (None, here.method)
            and (self.path is None or (here.path or "").startswith(self.path))
            and (self.text is None or self.text in (here.text or ""))
        )


@dataclass
class Fault:
    """One thing that goes wrong. `times=None` means every time. Raises ValueError for an unknown kind."""

    kind: str
    match: Match | Mapping[str, str | None] | str | None = None
    times: int | None = None
    probability: float = 1.0
    status: int | None = None
    error_type: str = "tsp"
    """auth, validation, network or tsp."""
    details: str | None = None
    headers: dict[str, str] | None = None
    then_succeed: int | None = None
    """The operation fails this many tries and succeeds at the next one. None: as long as the fault lasts."""
    retry_after_seconds: int | None = 1
    seconds: float = 1.0
    html: bool = False
    after: bool = False
    event_name: str | None = None
    target: str = "operation"
    word: str = "escalated"
    used: int = 0
    condition: Match = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of fault {self.kind!r}; known: {', '.join(sorted(KINDS))}")
        self.condition = Match.of(self.match)

    @classmethod
    def from_json(cls, given: Mapping[str, object]) -> "Fault":
        """Raises ValueError or TypeError for names and kinds that do not exist."""
        known = {one.name for one in fields(cls) if one.init} - {"used"}
        if strangers := sorted(set(given) - known):
            raise ValueError(f"a fault has no {', '.join(strangers)}; it has: {', '.join(sorted(known))}")
        return cls(**dict(given))  # type: ignore[arg-type]

    def applies(self, here: Circumstances) -> bool:
        return (
            (self.times is None or self.used < self.times)
            and (self.event_name in (None, here.event_name))
            and (self.kind != "unknown_status" or self.target == here.target)
            and self.condition.holds(here)
        )


class Faults:
    """The faults in force. Thread-safe."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._lock = Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def __len__(self) -> int:
        return len(self._faults)

    def take(self, kinds: frozenset[str], here: Circumstances) -> Fault | None:
        """The first fault of these kinds that matches, and counts its use. Only a match is put to the dice."""
        with self._lock:
            for fault in self._faults:
                if fault.kind in kinds and fault.applies(here) and self._rng.random() < fault.probability:
                    fault.used += 1
                    return fault
        return None


MAGIC_ATTEMPTS = {
    "#fail-tsp": Fault("attempt_failure", error_type="tsp", status=503),
    "#fail-auth": Fault("attempt_failure", error_type="auth"),
    "#fail-validation": Fault("attempt_failure", error_type="validation"),
    "#fail-network": Fault("attempt_failure", error_type="network"),
    "#retry": Fault("attempt_failure", error_type="tsp", status=503, then_succeed=2),
}
MAGIC_WIRE = {
    "#lost-answer": Fault("reset_after_accept"),
    "#refuse": Fault("refused", status=422, details="The recipient cannot get messages (asked for by #refuse)"),
}
MAGIC_SLOW = "#slow"
MAGIC_UNKNOWN = "#unknown"


def conjured(spells: Mapping[str, Fault], text: str) -> Fault | None:
    """The fault that a magic word in the text asks for."""
    return next((fault for word, fault in spells.items() if word in text), None)
