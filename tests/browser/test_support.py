"""The desk of support with the keyboard alone: from a provider's request id to a message that is sent again and accepted."""

import re

import pytest
from playwright.sync_api import Page, expect

from messaging.simulator.faults import Fault
from tests.browser.conftest import sign_in, sign_out
from tests.browser.judging import photograph
from tests.browser.test_failures import take_care_of_everything
from tests.browser.test_main_job import END, healthy_conversation, write
from tests.stack import Stack, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.processes]
MOST_TABS = 120
REQUEST_ID = (
    "SELECT l.request_ids[1] FROM messaging_operationlog l JOIN messaging_message m ON m.operation_id = l.operation_id"
    " WHERE m.text = %s ORDER BY l.catena_created_at LIMIT 1"
)


def tab_to(page: Page, selector: str) -> None:
    """Presses Tab until the element has the focus."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"the keyboard does not reach {selector}")


def failed_message(page: Page, stack: Stack, text: str) -> str:
    """Mara's message, which the provider refuses three times and would then take; answers its first request id."""
    stack.world.faults.add(Fault("attempt_failure", match=text, times=3, error_type="tsp", status=503))
    sign_in(page, "mara")
    page.goto(healthy_conversation(stack))
    write(page, text)
    state = "SELECT state FROM messaging_message WHERE text = %s"
    wait_for(lambda: stack.rows(state, text) == [("failed",)])
    sign_out(page)
    ((request_id,),) = stack.rows(REQUEST_ID, text)
    return str(request_id)


def test_support_goes_from_a_request_id_to_an_accepted_message_with_the_keyboard_alone(
    page: Page, stack: Stack
) -> None:
    take_care_of_everything(stack)
    text = "Bring the seal numbers to the office"
    request_id = failed_message(page, stack, text)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    sign_in(page, "sol")
    page.goto("/connections/")

    page.keyboard.press("/")
    page.wait_for_url(re.compile("/search/"))
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type(request_id)
    expect(page.get_by_role("status").filter(has_text="1 found.")).to_be_visible()
    photograph(page, "search-id")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/m/[^/]+/$"))
    expect(page.get_by_text(text).first).to_be_visible()
    why = page.locator("#why")
    expect(why.get_by_role("heading")).to_contain_text("down or overloaded")
    expect(why).to_contain_text("May have arrived")
    address = page.url

    tab_to(page, "#id_first")
    page.keyboard.press("Home")
    tab_to(page, "#compare button")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("compare="))
    table = page.get_by_role("region", name=re.compile("^Attempts 1 and 3"))
    expect(table).to_contain_text(request_id)
    expect(table.get_by_role("row").filter(has_text="x-request-id")).to_contain_text("Changed:")
    expect(table.get_by_role("row").filter(has_text="Kind of error")).to_have_class("is-same")
    photograph(page, "compare")

    tab_to(page, "#curl > summary")
    page.keyboard.press("Enter")
    tab_to(page, "[data-copy-from='#curl-text']")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = str(page.evaluate("navigator.clipboard.readText()"))
    assert copied.startswith("# Running this sends a real message")
    assert "Bearer $CATENA_TOKEN" in copied
    for secret in (stack.simulator.client_secret, stack.simulator.client_id, *stack.world.tokens):
        assert secret not in copied

    page.goto(address)
    tab_to(page, ".remedies form[action$='/resend/'] button")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Send again to")).to_be_visible()
    tab_to(page, "#id_is_sure")
    page.keyboard.press("Space")
    tab_to(page, "form button[type=submit].btn-primary")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/m/" in url and url != address and not url.endswith("/resend/"))
    expect(page.locator("#m-summary")).to_contain_text(re.compile(r"Accepted by \w+|Delivered|Read"), timeout=END)


def test_a_note_an_owner_and_a_reveal_need_no_script(page: Page, stack: Stack) -> None:
    text = "Leave the trailer at the north fence"
    failed_message(page, stack, text)
    ((uuid,),) = stack.rows("SELECT uuid::text FROM messaging_message WHERE text = %s", text)
    assert page.context.browser is not None
    plain = page.context.browser.new_context(base_url=stack.url, java_script_enabled=False)
    bare = plain.new_page()
    sign_in(bare, "sol")
    bare.goto("/search/")
    bare.get_by_role("searchbox").fill(uuid)
    bare.get_by_role("button", name="Search").click()
    bare.wait_for_url(f"**/m/{uuid}/")
    bare.get_by_label("Internal note").fill("Called the terminal")
    bare.get_by_role("button", name="Add note").click()
    expect(bare.get_by_label("Internal notes")).to_contain_text("Called the terminal")
    bare.get_by_role("button", name="Take").click()
    expect(bare.locator(".care")).to_contain_text("looks after this")
    bare.get_by_role("button", name="Reveal").click()
    expect(bare.locator("#raw")).to_contain_text('"message_text"')
    photograph(bare, "tools")
    plain.close()
