"""The house stands as drawn: floors, fences and file length. That a GET writes nothing is held by `flows/test_every_url.py`."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("dashboard", "messaging", "tests")
MOST_LINES = 500

# A module may import from its own floor's package and from lower floors. The longest prefix decides.
FLOORS = {
    "messaging.catena": 0,
    "messaging.simulator": 0,
    "messaging.states": 1,
    "messaging.models": 2,
    "messaging.mirror": 3,
    "messaging.access": 3,
    "messaging.conf": 3,
    "messaging.doorbell": 3,
    "messaging.gates": 3,
    "messaging.budget": 3,
    "messaging.heartbeat": 3,
    "messaging.outbox": 4,
    "messaging.reconcile": 4,
    "messaging.inbox": 4,
    "messaging.sync": 4,
    "messaging.incidents": 4,
    "messaging.recovery": 4,
    "messaging.tasks": 5,
    "messaging.forms": 5,
    "messaging.templatetags": 5,
    "messaging.search": 5,
    "messaging.live": 5,
    "messaging.rows": 5,
    "messaging.changes": 5,
    "messaging.threads": 5,
    "messaging.insight": 5,
    "messaging.guards": 5,
    "messaging.saved": 5,
    "messaging.exports": 5,
    "messaging.verify": 5,
    "messaging.workbench": 5,
    "messaging.processes": 5,
    "messaging.views": 6,
    "messaging.admin": 6,
    "messaging.management": 6,
    "messaging.checks": 6,
    "messaging.urls": 7,
    "messaging.apps": 7,
    "dashboard": 8,
}
# On these floors every entry stands alone: none imports its neighbour, except where named.
ENGINES = 4
# Recovery decides what is sent again; that each failure goes out once is the outbox's own business, in the same transaction.
NEIGHBOURS = {("messaging.reconcile", "messaging.outbox"), ("messaging.recovery", "messaging.outbox")}
# The only doors to the vendor.
CATENA_USERS = {
    "messaging.conf", "messaging.mirror", "messaging.outbox", "messaging.reconcile", "messaging.inbox", "messaging.sync",
}  # fmt: skip


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [ROOT / name for name in sorted(set(listed.stdout.splitlines())) if (ROOT / name).is_file()]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module that a file imports, anywhere in it, `from x import y` as both `x` and `x.y`; relative ones resolved."""
    package = name_of(path).split(".") if path.stem == "__init__" else name_of(path).split(".")[:-1]
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            found += [source, *(f"{source}.{alias.name}" for alias in node.names)]
    return tuple(found)


def entry(module: str) -> str | None:
    """The floor entry that a module belongs to; None for code that is not ours."""
    found = [prefix for prefix in FLOORS if module == prefix or module.startswith(f"{prefix}.")]
    return max(found, key=len, default=None)


MODULES = [path for path in tracked("dashboard/*.py", "messaging/*.py") if "migrations" not in path.parts]


def test_every_module_stands_on_a_floor() -> None:
    homeless = {name_of(path) for path in MODULES if entry(name_of(path)) is None}
    assert homeless == {"messaging"}, "add the others to FLOORS, each with its reason"


def test_imports_go_downwards_only() -> None:
    assert [
        f"{name_of(path)} imports {module}" for path in MODULES for module in imports(path) if rises(path, module)
    ] == []


def rises(path: Path, module: str) -> bool:
    here, there = entry(name_of(path)), entry(module)
    if here is None or there is None or there == here:
        return False
    lower = FLOORS[there] < FLOORS[here]
    beside = FLOORS[there] == FLOORS[here] != ENGINES and FLOORS[here] != 0
    return not (lower or beside or (here, there) in NEIGHBOURS)


def test_only_the_engines_know_the_vendor() -> None:
    others = [path for path in MODULES if entry(name_of(path)) not in {*CATENA_USERS, "messaging.catena"}]
    assert len(others) > 50
    knowing = {name_of(path) for path in others for name in imports(path) if name.startswith("messaging.catena")}
    assert knowing == set()


@pytest.mark.parametrize("package", ["messaging/catena", "messaging/simulator"])
def test_the_vendor_and_its_double_know_no_framework(package: str) -> None:
    allowed = ("requests", "requests_oauthlib", "oauthlib", "urllib3") if package.endswith("catena") else ()
    forbidden = re.compile(
        r"(django|procrastinate|dashboard|psycopg|requests|requests_oauthlib|oauthlib|urllib3)(\.|$)"
    )
    for path in tracked(f"{package}/*.py"):
        named = {name.split(".")[0] for name in imports(path) if forbidden.match(name)}
        assert named <= set(allowed), f"{name_of(path)} imports {named - set(allowed)}"


def test_the_product_never_imports_the_simulator_outside_its_command() -> None:
    users = {
        name_of(path)
        for path in MODULES
        if any(name.startswith("messaging.simulator") for name in imports(path))
        and not name_of(path).startswith("messaging.simulator")
    }
    assert users <= {"messaging.management.commands.simulator"}


def test_messaging_never_imports_the_project() -> None:
    for path in tracked("messaging/*.py"):
        assert not [name for name in imports(path) if name.split(".")[0] == "dashboard"], name_of(path)


def test_views_read_rows_through_visible_to() -> None:
    """`Model.objects` in a view is followed by `visible_to` in the same statement, unless the row is the person's own."""
    own = {"ReadMark"}
    for path in tracked("messaging/views/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "objects" and isinstance(node.value, ast.Name):
                scoped = f"{node.value.id}.objects.visible_to("
                assert node.value.id in own or scoped in path.read_text(encoding="utf-8"), (
                    f"{name_of(path)} line {node.lineno}: {node.value.id}.objects is not scoped by visible_to"
                )


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    ours = [
        path
        for path in tracked("*.py", "*.html", "*.css", "*.js")
        if "migrations" not in path.parts and "vendor" not in path.parts
    ]
    assert len(ours) > 200
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in ours}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "helpers", "manager", "managers", "service", "services", "base", "common", "misc"}
    assert not [name_of(path) for path in MODULES if path.stem in empty]


def test_the_top_level_holds_only_what_tools_need() -> None:
    allowed = {
        "manage.py", "dashboard", "messaging", "templates", "static", "requirements.txt", "tests", "README.md",
        "CHANGELOG.md", "Makefile", "pyproject.toml", ".python-version", ".env.example", "Dockerfile", "compose.yaml",
        ".ci", ".gitignore", ".dockerignore", ".github",
    }  # fmt: skip
    assert {path.relative_to(ROOT).parts[0] for path in tracked()} <= allowed


def test_every_test_name_is_a_sentence() -> None:
    for path in tracked("tests/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and path.name.startswith("test_"):
                assert len(node.name.split("_")) >= 4, f"{path.relative_to(ROOT)}: {node.name}"
