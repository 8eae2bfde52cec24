"""A failure explained in the browser: the card, its step, the dossier on paper, the file; in both themes and on a phone."""

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import sign_in, sign_out
from tests.browser.judging import faults, lenient, photograph
from tests.browser.test_failures import take_care_of_everything, wait_until_failed
from tests.browser.test_main_job import healthy_conversation, write
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.processes]
NEWEST = "SELECT '/m/' || uuid || '/' FROM messaging_message WHERE text = %s ORDER BY id DESC LIMIT 1"


def fail(page: Page, stack: Stack, text: str) -> str:
    """Writes a text that fails as its magic word says, and answers the address of the message."""
    page.goto(healthy_conversation(stack))
    write(page, text)
    wait_until_failed(stack, text)
    ((address,),) = stack.rows(NEWEST, text)
    return str(address)


def test_a_bubble_leads_to_the_card_and_the_card_to_the_next_step(page: Page, stack: Stack) -> None:
    take_care_of_everything(stack)
    sign_in(page, "mara")
    text = "Bay seven is blocked #fail-validation"
    address = fail(page, stack, text)
    page.reload()
    bubble = page.locator("#thread-items .msg-out").filter(has_text=text)
    expect(bubble).to_contain_text("has no device for messages")
    photograph(page, "bubble")
    bubble.get_by_role("link", name="What to do").click()
    card = page.get_by_role("region", name="has no device for messages")
    expect(card).to_be_visible()
    expect(card).to_contain_text("Would fail again")
    photograph(page, "card")
    page.goto(f"{address}dossier/")
    expect(page.get_by_role("heading", name="Every attempt")).to_be_visible()
    photograph(page, "dossier")
    page.emulate_media(media="print")
    for hidden in (page.locator(".side"), page.locator(".actions").first, page.locator("#own")):
        expect(hidden).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.querySelector('.dossier')).color") == "rgb(0, 0, 0)"
    take_care_of_everything(stack)


def test_support_exports_what_the_filter_finds(page: Page, stack: Stack) -> None:
    take_care_of_everything(stack)
    sign_in(page, "mara")
    fail(page, stack, "=Bay eight #fail-auth")
    sign_out(page)
    sign_in(page, "sol")
    page.goto("/ops/?status=failed")
    photograph(page, "operations")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export as CSV").click()
    body = download.value.path().read_text(encoding="utf-8-sig")
    assert download.value.suggested_filename.startswith("backhaul-messages-")
    assert '"\'=Bay eight #fail-auth"' in body
    take_care_of_everything(stack)


def test_the_worklist_and_the_panel_look_right(page: Page, stack: Stack) -> None:
    sign_in(page, "ada")
    page.goto("/ops/unexplained/")
    photograph(page, "unexplained")
    page.goto("/admin/messaging/explanation/")
    photograph(page, "panel-list")
    page.goto("/admin/messaging/explanation/add/?error_type=validation&words=device")
    page.get_by_label("Title").fill("No device")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("Speaks for")).to_be_visible()
    expect(page.get_by_label("Title")).to_have_value("No device")
    photograph(page, "panel-preview")


@pytest.mark.looks
def test_axe_finds_nothing_and_nothing_scrolls_sideways(browser: Browser, stack: Stack) -> None:
    context = lenient(browser, stack)
    page = context.new_page()
    sign_in(page, "mara")
    address = fail(page, stack, "Bay nine in the dark #fail-network")
    sign_out(page)
    sign_in(page, "sol")
    found = []
    for place in (address, f"{address}dossier/", "/ops/unexplained/", "/ops/?status=failed"):
        page.goto(place)
        found += faults(page, place)
    context.close()
    take_care_of_everything(stack)
    assert found == []
