"""Webhooks that have stopped, in a real browser: told on the open page, mended by a worker at one press, and told again."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import sign_in
from tests.browser.judging import faults, lenient
from tests.browser.test_main_job import END, count_loads
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.processes]
PAGE = "/ops/webhooks/"
BUTTON = "Re-activate and replay"


@pytest.fixture
def subscribed(stack: Stack) -> Iterator[None]:
    stack.manage("subscribe_webhooks")
    yield
    stack.manage("subscribe_webhooks", "--remove")


def stop_at_catena(stack: Stack, name: str) -> None:
    """As the circuit breaker does."""
    with stack.world.lock:
        one = next(one for one in stack.world.subscriptions.values() if one.event_name == name)
        one.status, one.updated_at = "stale", stack.world.now()


@pytest.mark.usefixtures("subscribed")
def test_a_stopped_subscription_is_told_on_open_pages_and_mended_at_one_press(
    page: Page, stack: Stack, browser: Browser
) -> None:
    sign_in(page, "sol")
    context = browser.new_context(base_url=stack.url)
    desk = context.new_page()
    sign_in(desk, "mara")
    watching = count_loads(desk)
    page.goto(PAGE)
    loads = count_loads(page)
    expect(page.get_by_text("All 20 subscriptions deliver.")).to_be_visible()
    stop_at_catena(stack, "message.added")

    page.get_by_role("button", name="Check now").click()

    expect(page.get_by_text("1 of 20 do not deliver.")).to_be_visible(timeout=END)
    expect(desk.locator("#hooks")).to_contain_text("longer than usual to appear. Nothing is lost.", timeout=END)
    expect(desk.locator("#hooks").get_by_role("button")).to_have_count(0)
    page.goto("/")
    expect(page.locator("#hooks")).to_contain_text("1 webhook subscription does not deliver.")
    page.locator("#hooks").get_by_role("button", name=BUTTON).click()

    expect(page).to_have_url(f"{stack.url}{PAGE}")
    expect(page.get_by_text("All 20 subscriptions deliver.")).to_be_visible(timeout=END)
    expect(page.get_by_text("1 re-activated")).to_be_visible()
    expect(desk.locator("#hooks")).to_be_empty(timeout=END)
    assert watching == []
    assert len(loads) == 3  # after "Check now", the inbox, after the button
    context.close()


@pytest.mark.looks
@pytest.mark.usefixtures("subscribed")
def test_page_and_notice_are_accessible_and_fit_a_phone(browser: Browser, stack: Stack) -> None:
    stop_at_catena(stack, "message.added")
    with pytest.raises(AssertionError, match="1 of 20 do not deliver"):
        stack.manage("subscribe_webhooks", "--check")
    found: list[str] = []
    for who, addresses in {"sol": ("/", PAGE), "ada": ("/", PAGE), "mara": ("/",)}.items():
        context = lenient(browser, stack)
        page = context.new_page()
        sign_in(page, who)
        for address in addresses:
            page.goto(address)
            expect(page.locator(".alert-bad, .banner.is-calm").first).to_be_visible()
            found += faults(page, f"{address} {who}")
        context.close()
    assert found == []
