"""Rows 1 and 2 of the failure table: the web process dies around the commit of a composed message."""

import random
from contextlib import suppress
from http.client import HTTPException
from uuid import uuid4

import psycopg

from tests.chaos.cast import Place
from tests.chaos.composing import Page
from tests.chaos.installation import Installation

ROWS = {"row 1": ("1 composed, not committed", 0), "row 2": ("2 committed, not answered", 1)}
DRIVER = "SELECT catena_id FROM messaging_fleetuser WHERE is_driver ORDER BY id LIMIT 1"
COUNT = "SELECT count(*) FROM messaging_message WHERE text = %s"


def play_web(installation: Installation, names: list[str] | None) -> dict[str, list[str]]:
    """What is found, by row; `names` as for the others. The second web process is the one that the person tries next."""
    wanted = {row: play for row, play in ROWS.items() if names is None or row in names}
    if not wanted:
        return {}
    url = installation.server.url_of("chaos")
    with psycopg.connect(url) as link:
        place = Place(0, 0, link.execute(DRIVER).fetchall()[0][0])
    healthy = installation.web()
    doomed = {row: installation.web(point=point) for row, (point, _) in wanted.items()}
    healthy.await_ready()
    found = {}
    for row, (_, rows_left) in wanted.items():
        doomed[row].await_ready()
        found[row] = _play(url, place, doomed[row].port, healthy.port, row, rows_left)
    return found


def _play(url: str, place: Place, doomed: int, healthy: int, row: str, rows_left: int) -> list[str]:
    findings = []
    page = Page([healthy], random.Random(1))
    page.log_in("writer0")
    form = {
        "recipient": str(place.driver), "message_text": f"{row} text", "priority": "medium", "client_token": str(uuid4()),
    }  # fmt: skip
    page.leave()
    page.ports = [doomed]
    with suppress(OSError, HTTPException):
        status, _ = page.post("/compose/", **form)
        findings.append(f"the page answered {status} instead of dying")
    if (count := _count(url, form["message_text"])) != rows_left:
        findings.append(f"{count} rows are left by the dead page, not {rows_left}")
    page.ports = [healthy]
    for turn in ("first", "second"):
        status, _ = page.post("/compose/", **form)
        if status != 303 or _count(url, form["message_text"]) != 1:
            findings.append(f"the {turn} try again: status {status}, {_count(url, form['message_text'])} rows")
    return findings


def _count(url: str, text: str) -> int:
    with psycopg.connect(url) as link:
        return int(link.execute(COUNT, [text]).fetchall()[0][0])
