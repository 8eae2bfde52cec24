"""`manage.py sync` and `manage.py seed_demo` as an operator runs them, against the simulated Catena."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from messaging import conf, models
from messaging.simulator import Fault, Pace, SimulatorServer, World

pytestmark = pytest.mark.django_db


@pytest.fixture
def catena(settings: Any, tmp_path: Path) -> Iterator[SimulatorServer]:
    """The Catena of the settings, for a process that has not asked for its client yet."""
    with SimulatorServer(World(pace=Pace.instant())) as server:
        settings.CATENA_API_URL, settings.CATENA_TOKEN_URL = server.url, server.token_url
        settings.CATENA_CLIENT_ID, settings.CATENA_CLIENT_SECRET = server.client_id, server.client_secret
        settings.VAR_DIR = tmp_path
        conf.catena_client.cache_clear()
        yield server
    conf.catena_client.cache_clear()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(command: str, *arguments: str, out: io.StringIO | None = None, **options: Any) -> str:
    out = out or io.StringIO()
    call_command(command, *arguments, stdout=out, **options)
    return out.getvalue()


def test_sync_shows_a_line_per_kind_and_a_table(catena: SimulatorServer) -> None:
    lines = run("sync").splitlines()
    total = len(catena.world.messages)
    assert [line.split()[-1] for line in lines if line.startswith("  read")] == [
        "fleets", "connections", "freshness", "providers", "users", "messages",
    ]  # fmt: skip
    (messages,) = (line.split() for line in lines if line.startswith("messages"))
    assert messages == ["messages", str(total), str(total), "0", "0", "0"]
    assert lines[-1].endswith("seconds")


def test_the_first_import_says_how_many_days_are_done_and_a_second_round_that_nothing_changed(
    catena: SimulatorServer,
) -> None:
    label = next(one.description for one in catena.world.connections.values())
    shown = run("sync")
    assert f"  first import of {label}: 45 of 45 days, " in shown
    assert "Nothing was new or different." not in shown
    assert "first import" not in run("sync")


def test_a_round_that_finds_nothing_new_says_so(settings: Any) -> None:
    moment = datetime(2026, 5, 12, 14, 3, 21, tzinfo=UTC)
    with SimulatorServer(World(now=lambda: moment, pace=Pace.instant())) as server:
        settings.CATENA_API_URL, settings.CATENA_TOKEN_URL = server.url, server.token_url
        settings.CATENA_CLIENT_ID, settings.CATENA_CLIENT_SECRET = server.client_id, server.client_secret
        conf.catena_client.cache_clear()
        first, second = run("sync"), run("sync")
    conf.catena_client.cache_clear()
    assert "Nothing was new or different." not in first
    assert "Nothing was new or different." in second


def test_sync_counts_in_place_on_a_terminal(catena: SimulatorServer) -> None:
    shown = run("sync", out=Terminal())
    assert "\r  read        1 fleets\r  read        2 fleets\r  read        3 fleets\n" in shown


def test_sync_ends_with_a_sentence_when_the_credentials_are_refused(catena: SimulatorServer) -> None:
    catena.world.faults.add(Fault("token_refused", times=100))
    with pytest.raises(CommandError, match=r"refused the client credentials\. Check CATENA_CLIENT_ID and"):
        run("sync")


def test_sync_ends_with_a_sentence_when_nobody_answers(catena: SimulatorServer) -> None:
    catena.stop()
    with pytest.raises(CommandError, match=r"Check CATENA_API_URL and CATENA_TOKEN_URL"):
        run("sync")


def test_the_demo_people_can_log_in_and_find_a_believable_inbox(catena: SimulatorServer, tmp_path: Path) -> None:
    shown = run("seed_demo")
    passwords = json.loads((tmp_path / "demo_passwords.json").read_text())
    assert (tmp_path / "demo_passwords.json").stat().st_mode & 0o777 == 0o600
    people = {user.username: user for user in models.User.objects.all()}
    assert {name: (user.role, user.is_superuser, user.memberships.count()) for name, user in people.items()} == {
        "mara": ("manager", False, 2),
        "sol": ("support", False, 0),
        "ada": ("administrator", True, 0),
    }
    for name, user in people.items():
        assert user.check_password(passwords[name])
        assert passwords[name] in shown
        seen = models.Conversation.objects.visible_to(user)
        assert 0 < seen.unread_by(user).count() <= 5 < seen.count()
    assert len(set(passwords.values())) == 3


def test_a_second_run_keeps_passwords_and_what_people_have_read(settings: Any, tmp_path: Path) -> None:
    moment = datetime(2026, 5, 12, 14, 3, 21, tzinfo=UTC)
    with SimulatorServer(World(now=lambda: moment, pace=Pace.instant())) as server:
        settings.CATENA_API_URL, settings.CATENA_TOKEN_URL = server.url, server.token_url
        settings.CATENA_CLIENT_ID, settings.CATENA_CLIENT_SECRET = server.client_id, server.client_secret
        settings.VAR_DIR = tmp_path
        conf.catena_client.cache_clear()
        run("seed_demo", verbosity=0)
        mara = models.User.objects.get(username="mara")
        mara.set_password("changed-on-the-page-7")
        mara.save()
        tables = (models.User, models.FleetMembership, models.ReadMark, models.Message, models.Conversation)
        before = [list(table.objects.order_by("pk").values()) for table in tables]
        passwords = (tmp_path / "demo_passwords.json").read_text()
        assert run("seed_demo", verbosity=0) == ""
    conf.catena_client.cache_clear()
    assert [list(table.objects.order_by("pk").values()) for table in tables] == before
    assert (tmp_path / "demo_passwords.json").read_text() == passwords


def test_a_given_password_is_everybodys(catena: SimulatorServer) -> None:
    run("seed_demo", "--password", "north-yard-gate-7", verbosity=0)
    run("seed_demo", "--password", "south-yard-gate-8", verbosity=0)
    assert [user.check_password("south-yard-gate-8") for user in models.User.objects.all()] == [True] * 3


def test_seeding_says_why_it_could_not_read_even_when_quiet(catena: SimulatorServer) -> None:
    catena.stop()
    with pytest.raises(CommandError, match="CATENA_API_URL"):
        run("seed_demo", verbosity=0)
