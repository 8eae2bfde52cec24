"""The last messages of a run: ordinary traffic on every connection after the storm."""

import random
from uuid import uuid4

from tests.chaos.cast import Cast
from tests.chaos.composing import Page, Writers, Written, compose


def compose_closers(cast: Cast, writers: Writers, ports: list[int], turn: int) -> list[Written]:
    """One to the `closing` driver of each connection, to whom nobody else writes. `turn` counts from 1."""
    page = Page(ports, random.Random(0))
    page.cookies = writers.cookies_of(cast.authors[0])
    closers = [Written(f"closing {place.connection} {turn}", place, turn, uuid4()) for place in cast.closing]
    for one in closers:
        compose(page, one, random.Random(0), writers.errors)
    return closers
