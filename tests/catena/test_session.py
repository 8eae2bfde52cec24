"""The access token: how it is asked for, when it is renewed, and that many threads make one renewal."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qsl

import pytest

from messaging.catena.errors import CatenaError, Unavailable
from messaging.catena.session import TokenSource
from messaging.catena.transport import Deadline
from tests.catena.fake_catena import FakeCatena, Reply, example


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def issued(value: str, life: object = 3600) -> Reply:
    return Reply(200, {**example("token_200"), "access_token": value, "expires_in": life})


def soon() -> Deadline:
    return Deadline.after(5.0)


def test_the_form_holds_exactly_the_four_fields_and_no_basic_authentication(catena: FakeCatena) -> None:
    config = catena.config(client_id="id +&=ü", client_secret="s&cret=+% ü")
    assert TokenSource(config).value(soon()) == example("token_200")["access_token"]
    (request,) = catena.seen
    assert sorted(parse_qsl(request.body.decode("ascii"))) == [
        ("client_id", "id +&=ü"),
        ("client_secret", "s&cret=+% ü"),
        ("grant_type", "client_credentials"),
        ("scope", "organization"),
    ]
    assert "Authorization" not in request.headers
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("life", "used_for"),
    [
        (3600, 3570),
        (300, 270),
        (60, 30),
        (40, 10),
        (32, 3.2),
        (20, 2.0),
        (1, 0.1),
        (0, 0.1),
        (-5, 0.1),
        ("x", 0.1),
        ("60", 30),
    ],
)
def test_a_token_is_renewed_ahead_of_its_expiry_but_never_at_once(
    catena: FakeCatena, life: object, used_for: float
) -> None:
    catena.reply("requestToken", issued("t1", life), issued("t2", life))
    clock = Hand()
    source = TokenSource(catena.config(), clock=clock)
    assert source.value(soon()) == "t1"
    clock.now += used_for - 0.01
    assert source.value(soon()) == "t1"
    clock.now += 0.02
    assert source.value(soon()) == "t2"
    assert len(catena.seen) == 2


def test_a_token_of_unknown_life_is_used_for_a_moment_only(catena: FakeCatena) -> None:
    reply = issued("t1")
    assert isinstance(reply.body, dict)
    reply.body.pop("expires_in")
    catena.reply("requestToken", reply, issued("t2"))
    clock = Hand()
    source = TokenSource(catena.config(), clock=clock)
    assert source.value(soon()) == "t1"
    clock.now += 1.0
    assert source.value(soon()) == "t2"


def in_sixteen_threads(work: Callable[[], str]) -> list[str]:
    barrier = threading.Barrier(16)

    def together() -> str:
        barrier.wait(5)
        return work()

    with ThreadPoolExecutor(16) as pool:
        futures = [pool.submit(together) for _ in range(16)]
        return [future.result(10) for future in futures]


def test_sixteen_threads_without_a_token_cause_one_request(catena: FakeCatena) -> None:
    source = TokenSource(catena.config())
    assert len(set(in_sixteen_threads(lambda: source.value(soon())))) == 1
    assert len(catena.seen) == 1


def test_sixteen_threads_refused_with_one_token_cause_one_renewal(catena: FakeCatena) -> None:
    catena.reply("requestToken", *(issued(f"t{number}") for number in range(1, 18)))
    source = TokenSource(catena.config())
    refused = source.value(soon())

    def refused_then_renewed() -> str:
        source.drop(refused)
        return source.value(soon())

    assert set(in_sixteen_threads(refused_then_renewed)) == {"t2"}
    assert len(catena.seen) == 2


def test_dropping_an_older_token_keeps_the_current_one(catena: FakeCatena) -> None:
    catena.reply("requestToken", issued("t1"), issued("t2"), issued("t3"))
    source = TokenSource(catena.config())
    first = source.value(soon())
    source.drop(first)
    assert source.value(soon()) == "t2"
    source.drop(first)
    assert source.value(soon()) == "t2"


def test_a_failed_renewal_is_tried_again_by_the_next_call(catena: FakeCatena) -> None:
    catena.reply("requestToken", Reply(503, b"busy"), issued("t1"))
    source = TokenSource(catena.config())
    with pytest.raises(Unavailable, match="HTTP 503"):
        source.value(soon())
    assert source.value(soon()) == "t1"


def test_a_deadline_that_has_passed_asks_for_nothing(catena: FakeCatena) -> None:
    with pytest.raises(Unavailable, match="in time"):
        TokenSource(catena.config()).value(Deadline.after(-1.0))
    assert catena.seen == []


def test_waiting_for_anothers_renewal_ends_with_ones_own_deadline(catena: FakeCatena) -> None:
    asked, release = threading.Event(), threading.Event()

    class Slow(Reply):
        def encoded(self) -> bytes:
            asked.set()
            release.wait(5)
            return super().encoded()

    catena.reply("requestToken", Slow(200, example("token_200")))
    source = TokenSource(catena.config())
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(source.value, soon())
        assert asked.wait(5)
        with pytest.raises(CatenaError, match="in time"):
            source.value(Deadline.after(0.05))
        source.drop("anything")
        release.set()
        assert first.result(5) == example("token_200")["access_token"]
