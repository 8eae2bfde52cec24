"""A running product and a real browser. Without Chromium these tests are reported as not run, loudly."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from dashboard import embedded
from dashboard.settings import BASE_DIR
from messaging.simulator import Pace
from tests.browser.judging import WHOLE
from tests.stack import PASSWORD, Stack, running_stack

# The same browser without a window to draw takes a third less processor time.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Every second of a test costs a third of a processor: a browser, a web process and a worker that look for changes.
PACE = Pace(
    queue_delay=(0.4, 0.6), attempt_gap=(0.4, 0.6), receipt_delay=(1.0, 2.0), read_delay=(2.0, 3.0), ingest_interval=1.0,
    reply_chance=1.0, reply_delay=(2.0, 3.0),
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHROMIUM is None:
        for item in items:
            if "browser" in item.keywords:
                item.add_marker(
                    pytest.mark.skip(reason="NOT RUN: Chromium is not installed (Debian package `chromium`)")
                )


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    admin_dsn = embedded.url_of(BASE_DIR / "var" / "postgres")
    var = tmp_path_factory.mktemp("var")
    # People are asked about an urgent message without an answer after seconds, not minutes.
    sweeps = {"OPERATION_SWEEP_SECONDS": "1", "MESSAGE_SWEEP_SECONDS": "4", "GIVE_UP_HIGH_SECONDS": "8"}
    # Nobody is subscribed until a test subscribes.
    sweeps["CATENA_WEBHOOK_SECRET"] = "a-webhook-secret-of-the-browser-tests"
    with running_stack(admin_dsn, var, PACE, **sweeps) as running:
        # What is sent leaves at once, unless a test is about the time in which it can be undone.
        running.rows("UPDATE messaging_user SET undo_seconds = 0 RETURNING 1")
        yield running


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


class Console:
    """What the browser complained of; a test that ends with complaints fails."""

    def __init__(self, page: Page) -> None:
        self.complaints: list[str] = []
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text}")


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    """A fresh page at 1440 x 900 on the running product. Any console error or policy violation fails the test."""
    context = browser.new_context(base_url=stack.url, viewport=WHOLE, reduced_motion="reduce")  # type: ignore[arg-type]
    opened = context.new_page()
    opened.set_default_timeout(15_000)
    console = Console(opened)
    yield opened
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        name = os.environ.get("PYTEST_CURRENT_TEST", "test").split("::")[-1].split(" ")[0]
        opened.screenshot(path=str(Path(folder) / f"{name}.png"))
    context.close()
    assert console.complaints == []


def log_in(page: Page, username: str) -> None:
    """As a person does it."""
    page.goto("/login/")
    page.get_by_label("User name").fill(username)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("/")


def sign_in(page: Page, username: str) -> None:
    """The same requests without the browser drawing the form; the inbox is open afterwards."""
    ask = page.context.request  # shares its cookies with the pages
    ask.get("/login/")
    token = next(one["value"] for one in page.context.cookies() if one["name"] == "csrf")
    form = {"username": username, "password": PASSWORD, "csrfmiddlewaretoken": token}
    assert ask.post("/login/", form=form, max_redirects=0).status == 302
    page.goto("/")


def sign_out(page: Page) -> None:
    """As if the browser had been closed. The page goes first: its next poll would lead it to the log-in by itself."""
    page.goto("about:blank")
    page.context.clear_cookies()
