"""Every page, both themes, three widths: no accessibility violation, no sideways scroll, small first view."""

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import sign_in
from tests.browser.judging import faults, lenient
from tests.browser.test_main_job import healthy_conversation
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.processes]
FIRST_VIEW_BYTES = 75_000


def pages(stack: Stack) -> dict[str, str]:
    """Every kind of page with something on it."""
    ((failed,),) = stack.rows(
        "SELECT uuid::text FROM messaging_message WHERE direction = 'out' ORDER BY id DESC LIMIT 1"
    )
    ((connection,),) = stack.rows("SELECT catena_id::text FROM messaging_connection ORDER BY id LIMIT 1")
    return {
        "inbox": "/", "attention": "/?show=attention", "conversation": healthy_conversation(stack), "compose": "/compose/",
        "message": f"/m/{failed}/", "resend": f"/m/{failed}/resend/", "operations": "/ops/",
        "recoveries": "/ops/recoveries/",
        "console": "/ops/?range=all&code=503&priority=x&cause=none",
        "causes": "/ops/causes/?range=all", "views": "/ops/views/?code=503", "connections": "/connections/",
        "connection": f"/connections/{connection}/", "incidents": "/ops/incidents/",
        "unexplained": "/ops/unexplained/",
        "settings": "/settings/", "keys": "/help/keys/",
        "search": "/search/", "found": "/search/?q=a", "nothing": "/search/?q=zzzz",
        "missing": "/nowhere/",
    }  # fmt: skip


@pytest.mark.looks
def test_axe_finds_nothing_and_no_page_scrolls_sideways(browser: Browser, stack: Stack) -> None:
    context = lenient(browser, stack)
    page = context.new_page()
    page.goto("/login/")
    found = faults(page, "login")
    sign_in(page, "sol")
    for name, address in pages(stack).items():
        page.goto(address)
        found += faults(page, name)
    context.close()
    assert found == []


def test_the_first_view_is_light(browser: Browser, stack: Stack) -> None:
    context = browser.new_context(base_url=stack.url)
    page = context.new_page()
    sign_in(page, "mara")
    session = context.cookies()
    context.close()
    context = browser.new_context(base_url=stack.url)
    context.add_cookies(session)  # type: ignore[arg-type]
    page = context.new_page()
    client = context.new_cdp_session(page)
    client.send("Network.enable")
    received: list[float] = []
    polls: set[str] = set()
    client.on(
        "Network.requestWillBeSent",
        lambda event: polls.add(event["requestId"]) if "/_f/live/" in event["request"]["url"] else None,
    )
    client.on(
        "Network.loadingFinished",
        lambda event: None if event["requestId"] in polls else received.append(event["encodedDataLength"]),
    )
    page.goto("/", wait_until="networkidle")
    context.close()
    assert len(received) <= 8, received
    assert sum(received) <= FIRST_VIEW_BYTES, received


def test_every_page_is_clean_under_the_policy(page: Page, stack: Stack) -> None:
    """The page fixture fails on any console error, which a policy violation is."""
    sign_in(page, "ada")
    for address in [*pages(stack).values(), "/admin/", "/admin/messaging/message/", "/admin/messaging/user/1/change/"]:
        if address != "/nowhere/":
            page.goto(address, wait_until="load")


def test_a_hidden_page_does_not_ask(page: Page, stack: Stack) -> None:
    sign_in(page, "mara")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/_f/live/" in request.url else None)
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    page.wait_for_timeout(5000)
    assert asked == []
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => false, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    page.wait_for_timeout(800)  # before its next turn
    assert len(asked) == 1
