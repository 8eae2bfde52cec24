"""`manage.py serve`: web and worker of one machine on a database that is ready for them."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from messaging.processes import is_free, status_of
from tests.stack import free_port, wait_for

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_in_use_is_refused_with_a_way_out(taken_port: int) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("serve", port=taken_port, skip_checks=True)

    assert str(refused.value) == (
        f"Port {taken_port} is in use by another program. Choose another: manage.py serve --port {taken_port + 100}"
    )


@pytest.mark.django_db
def test_a_database_that_lacks_migrations_is_refused_with_the_cure() -> None:
    [newest] = MigrationLoader(connection).graph.leaf_nodes("messaging")
    MigrationRecorder(connection).record_unapplied(*newest)

    with pytest.raises(CommandError) as refused:
        call_command("serve", port=free_port(), skip_checks=True)

    assert str(refused.value) == "The database lacks 1 of the migrations. Apply them first: manage.py migrate"


@pytest.fixture
def database_url(transactional_db: None) -> str:
    """This test's own database, committed, with the tables of the whole product."""
    return urlsplit(settings.DATABASE_URL)._replace(path=f"/{connection.settings_dict['NAME']}").geturl()


@pytest.mark.processes
def test_web_and_worker_run_until_a_stop_is_asked_and_leave_nothing_behind(database_url: str, tmp_path: Path) -> None:
    port = free_port()
    with (tmp_path / "said").open("w") as said:
        serve = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "serve", "--port", str(port)],
            stdout=said, stderr=subprocess.STDOUT, cwd=tmp_path, start_new_session=True,
            env={
                **os.environ, "DATABASE_URL": database_url, "VAR_DIR": str(tmp_path), "DEBUG": "true",
                "PUBLIC_URL": f"http://127.0.0.1:{port}", "CATENA_API_URL": "http://127.0.0.1:1",
                "CATENA_TOKEN_URL": "http://127.0.0.1:1/token", "CATENA_CLIENT_ID": "x", "CATENA_CLIENT_SECRET": "x",
            },
        )  # fmt: skip
    wait_for(lambda: "Serving on" in (tmp_path / "said").read_text() or serve.poll() is not None, seconds=60)

    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/readyz") as ready:
        assert json.load(ready) == {"database": "ok", "migrations": "ok", "worker": "ok"}
    children = psutil.Process(serve.pid).children(recursive=True)
    assert len(children) >= 3, "the web's parent and its worker process, and the message worker"
    serve.send_signal(signal.SIGTERM)

    assert serve.wait(60) == 0
    assert (tmp_path / "said").read_text().endswith("Stopped.\n")
    assert not [child for child in children if child.is_running()]
    assert is_free("127.0.0.1", port)
    assert status_of("127.0.0.1", port, "/healthz") is None
