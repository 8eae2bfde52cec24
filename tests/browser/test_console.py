"""The operations console in a browser: without JavaScript all of it works, with it the tools follow the filter."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import sign_in
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.processes]


def test_filter_causes_and_views_work_without_javascript(browser: Browser, stack: Stack) -> None:
    context = browser.new_context(base_url=stack.url, java_script_enabled=False)
    page = context.new_page()
    sign_in(page, "sol")
    page.goto("/ops/")
    page.select_option("#f-range", "all")
    page.get_by_text("More filters").click()
    page.fill("#f-code", "599")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page).to_have_url(re.compile(r"/ops/\?.*range=all.*code=599"))
    expect(page.locator("#f-code")).to_have_value("599")
    page.get_by_role("link", name="By cause").click()
    expect(page.get_by_role("heading", name="No failure matches this filter")).to_be_visible()
    page.locator("summary", has_text="Views").click()
    page.fill("#view-name", "Code 599 ever")
    page.get_by_role("button", name="Keep").click()
    expect(page.locator("summary", has_text="Code 599 ever")).to_be_visible()
    page.goto("/ops/")
    page.locator("summary", has_text="Views").click()
    page.get_by_role("link", name="Code 599 ever").click()
    expect(page).to_have_url(re.compile(r"/ops/\?range=all&code=599$"))
    page.goto("/ops/views/")
    page.locator("summary", has_text="Change").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("The view “Code 599 ever” is deleted.")).to_be_visible()
    context.close()


def test_the_tools_follow_a_filter_that_changed_in_place(page: Page, stack: Stack) -> None:
    sign_in(page, "sol")
    page.goto("/ops/")
    page.select_option("#f-status", "failures")
    expect(page).to_have_url(re.compile(r"/ops/\?status=failures$"))
    expect(page.get_by_role("link", name="By cause")).to_have_attribute("href", "/ops/causes/?status=failures")
    page.get_by_role("link", name="By cause").click()
    page.select_option("#f-range", "all")
    expect(page).to_have_url(re.compile(r"/ops/causes/\?status=failures&range=all$"))
    expect(page.locator("#f-status")).to_have_value("failures")
    page.locator("summary", has_text="Views").click()
    expect(page.locator(".menu-form input[name=query]")).to_have_value("status=failures&range=all")
