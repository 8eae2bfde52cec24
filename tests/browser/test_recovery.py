"""Bulk recovery and the test send as a person meets them, and how their pages look."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import sign_in, sign_out
from tests.browser.judging import faults, lenient
from tests.browser.test_failures import wait_until_failed
from tests.browser.test_main_job import healthy_conversation, write
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.processes]


def dry_run(page: Page, query: str = "?range=all") -> str:
    page.goto(f"/ops/{query}")
    page.get_by_role("button", name="Recover the failures of this filter").click()
    page.wait_for_url("**/ops/recoveries/*/")
    return page.url


def a_connection(stack: Stack) -> str:
    ((found,),) = stack.rows(
        "SELECT catena_id::text FROM messaging_connection WHERE status = 'active' AND share_level = 'read_write'"
        " ORDER BY id LIMIT 1"
    )
    return f"/connections/{found}/"


@pytest.fixture
def failure(page: Page, stack: Stack) -> str:
    """The text of a fresh failure that its driver certainly did not get, and nothing written to that driver since."""
    sign_in(page, "mara")
    page.goto(healthy_conversation(stack))
    text = f"The gate code is 4410 {uuid4().hex[:6]} #fail-validation"
    write(page, text)
    wait_until_failed(stack, text)
    sign_out(page)
    return text


def test_a_dry_run_is_started_watched_and_reported(page: Page, stack: Stack, failure: str) -> None:
    """The simulator no longer fails it: its word is taken out of the text."""
    mended = failure.replace(" #fail-validation", "")
    stack.rows("UPDATE messaging_message SET text = %s WHERE text = %s RETURNING id", mended, failure)
    sign_in(page, "sol")
    dry_run(page, f"?text={mended.split()[-1]}")
    expect(page.get_by_text("Nothing has been sent yet")).to_be_visible()
    page.get_by_role("button", name="Send 1 again").click()
    expect(page.get_by_text("Finished", exact=True)).to_be_visible(timeout=60_000)
    expect(page.get_by_text("1 was sent again")).to_be_visible()
    expect(page.get_by_role("link", name="Sent again and accepted")).to_be_visible()


def test_a_canary_that_fails_stops_it_before_the_eyes_of_its_author(page: Page, stack: Stack, failure: str) -> None:
    sign_in(page, "sol")
    dry_run(page, f"?text={failure.split()[-2]}")
    page.get_by_role("button", name="Send 1 again").click()
    expect(page.get_by_text("The canary failed:")).to_be_visible(timeout=60_000)


def test_a_test_message_shows_its_answer_without_a_reload(page: Page, stack: Stack) -> None:
    sign_in(page, "sol")
    page.goto(a_connection(stack))
    page.get_by_label("To", exact=True).select_option(index=1)
    page.get_by_label("I know that the driver gets this message").check()
    page.get_by_role("button", name="Send the test").click()
    expect(page.get_by_text("Answered after")).to_be_visible(timeout=20_000)


@pytest.mark.looks
@pytest.mark.usefixtures("failure")
def test_the_pages_have_no_fault_and_never_scroll_sideways(browser: Browser, stack: Stack) -> None:
    context = lenient(browser, stack)
    page = context.new_page()
    sign_in(page, "sol")
    pages: dict[str, Callable[[], object]] = {
        "dry run": lambda: dry_run(page),
        "recoveries": lambda: page.goto("/ops/recoveries/"),
        "report": page.locator(".lines a").first.click,
        "connection": lambda: page.goto(a_connection(stack)),
    }
    found: list[str] = []
    for name, go in pages.items():
        go()
        found += faults(page, name)
    context.close()
    assert found == []


def test_all_of_it_works_without_script(browser: Browser, stack: Stack, failure: str) -> None:
    context = browser.new_context(base_url=stack.url, java_script_enabled=False)
    page = context.new_page()
    sign_in(page, "sol")
    dry_run(page, f"?text={failure.split()[-2]}")
    expect(page.get_by_role("heading", name="Recovery")).to_be_visible()
    page.locator(".recovery-lines a").first.click()
    expect(page.get_by_role("link", name="Show all")).to_be_visible()
    context.close()
