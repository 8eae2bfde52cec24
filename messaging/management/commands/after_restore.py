"""`manage.py after_restore`: for the time after a backup was restored or a standby promoted."""

from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from messaging import conf, outbox, reconcile
from messaging.models import Restore, RestoreCause


class Command(BaseCommand):
    help = (
        "Locks all sending after a restore (the default), reads what was sent since the backup (--survey), or lets sending"
        " go on (--unlock). Run it before any worker is started on the restored database."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--survey", action="store_true", help="read Catena's operations since the backup now")
        what.add_argument("--unlock", action="store_true", help="let sending go on; needs a finished survey")
        parser.add_argument(
            "--to", metavar="MOMENT", help="when the backup was taken, with its zone (default: the newest trace in it)"
        )
        parser.add_argument("--reason", default="By command", help="why sending may go on, for the audit")

    def handle(self, *, survey: bool, unlock: bool, to: str | None, reason: str, **options: Any) -> None:
        if unlock:
            self._unlock(reason)
            return
        restore = outbox.lock_sending(RestoreCause.BY_HAND, restored_to=_moment(to))
        if survey:
            reconcile.survey(conf.catena_client(), restore, timezone.now())
        self._tell(restore)

    def _unlock(self, reason: str) -> None:
        try:
            reconcile.unlock(None, reason, timezone.now())
        except reconcile.NotUnlockable as refusal:
            raise CommandError(str(refusal)) from None
        self.stdout.write("Sending goes on.")

    def _tell(self, restore: Restore) -> None:
        self.stdout.write(f"Sending is locked. The database stands at {restore.restored_to:%Y-%m-%d %H:%M:%S} UTC.")
        if restore.problem:
            raise CommandError(f"The survey stopped: {restore.problem}. Run it again.")
        if restore.surveyed_at is None:
            self.stdout.write("Next: manage.py after_restore --survey (a worker does it by itself).")
            return
        found = restore.survey
        self.stdout.write(
            f"{found['operations']} operations read. {found['bound_count']} messages were sent since the backup and are"
            f" bound to their operations; {found['asked_count']} need a decision; {found['waiting_count']} wait behind them."
        )
        self.stdout.write("Next: look at them, then manage.py after_restore --unlock.")


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise CommandError(f"{text!r} is no moment. Write it with its zone, for example 2026-11-25T14:00:00Z.")
    return found
