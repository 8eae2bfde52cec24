"""What every page owes to everybody: nothing that axe objects to in either theme, and no sideways scroll at any width."""

import os
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page

from tests.stack import Stack

WIDTHS = (320, 390, 768, 1440)
WHOLE = {"width": 1440, "height": 900}
# Of axe's rules only those about colour can answer differently in another theme.
EVERYTHING: dict[str, Any] = {"resultTypes": ["violations"]}
COLOURS: dict[str, Any] = {**EVERYTHING, "runOnly": ["color-contrast", "link-in-text-block"]}
# A colour that still fades from one theme into the other is neither.
AT_REST = "Promise.all(document.getAnimations().filter(one => one instanceof CSSTransition).map(one => one.finished))"
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def lenient(browser: Browser, stack: Stack) -> BrowserContext:
    """A context for `faults`: axe injects its script, which our policy forbids, so the policy is set aside."""
    return browser.new_context(base_url=stack.url, bypass_csp=True, viewport=WHOLE, reduced_motion="reduce")  # type: ignore[arg-type]


def faults(page: Page, name: str) -> list[str]:
    """One line for each thing that is wrong with the page as it stands; the page is left as it was.

    With SCREENSHOTS set to a folder it is also photographed in both themes and all widths.
    """
    found: list[str] = []
    for theme, options in (("light", EVERYTHING), ("dark", COLOURS)):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        page.evaluate(AT_REST)
        found += [
            f"{name} {theme}: {rule['id']} at {[node['target'] for node in rule['nodes']][:3]}"
            for rule in _violations(page, options)
        ]
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        overflow = page.evaluate(TOO_WIDE)
        found += [f"{name}: {overflow} px too wide at {width} px"] if overflow > 0 else []
    photograph(page, name)
    return found


def _violations(page: Page, options: dict[str, Any]) -> Any:
    """What axe objects to. Its half a megabyte of script is given to a page once, and of its answer only this is read."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    return page.evaluate("options => axe.run(options).then(found => found.violations)", options)


def photograph(page: Page, name: str) -> None:
    """Both themes and all widths, when somebody wants to look (SCREENSHOTS names a folder)."""
    folder = os.environ.get("SCREENSHOTS")
    for theme in ("light", "dark") if folder else ():
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            Path(str(folder)).mkdir(parents=True, exist_ok=True)
            plain = "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")
            page.screenshot(path=str(Path(str(folder)) / f"{plain}-{theme}-{width}.png"), full_page=True)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(WHOLE)  # type: ignore[arg-type]
