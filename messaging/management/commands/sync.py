"""`manage.py sync`: one full round, then exit."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from messaging import sync
from messaging.conf import catena_client
from messaging.management.display import RoundDisplay, report


class Command(BaseCommand):
    help = (
        "Reads fleets, connections, users, messages and pending operations from Catena once, and exits. Can be repeated "
        "at any time. Exit code 1 when Catena cannot be reached or refuses our credentials."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        display = RoundDisplay(self.stdout)
        summary = sync.full_round(catena_client(), timezone.now(), display)
        display.finish()
        report(self.stdout, summary)
