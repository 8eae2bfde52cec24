"""Children are started, watched and stopped; whoever is killed, nothing stays behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from messaging import processes
from messaging.processes import ChildFailed, Family, StopAsked
from tests.stack import free_port, wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.processes

OBEDIENT = "import signal; signal.pause()"
STUBBORN = """
import signal, subprocess, sys
for number in (signal.SIGTERM, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
open(sys.argv[1], "w").close()
while True: signal.pause()
"""
# A child with a child of its own, which it forgets when it dies.
FORGETFUL = """
import subprocess, sys
orphan = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
open(sys.argv[1], "w").write(str(orphan.pid))
raise SystemExit("something is missing")
"""
PARENT = """
import sys; from pathlib import Path; from messaging.processes import Family
home = Path(sys.argv[1])
with Family(home=home, logs=home) as family:
    for name in ("one", "two"):
        child = family.start(name, [f"{name}.py", f"{name}.ready"])
        family.await_ready(child, (home / f"{name}.ready").exists)
    print("started", flush=True)
    family.watch()
print("stopped", flush=True)
"""


def script(home: Path, name: str, source: str) -> None:
    (home / f"{name}.py").write_text(source)


def family_of(home: Path) -> Family:
    return Family(home=home, logs=home / "log")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children run in a temporary folder and still find our code."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def is_alive(process: psutil.Process) -> bool:
    """An orphan that has ended counts as gone, even when nobody collects it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_child_that_dies_at_once_shows_the_end_of_its_log(tmp_path: Path) -> None:
    script(tmp_path, "bad", "print('line one'); raise SystemExit('the disk is full')")

    with pytest.raises(ChildFailed) as failed, family_of(tmp_path) as family:
        family.await_ready(family.start("bad", ["bad.py"]), lambda: False)

    log = tmp_path / "log" / "bad.log"
    assert str(failed.value) == (
        f"The bad stopped by itself (exit code 1). The end of {log}:\n  line one\n  the disk is full"
    )


def test_a_child_that_its_own_alarm_ended_is_started_again(tmp_path: Path) -> None:
    """The first one ends itself as a frozen worker does; its successor lives on."""
    script(
        tmp_path,
        "frozen",
        "import os, pathlib, signal\n"
        "first = pathlib.Path('first')\n"
        "if not first.exists(): first.touch(); os.kill(os.getpid(), signal.SIGALRM)\n"
        "pathlib.Path('second').touch(); signal.pause()",
    )
    with family_of(tmp_path) as family:
        child = family.start("frozen", ["frozen.py"], comes_back=True)
        family.await_ready(child, (tmp_path / "second").exists, seconds=20)


def test_an_alarm_that_nobody_expects_is_a_failure(tmp_path: Path) -> None:
    script(tmp_path, "bad", "import os, signal; os.kill(os.getpid(), signal.SIGALRM)")
    with pytest.raises(ChildFailed, match="SIGALRM"), family_of(tmp_path) as family:
        family.await_ready(family.start("bad", ["bad.py"]), lambda: False)


def test_what_a_dead_child_started_is_stopped_too(tmp_path: Path) -> None:
    script(tmp_path, "forgetful", FORGETFUL)

    with pytest.raises(ChildFailed, match="something is missing"), family_of(tmp_path) as family:
        family.await_ready(family.start("forgetful", ["forgetful.py", "orphan"]), lambda: False)

    orphan = int((tmp_path / "orphan").read_text())
    wait_for(lambda: not psutil.pid_exists(orphan) or not is_alive(psutil.Process(orphan)), seconds=5)


def test_a_child_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    script(tmp_path, "slow", OBEDIENT)

    with pytest.raises(ChildFailed) as failed, family_of(tmp_path) as family:
        family.await_ready(family.start("slow", ["slow.py"]), lambda: False, seconds=0.3)

    log = tmp_path / "log" / "slow.log"
    assert str(failed.value) == f"The slow was not ready after 0.3 seconds. The end of {log}:\n  (nothing)"


def test_a_stop_during_the_start_ends_the_start(tmp_path: Path) -> None:
    script(tmp_path, "slow", OBEDIENT)

    def ask_to_stop() -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        return False

    with pytest.raises(StopAsked), family_of(tmp_path) as family:
        family.await_ready(family.start("slow", ["slow.py"]), ask_to_stop)

    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "the signals are given back"


def test_the_log_of_the_last_run_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    log = tmp_path / "log" / "talker.log"
    for word in ("first", "second"):
        script(tmp_path, "talker", f"print('{word}', flush=True); import signal; signal.pause()")
        with family_of(tmp_path) as family:
            family.await_ready(family.start("talker", ["talker.py"]), lambda: log.read_text().endswith("\n"))

    assert log.read_text() == "second\n"
    assert log.with_suffix(".log.1").read_text() == "first\n"


def start_parent(home: Path, one: str = OBEDIENT, two: str = OBEDIENT) -> "subprocess.Popen[str]":
    """A real parent with two children that run; their readiness is a file each writes."""
    for name, source in (("one", one), ("two", two)):
        script(home, name, f"import sys; open(sys.argv[1], 'w').close()\n{source}")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(home)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "started\n"
    return parent


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_stop_signal_stops_every_child_and_ends_well(tmp_path: Path, number: signal.Signals) -> None:
    parent = start_parent(tmp_path)
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) == 2

    parent.send_signal(number)
    told, _ = parent.communicate(timeout=20)

    assert (parent.returncode, told) == (0, "stopped\n")
    assert not [child for child in children if is_alive(child)]


def test_a_second_ctrl_c_does_not_wait_for_a_child_that_will_not_stop(tmp_path: Path) -> None:
    parent = start_parent(tmp_path, one=STUBBORN)
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.send_signal(signal.SIGINT)
    wait_for(lambda: sum(is_alive(child) for child in children) == 1)

    began = time.monotonic()
    parent.send_signal(signal.SIGINT)
    parent.communicate(timeout=60)

    assert time.monotonic() - began < 20, "nobody waits the 35 seconds that a child may take"
    assert not [child for child in children if is_alive(child)]


def test_children_of_a_killed_parent_stop_themselves(tmp_path: Path) -> None:
    parent = start_parent(tmp_path)
    children = psutil.Process(parent.pid).children(recursive=True)

    parent.kill()
    parent.communicate()

    wait_for(lambda: not [child for child in children if is_alive(child)], seconds=10)


def test_a_child_sees_an_empty_input_and_its_own_arguments(tmp_path: Path) -> None:
    script(tmp_path, "echo", "import sys; print(sys.argv, repr(sys.stdin.read()), flush=True)")
    log = tmp_path / "log" / "echo.log"

    with pytest.raises(ChildFailed, match="exit code 0"), family_of(tmp_path) as family:
        family.await_ready(family.start("echo", ["echo.py", "--a", "b"]), lambda: False)

    assert log.read_text() == "['echo.py', '--a', 'b'] ''\n"


def test_a_port_is_free_until_someone_listens() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]

        assert not processes.is_free("127.0.0.1", taken)
        assert processes.free_port(taken) != taken
        assert processes.status_of("127.0.0.1", free_port(), "/") is None
    assert processes.is_free("127.0.0.1", taken)
    assert processes.free_port(taken) == taken
