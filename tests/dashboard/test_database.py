"""Where the rows live: what a URL means, and an embedded server that outlives neither its users nor a kill."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured

from dashboard import database, embedded
from tests.stack import wait_for


def test_a_url_names_host_port_name_person_and_password() -> None:
    entry = database.from_url("postgresql://ma%40ra:p%2Fw@db.example:6432/back%20haul?sslmode=require&unknown=1")

    named = {name: entry[name] for name in ("HOST", "PORT", "NAME", "USER", "PASSWORD")}
    assert named == {
        "HOST": "db.example", "PORT": "6432", "NAME": "back haul", "USER": "ma@ra", "PASSWORD": "p/w",
    }  # fmt: skip
    assert entry["OPTIONS"] == {"options": database.SESSION_LIMITS, "sslmode": "require"}


def test_a_url_may_name_a_socket_folder() -> None:
    entry = database.from_url("postgresql://postgres:@/postgres?host=/run/postgres&port=5433")

    assert (entry["HOST"], entry["PORT"], entry["NAME"]) == ("/run/postgres", "5433", "postgres")


@pytest.mark.parametrize("url", ["mysql://host/x", "host", "sqlite:///rows.db"])
def test_another_engine_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL must start with postgresql://"):
        database.from_url(url)


@pytest.mark.parametrize("url", ["postgresql://me:sec/ret@host:port/x", "postgresql://me:secret@[::1/x"])
def test_a_malformed_url_is_refused_without_repeating_the_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL cannot be read") as refused:
        database.from_url(url)

    assert "sec" not in str(refused.value).replace("special", "")


HOLD = """
import sys; from pathlib import Path; from dashboard import embedded
print(embedded.url_of(Path(sys.argv[1])), flush=True); sys.stdin.read()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not under pytest's own temporary folder: each run of pytest closes that one to other users, and for root the
    embedded server is another user.
    """
    with TemporaryDirectory(prefix="backhaul-embedded-", ignore_cleanup_errors=True) as made:
        yield Path(made) / "postgres"


def holder(folder: Path) -> "subprocess.Popen[str]":
    """A process that uses the server on `folder` until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("postgresql://postgres:@/postgres?host=")
    return process


def leave(process: "subprocess.Popen[str]") -> None:
    process.communicate(timeout=30)
    assert process.returncode == 0


def server_pid(folder: Path) -> int:
    return int((folder / "postmaster.pid").read_text().splitlines()[0])


@pytest.mark.processes
def test_the_last_process_that_leaves_stops_the_server_even_after_another_was_killed(folder: Path) -> None:
    killed, first, last = holder(folder), holder(folder), holder(folder)
    server = psutil.Process(server_pid(folder))
    with psycopg.connect(host=str(folder), dbname="postgres", user="postgres") as session:
        assert session.execute("SHOW max_connections").fetchone() == ("300",)

    killed.kill()
    killed.communicate()
    leave(first)
    assert server.is_running()

    leave(last)
    wait_for(lambda: not server.is_running())
    assert not (folder / "postmaster.pid").exists()


@pytest.mark.processes
def test_a_server_that_was_killed_starts_again_although_its_pid_lives_on_in_another_program(folder: Path) -> None:
    first = holder(folder)
    server = psutil.Process(server_pid(folder))
    left_behind = (folder / "postmaster.pid").read_text()
    server.send_signal(signal.SIGKILL)
    wait_for(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    first.kill()
    first.communicate()
    (folder / "postmaster.pid").write_text(left_behind.replace(str(server.pid), str(os.getpid()), 1))

    second = holder(folder)

    assert server_pid(folder) not in {server.pid, os.getpid()}
    leave(second)


def test_a_folder_that_cannot_be_made_is_named_with_the_ways_out(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file where the folder should be")

    with pytest.raises(ImproperlyConfigured, match=r"DATABASE_URL"):
        embedded.url_of(tmp_path / "var" / "postgres")
