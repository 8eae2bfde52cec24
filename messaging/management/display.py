"""How the command line shows a round: a line per kind of record while it runs, a table when it is done."""

from collections.abc import Iterator

from django.core.management.base import CommandError, OutputWrapper

from messaging.mirror import Change
from messaging.sync import Summary


class RoundDisplay:
    """Watches a round: counts in place on a terminal, else writes one line for each kind when the next one begins, and one
    for each step of a long reading.
    """

    def __init__(self, out: OutputWrapper) -> None:
        self.out, self.is_terminal = out, out.isatty()
        self.kind, self.count, self.stage = "", 0, ""
        self.width = 0

    def __call__(self, kind: str, count: int, stage: str) -> None:
        if kind != self.kind:
            self.finish()
        is_step = stage not in ("", self.stage)
        self.kind, self.count, self.stage = kind, count, stage
        if self.is_terminal:
            line = self._line() + (f" ({stage})" if stage else "")
            # What is left of a longer line before is blotted out.
            self.out.write(f"\r{line:<{self.width}}", ending="")
            self.width = len(line)
            self.out.flush()
        elif is_step and count:
            self.out.write(f"  {stage}, {count:,} {kind} so far")
            self.out.flush()

    def finish(self) -> None:
        """Ends the line of the current kind, if there is one."""
        if self.kind and (self.count or self.is_terminal):
            self.out.write("" if self.is_terminal else self._line())
        self.kind, self.width = "", 0

    def _line(self) -> str:
        return f"  read {self.count:>8,} {self.kind}"


def report(out: OutputWrapper, summary: Summary) -> None:
    """The table of a finished round, and what went wrong in it. Raises `CommandError` when Catena stopped the round."""
    for line in _table(summary):
        out.write(line)
    for problem in summary.problems:
        out.write(f"Problem: {problem}")
    if summary.stopped:
        raise CommandError(f"{summary.stopped}.")


def _table(summary: Summary) -> Iterator[str]:
    yield f"\n{'':<16}{'read':>9}{'new':>9}{'changed':>9}{'same':>9}{'skipped':>9}"
    for kind, count in summary.counts.items():
        columns = (Change.NEW, Change.CHANGED, Change.SAME, Change.SKIPPED)
        yield f"{kind:<16}{count.total():>9,}" + "".join(f"{count[column]:>9,}" for column in columns)
    if summary.withdrawn:
        yield f"{summary.withdrawn:,} fleets or connections withdrawn or back"
    if not summary.changed and not summary.stopped:
        yield "Nothing was new or different."
    yield f"{summary.seconds:.1f} seconds"
