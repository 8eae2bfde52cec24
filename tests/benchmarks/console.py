"""The support desk at a million messages and three million log entries: what the server takes, 95 times in 100."""

import time
from typing import Any
from urllib.parse import quote_plus

from tests.benchmarks import million
from tests.benchmarks.server import Request, Server

MESSAGES, QUICK_MESSAGES = 1_000_000, 100_000
TIMES, QUICK_TIMES = 40, 10
PAGE_MS, CAUSES_MS, SEARCH_MS, LOOK_UP_MS = 400.0, 800.0, 500.0, 100.0
# What would take longer is refused (`recovery.freezing`).
DRY_RUN_MS = 2000.0
# What must stand in an answer before it may be timed.
ROW, NOTHING = 'id="op-', "No message matches this filter"


def requests(server: Server) -> dict[str, tuple[Request, float]]:
    """Each request with its goal in ms. Those with "any time" look at all 90 days."""
    facts = server.facts
    filters = {
        "status": "status=failed",
        "fleet": f"fleet={facts['fleet']}",
        "connection": f"connection={facts['connection']}",
        "provider": f"provider={facts['provider']}",
        "error type": "error=tsp",
        "code": "code=503",
        "priority": "priority=high",
        "sender": "sender=person39",
        "driver": f"driver={quote_plus(facts['driver'])}",
        "driver, all": "driver=number",
        "cause": f"cause={quote_plus(facts['cause'])}",
        "text, common": f"text={facts['common']}",
        "text, rare": f"text={facts['rare']}",
        "text, beginning": f"text={facts['rare'][:4]}",
        "text, three words": "text=dock+gate+police",
    }
    vain = {
        "status": "status=sent_twice", "code": "code=418", "sender": "sender=bench", "driver": "driver=nobody",
        "text": "text=zzzz",
    }  # fmt: skip
    found = {
        "first page": (Request("/ops/", contains=ROW), PAGE_MS),
        "deep page": (Request(deep(server), contains=ROW), PAGE_MS),
        "filter: window": (Request("/ops/?from=2026-01-01&to=2099-01-01", contains=ROW), PAGE_MS),
    }
    for words, when in (("", ""), (", any time", "&range=all")):
        for name, query in filters.items():
            found[f"filter: {name}{words}"] = (Request(f"/ops/?{query}{when}", contains=ROW), PAGE_MS)
        for name, query in vain.items():
            found[f"filter: {name}, in vain{words}"] = (Request(f"/ops/?{query}{when}", contains=NOTHING), PAGE_MS)
    found["causes of 7 days"] = (Request("/ops/causes/", contains="table-causes"), CAUSES_MS)
    found["causes of any time"] = (Request("/ops/causes/?range=all", contains="table-causes"), CAUSES_MS)
    # The newest ten thousand failures, each judged and kept as a draft.
    found["dry run of 10,000"] = (
        Request("/ops/recoveries/", status=303, form="query=range%3Dall", leads_to="/ops/recoveries/"), DRY_RUN_MS
    )  # fmt: skip
    return found | searches(server)


def searches(server: Server) -> dict[str, tuple[Request, float]]:
    """The one box: words and drivers, and every kind of id, which leads straight to its message."""
    facts = server.facts
    words = {
        "common word": facts["common"], "rare word": facts["rare"], "beginning": facts["rare"][:4],
        "three words": "dock gate police", "driver": facts["driver"], "nothing": "zzzz",
    }  # fmt: skip
    ids = {name: facts[name] for name in ("message", "operation", "source_id", "request_id")}
    found = {
        f"search: {name}": (Request(f"/search/?q={quote_plus(word)}", contains="<main"), SEARCH_MS)
        for name, word in words.items()
    }
    return found | {
        f"look-up: {name}": (Request(f"/search/?q={quote_plus(word)}", status=302), LOOK_UP_MS)
        for name, word in ids.items()
    }


def deep(server: Server) -> str:
    """The address of a page in the middle of all: a keyset needs no pages before it."""
    micros, pk = server.facts["middle"]
    return f"/ops/?range=all&before={micros}.{pk}"


def report(admin_dsn: str, is_quick: bool) -> list[dict[str, Any]]:
    """Runs the scenario and prints its table; the figures for the file."""
    messages, times = (QUICK_MESSAGES, QUICK_TIMES) if is_quick else (MESSAGES, TIMES)
    started = time.perf_counter()
    with Server(admin_dsn, messages, fill=million.fill) as server:
        print(f"\nconsole: {messages:,} messages, {messages * million.LOGS_PER_MESSAGE:,} log entries,", end=" ")
        print(f"filled in {time.perf_counter() - started:.0f} s; one web process, {times} requests each")
        print(f"{'request':<40}{'p50 ms':>9}{'p95 ms':>9}{'goal':>7}")
        return [_line(server, name, request, goal, times) for name, (request, goal) in requests(server).items()]


def _line(server: Server, name: str, request: Request, goal: float, times: int) -> dict[str, Any]:
    server.ask(request)
    walls = []
    for _ in range(times):
        start = time.perf_counter()
        server.ask(request)
        walls.append((time.perf_counter() - start) * 1000)
    walls.sort()
    p50, p95 = walls[len(walls) // 2], walls[min(len(walls) - 1, round(len(walls) * 0.95))]
    print(f"{name:<40}{p50:>9.1f}{p95:>9.1f}{goal:>7.0f}{'  met' if p95 <= goal else '  MISSED'}", flush=True)
    return {"name": f"console, {name}", "value": p95, "median": p50, "goal": 1.0, "ratio": p95 / goal}
