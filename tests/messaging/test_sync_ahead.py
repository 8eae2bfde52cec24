"""Reading on while what was read is being applied."""

import threading
from collections.abc import Iterator

import pytest

from messaging import budget
from messaging.budget import Share
from messaging.sync.ahead import read_ahead

closed: list[str] = []


def hang_up() -> None:
    closed.append(threading.current_thread().name)


def counting(read: list[int], until: int = 10) -> Iterator[int]:
    for number in range(until):
        read.append(number)
        yield number


def test_batches_come_whole_and_in_order() -> None:
    with read_ahead(hang_up) as ahead:
        assert list(ahead.batches(counting([]), 4)) == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
        assert list(ahead.batches(iter(()), 4)) == []


def test_it_is_one_batch_ahead_and_never_more() -> None:
    read: list[int] = []
    with read_ahead(hang_up) as ahead:
        batches = ahead.batches(counting(read), 2)
        next(batches)
    # The thread has ended, so it will read no further.
    assert read == [0, 1, 2, 3]


def test_a_failure_comes_after_what_was_read_before_it() -> None:
    def failing() -> Iterator[int]:
        yield from range(4)
        raise ConnectionError("gone")

    with read_ahead(hang_up) as ahead:
        batches = ahead.batches(failing(), 2)
        assert [next(batches), next(batches)] == [(0, 1), (2, 3)]
        with pytest.raises(ConnectionError, match="gone"):
            next(batches)


def test_it_reads_on_a_thread_of_its_own_for_the_share_of_its_caller_and_hangs_up() -> None:
    seen: list[object] = []

    def listing() -> Iterator[int]:
        seen.extend([budget.current(), threading.current_thread() is threading.main_thread()])
        yield 1

    closed.clear()
    with read_ahead(hang_up) as ahead, budget.share(Share.RECONCILE):
        list(ahead.batches(listing(), 2))
    assert seen == [Share.RECONCILE, False]
    assert len(closed) == 1
    assert closed[0].startswith("read-ahead")
    assert not [one for one in threading.enumerate() if one.name == closed[0]]
