"""An outage seen by two people: whoever writes is warned while typing, support looks after it, the warning goes."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import sign_in
from tests.browser.judging import faults, lenient
from tests.browser.test_main_job import healthy_conversation, write
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.processes]
# Five tries to send, each with its three attempts, and a round of the watch.
OPENED = 90_000
GONE = 15_000


def test_a_warning_comes_while_one_types_and_goes_when_support_resolves(
    page: Page, browser: Browser, stack: Stack
) -> None:
    # What other tests had accepted in the last minutes would outweigh five failures, and what failed would be counted too.
    stack.rows(
        "UPDATE messaging_message SET settled_at = settled_at - interval '1 hour'"
        " WHERE state IN ('succeeded', 'failed', 'rejected') RETURNING id"
    )
    sign_in(page, "mara")
    page.goto(healthy_conversation(stack))
    box = page.get_by_role("textbox", name="Message")
    for turn in range(5):
        write(page, f"Trailer {turn} #fail-auth")
        expect(box).to_have_value("")
    box.press_sequentially("Half a sen")
    warned = page.locator("#incident-words [data-incident]")
    expect(warned).to_contain_text("sign-in rejected", timeout=OPENED)
    expect(warned).to_contain_text(re.compile(r"[56789] messages to 1 driver failed since"))
    expect(box).to_have_value("Half a sen")
    expect(box).to_be_focused()

    desk = browser.new_context(base_url=stack.url, viewport={"width": 1440, "height": 900}).new_page()
    sign_in(desk, "sol")
    desk.goto("/ops/")
    desk.get_by_role("link", name=re.compile(r"\d open incident")).click()
    desk.get_by_role("link", name=re.compile("sign-in rejected")).click()
    desk.get_by_role("button", name="Acknowledge").click()
    expect(desk.locator(".flashes")).to_contain_text("Acknowledged")
    desk.get_by_label("Note, for colleagues").fill("Called the fleet; they sign in again.")
    desk.get_by_role("button", name="Add note").click()
    expect(desk.locator("#in-history")).to_contain_text("they sign in again")
    looked_at(browser, stack, desk.url)
    desk.get_by_role("button", name="Resolve").click()
    desk.context.close()

    expect(warned).to_have_count(0, timeout=GONE)
    expect(box).to_have_value("Half a sen")


def looked_at(browser: Browser, stack: Stack, incident: str) -> None:
    """While it is open: no violation and no sideways scroll, in both themes, for who acts, who reads and who writes."""
    found: list[str] = []
    for who, addresses in (("sol", [incident, "/ops/incidents/", "/ops/"]), ("mara", [incident, "/compose/"])):
        context = lenient(browser, stack)
        page = context.new_page()
        sign_in(page, who)
        for address in addresses:
            page.goto(address)
            found += faults(page, f"{who} incident {address.removeprefix(stack.url)}")
        context.close()
    assert found == []


def test_an_incident_is_looked_after_without_javascript(browser: Browser, stack: Stack) -> None:
    ((made,),) = stack.rows(
        "INSERT INTO messaging_incident (uuid, source_name, error_type, response_status_code, cause, opened_at,"
        " first_failed_at, last_failed_at, failures, drivers, changed_xid) VALUES (gen_random_uuid(), 'motive', 'tsp', 418,"
        " '', now(), now(), now(), 5, 2, 0) RETURNING uuid::text"
    )
    context = browser.new_context(base_url=stack.url, java_script_enabled=False)
    page = context.new_page()
    sign_in(page, "sol")
    page.goto(f"/ops/incidents/{made}/")
    page.get_by_label("Put aside for").select_option("4h")
    page.get_by_role("button", name="Snooze").click()
    expect(page.locator("#in-state")).to_contain_text("Snoozed")
    page.get_by_label("Owner").select_option(label="Nobody")
    page.get_by_role("button", name="Take it").click()
    expect(page.locator("#in-history")).to_contain_text("looks after it")
    page.get_by_role("button", name="Resolve").click()
    expect(page.locator("#in-state")).to_contain_text("Resolved")
    expect(page.get_by_role("button", name="Resolve")).to_have_count(0)
    context.close()
