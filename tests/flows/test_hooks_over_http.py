"""The webhook receiver in a real web process: what only a socket can send, and what many senders do to one process."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import psutil
import pytest
from django.conf import settings
from django.db import connection

from messaging import models
from messaging.management.parts import WEB
from messaging.states import EventState
from messaging.views import webhooks
from tests.messaging import forgeries
from tests.messaging.forgeries import BODY, SIGNATURE, TIMESTAMP, Delivery, signed
from tests.stack import ROOT, free_port, wait_for

SEED = int(os.environ.get("HOOKS_SEED", "20261126"))
MOST_GROWTH = 64 * 1024 * 1024
pytestmark = [pytest.mark.processes, pytest.mark.chaos, pytest.mark.django_db(transaction=True)]


@dataclass
class Web:
    """The product's web process as `serve` starts it, on this test's database."""

    port: int
    process: "subprocess.Popen[bytes]"

    def ask(self, *pieces: bytes, patience: float = 10.0) -> int:
        """Sends these bytes on a connection of its own and tells the status; 0 when the connection ends without one."""
        with self.open(*pieces) as line:
            line.settimeout(patience)
            try:
                found = re.match(rb"HTTP/1.1 (\d{3}) ", line.recv(65536))
            except ConnectionError:
                return 0
        return int(found[1]) if found else 0

    def open(self, *pieces: bytes) -> socket.socket:
        line = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        for piece in pieces:
            line.sendall(piece)
        return line

    def bytes_used(self) -> int:
        return sum(one.memory_info().rss for one in psutil.Process(self.process.pid).children(recursive=True))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    port = free_port()
    url = urlsplit(settings.DATABASE_URL)._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    environment = {
        **os.environ, "DATABASE_URL": url, "VAR_DIR": str(tmp_path), "SECRET_KEY": "a-key-for-the-tests-" * 3,
        "DEBUG": "false", "CATENA_WEBHOOK_SECRET": f"{forgeries.SECRET},{forgeries.NEXT_SECRET}", "LOG_LEVEL": "ERROR",
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [sys.executable, *WEB, "--host", "127.0.0.1", "--port", str(port), "dashboard.wsgi:application"]
    with (tmp_path / "web.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
    web = Web(port, process)
    try:
        wait_for(lambda: _is_up(web), 60)
        yield web
    finally:
        process.terminate()
        process.wait(30)


def _is_up(web: Web) -> bool:
    assert web.process.poll() is None
    try:
        return web.ask(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") == 200
    except OSError:
        return False


def head(sent: Delivery, *more: str, without: str = "") -> bytes:
    """The head of a request; `more` are whole lines."""
    lines = {"Host": "127.0.0.1", "Content-Length": str(len(sent.raw)), **sent.headers}
    written = [f"{name}: {text}" for name, text in lines.items() if name != without]
    return "\r\n".join([f"{sent.method} /hooks/catena/ HTTP/1.1", *written, *more, "", ""]).encode("latin-1")


GAMES: dict[str, tuple[set[int], Callable[[Delivery], bytes]]] = {
    "as it should be": ({202}, lambda sent: head(sent) + sent.raw),
    "names in small letters": ({202}, lambda sent: head(sent).replace(b"X-Catena-S", b"x-catena-s") + sent.raw),
    "a spoof with an underscore": ({202}, lambda sent: head(sent, "X_Catena_Signature: x") + sent.raw),
    "signature twice": ({401}, lambda sent: head(sent, f"X-Catena-Signature: {sent.headers[SIGNATURE]}") + sent.raw),
    "another signature first": ({401}, lambda sent: head(sent, "X-Catena-Signature: x") + sent.raw),
    "timestamp twice": ({401}, lambda sent: head(sent, f"X-Catena-Timestamp: {sent.headers[TIMESTAMP]}") + sent.raw),
    "type twice": ({202, 400, 415}, lambda sent: head(sent, "Content-Type: text/plain") + sent.raw),
    "coding twice": ({415}, lambda sent: head(sent, "Content-Encoding: gzip") + sent.raw),
    "a type that cannot be read": ({415}, lambda sent: head(sent).replace(b"json", b"json; x*=none''y") + sent.raw),
    "no signature": ({401}, lambda sent: head(sent, without=SIGNATURE) + sent.raw),
    "folded": ({400}, lambda sent: head(sent).replace(b"X-Catena-Signature: ", b"X-Catena-Signature:\r\n ") + sent.raw),
    "a zero byte": ({400}, lambda sent: head(sent, "X-Request-ID: \0") + sent.raw),
    "huge": ({401}, lambda sent: head(sent).replace(b"Signature: ", b"Signature: " + b"A" * 9000) + sent.raw),
    "beyond all bounds": ({0, 400, 431}, lambda sent: head(sent, "X-Request-ID: " + "A" * 2**20) + sent.raw),
    "hundreds of them": ({400, 431}, lambda sent: head(sent, *(f"X-{n}: 1" for n in range(300))) + sent.raw),
    "no length": ({411}, lambda sent: head(sent, without="Content-Length")),
    "two lengths": ({400}, lambda sent: head(sent, "Content-Length: 3") + sent.raw),
    "a length that is none": ({400}, lambda sent: head(sent).replace(b"Length: ", b"Length: x") + sent.raw),
    "below zero": ({400}, lambda sent: head(sent).replace(b"Length: ", b"Length: -") + sent.raw),
    "in chunks": ({411}, lambda sent: head(sent, "Transfer-Encoding: chunked", without="Content-Length") + b"0\r\n\r\n"),
    "in chunks and with a length": ({400, 411}, lambda sent: head(sent, "Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    "too long by its word": ({413}, lambda sent: head(sent).replace(b"Length: ", b"Length: 9999")),
    "beyond all numbers": ({400, 413}, lambda sent: head(sent).replace(b"Length: ", b"Length: " + b"9" * 18)),
    "another host": ({400}, lambda sent: head(sent).replace(b"Host: 127.0.0.1", b"Host: evil.example") + sent.raw),
    "no HTTP at all": ({0, 400}, lambda sent: b"\x16\x03\x01" + sent.raw + b"\r\n\r\n"),
}  # fmt: skip


def test_games_with_headers_are_refused_and_do_no_harm(web: Web) -> None:
    answers = {}
    for name, (_, written) in GAMES.items():
        answers[name] = web.ask(written(signed(BODY)))

    assert {name: status for name, status in answers.items() if status not in GAMES[name][0]} == {}
    assert models.WebhookEvent.objects.get().state == EventState.NEW


def test_five_hundred_bodies_at_once_leave_a_web_process_as_it_was(web: Web) -> None:
    chance = Random(SEED)
    hostile = [sent for sent in (forgeries.random_delivery(chance) for _ in range(700)) if sent.length == ""][:500]
    hostile += [forgeries.bombs(chance) for _ in range(40)] + [forgeries.huge(chance) for _ in range(20)]
    honest = [forgeries.EVENT, forgeries.NAMELESS]
    assert [_send(web, signed(forgeries.dump(event))) for event in honest] == [202, 202]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda sent: _send(web, sent), hostile))  # what a process keeps for good
        before = most = web.bytes_used()
        answers = []
        for sent, status in zip(hostile, pool.map(lambda sent: _send(web, sent), hostile), strict=True):
            answers.append((sent.kind, status, status in sent.answers | {400, 401, 431}))
            most = max(most, web.bytes_used())

    sys.stdout.write(f"\nseed {SEED}: {len(answers)} bodies, {(most - before) / 2**20:.1f} MiB more\n")
    assert [answer for answer in answers if not answer[2]] == []
    assert models.WebhookEvent.objects.exclude(state=EventState.DEAD).count() == len(honest)
    assert most - before <= MOST_GROWTH


def _send(web: Web, sent: Delivery) -> int:
    return web.ask(head(sent) + sent.raw, patience=30)


def test_senders_who_stop_within_a_body_cost_neither_a_page_nor_for_long_a_delivery(web: Web) -> None:
    page = b"GET /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    sent = signed(BODY)
    silent = [web.open(head(sent) + sent.raw[:-1]) for _ in range(webhooks.READERS)]
    try:
        wait_for(lambda: _send(web, signed(BODY)) == 503, 10)
        assert [web.ask(head(sent) + sent.raw[:-1]) for _ in range(4)] == [503] * 4, "no fifth thread is kept"
        assert [web.ask(page) for _ in range(20)] == [200] * 20
    finally:
        for line in silent:
            line.close()
    wait_for(lambda: _send(web, signed(BODY)) == 202, 10)
