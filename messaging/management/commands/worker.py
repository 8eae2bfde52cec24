"""`manage.py worker`: sends, sweeps and listens, until SIGTERM or SIGINT."""

from typing import Any

from django.conf import settings
from django.core.checks import Tags
from django.core.management.base import BaseCommand, CommandError, CommandParser

from messaging.tasks import worker, worker_name


class Command(BaseCommand):
    help = "Send messages and read from Catena until stopped. Run as many as you like, on any number of machines."
    # Settings are checked, pages are not: a worker serves none.
    requires_system_checks = [Tags.security, Tags.database]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--threads", type=int, default=settings.WORKER_THREADS, help="messages sent at once (WORKER_THREADS)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        threads: int = options["threads"]
        if threads < 1:
            raise CommandError("--threads must be at least 1.")
        line = f"Worker {worker_name()} sends with {threads} threads to {settings.CATENA_API_URL}"
        try:
            worker.work(threads, lambda: print(line, flush=True))
        except worker.NotDurable as error:
            raise CommandError(str(error)) from error
