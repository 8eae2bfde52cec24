"""What every test may ask for. The database is the real PostgreSQL; nothing here patches the product."""

import gc
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.db import connections, transaction
from django.test import Client, TransactionTestCase
from xdist.scheduler import LoadFileScheduling

from messaging import models
from tests import factories, templates

HERE = Path(__file__).resolve().parent
BROWSER = [f"tests/browser/{path.name}" for path in sorted((HERE / "browser").glob("test_*.py"))]
# Django does not manage these tables, so it does not name them.
QUEUE = {"procrastinate_jobs", "procrastinate_events", "procrastinate_periodic_defers", "procrastinate_workers"}


def pytest_configure(config: pytest.Config) -> None:
    """What the workers of a run would wait for is made while they start."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        making = subprocess.Popen([sys.executable, "-m", "tests.templates", settings.DATABASE_URL], cwd=HERE.parent)
        config.add_cleanup(lambda: making.wait() and None)


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Each worker of a whole run begins to read at another file: what one has rewritten and compiled, the others find done."""
    is_whole = collector.config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if is_whole and collector.path == HERE and hasattr(collector.config, "workerinput"):
        worker = collector.config.workerinput
        files = [path.relative_to(HERE.parent).with_suffix("") for path in sorted(HERE.rglob("test_*.py"))]
        first = len(files) * int(worker["workerid"][2:]) // worker["workercount"]
        for path in files[first:] + files[:first]:
            with suppress(Exception):  # what cannot be read is reported when it is collected
                import_module(".".join(path.parts))


def pytest_collection_finish() -> None:
    """What is imported by now stays; a collection that went through all of it each time would find nothing."""
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A run hands out its tests in this order: what takes long comes first, so that no worker is left alone with it."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    if item.path.name == "test_state_machine.py":
        return 0
    return 1 if item.get_closest_marker("processes") else 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    return ByWhatTheyShare(config, log) if config.getoption("dist") == "loadfile" else None


class ByWhatTheyShare(LoadFileScheduling):
    """Hands out whole files, because the tests of one share what they start; and all browser tests to two workers only,
    because each of these has a product and a browser running for as long as they last.

    (Groups by mark would say it more simply, but pytest 9.2 does not read what pytest-xdist 3.8 makes of such a mark.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return f"browser {BROWSER.index(file) % 2}" if file in BROWSER else file


def pytest_terminal_summary(terminalreporter: Any) -> None:
    not_run = [report for report in terminalreporter.stats.get("skipped", []) if "NOT RUN" in str(report.longrepr)]
    if not_run:
        terminalreporter.section("NOT RUN", sep="!", red=True, bold=True)
        for cause, count in Counter(
            str(report.longrepr).partition("NOT RUN: ")[2].strip("')") for report in not_run
        ).items():
            terminalreporter.write_line(f"{count} tests were NOT RUN: {cause}", red=True)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None) -> None:
    """One test database per test run, so that two runs on one machine do not meet; those of dead runs are dropped."""
    database = settings.DATABASES["default"]
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")[:8] or str(os.getpid())
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    test = database.setdefault("TEST", {})
    test["NAME"], test["TEMPLATE"] = f"test_{run}_{worker}", templates.migrated(settings.DATABASE_URL)


@pytest.fixture(scope="session", autouse=True)
def _rows_leave_by_delete() -> Iterator[None]:
    """After a test with transactions of its own Django truncates every table: a new file for each, and all permissions
    made anew, 0.4 s a test. Deleting what few rows there are takes a hundredth of that.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", _delete_rows)
        yield


def _delete_rows(_: TransactionTestCase) -> None:
    with transaction.atomic(), connections["default"].cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # no order among tables, and no trigger objects
        cursor.execute(";".join(f'DELETE FROM "{table}"' for table in sorted(_tables() | QUEUE)))


@cache
def _tables() -> frozenset[str]:
    names = connections["default"].introspection.django_table_names(only_existing=True, include_views=False)
    return frozenset(names) - {"django_content_type", "auth_permission"}


@pytest.fixture
def fleet() -> models.Fleet:
    return factories.FleetFactory(name="Northern Haulage")


@pytest.fixture
def connection(fleet: models.Fleet) -> models.Connection:
    """A healthy connection with an office user to send from."""
    made = factories.ConnectionFactory(fleet=fleet)
    factories.FleetUserFactory(connection=made, is_driver=False, name="Dana Whitfield")
    return made


@pytest.fixture
def conversation(connection: models.Connection) -> models.Conversation:
    driver = factories.FleetUserFactory(connection=connection, name="Luis Ortega")
    return factories.ConversationFactory(driver=driver)


@pytest.fixture
def mara(fleet: models.Fleet) -> models.User:
    """A fleet manager of `fleet`, with no undo time so that what she sends is due at once."""
    return factories.UserFactory(username="mara", fleets=[fleet], undo_seconds=0)


@pytest.fixture
def sol() -> models.User:
    return factories.UserFactory(username="sol", first_name="Sol", role=models.Role.SUPPORT)


@pytest.fixture
def ada() -> models.User:
    return factories.UserFactory(
        username="ada", first_name="Ada", role=models.Role.ADMINISTRATOR, is_staff=True, is_superuser=True
    )


@pytest.fixture
def outsider() -> models.User:
    """A fleet manager of some other fleet."""
    return factories.UserFactory(username="outsider", fleets=[factories.FleetFactory()])


@pytest.fixture
def client_of() -> Any:
    """A function from a person to a signed-in client. `force_login` notes the log-in too, which takes three times as long."""

    def sign_in(user: models.User) -> Client:
        client = Client()
        session = client.session
        session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(user.pk), settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.save()
        return client

    return sign_in
