"""Reads on while what was read is being applied: one batch ahead, never more, so that memory stays flat."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from itertools import batched

from django.db import connections


class ReadAhead:
    """A thread that reads listings. What a listing raises is raised to whoever iterates, after what came before it."""

    def __init__(self, hang_up: Callable[[], None]) -> None:
        self._hang_up = hang_up
        self._thread = ThreadPoolExecutor(1, "read-ahead")

    def batches[R](self, records: Iterator[R], size: int) -> Iterator[tuple[R, ...]]:
        """The records in tuples of `size`. At most one more is read than is asked for."""
        # The budget's share of the caller holds for what is read here too.
        found, context = batched(records, size), copy_context()

        def following() -> tuple[R, ...]:
            return next(found, ())

        def begin() -> "Future[tuple[R, ...]]":
            return self._thread.submit(context.run, following)

        coming = begin()
        while batch := coming.result():
            coming = begin()
            yield batch

    def close(self) -> None:
        """Ends the thread when it has read what it is at, with its connections to Catena and to the database."""
        self._thread.submit(self._hang_up)
        self._thread.submit(connections.close_all)
        self._thread.shutdown()


@contextmanager
def read_ahead(hang_up: Callable[[], None]) -> Iterator[ReadAhead]:
    """`hang_up` is called on the thread at its end, to close what it kept open at Catena."""
    reader = ReadAhead(hang_up)
    try:
        yield reader
    finally:
        reader.close()
