"""A failure reaches its author wherever they are, stays until somebody takes care of it, and is sent again once."""

import re
import time

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import sign_in
from tests.browser.judging import photograph
from tests.browser.test_main_job import END, count_loads, healthy_conversation, write
from tests.stack import Stack, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.processes]
WITHIN_MS = 5_000
STATE = "SELECT state FROM messaging_message WHERE text = %s ORDER BY id DESC LIMIT 1"


def bubble(page: Page, text: str) -> Locator:
    return page.locator("#thread-items .msg-out").filter(has_text=text)


def take_care_of_everything(stack: Stack) -> None:
    """What other tests left failed must not speak here."""
    stack.rows(
        "UPDATE messaging_message SET handled_at = now(), handled_by_id = author_id"
        " WHERE state IN ('failed', 'rejected', 'expired', 'needs_decision') AND handled_at IS NULL RETURNING 1"
    )
    stack.rows("UPDATE messaging_conversation SET attention_count = 0 RETURNING 1")


def wait_until_failed(stack: Stack, text: str) -> None:
    wait_for(lambda: stack.rows(STATE, text) == [("failed",)])


def test_a_failure_of_mine_reaches_me_on_another_page_and_outlives_my_session(page: Page, stack: Stack) -> None:
    take_care_of_everything(stack)
    sign_in(page, "mara")
    address = healthy_conversation(stack)
    page.goto(address)
    name = page.locator("#thread-title").inner_text()
    text = "The ferry leaves at nine #fail-validation"
    write(page, text, "High")
    expect(bubble(page, text)).to_be_visible(timeout=2000)
    page.goto("/settings/")
    loads = count_loads(page)
    told = page.get_by_role("alert").filter(has_text=f"High priority message to {name}")
    expect(told).to_have_count(0)
    wait_until_failed(stack, text)
    known = time.monotonic()
    expect(told).to_contain_text("Failed", timeout=WITHIN_MS)
    assert time.monotonic() - known < WITHIN_MS / 1000
    assert loads == []
    photograph(page, "told-elsewhere")

    page.locator("header").get_by_role("button", name="Log out").click()
    page.wait_for_url(re.compile("/login/"))
    sign_in(page, "mara")
    expect(told).to_be_visible()
    page.goto("/?show=attention")
    expect(page.locator(f'.row-link[href="{address}"]')).to_be_visible()
    told.get_by_role("link").first.click()
    expect(page.get_by_role("button", name="Send again")).to_be_visible()
    page.get_by_role("link", name="Open conversation").click()
    expect(bubble(page, text)).to_contain_text("Failed")
    photograph(page, "failed-in-thread")

    bubble(page, text).locator("summary", has_text="Mark as handled").click()
    # It unfolds beneath the last message, where it must be in sight.
    expect(bubble(page, text).get_by_role("button", name="Mark as handled")).to_be_in_viewport(ratio=1)
    bubble(page, text).get_by_label("What was done?").fill("Called the driver")
    photograph(page, "note")
    bubble(page, text).get_by_role("button", name="Mark as handled").click()
    expect(bubble(page, text)).to_contain_text("Called the driver")
    expect(told).to_have_count(0, timeout=WITHIN_MS)
    photograph(page, "handled")


def test_a_failure_that_may_have_arrived_is_sent_again_once_by_one_of_two(
    page: Page, browser: Browser, stack: Stack
) -> None:
    take_care_of_everything(stack)
    sign_in(page, "mara")
    address = healthy_conversation(stack)
    page.goto(address)
    text = "Take the north ramp #fail-network"
    write(page, text)
    expect(bubble(page, text)).to_contain_text("Failed", timeout=END)
    first = bubble(page, text).first
    context = browser.new_context(base_url=stack.url)
    other = context.new_page()
    sign_in(other, "sol")
    other.goto(address)
    for one in (page, other):
        bubble(one, text).first.get_by_role("button", name="Send again").click()
        expect(one.get_by_text("The driver may have it")).to_be_visible()
        expect(one.get_by_role("checkbox", name="Send it again")).to_be_focused()
    photograph(page, "question")
    assert stack.rows("SELECT count(*) FROM messaging_message WHERE text = %s", text) == [(1,)]
    for one in (page, other):
        question = one.locator("[id^=ask-]")
        question.get_by_role("checkbox").check()
        question.get_by_role("button", name="Send again").click()
        expect(bubble(one, text).first).to_contain_text("Sent again by")
        expect(question).to_have_count(0)
    # The note is no part of the bubble, which the page has repainted by now.
    expect(other.locator("[id^=said-]")).to_contain_text("It is not sent twice")
    expect(page.locator("[id^=said-]")).to_have_count(0)
    photograph(other, "not-twice")
    expect(first).to_contain_text("Sent again by you")
    expect(bubble(page, text)).to_have_count(2)
    expect(bubble(page, text).last).to_contain_text("Repeats the message of")
    assert stack.rows("SELECT count(*) FROM messaging_message WHERE text = %s", text) == [(2,)]
    expect(bubble(page, text).last.get_by_role("button", name="Send again")).to_be_visible(timeout=END)
    photograph(page, "resent")
    bubble(page, text).last.hover()
    bubble(page, text).last.get_by_role("link", name="Details").click()
    photograph(page, "message-page")
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("heading", name="Send again to")).to_be_visible()
    photograph(page, "question-page")
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Send again").click()
    page.wait_for_url(re.compile("/m/[^/]+/$"))
    expect(page.get_by_text("Repeats the message of")).to_be_visible()
    context.close()
    take_care_of_everything(stack)
