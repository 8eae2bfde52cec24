"""`manage.py simulator`: options, then one call."""

import signal
from pathlib import Path
from threading import Event
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from messaging.simulator import Pace, SimulatorServer, World


class Command(BaseCommand):
    help = "Runs a small Catena on this machine: token, API, webhooks, drivers that answer. For the demo and for tests."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8801)
        parser.add_argument("--seed", type=int, default=7, help="which world to tell (default 7)")
        parser.add_argument("--journal", type=Path, help="append every accepted write to this file")
        parser.add_argument("--state", type=Path, help="continue from, and write to, this file")
        parser.add_argument("--lively", action="store_true", help="drivers also write unprompted")
        parser.add_argument("--quiet", action="store_true", help="drivers neither answer nor write")
        parser.add_argument("--pace", choices=("demo", "instant"), default="demo")
        parser.add_argument("--client-id", default="backhaul-demo")
        parser.add_argument("--client-secret", default="simulated-client-secret")
        parser.add_argument("--webhook-secret", help="for subscriptions that are made without one")

    def handle(self, *args: Any, **options: Any) -> None:
        world = World(seed=options["seed"], pace=_pace(options["pace"], options["lively"], options["quiet"]))
        world.webhook_secret = options["webhook_secret"]
        server = _bind(world, options)
        stop = Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        with server:
            self.stdout.write(f"Simulator ready at {server.url} (token: {server.token_url})")
            self.stdout.flush()
            stop.wait()


def _pace(name: str, lively: bool, quiet: bool) -> Pace:
    pace = Pace.instant() if name == "instant" else Pace()
    if lively:
        pace.chatter_interval = 20.0
    if quiet:
        pace.chatter_interval, pace.reply_chance = None, 0.0
    return pace


def _bind(world: World, options: dict[str, Any]) -> SimulatorServer:
    names = ("host", "port", "journal", "state", "client_id", "client_secret")
    try:
        return SimulatorServer(world, **{name: options[name] for name in names})
    except OSError as problem:
        raise CommandError(
            f"The simulator cannot listen on {options['host']}:{options['port']}: {problem.strerror}. "
            "Stop what uses that port, or choose another with --port."
        ) from problem
