"""`manage.py verify`: every rule that makes sending honest, checked in every row. Writes nothing."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from messaging.verify import verify


class Command(BaseCommand):
    help = "Checks every rule of sending in every row and prints one line per breach; exit code 1 when there is one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--stopped", action="store_true", help="no worker runs: what is due and not done is no breach"
        )

    def handle(self, *, stopped: bool, **options: Any) -> None:
        report = verify(timezone.now(), is_running=not stopped)
        for breach in report.breaches:
            self.stdout.write(str(breach))
        if report.uncounted:
            self.stdout.write(f"and {report.uncounted} more")
        if report.breaches:
            raise CommandError(f"{report.total} breaches of {report.rules} rules.")
        self.stdout.write(f"{report.rules} rules hold ({report.seconds:.1f} s).")
