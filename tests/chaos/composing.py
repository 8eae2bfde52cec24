"""People at the pages: each logs in once and composes over HTTP, again and again with the same token until it is told yes."""

import http.client
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import urlencode
from uuid import UUID, uuid4

from tests.chaos.cast import Place
from tests.stack import PASSWORD

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
# A page that does not answer for so long has gone.
ANSWER_SECONDS = 4.0
GIVE_UP_SECONDS = 90.0


@dataclass
class Written:
    """One message as its writer knows it. `uuid` is None until a page has said yes."""

    text: str
    place: Place
    turn: int
    token: UUID
    uuid: str | None = None
    tries: int = 0


class Page:
    """One person's browser, on any of the web processes; keeps one connection while it lasts."""

    def __init__(self, ports: list[int], rng: random.Random) -> None:
        self.ports, self.rng = ports, rng
        self.cookies: dict[str, str] = {}
        self._link: http.client.HTTPConnection | None = None

    def log_in(self, username: str) -> None:
        self.ask("GET", "/login/")
        status, _ = self.post("/login/", username=username, password=PASSWORD)
        if status != 302:
            raise RuntimeError(f"{username} cannot log in: {status}")

    def post(self, path: str, **fields: str) -> tuple[int, str]:
        """Status and Location. Raises OSError or HTTPException when no whole answer came."""
        return self.ask("POST", path, urlencode({**fields, "csrfmiddlewaretoken": self.cookies.get("csrf", "")}))

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        if self._link is None:
            self._link = http.client.HTTPConnection("127.0.0.1", self.rng.choice(self.ports), timeout=ANSWER_SECONDS)
        jar = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        try:
            self._link.request(method, path, body, {"Cookie": jar, **(FORM if body else {})})
            answer = self._link.getresponse()
            answer.read()
        except BaseException:
            self.leave()
            raise
        for header in answer.headers.get_all("Set-Cookie", []):
            self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(header).items()}
        return answer.status, answer.headers.get("Location", "")

    def leave(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


@dataclass
class Plan:
    """Who writes what: `total` messages over the places, spread evenly over `seconds`, and nothing while `is_full`.

    A machine that is too slow for this pace gets more time; it is not buried under what nobody could have written.
    """

    total: int
    seconds: float
    is_full: Callable[[], bool] = lambda: False
    began: float = field(default_factory=time.monotonic)

    def is_due(self, number: int) -> float:
        """How long to wait until message `number` may be written."""
        return self.began + self.seconds * number / self.total - time.monotonic()


class Writers:
    """Threads that compose until everything is written. `errors` says what no person should have to see."""

    def __init__(
        self, ports: list[int], authors: list[str], places: list[Place], plan: Plan, seed: int, threads: int
    ) -> None:
        self.written: list[Written] = []
        self.errors: list[str] = []
        self.stop = threading.Event()
        self._plan = plan
        self._jars = {name: self._log_in(ports, name, seed) for name in authors}
        self._threads = [
            threading.Thread(
                target=self._write_all, daemon=True, name=f"writer-{number}",
                args=(ports, authors[number % len(authors)], places[number::threads], number, threads, seed),
            )
            for number in range(threads)
        ]  # fmt: skip

    @staticmethod
    def _log_in(ports: list[int], name: str, seed: int) -> dict[str, str]:
        page = Page(ports, random.Random(seed))
        page.log_in(name)
        page.leave()
        return page.cookies

    def cookies_of(self, name: str) -> dict[str, str]:
        return dict(self._jars[name])

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        return len(self.written) / self._plan.total

    @property
    def are_done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def _write_all(self, ports: list[int], name: str, places: list[Place], first: int, step: int, seed: int) -> None:
        rng = random.Random(f"{seed}-{first}")
        page = Page(ports, rng)
        page.cookies = dict(self._jars[name])
        turns = [0] * len(places)
        for number in range(first, self._plan.total, step):
            self.stop.wait(max(0.0, self._plan.is_due(number)))
            while self._plan.is_full() and not self.stop.is_set():
                self.stop.wait(0.2)
            if self.stop.is_set():
                return
            at = rng.randrange(len(places))
            turns[at] += 1
            one = Written(f"{places[at].conversation}:{turns[at]}:{number}", places[at], turns[at], uuid4())
            self.written.append(one)
            compose(page, one, rng, self.errors)
        page.leave()


def compose(page: Page, one: Written, rng: random.Random, errors: list[str]) -> None:
    """Sends the form until a page takes it. What a page refuses, or never answers, becomes an error."""
    priority = rng.choice(("low", "medium", "medium", "high"))
    deadline, pause = time.monotonic() + GIVE_UP_SECONDS, threading.Event()
    problem = ""
    while time.monotonic() < deadline:
        one.tries += 1
        with suppress(OSError, http.client.HTTPException):
            status, location = page.post(
                "/compose/", recipient=str(one.place.driver), message_text=one.text, priority=priority,
                client_token=str(one.token),
            )  # fmt: skip
            if status == 303:
                one.uuid = location.rpartition("#m-")[2]
                return
            problem = f"status {status} {location}"
            if status < 500:
                errors.append(f"composing {one.text} was refused: {problem}")
                return
        page.leave()
        pause.wait(rng.uniform(0.05, 0.3))
    errors.append(f"composing {one.text} was never answered: {problem or 'no answer'}")
