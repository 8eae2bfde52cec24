"""`manage.py seed_demo`: three people to log in as, and everything that the configured Catena knows."""

import json
import os
import secrets
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Permission
from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from messaging import sync
from messaging.access import EXPORT
from messaging.conf import catena_client
from messaging.management.display import RoundDisplay, report
from messaging.models import Conversation, Fleet, FleetMembership, ReadMark, Role, User
from messaging.states import Direction

FLEETS_OF_THE_MANAGER = 2
LEFT_UNREAD = 5


@dataclass(frozen=True)
class Person:
    username: str
    first_name: str
    last_name: str
    role: Role


PEOPLE = (
    Person("mara", "Mara", "Lindqvist", Role.MANAGER),
    Person("sol", "Sol", "Abara", Role.SUPPORT),
    Person("ada", "Ada", "Nowak", Role.ADMINISTRATOR),
)


class Command(BaseCommand):
    help = (
        "Creates the demo people and mirrors the configured Catena. A second run changes nothing and keeps passwords."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--password", help="for all three; else each gets one, kept in demo_passwords.json")

    def handle(self, *args: Any, **options: Any) -> None:
        is_quiet = options["verbosity"] == 0
        passwords = _passwords(settings.VAR_DIR / "demo_passwords.json", options["password"])
        people = [_person(person, passwords[person.username], options["password"] is not None) for person in PEOPLE]
        display = None if is_quiet else RoundDisplay(self.stdout)
        summary = sync.full_round(catena_client(), timezone.now(), display)
        if display is not None:
            display.finish()
            report(self.stdout, summary)
        elif summary.stopped:
            report(self.stderr, summary)
        _join_fleets(people[0])
        for user in people:
            _read_old_conversations(user)
        if not is_quiet:
            for user in people:
                self.stdout.write(f"{user.username:<6}{passwords[user.username]:<28}{user.get_role_display()}")


def _passwords(path: Path, given: str | None) -> dict[str, str]:
    """One per person: the given one, else those of the last run, else new ones. Kept in a file that only we can read."""
    kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    names = [person.username for person in PEOPLE]
    chosen = {name: given or kept.get(name) or secrets.token_urlsafe(12) for name in names}
    if chosen != kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_private(path, json.dumps(chosen, indent=2) + "\n")
    return chosen


def _write_private(path: Path, content: str) -> None:
    """The file is never readable for others, not even for the moment between its creation and a later chmod."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)


def _person(person: Person, password: str, is_asked_for: bool) -> User:
    """Created once. Later only a password that was asked for is set, so that one changed on the page is kept."""
    is_administrator = person.role == Role.ADMINISTRATOR
    user, is_new = User.objects.get_or_create(
        username=person.username,
        defaults={
            "first_name": person.first_name,
            "last_name": person.last_name,
            "role": person.role,
            # A colleague of some weeks: what was said before somebody joined counts as read.
            "date_joined": timezone.now() - timedelta(days=60),
            "is_staff": is_administrator,
            "is_superuser": is_administrator,
        },
    )
    if is_new and person.role == Role.SUPPORT:
        user.user_permissions.add(Permission.objects.get(codename=EXPORT, content_type__app_label="messaging"))
    if is_new or (is_asked_for and not user.check_password(password)):
        user.set_password(password)
        user.save(update_fields=["password"])
    return user


def _join_fleets(manager: User) -> None:
    """The manager sees some fleets and not all, so that the demo shows the difference between the roles."""
    if manager.memberships.exists():
        return
    for fleet in Fleet.objects.filter(withdrawn_at=None).order_by("name")[:FLEETS_OF_THE_MANAGER]:
        FleetMembership.objects.create(user=manager, fleet=fleet)


def _read_old_conversations(user: User) -> None:
    """On the first run: all that a colleague who was here all week would have read; the newest few stay unread."""
    if ReadMark.objects.filter(user=user).exists():
        return
    heard = Conversation.objects.visible_to(user).filter(last_incoming_id__isnull=False)
    unanswered = heard.filter(last_message__direction=Direction.IN).order_by("-last_at", "-id")
    unread = set(unanswered.values_list("pk", flat=True)[:LEFT_UNREAD])
    ReadMark.objects.bulk_create(
        ReadMark(user=user, conversation=conversation, read_through=conversation.last_incoming_id)
        for conversation in heard.exclude(pk__in=unread)
        if conversation.last_incoming_id is not None
    )
