"""`manage.py subscribe_webhooks`: has Catena push news to this installation, and mends that."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from messaging import sync
from messaging.conf import catena_client
from messaging.insight.hooks import Overview, overview
from messaging.models import WebhookWork
from messaging.models.subscriptions import hook_obstacle
from messaging.sync import Report, subscriptions

# Each option: what it calls, its name in the audit, its help.
OPTIONS = {
    "check": (subscriptions.check, WebhookWork.CHECK, "change nothing; exit code 1 when one does not deliver"),
    "rotate": (subscriptions.rotate, WebhookWork.ROTATE, "have all of them sign with the last secret of CATENA_WEBHOOK_SECRET"),
    "activate": (subscriptions.activate, WebhookWork.REPAIR, "activate those that Catena or somebody has stopped"),
    "replay": (subscriptions.replay, WebhookWork.REPAIR, "ask for what could not be delivered; may go with --activate"),
    "remove": (subscriptions.remove, WebhookWork.REMOVE, "remove all of them"),
}  # fmt: skip


class Command(BaseCommand):
    help = (
        "Subscribes PUBLIC_URL at Catena to every event, with the secret of CATENA_WEBHOOK_SECRET. Can be repeated at any"
        " time: what is there is left alone. Exit code 1 when something could not be done."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        for name, (_, _, words) in OPTIONS.items():
            parser.add_argument(f"--{name}", action="store_true", help=words)

    def handle(self, **options: Any) -> None:
        self._is_quiet = options["verbosity"] == 0
        if obstacle := hook_obstacle():
            raise CommandError(obstacle)
        chosen = [name for name in OPTIONS if options[name]]
        act, work = _work(chosen)
        report = act(catena_client(), timezone.now())
        sync.note(work, report)
        found = overview(timezone.now())
        self._tell(report, found)
        if report.stopped:
            raise CommandError(f"{report.stopped}.")
        if report.problems:
            raise CommandError(f"{len(report.problems)} could not be done. Run the command again once that is mended.")
        if chosen == ["check"] and not found.is_good:
            raise CommandError(_cure(found))

    def _tell(self, report: Report, found: Overview) -> None:
        for problem in report.problems:
            self.stderr.write(f"Problem: {problem}.")
        if self._is_quiet:
            return
        self.stdout.write(f"Catena delivers to {found.url}")
        for line in found.lines:
            dead = "not known" if line.row.dead_letters is None else line.row.dead_letters
            self.stdout.write(f"  {line.row.event_name:<32}{line.word:<20}not delivered: {dead}")
        if not report.stopped:
            self.stdout.write(report.words)
        if found.rotation:
            self.stdout.write(found.rotation)
        if found.strays:
            self.stdout.write(f"{found.strays} subscriptions of another address are known and were left alone.")


def _work(chosen: list[str]) -> tuple[Any, WebhookWork]:
    if not chosen:
        return subscriptions.ensure, WebhookWork.CREATE
    if chosen == ["activate", "replay"]:
        return subscriptions.repair, WebhookWork.REPAIR
    if len(chosen) > 1:
        raise CommandError("Choose one of these options; only --activate and --replay go together.")
    act, work, _ = OPTIONS[chosen[0]]
    return act, work


def _cure(found: Overview) -> str:
    if not found.is_subscribed:
        return "Nothing is subscribed. Run manage.py subscribe_webhooks."
    if found.trouble:
        return (
            f"{found.trouble} of {len(found.lines)} do not deliver. Run manage.py subscribe_webhooks --activate --replay"
            " once /hooks/catena/ answers from outside."
        )
    return f"Nothing is subscribed for {', '.join(found.missing)}. Run manage.py subscribe_webhooks."
