"""One instant of the failure table: a database of its own with three messages, and the processes that meet in it.

`first` and `second` go to one driver, in this order; `third` goes to another driver of the same connection, and only when it
is released: it is the ordinary traffic that shows a listing to be fresh.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.chaos import evidence, verdict
from tests.chaos.installation import Installation, Worker, wait_until
from tests.stack import ROOT

# Copies of one database speak to Catena as different connections.
MAKE_OWN = """
UPDATE messaging_message SET text = %(case)s || ': ' || text WHERE seq IS NOT NULL;
UPDATE messaging_connection SET catena_id = gen_random_uuid();
UPDATE messaging_fleetuser SET catena_id = gen_random_uuid();
UPDATE messaging_message SET not_before = clock_timestamp() + interval '1 day' WHERE text LIKE '%%third';
"""
# Only what is created after a POST was given up shows that a listing is fresh.
RELEASE = "UPDATE messaging_message SET not_before = clock_timestamp() + interval '1 s' WHERE text LIKE '%third'"
LEASED = {"claimed", "posting"}
STATES = "SELECT split_part(text, ' ', -1), state FROM messaging_message WHERE seq IS NOT NULL"
# Long enough for a lease, the keeper's beat, the hastened looks, a loaded machine, and the 30 s after which the database ends
# a transaction in whose middle a process froze.
PATIENCE = float(os.environ.get("CHAOS_PATIENCE", "75"))
CLOSING = 10.0


@dataclass
class Scene:
    """`findings` says where what happened is not what the table says."""

    name: str
    installation: Installation
    settings: dict[str, float]
    database: str = ""
    findings: list[str] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)

    def open(self) -> None:
        self.database = "case_" + "".join(char if char.isalnum() else "_" for char in self.name.lower())
        url = self.installation.server.create(self.database, "chaos")
        with psycopg.connect(url) as link:
            for statement in MAKE_OWN.strip().split(";\n"):
                link.execute(statement.encode(), {"case": self.name})

    @property
    def url(self) -> str:
        return self.installation.server.url_of(self.database)

    def states(self) -> dict[str, str]:
        with psycopg.connect(self.url) as link:
            return dict(link.execute(STATES).fetchall())

    def execute(self, statement: str) -> None:
        self.installation.server.execute(self.database, [statement])

    def worker(self, point: str = "", **settings: float) -> Worker:
        label = f"{self.database}-{len(self.workers)}"
        order: dict[str, Any] = {"database": self.database, "settings": {**self.settings, **settings}, "point": point}
        made = self.installation.worker(label, **order)
        self.workers.append(made)
        return made

    def strike(self, point: str, **settings: float) -> None:
        """A worker dies at that instant."""
        worker = self.worker(point, **settings)
        if worker.wait(PATIENCE) != -9:
            self.findings.append(f"the worker did not die at {point!r} but ended with {worker.code}")

    def disk(self, **expected: str) -> None:
        """What the rows must say right now."""
        self._compare("on disk", {name: state for name, state in self.states().items() if name in expected}, expected)

    def recover(self, workers: int = 1, **expected: str) -> None:
        """New workers start; the messages must come to these states and stay there."""
        for _ in range(workers):
            self.worker()
        with suppress(RuntimeError):
            wait_until(lambda: self.states()["first"] not in LEASED, PATIENCE, "the end of the lease")
        self.execute(RELEASE)
        self.await_states(**expected)

    def await_states(self, **expected: str) -> None:
        wanted = {name: states.split(" or ") for name, states in expected.items()}

        def has_come() -> bool:
            now = self.states()
            return all(now[name] in states for name, states in wanted.items())

        try:
            wait_until(has_come, PATIENCE, "the end that the table says", every=0.1)
        except RuntimeError:
            self._compare("after recovery", {name: self.states()[name] for name in expected}, expected)

    def _compare(self, when: str, found: dict[str, str], expected: dict[str, str]) -> None:
        for name, state in expected.items():
            if found.get(name) not in state.split(" or "):
                self.findings.append(f"{name} is {found.get(name)} {when}, not {state}")

    def posts(self, **expected: int) -> None:
        """How many POSTs of each message came to Catena."""
        seen = [entry["text"] for entry in self.journal()]
        for name, count in expected.items():
            if (found := seen.count(f"{self.name}: {name}")) != count:
                self.findings.append(f"Catena got {found} POSTs of {name}, not {count}")

    def journal(self) -> list[dict[str, Any]]:
        return [entry for entry in self.installation.catena.entries() if entry["text"].startswith(f"{self.name}: ")]

    def script(self, **faults: str) -> None:
        self.installation.catena.rule(add_script={f"{self.name}: {name}": fault for name, fault in faults.items()})

    def decide(self, kind: str, *more: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.decider", kind, *more],
            env=self.installation.environment(self.database), cwd=ROOT, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def click(self, *people: "subprocess.Popen[str]") -> list[str]:
        """All press the button at the same moment; what each was told."""
        for person in people:
            assert person.stdout is not None
            person.stdout.readline()
        for person in people:
            assert person.stdin is not None
            person.stdin.write("now\n")
            person.stdin.flush()
        return [person.communicate()[0] for person in people]

    def close(self) -> None:
        """Ends the processes and judges what is left by the rules that hold for every run."""
        with suppress(RuntimeError):  # the third message may be at Catena at this moment, and its answer on the way
            wait_until(lambda: self.states()["third"] not in LEASED, CLOSING, "the end of the third message")
        for worker in self.workers:
            if worker.code is None:
                worker.send(signal.SIGKILL)
        case = verdict.Case(
            promised={}, sent=evidence.rows(self.url, evidence.SENT, verdict.Sent),
            attempts=evidence.rows(self.url, evidence.ATTEMPTS, verdict.Attempt),
            decisions=evidence.rows(self.url, evidence.DECISIONS, verdict.Decided), journal=self.journal(),
            errors=evidence.unforeseen(self.installation.logs(f"worker-{self.database}-*.log")),
        )  # fmt: skip
        self.findings += [str(breach) for breach in verdict.judge(case) if not self._is_legal(breach)]

    def _is_legal(self, breach: verdict.Breach) -> bool:
        """A scene ends early: what still moves is no breach, the states that it must reach are asked for by name."""
        return breach.kind == "stranded"
