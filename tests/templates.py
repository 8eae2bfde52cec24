"""What every test database and every running product begins with, made once and then copied: tables and static files.

Both stay for the next run, which makes them anew when what they come from has changed.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from dashboard.embedded import FileLock

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("messaging/migrations/*.py", "messaging/models/*.py", "messaging/insight/*.py", "requirements.txt")
PREFIX = "backhaul_for_tests_"
CACHE = ROOT / "var" / "for-tests"


def migrated(admin_dsn: str) -> str:
    """The name of a database with all migrations on the server behind `admin_dsn`, to be copied and not to be used."""
    name = PREFIX + _digest(SOURCES)
    with _lock("database"), psycopg.connect(admin_dsn, autocommit=True) as connection:
        if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount:
            for (old,) in connection.execute(
                "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [PREFIX]
            ).fetchall():
                connection.execute(f'DROP DATABASE "{old}" WITH (FORCE)')
            # Of a run that was killed while it made one
            connection.execute(f'DROP DATABASE IF EXISTS "making_{name}" WITH (FORCE)')  # type: ignore[arg-type]
            connection.execute(f'CREATE DATABASE "making_{name}"')  # type: ignore[arg-type]
            _manage("migrate", DATABASE_URL=urlsplit(admin_dsn)._replace(path=f"/making_{name}").geturl())
            connection.execute(f'ALTER DATABASE "making_{name}" RENAME TO "{name}"')  # type: ignore[arg-type]
    return name


def collected(cache: Path = CACHE) -> Path:
    """A folder with the collected static files, kept in `cache`, which copies of this tree may share."""
    folder = cache / _digest(("static/**/*", "requirements.txt"))
    with _lock("static", cache):
        if not (folder / "static" / "staticfiles.json").exists():
            _manage("collectstatic", "--noinput", DATABASE_URL="postgresql://unused/unused", VAR_DIR=str(folder))
    return folder / "static"


def _digest(patterns: tuple[str, ...]) -> str:
    files = [path for pattern in patterns for path in sorted(ROOT.glob(pattern)) if path.is_file()]
    read = b"".join(str(path.relative_to(ROOT)).encode() + path.read_bytes() for path in files)
    return hashlib.sha256(read).hexdigest()[:12]


def _lock(name: str, cache: Path = CACHE) -> FileLock:
    """Several runs and several workers of one run begin at the same moment."""
    cache.mkdir(parents=True, exist_ok=True)
    return FileLock(cache / f"{name}.lock")


def _manage(*arguments: str, **settings: str) -> None:
    environment = {**os.environ, "SECRET_KEY": "a-key-for-the-tests-" * 3, "DEBUG": "false", **settings}
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments, "--verbosity", "0"],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"manage.py {arguments} failed:\n{done.stdout}{done.stderr}"


if __name__ == "__main__":
    migrated(sys.argv[1])
    collected()
