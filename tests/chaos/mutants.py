"""Planted faults: ten ways to break the promise, each in a copy of the tree, each of which a harness must notice.

A fault that the database would stop by itself loses that guard too (`drops`): here the harnesses are on trial, not the
guards. A replacement that no longer applies stops the run, so that a mutant never passes because it is none.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.installation import CACHE
from tests.stack import ROOT

# They wait far more than they work.
AT_ONCE = 5
PATIENCE = 400
Edit = tuple[str, str, str]

AUTHORITY = "DROP TRIGGER sendattempt_authority ON messaging_sendattempt"
# What a look at an earlier POST would find: with this edit it takes any earlier POST for one that never left.
ANY_PRIOR: Edit = (
    "messaging/outbox/sending.py",
    "if prior is not None and prior.outcome in PROVEN_UNSENT_OUTCOMES:",
    "if prior is not None:",
)


@dataclass(frozen=True)
class Mutant:
    """`harness` is the command that must fail; `finding` is a word of what it must say."""

    name: str
    edits: tuple[Edit, ...]
    harness: tuple[str, ...]
    finding: str
    drops: tuple[str, ...] = ()


def rows(*names: str) -> tuple[str, ...]:
    return ("instants", "--rows", *names)


KILL = ("kill", "--sends", "150", "--kills", "12", "--pauses", "2", "--stops", "0")

# The slow ones first, so that none is waited for alone.
MUTANTS = (
    Mutant(
        "looks at no row count",
        (
            (
                "messaging/outbox/sending.py",
                "    if row is None:\n        raise ClaimLost(",
                "    row = row or (0,)\n    if row is None:\n        raise ClaimLost(",
            ),
        ),
        rows("row 16c"),
        "Catena got 1 POSTs of first, not 0",
    ),
    Mutant(
        "matches by driver alone",
        (("messaging/mirror/fingerprint.py", '"message_text", "priority"', '"priority"'),),
        rows("row 7 and on"),
        "another's operation",
    ),
    Mutant(
        "takes absence for proof",
        (
            (
                "messaging/reconcile/matching.py",
                "state=S.NEEDS_DECISION, question=question, reason=reason",
                "state=S.QUEUED, reason=reason",
            ),
            ANY_PRIOR,
        ),
        rows("row 6"),
        "Catena got 1 POSTs of first, not 0",
        (AUTHORITY,),
    ),
    Mutant(
        "ignores the gates",
        (
            ("messaging/gates.py", "def open_gates(", 'OPEN_GATES_SQL = "TRUE"\n\n\ndef open_gates('),
            ("messaging/gates.py", "return ~Q(Exists(closed))", "return Q()"),
        ),
        ("soak", "--phases", "storm"),
        "during the wait",
    ),
    Mutant(
        "repeats after an ambiguous answer",
        (
            (
                "messaging/outbox/verdict.py",
                "return _verdict(AttemptOutcome.AMBIGUOUS, error, str(error))",
                "return _verdict(AttemptOutcome.UNSENT, error, str(error))",
            ),
        ),
        KILL,
        "sent twice",
    ),
    Mutant(
        "queues again after intent",
        (
            (
                "messaging/outbox/queue.py",
                "Message.objects.filter(pk__in=lost, state=S.POSTING).update(**unknown_columns(now))",
                "Message.objects.filter(pk__in=lost, state=S.POSTING).update(state=S.QUEUED, lease_until=None)",
            ),
            ANY_PRIOR,
        ),
        rows("row 8", "row 9"),
        "Catena got 2 POSTs",
        (AUTHORITY,),
    ),
    Mutant(
        "records intent after the POST",
        (
            (
                "messaging/outbox/sending.py",
                "    return client.create_message(draft, before_first_byte=intent.record)",
                "    operation = client.create_message(draft)\n    intent.record()\n    return operation",
            ),
        ),
        rows("row 8"),
        "Catena got 2 POSTs",
    ),
    Mutant(
        "checks no fence",
        (
            (
                "messaging/outbox/sending.py",
                "WHERE m.id = %(message)s AND m.fence = %(fence)s AND m.state = %(claimed)s AND m.lease_until > %(now)s",
                "WHERE m.id = %(message)s AND (m.fence = %(fence)s OR m.state <> %(claimed)s OR true)",
            ),
        ),
        rows("row 28"),
        "Catena got 2 POSTs",
        (
            AUTHORITY,
            "ALTER TABLE messaging_sendattempt DROP CONSTRAINT attempt_fence_once",
            "DROP INDEX attempt_composed_once",
        ),
    ),
    Mutant(
        "forgets to promote",
        (
            (
                "messaging/outbox/finish.py",
                "            promoted = promote(conversation, going_on_until=now)\n",
                "            promoted = None\n",
            ),
        ),
        rows("row 11"),
        "promotion was lost",
    ),
    Mutant(
        "composes once per click",
        (
            (
                "messaging/outbox/compose.py",
                "    if existing is not None:\n        return existing\n    try",
                "    try",
            ),
        ),
        rows("row 2"),
        "2 rows",
        ("ALTER TABLE messaging_message DROP CONSTRAINT message_token_once_per_author",),
    ),
)  # fmt: skip


def run(seed: int, names: list[str] | None = None) -> dict[str, Any]:
    """Runs every mutant; the table of who caught what, with `breaches` for those that nobody noticed."""
    began = time.monotonic()
    wanted = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(pool.map(lambda mutant: _try(mutant, seed), wanted))
    missed = [name for name, said in found.items() if not said["is_caught"]]
    for name, said in found.items():
        print(f"  {'caught' if said['is_caught'] else 'MISSED'}  {name:36} {said['harness']:30} {said['finding']}")
    print(f"  {len(found) - len(missed)} of {len(found)} mutants caught", flush=True)
    return {
        "mutants": found,
        "caught": f"{len(found) - len(missed)} of {len(found)}",
        "seconds": round(time.monotonic() - began, 1),
        "breaches": [f"nobody noticed the mutant that {name}" for name in missed],
    }


def _try(mutant: Mutant, seed: int) -> tuple[str, dict[str, Any]]:
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="mutant-"))
    try:
        plant(mutant, folder)
        breaches = _findings(mutant, folder, seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    said = [breach for breach in breaches if mutant.finding in breach]
    harness = " ".join(mutant.harness[:1] + mutant.harness[2:3])
    finding = said[0] if said else f"only {breaches[:2]}" if breaches else "nothing"
    return mutant.name, {
        "harness": harness, "is_caught": bool(said), "finding": finding, "findings": len(breaches),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def plant(mutant: Mutant, folder: Path) -> None:
    """A copy of the tree with this fault in it. Raises LookupError when an edit does not apply exactly once."""
    for name in ("dashboard", "messaging", "static", "templates", "tests", "manage.py", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    for path, old, new in mutant.edits:
        file = folder / path
        text = file.read_text()
        if text.count(old) != 1:
            raise LookupError(f"the mutant {mutant.name!r} no longer fits {path}: {old!r}")
        file.write_text(text.replace(old, new))


def _findings(mutant: Mutant, folder: Path, seed: int) -> list[str]:
    environment = {
        **os.environ, "CHAOS_CACHE": str(CACHE), "CHAOS_DROPS": json.dumps(mutant.drops), "PYTHONPATH": str(folder),
        # What must be noticed is noticed by then; the state that a spoiled product never reaches is not worth more.
        "CHAOS_PATIENCE": "35",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *mutant.harness, "--seed", str(seed)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(f"the harness did not run on the mutant {mutant.name!r}:\n{done.stdout}{done.stderr}")
    found: list[str] = json.loads(lines[-1])["breaches"]
    return found
