"""Runs the scenarios and prints one table; exit code 1 when a goal is missed by more than the slack."""

import argparse
import json
import os
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dashboard import embedded
from tests.benchmarks import console, imports, outbox, receiver
from tests.benchmarks.server import Request, Server, poll_of

ROOT = Path(__file__).resolve().parent.parent.parent
# Times of a 2-core machine with neighbours: a goal fails the run only beyond this factor; the table shows the truth.
SLACK = 1.5
GOALS = {
    "poll, unchanged": 1.2, "poll, changed": 1.5, "inbox, 50 rows": 3.0, "conversation, 50 messages": 4.0,
}  # fmt: skip
GROWTH_GOAL = 1.25
# Scenarios with a database of their own
APART = {"outbox": outbox.report, "receiver": receiver.report, "import": imports.report, "console": console.report}
Figures = dict[str, list["Figure"]]


def scenarios(server: Server) -> dict[str, Request]:
    """The requests of one round. Each cursor is fresh: an old one would be renewed, which is another answer."""
    server.connection.close()  # the server closes an idle connection while the other database is being filled
    conversation = f"/c/{server.facts['conversation']}/"
    inbox = server.ask(Request("/", contains="Driver Number"))
    before = poll_of(inbox)
    server.execute(
        "UPDATE messaging_conversation SET last_text = last_text WHERE uuid = '" + server.facts["conversation"] + "'"
    )
    after = poll_of(server.ask(Request("/")))
    return {
        "no session": Request("/_bench/plain", contains="ok", signed_in=False),
        "poll, unchanged": Request(after, status=204, htmx=True),
        "poll, changed": Request(before, htmx=True, contains=server.facts["conversation"]),
        "inbox, 50 rows": Request("/", contains="Driver Number"),
        "inbox, deep page": Request(older_link(inbox), contains="Driver Number"),
        "conversation, 50 messages": Request(conversation, contains="south gate"),
        "operations": Request("/ops/", contains="Driver Number"),
    }


def older_link(page: str) -> str:
    """The address behind "Older" on an inbox page."""
    start = page.index('rel="next"')
    tag = page[page.rindex("<a", 0, start) : page.index(">", start)]
    return tag.split('href="')[1].split('"')[0].replace("&amp;", "&").replace("?", "/?", 1).replace("//", "/")


ANCHOR = Request("/_bench/bare", contains="1")
# Requests of one kind in a row, before the anchor or the other server has its turn.
BATCH = 10


@dataclass(frozen=True, slots=True)
class Figure:
    """One scenario in one round: CPU ms of a request, of the anchor asked in turn with it, and median wall ms."""

    cpu: float
    anchor: float
    wall: float

    @property
    def ratio(self) -> float:
        return self.cpu / self.anchor


def rounds(servers: list[Server], count: int, times: int) -> list[Figures]:
    """`count` rounds in which every scenario takes turns with its anchor and with the other server, ten requests at
    a time, so that a noisy second hits all of them alike.
    """
    figures: list[Figures] = [{} for _ in servers]
    for _ in range(count):
        plans = [scenarios(server) for server in servers]
        for name in plans[0]:
            for kept, figure in zip(figures, in_turn(servers, [plan[name] for plan in plans], times), strict=True):
                kept.setdefault(name, []).append(figure)
    return figures


def in_turn(servers: list[Server], requests: list[Request], times: int) -> list[Figure]:
    costs: list[list[tuple[float, float, float]]] = [[] for _ in servers]
    for _ in range(max(1, times // BATCH)):
        for server, request, kept in zip(servers, requests, costs, strict=True):
            anchor, _ = server.cost(ANCHOR, BATCH)
            cpu, wall = server.cost(request, BATCH)
            kept.append((cpu, anchor, wall))
    return [Figure(*(statistics.fmean(column) for column in zip(*kept, strict=True))) for kept in costs]


def report_pages(figures: Figures) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    print(f"\n{'request':<28}{'CPU ms':>8}{'wall ms':>9}{'x bare':>8}{'goal':>7}")
    for name, found in figures.items():
        middle = sorted(found, key=lambda figure: figure.ratio)[len(found) // 2]
        goal = GOALS.get(name)
        verdict = "" if goal is None else ("  met" if middle.ratio <= goal else "  MISSED")
        print(f"{name:<28}{middle.cpu:>8.2f}{middle.wall:>9.2f}{middle.ratio:>8.2f}{goal or '':>7}{verdict}")
        lines.append({"name": name, "cpu_ms": middle.cpu, "wall_ms": middle.wall, "ratio": middle.ratio, "goal": goal})
    anchors = [figure.anchor for found in figures.values() for figure in found]
    if max(anchors) > 1.25 * min(anchors):
        print(f"noisy: the anchor varied from {min(anchors):.2f} to {max(anchors):.2f} ms")
    return lines


def report_growth(small: Figures, large: Figures, sizes: tuple[int, int]) -> list[dict[str, Any]]:
    lines = []
    print(f"\n{'growth ' + ' -> '.join(f'{size:,}' for size in sizes):<36}{'CPU x':>8}{'wall x':>8}{'goal':>7}")
    for name in small:
        pairs = list(zip(small[name], large[name], strict=True))
        cpu = statistics.median(after.cpu / before.cpu for before, after in pairs)
        wall = statistics.median(after.wall / before.wall for before, after in pairs)
        verdict = "  met" if cpu <= GROWTH_GOAL else "  MISSED"
        print(f"{name:<36}{cpu:>8.2f}{wall:>8.2f}{GROWTH_GOAL:>7}{verdict}")
        lines.append({"name": f"growth of {name}", "ratio": cpu, "wall_ratio": wall, "goal": GROWTH_GOAL})
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("scenario", nargs="*", choices=["anchors", "pages", "growth", *APART, []], default=[])
    parser.add_argument("--sizes", default="10000,100000", help="message counts of the two databases")
    parser.add_argument("--quick", action="store_true", help="fewer requests a round")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args()
    dsn = embedded.url_of(ROOT / "var" / "postgres")
    lines: list[dict[str, Any]] = []
    if not chosen.scenario or set(chosen.scenario) - set(APART):
        lines += pages(dsn, chosen)
    for name, report in APART.items():
        if not chosen.scenario or name in chosen.scenario:
            lines += report(dsn, is_quick=chosen.quick)
    if chosen.json:
        chosen.json.write_text(json.dumps({"figures": lines}, indent=1))
    return int(any(line["goal"] and line["ratio"] > line["goal"] * SLACK for line in lines))


def pages(dsn: str, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    small, large = (int(size) for size in chosen.sizes.split(","))
    times, count = (40, 3) if chosen.quick else (120, 5)
    print(f"load {os.getloadavg()[0]:.1f}, {count} interleaved rounds of {times} requests, one web process each")
    with Server(dsn, small) as first, Server(dsn, large) as second:
        print(f"long thread: {first.facts['thread_length']} and {second.facts['thread_length']} messages")
        figures = rounds([first, second], count, times)
    lines = report_pages(figures[1]) if set(chosen.scenario) - set(APART) != {"growth"} else []
    if not chosen.scenario or "growth" in chosen.scenario:
        lines += report_growth(figures[0], figures[1], (small, large))
    return lines


if __name__ == "__main__":
    sys.exit(main())
