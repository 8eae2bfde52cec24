"""Collects what the verdict judges: rows by plain SQL, Catena's journal, and what the processes logged."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg.rows import class_row

from tests.chaos.composing import Written
from tests.chaos.installation import Installation
from tests.chaos.verdict import Attempt, Breach, Case, Decided, Sent

SENT = """
SELECT m.id AS key, m.uuid::text, m.text, m.conversation_id AS conversation, m.seq, m.state, m.detached,
    o.catena_id::text AS operation
FROM messaging_message m LEFT JOIN messaging_operation o ON o.id = m.operation_id WHERE m.seq IS NOT NULL
"""
ATTEMPTS = """
SELECT a.message_id AS message, a.fence, a.authority, a.outcome, a.finished_at, o.catena_id::text AS operation
FROM messaging_sendattempt a LEFT JOIN messaging_operation o ON o.id = a.operation_id
"""
DECISIONS = "SELECT message_id AS message, kind, created_at AS at FROM messaging_decision"
# What a database that goes away makes a process say; everything else with a traceback was not foreseen.
EXPECTED = re.compile(
    r"(OperationalError|InterfaceError|ConnectorException|AdminShutdown|CrashShutdown|CannotConnectNow|PoolTimeout"
    r"|ConnectionTimeout|BrokenPipeError|ConnectionResetError|KeyboardInterrupt)"
)
TRACEBACK = re.compile(r"^Traceback \(most recent call last\):\n(?:^[ \t].*\n|^\n)*^(\S.*)$", re.MULTILINE)
# A POST's own failure is logged with its traceback and judged by its outcome.
# The sweep that mends a lost promotion must never find one.
ALARMS = {"a promotion was lost": "had been left waiting behind nobody"}
OF_A_POST = re.compile(r"messaging\.catena\.errors\.|urllib3\.exceptions\.|TimeoutError")


def collect(installation: Installation, written: list[Written], errors: list[str], database: str = "chaos") -> Case:
    url = installation.server.url_of(database)
    return Case(
        promised={one.text: one.uuid for one in written if one.uuid},
        sent=rows(url, SENT, Sent),
        attempts=rows(url, ATTEMPTS, Attempt),
        decisions=rows(url, DECISIONS, Decided),
        journal=installation.catena.entries(),
        errors=[*errors, *unforeseen(installation.logs())],
    )


def rows[R](url: str, sql: str, kind: Callable[..., R]) -> list[R]:
    with psycopg.connect(url) as link, link.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(sql).fetchall()


def one_value(url: str, sql: str, values: Sequence[Any] = ()) -> Any:
    """The first column of the first row; None while the database is away."""
    try:
        with psycopg.connect(url, connect_timeout=2) as link:
            row = link.execute(sql, values).fetchone()
            return row[0] if row else None
    except psycopg.OperationalError:
        return None


def unforeseen(log: str) -> list[str]:
    """The last line of each traceback that nobody expects, and what only a fault makes the product complain of."""
    found = [line for line in TRACEBACK.findall(log) if not EXPECTED.search(line) and not OF_A_POST.search(line)]
    alarms = [f"{what}: {line}" for what, said in ALARMS.items() for line in log.splitlines() if said in line]
    return list(dict.fromkeys([*found, *alarms]))


def verified(installation: Installation, database: str = "chaos") -> list[Breach]:
    """What the product's own invariant checker finds."""
    done = installation.manage("verify", database=database)
    if done.returncode == 0:
        return []
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()[-3:]
    return [Breach("verify", line) for line in lines]
