"""What a sweep or a round did, for the log, the command line and the tests."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from messaging.mirror import Change
from messaging.sync.cursors import Round, RoundStopped

# Told the kind of record, how many of it have been read so far, and the stage of a long reading (empty: none).
Watcher = Callable[[str, int, str], None]


@dataclass
class Summary:
    """`counts` by kind of record; `problems` are sentences; `stopped` says why the rest was not read, empty if it was.

    `seconds` is wall time, set by `full_round`. `withdrawn` counts fleets and connections that went or came back.
    """

    counts: dict[str, Counter[Change]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    stopped: str = ""
    seconds: float = 0.0
    withdrawn: int = 0
    watcher: Watcher | None = None
    stage: str = ""

    def add(self, kind: str, changes: Counter[Change]) -> None:
        count = self.counts.setdefault(kind, Counter())
        count.update(changes)
        if self.watcher is not None:
            self.watcher(kind, count.total(), self.stage)

    def told(self, kind: str, stage: str) -> None:
        """Tells the watcher where a long reading of this kind of record stands; empty when it is over."""
        self.stage = stage
        if self.watcher is not None and stage:
            self.watcher(kind, self.read(kind), stage)

    def note(self, withdrawn: int) -> None:
        self.withdrawn += withdrawn

    def read(self, kind: str) -> int:
        return self.counts[kind].total() if kind in self.counts else 0

    @property
    def changed(self) -> int:
        """Rows that are new or different; 0 says that nothing at all was written."""
        written = sum(count[Change.NEW] + count[Change.CHANGED] for count in self.counts.values())
        return written + self.withdrawn

    @contextmanager
    def watching(self, work: Round) -> Iterator[None]:
        """Takes over a round's problems, and its stop instead of raising it."""
        try:
            yield
        except RoundStopped as stop:
            self.stopped = str(stop)
        finally:
            self.problems += work.problems
