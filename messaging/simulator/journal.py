"""The files of the simulator: the journal of accepted writes, and the state that survives a restart.

The journal is flushed to the disk before a write is answered, so a test may believe it even after a SIGKILL. The state file is
written to the operating system before the answer, without waiting for the disk.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from io import FileIO
from pathlib import Path
from threading import Condition, Lock
from typing import Any

from messaging.simulator.records import JournalEntry
from messaging.simulator.wire import Json, dump


class JournalFile:
    """Append-only JSON lines. Concurrent writers share one fsync."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.past = [JournalEntry(**line) for line in read_lines(path)]
        self._file = open_lines(path)
        self._turn = Condition()
        self._waiting: list[bytes] = []
        self._added = 0
        self._safe = 0
        self._syncing = False

    def add(self, entry: JournalEntry) -> int:
        """Returns a ticket for `settle`."""
        with self._turn:
            self._waiting.append(dump(asdict(entry)) + b"\n")
            self._added += 1
            return self._added

    def settle(self, ticket: int) -> None:
        """Returns once the line of this ticket is on the disk. One caller writes for all who wait meanwhile."""
        while True:
            with self._turn:
                while self._syncing and self._safe < ticket:
                    self._turn.wait()
                if self._safe >= ticket:
                    return
                self._syncing, lines, reached = True, self._waiting, self._added
                self._waiting = []
            self._write(lines, reached)

    def _write(self, lines: list[bytes], reached: int) -> None:
        try:
            self._file.write(b"".join(lines))
            os.fsync(self._file.fileno())
        except OSError:
            with self._turn:
                self._waiting = lines + self._waiting
            raise
        else:
            self._safe = reached
        finally:
            with self._turn:
                self._syncing = False
                self._turn.notify_all()

    def close(self) -> None:
        self.settle(self._added)
        self._file.close()


class StateFile:
    """JSON lines, one per version of a record; the last one of a record counts."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self.past = {(str(line["kind"]), str(line["id"])): line for line in read_lines(path)}
        self._compact()
        self._file = open_lines(path)
        self._turn = Lock()
        self._waiting: list[bytes] = []

    def _compact(self) -> None:
        """Keeps only the last version of each record, or the old file if this is interrupted."""
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(b"".join(dump(line) + b"\n" for line in self.past.values()))
        fresh.replace(self._path)

    def add(self, kind: str, identity: str, record: Json) -> None:
        """Takes this version as it is now. The caller holds the world's lock, so versions stay in order."""
        line = json.dumps({"kind": kind, "id": identity, "record": record}, default=_packed)
        self._waiting.append(line.encode() + b"\n")

    def flush(self) -> None:
        """Hands everything that was added before to the operating system. Do not hold the world's lock: this is slow."""
        with self._turn:
            if count := len(self._waiting):
                self._file.write(b"".join(self._waiting[:count]))
                del self._waiting[:count]

    def close(self) -> None:
        self.flush()
        self._file.close()


def _packed(value: object) -> object:
    """Not `asdict`: that copies every moment in depth, which took half of the time of a write."""
    return value.isoformat() if isinstance(value, datetime) else vars(value)


def open_lines(path: Path) -> FileIO:
    """For appending whole lines, also after a crash left half of one."""
    file = FileIO(path, "ab+")
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
    return file


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Skips a last line that was cut by a crash. A file that does not exist has no lines."""
    if not path.exists():
        return
    for line in path.read_bytes().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue
