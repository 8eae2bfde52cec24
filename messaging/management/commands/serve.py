"""`manage.py serve`: web and worker for one real machine."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from messaging.management import parts
from messaging.processes import ChildFailed, Family, StopAsked


class Command(BaseCommand):
    help = "Run web and worker on this machine until Ctrl-C or SIGTERM. Applies no migrations."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
        parser.add_argument("--port", type=int, default=8000, help="port to listen on (default 8000)")

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = options["host"], options["port"]
        parts.refuse_taken_port(host, port, f"manage.py serve --port {port + 100}")
        pending = parts.pending_migrations()
        if pending:
            raise CommandError(f"The database lacks {pending} of the migrations. Apply them first: manage.py migrate")
        parts.collect_static()
        try:
            with parts.new_family() as family:
                self._run(family, host, port)
        except ChildFailed as failure:
            raise CommandError(str(failure)) from None
        except StopAsked:
            pass
        self.stdout.write("Stopped.")

    def _run(self, family: Family, host: str, port: int) -> None:
        parts.keep_database(family)
        parts.start_web_and_worker(family, host, port)
        self.stdout.write(f"Serving on http://{host}:{port} (Ctrl-C stops it)")
        self.stdout.flush()
        family.watch()
