"""What a browser loads stays small, and no template does what the Content-Security-Policy forbids."""

import gzip
import hashlib
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from messaging.states import SITUATIONS
from messaging.templatetags.delivery import PRIORITY_ICONS

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "static"
HTMX = STATIC / "vendor" / "htmx-4.0.1.min.js"
STYLESHEET = STATIC / "css" / "app.css"
SUPPORT = STATIC / "css" / "support.css"
SCRIPT = STATIC / "js" / "app.js"
SPRITE = STATIC / "icons.svg"
FONT = STATIC / "fonts" / "inter-latin.woff2"
TEMPLATES = sorted((ROOT / "templates").rglob("*.html")) + sorted((ROOT / "messaging" / "templates").rglob("*.html"))
KB = 1_000


def gzipped(path: Path) -> int:
    return len(gzip.compress(path.read_bytes(), compresslevel=9))


def without_comments(path: Path) -> str:
    return re.sub(r"{#.*?#}|{% comment.*?endcomment %}", "", path.read_text(), flags=re.DOTALL)


def sprite_names() -> set[str]:
    return {symbol.attrib["id"] for symbol in ElementTree.parse(SPRITE).getroot() if "id" in symbol.attrib}


@pytest.mark.parametrize(
    ("paths", "limit"),
    [([HTMX, SCRIPT], 18 * KB), ([SCRIPT], 4_650), ([STYLESHEET, SUPPORT], 12 * KB), ([SPRITE], 3 * KB)],
    ids=["all scripts", "our script", "stylesheets", "icons"],
)
def test_text_files_stay_within_their_budget_when_compressed(paths: list[Path], limit: int) -> None:
    assert sum(gzipped(path) for path in paths) <= limit


def test_the_preloaded_font_stays_within_its_budget() -> None:
    assert FONT.stat().st_size <= 30 * KB


def test_all_that_the_first_view_loads_besides_its_page_leaves_room_for_the_page() -> None:
    assert (
        sum(map(gzipped, [HTMX, SCRIPT, STYLESHEET, SPRITE, STATIC / "favicon.svg"])) + FONT.stat().st_size <= 60 * KB
    )


def test_the_vendored_htmx_is_the_file_that_was_reviewed() -> None:
    recorded = (HTMX.parent / f"{HTMX.name}.sha256").read_text().split()

    assert recorded == [hashlib.sha256(HTMX.read_bytes()).hexdigest(), HTMX.name]


def test_there_are_templates_to_look_at() -> None:
    assert ROOT / "templates" / "base.html" in TEMPLATES


@pytest.mark.parametrize(
    "forbidden",
    [
        r"\sstyle\s*=|<style[\s>]",
        r"""\son[a-z]+\s*=\s*["']""",
        r"hx-on[:=]|javascript:|[\"']js:",
        r"<script\b(?![^>]*src=)[^>]*>",
    ],
    ids=["style", "handler", "address of a script", "script"],
)
def test_no_template_holds_inline_style_or_script(forbidden: str) -> None:
    assert holding(forbidden) == []


def test_no_template_trusts_markup_that_it_did_not_write() -> None:
    assert holding(r"\|\s*safe\b|autoescape\s+off") == []


def holding(pattern: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in TEMPLATES
        for found in re.finditer(pattern, without_comments(path))
    ]


def test_every_icon_that_is_named_exists_in_the_sprite() -> None:
    named = {row.icon for row in SITUATIONS.values()} | set(PRIORITY_ICONS.values())
    for path in TEMPLATES:
        named |= set(re.findall(r"""{%\s*icon\s+["']([^"']+)["']""", path.read_text()))

    assert named - sprite_names() == set()


def test_every_file_that_the_stylesheets_name_exists() -> None:
    for sheet in (STATIC / "css").glob("*.css"):
        for name in re.findall(r'url\("([^"]+)"\)', sheet.read_text()):
            assert (sheet.parent / name).resolve().is_file(), f"{sheet.name} names {name}"


def test_every_custom_property_that_the_stylesheet_reads_is_set_or_has_a_fallback() -> None:
    css = STYLESHEET.read_text() + SUPPORT.read_text()
    read = set(re.findall(r"var\((--[a-z0-9-]+)\)", css))

    assert read - set(re.findall(r"(--[a-z0-9-]+):", css)) == set()
