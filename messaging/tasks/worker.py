"""One worker process: answers doorbells on its threads and sweeps, until it is told to stop."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.db import connection
from procrastinate.contrib.django import app

from messaging import outbox, tasks
from messaging.tasks.rounds import Outage, start

logger = logging.getLogger(__name__)

# Doorbells with a time (the undo hold) have no notification of their own: this is how late they may be looked at.
LOOK_SECONDS = 0.5
RECONNECT_SECONDS = 1.0
# A POST may take 25 s in all; the supervisor of this process should wait for 30 s before it kills.
FINISH_SECONDS = 27.0
# What hangs for longer (a name server, a database that is away) is cut: a worker may vanish at any instant, and the
# others then find what it had in hand.
LAST_SECONDS = 29.0
DURABLE_COMMITS = frozenset({"on", "remote_apply"})


class NotDurable(Exception):
    """What may be forgotten could let a message go out twice; `str()` names the cure."""


def check_durability() -> None:
    """Raises `NotDurable` unless a committed intent survives a crash of the database (reliability plan 2.4)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('synchronous_commit'), current_setting('fsync')")
        commit, fsync = cursor.fetchone()
    if commit not in DURABLE_COMMITS or fsync != "on":
        raise NotDurable(
            f"PostgreSQL runs with synchronous_commit={commit} and fsync={fsync}. Set both to on: with less, a crash of "
            "the database can make a message go out twice."
        )


def work(threads: int, ready: Callable[[], object] = lambda: None) -> None:
    """Works until SIGTERM or SIGINT, then lets the POSTs in flight end and returns within 30 s.

    Raises `NotDurable`. Lives through restarts of the database. `ready` is called once everything runs.
    """
    check_durability()
    connection.close()
    _watch_history()
    if settings.SEND_ALARM_SECONDS:
        outbox.watchdog.enable(settings.SEND_ALARM_SECONDS)
    outage = Outage()
    senders = ThreadPoolExecutor(threads, thread_name_prefix="drain")
    began = start(tasks.stopping, outage, senders)
    asyncio.run(_answer_doorbells(threads, senders, outage, ready))
    deadline = time.monotonic() + FINISH_SECONDS
    for thread in began:
        # A sweep that reads may be cut anywhere; one that sends is waited for.
        thread.join(max(0.0, deadline - time.monotonic()) if thread.name == "round-due" else 1.0)
    outbox.epoch.sync()
    logger.info("Worker %s has stopped", tasks.worker_name())


def _watch_history() -> None:
    folder = settings.VAR_DIR / "high-water"
    try:
        outbox.epoch.enable(folder)
        connection.ensure_connection()
    except OSError as error:
        raise NotDurable(
            f"{folder} cannot be written ({error.strerror}). A worker notes there what it sent."
        ) from error
    finally:
        connection.close()


async def _answer_doorbells(
    threads: int, senders: ThreadPoolExecutor, outage: Outage, ready: Callable[[], object]
) -> None:
    loop = asyncio.get_running_loop()
    # Jobs run on the loop's own pool; its usual size (processors + 4) would be the true limit.
    loop.set_default_executor(senders)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stop)
    ready()
    while not stop.is_set():
        try:
            await _listen(threads, stop)
        except Exception as error:
            outage.began(error)
        if not stop.is_set():
            await _wait(stop, RECONNECT_SECONDS)


def _stop(stop: asyncio.Event) -> None:
    if not tasks.stopping.is_set():
        cut = threading.Timer(LAST_SECONDS, _cut)
        cut.daemon = True
        cut.start()
    tasks.stopping.set()
    stop.set()


def _cut() -> None:
    logger.error("Worker %s could not end what it had in hand within %.0f s", tasks.worker_name(), LAST_SECONDS)
    logging.shutdown()
    os._exit(1)


async def _listen(threads: int, stop: asyncio.Event) -> None:
    """Runs Procrastinate's worker until `stop`, or until it gives up because the database went away."""
    # A second app on the same tasks: the first one keeps Django's connection, in which engines ring.
    connector: Any = app.connector
    ours = app.with_connector(connector.get_worker_connector())
    async with ours.open_async():
        running = asyncio.create_task(ours.run_worker_async(**_options(threads)))
        asked = asyncio.create_task(stop.wait())
        await asyncio.wait({running, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not running.done():
            running.cancel()
        try:
            await running
        except asyncio.CancelledError:
            logger.debug("Procrastinate has stopped")


def _options(threads: int) -> dict[str, Any]:
    return {
        "name": tasks.worker_name(),
        "concurrency": threads,
        "fetch_job_polling_interval": LOOK_SECONDS,
        "install_signal_handlers": False,
        "shutdown_graceful_timeout": FINISH_SECONDS,
        # A doorbell is worth nothing once it has rung, whatever came of it: rows are the truth.
        "delete_jobs": "always",
    }


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
