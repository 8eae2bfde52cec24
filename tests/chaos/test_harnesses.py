"""The chaos harnesses at a size for every change, with fixed seeds (`make chaos-quick`); `make chaos` runs them all at theirs."""

import json
import subprocess
import sys
from importlib import import_module
from operator import attrgetter
from typing import Any

import pytest

from tests.chaos import hasten, mutants, points
from tests.stack import ROOT


def run(*arguments: str) -> dict[str, Any]:
    """The figures of a run without a breach."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return figures


@pytest.mark.chaos
@pytest.mark.processes
def test_random_kills_lose_and_repeat_nothing() -> None:
    figures = run("kill", "--sends", "100", "--kills", "10", "--pauses", "1", "--stops", "1", "--seed", "3")
    assert figures["sends"] == 100
    assert figures["worker kills"] + figures.get("web kills", 0) == 10
    assert figures["pauses"] == figures["database stops"] == 1
    assert figures["found_again"] == figures["ambiguous_but_accepted"] > 0


@pytest.mark.chaos
@pytest.mark.processes
def test_a_death_at_a_named_instant_ends_as_the_table_says() -> None:
    """Some rows of each kind; `make chaos` plays them all."""
    wanted = ["row 4", "row 6", "row 8", "row 12", "row 17", "row 28"]
    assert run("instants", "--seed", "1", "--rows", *wanted)["rows"] == sorted(wanted)


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_fault_still_fits_the_code(mutant: mutants.Mutant, tmp_path: Any) -> None:
    mutants.plant(mutant, tmp_path)
    changed = {path for path, _, _ in mutant.edits}
    assert all((tmp_path / path).read_text() != (ROOT / path).read_text() for path in changed)


def test_every_instant_and_every_shortened_wait_still_has_its_name() -> None:
    for point in points.POINTS.values():
        holder = import_module(point.module)
        assert callable(attrgetter(point.name)(holder)), point
    for module, names, _ in hasten.WAITS:
        assert all(hasattr(import_module(module), name) for name in names), module
    assert all(hasattr(import_module(module), name) for module, name, _ in hasten.FIXED)
