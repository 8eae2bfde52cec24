"""The main job in a real browser: write, watch the operation to its end, read the answer, without one reload."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import log_in, sign_in
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.usefixtures("each_step_is_seen")]
END = 30_000


@pytest.fixture
def each_step_is_seen(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow enough for an open page to show one step before the next."""
    monkeypatch.setattr(stack.world.pace, "queue_delay", (1.0, 1.2))
    monkeypatch.setattr(stack.world.pace, "attempt_gap", (1.5, 2.0))


def healthy_conversation(stack: Stack) -> str:
    """The address of a conversation of mara's on a connection that can send: one in which no test has written, or not for the
    longest time. A driver who still owes an answer would hold back what is written next.
    """
    ((uuid,),) = stack.rows(
        "SELECT c.uuid::text FROM messaging_conversation c JOIN messaging_connection n ON n.id = c.connection_id"
        " JOIN messaging_fleetmembership f ON f.fleet_id = n.fleet_id JOIN messaging_user u ON u.id = f.user_id"
        " JOIN messaging_fleetuser d ON d.id = c.driver_id"
        " WHERE u.username = 'mara' AND n.status = 'active' AND n.share_level = 'read_write' AND d.deleted_at IS NULL"
        " AND d.is_active ORDER BY (SELECT max(m.id) FROM messaging_message m WHERE m.conversation_id = c.id"
        " AND m.author_id IS NOT NULL) NULLS FIRST, random() LIMIT 1"
    )
    return f"/c/{uuid}/"


def write(page: Page, text: str, priority: str = "Medium") -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.get_by_role("radio", name=priority).check(force=True)
    page.get_by_role("button", name="Send", exact=True).click()


def count_loads(page: Page) -> list[str]:
    """Collects every page load from now on: the test promises that there is none."""
    loads: list[str] = []
    page.on("domcontentloaded", lambda loaded: loads.append(loaded.url))
    return loads


def test_a_reply_is_seen_at_once_then_accepted_then_answered_without_a_reload(page: Page, stack: Stack) -> None:
    log_in(page, "mara")
    page.goto(healthy_conversation(stack))
    loads = count_loads(page)
    text = "Dock 7 is closed, use the south gate"
    write(page, text, "High")
    bubble = page.locator("#thread-items .msg-out").filter(has_text=text).last
    expect(bubble).to_be_visible(timeout=2000)
    expect(bubble).to_contain_text("High")
    expect(page.get_by_role("textbox", name="Message")).to_have_value("")
    expect(bubble).to_contain_text(re.compile(r"Accepted by \w+|Delivered \d|Read \d"), timeout=END)
    answer = page.locator("#thread-items .msg-in").last
    expect(answer).to_be_visible(timeout=END)
    expect(page.locator("#thread-items > li.msg").last).to_have_class(re.compile("msg-in"), timeout=END)
    # The line about who waits comes with it and takes its room from the thread.
    expect(page.locator("#composer-waiting")).to_contain_text("Waits for a reply since")
    expect(page.locator("#thread-items > li.msg .msg-foot").last).to_be_in_viewport()
    assert loads == []


def test_each_attempt_of_a_failing_message_appears_with_its_reason_and_code(page: Page, stack: Stack) -> None:
    sign_in(page, "mara")
    page.goto(healthy_conversation(stack))
    text = "Bring the papers to the office #fail-tsp"
    write(page, text)
    bubble = page.locator("#thread-items .msg-out").filter(has_text="Bring the papers").last
    expect(bubble).to_be_visible(timeout=2000)
    bubble.hover()
    bubble.get_by_role("link", name="Details").click()
    page.wait_for_url(re.compile("/m/"))
    loads = count_loads(page)
    attempts = page.locator("#attempts .tl").filter(has_text=re.compile(r"Attempt \d"))
    for number in (1, 2, 3):
        expect(attempts.filter(has_text=f"Attempt {number}")).to_be_visible(timeout=END)
    expect(attempts.first).to_contain_text("503")
    expect(page.get_by_text(re.compile(r"Failed after 3 attempts"))).to_be_visible(timeout=END)
    assert loads == []


@pytest.fixture
def undo_time(stack: Stack) -> Iterator[None]:
    """The eight seconds that everybody has who did not choose otherwise."""
    change = "UPDATE messaging_user SET undo_seconds = %s WHERE username = 'mara' RETURNING 1"
    stack.rows(change, 8)
    yield
    stack.rows(change, 0)


def test_an_undo_within_the_hold_is_certain(page: Page, stack: Stack, undo_time: None) -> None:
    sign_in(page, "mara")
    page.goto(healthy_conversation(stack))
    text = "Please wait at gate B until 16:00"
    write(page, text)
    bubble = page.locator("#thread-items .msg-out").filter(has_text=text).last
    expect(bubble).to_contain_text("Sends in")
    bubble.get_by_role("button", name="Undo").click()
    expect(bubble).to_contain_text("Cancelled")
    ((state, attempts),) = stack.rows(
        "SELECT m.state, (SELECT count(*) FROM messaging_sendattempt a WHERE a.message_id = m.id)"
        " FROM messaging_message m WHERE m.text = %s ORDER BY id DESC LIMIT 1",
        text,
    )
    assert (state, attempts) == ("cancelled", 0)


def test_five_quick_clicks_send_one_message(page: Page, stack: Stack) -> None:
    sign_in(page, "mara")
    page.goto(healthy_conversation(stack))
    text = "Fuel card limit is raised now"
    page.get_by_role("textbox", name="Message").fill(text)
    # In one turn of the page's script, so that none of them can come after the answer and find an empty text.
    page.get_by_role("button", name="Send", exact=True).evaluate(
        "button => { for (let i = 0; i < 5; i += 1) button.click(); }"
    )
    expect(page.locator("#thread-items .msg-out").filter(has_text=text)).to_have_count(1)
    page.reload()
    expect(page.locator("#thread-items .msg-out").filter(has_text=text)).to_have_count(1)


def test_typed_text_and_focus_survive_while_the_page_refreshes(page: Page, stack: Stack) -> None:
    sign_in(page, "mara")
    address = healthy_conversation(stack)
    page.goto(address)
    box = page.get_by_role("textbox", name="Message")
    box.click()
    box.press_sequentially("Half a sent")
    uuid = address.split("/")[2]
    ((driver,),) = stack.rows(
        "SELECT d.catena_id::text FROM messaging_conversation c JOIN messaging_fleetuser d ON d.id = c.driver_id"
        " WHERE c.uuid = %s::uuid",
        uuid,
    )
    stack.tell_driver_to_write(driver, "I am at gate C now")
    expect(page.locator("#thread-items .msg-in").filter(has_text="I am at gate C now")).to_be_visible(timeout=END)
    expect(box).to_be_focused()
    expect(box).to_have_value("Half a sent")
    box.press_sequentially("ence")
    expect(box).to_have_value("Half a sentence")
