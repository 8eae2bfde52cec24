"""A send whose answer was lost: found while the page is open, or put before people, of whom one decides and all are told."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from messaging.simulator import Fault
from tests.browser.conftest import sign_in
from tests.browser.judging import faults, photograph
from tests.browser.test_failures import bubble, take_care_of_everything
from tests.browser.test_main_job import END, count_loads, healthy_conversation, write
from tests.stack import Stack, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.processes]
TAKEN = re.compile(r"Accepted by \w+|Delivered \d|Read \d")
DECISIONS = (
    "SELECT u.username, d.kind, d.reason FROM messaging_decision d JOIN messaging_message m ON m.id = d.message_id"
    " JOIN messaging_user u ON u.id = d.user_id WHERE m.text = %s ORDER BY d.id"
)
ATTEMPTS = (
    "SELECT count(*) FROM messaging_sendattempt a JOIN messaging_message m ON m.id = a.message_id WHERE m.text = %s"
)


@pytest.fixture
def people(browser: Browser, stack: Stack) -> Iterator[dict[str, Page]]:
    """Two people at machines of their own. Not the `page` fixture, because the browser calls every refusal an error."""
    pages = {}
    for name in ("mara", "sol"):
        # axe injects its script, which our policy forbids, and must not judge the colours of a row that fades.
        context = browser.new_context(
            base_url=stack.url, viewport={"width": 1440, "height": 900}, bypass_csp=True, reduced_motion="reduce"
        )
        pages[name] = context.new_page()
        pages[name].set_default_timeout(15_000)
        sign_in(pages[name], name)
    yield pages
    for opened in pages.values():
        opened.context.close()
    take_care_of_everything(stack)


def posts(stack: Stack, text: str) -> int:
    with stack.world.lock:
        return sum(entry.message_text == text for entry in stack.world.journal)


def lose(page: Page, stack: Stack, text: str) -> None:
    """Writes an urgent message that Catena never takes and that gets no answer; waits until people are asked."""
    stack.world.faults.add(Fault("reset_before_accept", match=text, times=1))
    write(page, text, "High")
    expect(bubble(page, text)).to_contain_text("It may have been sent; checking", timeout=END)
    expect(bubble(page, text)).to_contain_text("Needs your decision", timeout=END)


def open_decision(page: Page, address: str, text: str) -> None:
    page.goto(address)
    bubble(page, text).get_by_role("link", name="Decide").click()
    expect(page.get_by_role("heading", name="What is known")).to_be_visible()


def decide(page: Page, verdict: str, reason: str) -> None:
    page.get_by_role("radio", name=verdict).check()
    page.get_by_label("Why?").fill(reason)


def test_a_lost_answer_is_found_and_becomes_accepted_while_the_page_is_open(page: Page, stack: Stack) -> None:
    sign_in(page, "mara")
    page.goto(healthy_conversation(stack))
    loads = count_loads(page)
    text = "The bridge is open again #lost-answer"
    write(page, text)
    # The provider's own record of it may stand below it until Catena says that it is the same.
    expect(bubble(page, text).first).to_contain_text("It may have been sent; checking", timeout=END)
    photograph(page, "checking")
    expect(bubble(page, text).first).to_contain_text(TAKEN, timeout=END)
    expect(bubble(page, text)).to_have_count(1, timeout=END)
    assert loads == []
    assert (posts(stack, text), stack.rows(ATTEMPTS, text)) == (1, [(1,)])


def test_of_two_who_decide_at_once_one_does_and_the_other_is_told(people: dict[str, Page], stack: Stack) -> None:
    mara, address = people["mara"], healthy_conversation(stack)
    mara.goto(address)
    loads = count_loads(mara)
    text, behind = "Turn back at exit 41", "Then call the office"
    lose(mara, stack, text)
    write(mara, behind)
    expect(bubble(mara, behind)).to_contain_text("Waits for the message before it, which needs a decision")
    expect(mara.locator("#composer-waits")).to_contain_text("What you send now waits")
    assert loads == []
    photograph(mara, "needs-you")
    assert faults(mara, "conversation") == []

    verdicts = {"mara": ("Leave it unsent", "He is on the other road"), "sol": ("It was sent", "He says so")}
    for name, verdict in verdicts.items():
        open_decision(people[name], address, text)
        expect(people[name].get_by_role("radio", checked=True)).to_have_count(0)
        decide(people[name], *verdict)
    photograph(mara, "decide")
    assert faults(mara, "decide") == []
    for one in people.values():
        one.get_by_role("button", name="Decide").click(no_wait_after=True)
    ((first, _, reason),) = wait_for(lambda: stack.rows(DECISIONS, text))
    second = next(name for name in people if name != first)
    assert reason == verdicts[first][1]
    expect(people[first]).to_have_url(re.compile("/m/[^/]+/$"))
    told = re.compile(rf"has decided at \d\d:\d\d:\d\d: .+ Reason: {reason}")
    expect(people[second].locator("#errors")).to_contain_text(told)
    expect(people[second].get_by_label("Your words")).to_have_value(verdicts[second][1])
    photograph(people[second], "told")
    assert faults(people[second], "told") == []
    assert (len(stack.rows(DECISIONS, text)), stack.rows(ATTEMPTS, text)) == (1, [(1,)])
    mara.goto(address)
    expect(bubble(mara, text)).to_contain_text(re.compile("Left unsent by|Marked as sent by"))
    expect(bubble(mara, behind).first).to_contain_text(TAKEN, timeout=END)
    photograph(mara, "decided")


def test_a_half_typed_reason_stays_when_a_colleague_was_first(people: dict[str, Page], stack: Stack) -> None:
    mara, sol, address = people["mara"], people["sol"], healthy_conversation(stack)
    mara.goto(address)
    text = "Wait at the weighbridge"
    lose(mara, stack, text)
    for one in people.values():
        open_decision(one, address, text)
    loads = count_loads(mara)
    reason = mara.get_by_label("Why?")
    reason.click()
    reason.press_sequentially("I called, and he")
    decide(sol, "Leave it unsent", "He has turned round")
    sol.get_by_role("button", name="Decide").click()
    expect(sol).to_have_url(re.compile("/m/[^/]+/$"))
    expect(mara.locator("#decision-news")).to_contain_text("This has changed meanwhile: Left unsent by", timeout=END)
    expect(reason).to_be_focused()
    reason.press_sequentially(" agrees")
    expect(reason).to_have_value("I called, and he agrees")
    photograph(mara, "moved")
    assert loads == []
    mara.get_by_role("radio", name="It was sent").check()
    mara.get_by_role("button", name="Decide").click()
    expect(mara.locator("#errors")).to_contain_text("He has turned round")
    expect(mara.get_by_label("Your words")).to_have_value("I called, and he agrees")
    assert [row[0] for row in stack.rows(DECISIONS, text)] == ["sol"]
    assert posts(stack, text) == 0
