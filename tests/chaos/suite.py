"""All harnesses, in the sizes of `make chaos` and `make chaos-long`; one table and one exit code at the end."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from subprocess import PIPE, STDOUT

from tests.stack import ROOT


@dataclass(frozen=True)
class Part:
    """`command` follows `python -m`; its exit code is the verdict."""

    name: str
    command: tuple[str, ...]
    settings: dict[str, str] = field(default_factory=dict)


def chaos(*arguments: str) -> tuple[str, ...]:
    return ("tests.chaos", *arguments)


def kill(sends: int, kills: int, pauses: int, stops: int, harness: str = "kill") -> tuple[str, ...]:
    sizes = {"--sends": sends, "--kills": kills, "--pauses": pauses, "--stops": stops}
    return chaos(harness, *[word for name, size in sizes.items() for word in (name, str(size))])


def pytest(file: str, *more: str) -> tuple[str, ...]:
    return ("pytest", "-q", "-p", "no:cacheprovider", f"tests/{file}", *more)


def events(count: int) -> Part:
    return Part("events", pytest("flows/test_honest_events.py"), {"HONEST_EVENTS": str(count)})


# A stage is what runs side by side: parts that wait more than they work, or one that needs both processors.
Stage = tuple[Part, ...]
SOAK = Part("soak", chaos("soak"))
ZOMBIE = Part("zombie", pytest("chaos/test_zombie.py"), {"ZOMBIE_TRIES": "50"})
MUTANTS = Part("mutants", chaos("mutants"))
INSTANTS = Part("instants", chaos("instants"))
RESTORE = Part("restore", pytest("chaos/test_restore.py"), {"RESTORE_SENDS": "500"})
CI: tuple[Stage, ...] = (
    (Part("kill", kill(2000, 200, 20, 3)),),
    (INSTANTS, RESTORE, Part("gates", kill(200, 14, 2, 1, "gates"))),
    (SOAK, ZOMBIE, events(1000)),
    (MUTANTS,),
)
LONG: tuple[Stage, ...] = (
    (Part("kill", kill(10_000, 1000, 100, 10)),),
    (Part("gates", kill(2000, 150, 15, 3, "gates")),),
    (INSTANTS, RESTORE),
    (events(5000),),
    (SOAK, ZOMBIE),
    (MUTANTS,),
    (Part("news", pytest("browser/test_news.py", "-s"), {"NEWS_CHANGES": "200"}),),
    (Part("model", pytest("messaging/test_state_machine.py"), {"MACHINE_EXAMPLES": "2000", "MACHINE_STEPS": "100"}),),
)


def run(stages: tuple[Stage, ...], seed: int | None) -> int:
    """Runs each part to its end whatever the others found; 1 when any of them failed."""
    began, table = time.monotonic(), []
    for stage in stages:
        with ThreadPoolExecutor(len(stage)) as pool:
            table += pool.map(lambda part: _run(part, seed), stage)
    failed = sum(code != 0 for _, code, _ in table)
    print("\nharness      verdict   seconds")
    for name, code, seconds in table:
        print(f"{name:12} {'FAILED' if code else 'holds':8} {seconds:8.0f}")
    print(f"all          {'FAILED' if failed else 'holds':8} {time.monotonic() - began:8.0f}")
    print(f"{len(table) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def _run(part: Part, seed: int | None) -> tuple[str, int, float]:
    """Its name, exit code and seconds; what it said is printed at its end, in one piece."""
    began = time.monotonic()
    seeded = ("--seed", str(seed)) if seed is not None and part.command[0] == "tests.chaos" else ()
    done = subprocess.run(
        [sys.executable, "-m", *part.command, *seeded],
        cwd=ROOT, env={**os.environ, **part.settings}, check=False, stdout=PIPE, stderr=STDOUT, text=True, errors="replace",
    )  # fmt: skip
    print(f"\n{part.name}\n{done.stdout}", end="", flush=True)
    return part.name, done.returncode, time.monotonic() - began
