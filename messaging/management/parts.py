"""The parts that `demo` and `serve` both put together: database, static files, web and worker."""

import hashlib
import os
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from messaging import heartbeat
from messaging.processes import Family, is_free, status_of

# One process with threads suits two cores: pages wait for the database more than they compute, and the worker needs the
# other core. A thread keeps its database connection, so threads that come and go would connect again and again.
# Granian's backpressure counts connections, idle ones too, and each open page keeps one.
WEB = (
    "-m", "granian", "--interface", "wsgi", "--workers", "1", "--blocking-threads", "8",
    "--blocking-threads-idle-timeout", "600", "--backpressure", "1024", "--workers-kill-timeout", "10", "--no-ws",
    "--no-access-log", "--log-level", "warning",
)  # fmt: skip
WORKER = ("manage.py", "worker")


def refuse_taken_port(host: str, port: int, way_out: str) -> None:
    """Raises CommandError unless this process could listen there."""
    try:
        if is_free(host, port):
            return
        reason = "is in use by another program"
    except PermissionError:
        reason = "may be used by root only"
    raise CommandError(f"Port {port} {reason}. Choose another: {way_out}")


def new_family() -> Family:
    """Children of this installation. They share this process's database, which this process alone starts and stops."""
    os.environ.pop("DATABASE_URL_FILE", None)
    os.environ["DATABASE_URL"] = settings.DATABASE_URL
    return Family(home=settings.BASE_DIR, logs=settings.VAR_DIR / "log")


def keep_database(family: Family) -> None:
    if settings.DATABASE_KEEPER:
        family.start("database-keeper", settings.DATABASE_KEEPER)


def collect_static() -> None:
    """Collects the files that browsers load, when one of them changed since the last time."""
    if not settings.HASHED_STATIC:
        return
    stamp = Path(f"{settings.STATIC_ROOT}.fingerprint")
    fingerprint = _fingerprint()
    if stamp.is_file() and stamp.read_text() == fingerprint:
        return
    stamp.unlink(missing_ok=True)
    call_command("collectstatic", interactive=False, clear=True, verbosity=0)
    stamp.write_text(fingerprint)


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for finder in get_finders():
        for path, storage in finder.list([]):
            state = Path(storage.path(path)).stat()
            digest.update(f"{path} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def pending_migrations() -> int:
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def start_web_and_worker(family: Family, host: str, port: int) -> None:
    """Returns when the pages answer and the worker has shown a sign of life of its own, not of an earlier one.

    Any answer of the pages will do: this machine's own name may not be among ALLOWED_HOSTS.
    """
    started = timezone.now()
    module, _, name = settings.WSGI_APPLICATION.rpartition(".")
    web = family.start("web", [*WEB, "--host", host, "--port", str(port), f"{module}:{name}"])
    worker = family.start("worker", list(WORKER), comes_back=True)
    asked = "127.0.0.1" if host in {"0.0.0.0", "::", ""} else host  # noqa: S104 (compared, not bound)
    family.await_ready(web, lambda: status_of(asked, port, "/healthz") is not None)
    family.await_ready(worker, lambda: _has_beaten_since(started))
    connection.close()


def _has_beaten_since(moment: datetime) -> bool:
    return heartbeat.is_fresh(moment + heartbeat.FRESH_FOR)
