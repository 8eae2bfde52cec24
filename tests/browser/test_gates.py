"""A pause in a real browser: it is told on the open page, the message waits, and both end by themselves."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from messaging.simulator import Fault
from tests.browser.conftest import sign_in
from tests.browser.test_main_job import END, count_loads, healthy_conversation, write
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.processes]
UNTIL = r"until (\d+ \w+ \d+, )?\d\d:\d\d"  # with its day, shortly before midnight


def test_a_429_is_told_on_the_open_page_and_ends_by_itself(page: Page, stack: Stack) -> None:
    sign_in(page, "mara")
    page.goto(healthy_conversation(stack))
    loads = count_loads(page)
    text = "Park in row six tonight"
    stack.world.faults.add(Fault("rate_limited", text, times=1, retry_after_seconds=10))
    write(page, text, "High")
    notice, bubble = page.locator("#paused"), page.locator("#thread-items .msg-out").filter(has_text=text).last
    expect(notice).to_contain_text(re.compile(rf"Catena asks us to slow down.*{UNTIL}"), timeout=END)
    expect(bubble).to_contain_text(re.compile(rf"Paused: Catena asks us to slow down, {UNTIL}"), timeout=END)
    expect(page.get_by_role("textbox", name="Message")).to_be_enabled()
    expect(notice).to_be_empty(timeout=END)
    expect(bubble).to_contain_text(re.compile(r"Accepted by \w+|Delivered \d|Read \d"), timeout=END)
    assert loads == []


def test_support_pauses_everything_without_script_and_lets_it_go_on(page: Page, stack: Stack, browser: Browser) -> None:
    sign_in(page, "mara")
    page.goto(healthy_conversation(stack))
    loads = count_loads(page)
    plain = browser.new_context(base_url=stack.url, java_script_enabled=False)
    desk = plain.new_page()
    sign_in(desk, "sol")
    desk.goto("/connections/")
    desk.get_by_label("Reason, for colleagues").fill("Provider maintenance")
    desk.get_by_role("button", name="Pause sending").click()
    expect(desk.get_by_text("All sending is paused.")).to_be_visible()
    expect(page.locator("#paused")).to_contain_text("Provider maintenance, until somebody lets it go on", timeout=END)
    text = "Wait for the crane crew"
    write(page, text, "High")
    bubble = page.locator("#thread-items .msg-out").filter(has_text=text).last
    expect(bubble).to_contain_text("Paused: Provider maintenance", timeout=END)
    desk.get_by_label("Reason, for colleagues").fill("It is over")
    desk.get_by_role("button", name="Let sending go on").click()
    expect(desk.get_by_text("Messages go out again on all connections.")).to_be_visible()
    plain.close()
    expect(page.locator("#paused")).to_be_empty(timeout=END)
    expect(bubble).to_contain_text(re.compile(r"Accepted by \w+|Delivered \d|Read \d"), timeout=END)
    assert loads == []
