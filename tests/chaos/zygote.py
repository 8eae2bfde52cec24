"""Starts real `manage.py worker` processes quickly: everything is imported once, and each worker is a fork of that.

A thousand kills cost a thousand starts; importing Django for each would leave no processor for the run itself. Speaks JSON
lines on its standard streams: `{"do": "start", "log": path, ...}` answers `{"pid": n}`, `{"do": "ask", "pid": n}` answers
`{"code": n or null}`. Every child is a session leader of its own and ends with the zygote.
"""

import ctypes
import gc
import json
import os
import signal
import sys
import traceback
from types import FrameType
from typing import Any

import django

PARENT_DEATH_SIGNAL = 1
ended: dict[int, int] = {}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dashboard.settings")
    django.setup()
    _import_all()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, _collect)
    _say({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "start":
            _say({"pid": _start(order)})
        else:
            _say({"code": ended.get(order["pid"])})


def _import_all() -> None:
    """What a worker imports only when it needs it."""
    import procrastinate.psycopg_connector  # noqa: F401
    import psycopg.types.json  # noqa: F401
    import psycopg_pool  # noqa: F401

    from messaging.management.commands import worker  # noqa: F401
    from messaging.tasks import rounds  # noqa: F401


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _collect(number: int, frame: FrameType | None) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        ended[pid] = os.waitstatus_to_exitcode(status)


def _start(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            _become_worker(order)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(1)
    return pid


def _become_worker(order: dict[str, Any]) -> None:
    """Never returns. What follows is what `python manage.py worker` does."""
    os.setsid()
    ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    _configure(order)
    from django.core.management import execute_from_command_line

    code = 0
    try:
        execute_from_command_line(["manage.py", "worker"])
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    sys.stderr.flush()
    os._exit(code)


def _configure(order: dict[str, Any]) -> None:
    from django.conf import settings
    from django.db import connection

    from tests.chaos.hasten import hasten
    from tests.chaos.points import arm

    if database := order.get("database"):
        connection.settings_dict["NAME"] = database
        # What a machine remembers of its sends belongs to one database.
        settings.VAR_DIR = settings.VAR_DIR / database
        settings.VAR_DIR.mkdir(exist_ok=True)
    for name, value in order.get("settings", {}).items():
        getattr(settings, name)
        setattr(settings, name, value)
    hasten(order.get("factor", 1))
    if point := order.get("point"):
        arm(point)


if __name__ == "__main__":
    main()
