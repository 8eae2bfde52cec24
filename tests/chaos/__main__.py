"""`python -m tests.chaos <harness>`: one randomised run, one JSON line of figures, exit code 1 on any breach."""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.chaos import instants, kill, mutants, soak, suite
from tests.stack import ROOT

LEDGER = ROOT / "var" / "chaos.jsonl"


def main() -> int:
    options = _parse()
    if options.harness in SUITES:
        return suite.run(SUITES[options.harness], options.seed)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    print(f"{options.harness}: seed {seed} (repeat with --seed {seed})", flush=True)
    figures = HARNESSES[options.harness](options, seed)
    return report(options.harness, seed, figures)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("harness", choices=[*HARNESSES, *SUITES])
    parser.add_argument("--seed", type=int)
    parser.add_argument("--rows", nargs="*", help="instants: only these rows, such as 'row 6'")
    parser.add_argument("--phases", nargs="*", help=f"soak: only these of {', '.join(soak.PHASES)}")
    parser.add_argument("--names", nargs="*", help="mutants: only these")
    parser.add_argument("--sends", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--pauses", type=int, default=20)
    parser.add_argument("--stops", type=int, default=3)
    return parser.parse_args()


def report(harness: str, seed: int, figures: dict[str, Any]) -> int:
    """Prints and keeps the figures; the exit code."""
    line = json.dumps(
        {"harness": harness, "seed": seed, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **figures}
    )
    print(line, flush=True)
    LEDGER.parent.mkdir(exist_ok=True)
    with LEDGER.open("a") as ledger:
        ledger.write(line + "\n")
    breaches = figures["breaches"]
    print(f"{harness}: {f'{len(breaches)} BREACHES' if breaches else 'no breach'}", flush=True)
    for breach in breaches[:40]:
        print(f"  {breach}", flush=True)
    return 1 if breaches else 0


def _kill(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    return kill.run(kill.Options(options.sends, options.kills, options.pauses, options.stops, seed=seed))


def _gates(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The kill run with the breakers on, as they are by default; only their pauses are short."""
    breakers = {"BREAKER_CONNECTION_UNKNOWNS": "5", "BREAKER_CREDENTIAL_UNKNOWNS": "20", "BREAKER_WINDOW_SECONDS": "10"}
    figures = kill.run(
        kill.Options(options.sends, options.kills, options.pauses, options.stops, seed=seed, settings=breakers)
    )
    if not figures["gates_closed"]:
        figures["breaches"].append("no gate ever closed")
    return figures


HARNESSES: dict[str, Callable[[argparse.Namespace, int], dict[str, Any]]] = {
    "kill": _kill,
    "gates": _gates,
    "instants": lambda options, seed: instants.run(seed, options.rows),
    "soak": lambda options, seed: soak.run(seed, options.phases),
    "mutants": lambda options, seed: mutants.run(seed, options.names),
}
SUITES = {"ci": suite.CI, "long": suite.LONG}

if __name__ == "__main__":
    sys.exit(main())
