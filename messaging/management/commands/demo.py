"""`manage.py demo`: the whole product on this machine, with a simulated Catena behind it."""

import json
import logging
import time
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from messaging.management import parts
from messaging.management.options import add_demo_options
from messaging.processes import Child, ChildFailed, Family, StopAsked, status_of

PEOPLE = {"mara": "fleet manager", "sol": "support", "ada": "administrator"}


class Command(BaseCommand):
    help = "Run Backhaul with a simulated Catena, sample fleets and three people, until Ctrl-C or SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        add_demo_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        self._began = time.monotonic()
        # The children write their logs to files; this terminal is for a person.
        logging.getLogger().setLevel(logging.WARNING)
        try:
            with parts.new_family() as family:
                self._run(family, options["port"])
        except ChildFailed as failure:
            raise CommandError(str(failure)) from None
        except StopAsked:
            pass
        self._say("Stopped. What you did is kept for the next time.")

    def _run(self, family: Family, port: int) -> None:
        parts.keep_database(family)
        simulator = self._start_simulator(family)
        self._say("Preparing the database and the static files")
        call_command("migrate", verbosity=0)
        parts.collect_static()
        family.await_ready(simulator, _simulator_answers)
        self._say("Reading fleets, drivers and messages from the simulated Catena")
        call_command("seed_demo", verbosity=0)
        connection.close()
        self._say("Starting the web pages and the worker")
        family.check()
        parts.start_web_and_worker(family, "127.0.0.1", port)
        # Only now: whoever subscribes must be able to answer.
        call_command("subscribe_webhooks", verbosity=0)
        connection.close()
        self._welcome()
        family.watch()

    def _start_simulator(self, family: Family) -> Child:
        command = [
            "manage.py", "simulator", "--port", str(urlsplit(settings.CATENA_API_URL).port),
            "--state", str(settings.VAR_DIR / "simulator.json"), "--pace", "demo", "--lively",
            "--client-id", settings.CATENA_CLIENT_ID, "--client-secret", settings.CATENA_CLIENT_SECRET,
        ]  # fmt: skip
        return family.start("simulator", command)

    def _welcome(self) -> None:
        passwords = json.loads((settings.VAR_DIR / "demo_passwords.json").read_text())
        seconds = time.monotonic() - self._began
        self._say(f"\nBackhaul is ready after {seconds:.0f} seconds:\n\n  {settings.PUBLIC_URL}\n")
        for name, role in PEOPLE.items():
            self._say(f"  {name:<6}{passwords[name]:<28}{role}")
        self._say(f"\nLogs: {settings.VAR_DIR / 'log'}    Stop: Ctrl-C")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def _simulator_answers() -> bool:
    address = urlsplit(settings.CATENA_API_URL)
    return status_of(address.hostname or "", address.port or 80, "/") is not None
