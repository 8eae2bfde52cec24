"""What the live poll asks of each page: a painter, and what a painter answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from messaging.live import Cursor, Glance, Scope
from messaging.views.person import PersonRequest


@dataclass(frozen=True, slots=True)
class Paint:
    """A painter's answer: `hx-partial` elements, and one sentence to speak politely.

    `goes_on` False says that nothing more can happen to what the page shows: from then on it asks for the person's own
    news alone.
    """

    html: Sequence[str] = ()
    polite: str = ""
    goes_on: bool = True


# `scope` is the page's claim: a painter reads through `visible_to`. It may raise `live.StaleCursor` when there is too much
# to tell, and the page is then asked to read itself again. A plain list of partials is a Paint that says nothing.
Painter = Callable[[PersonRequest, Glance, Cursor, Scope], Sequence[str] | Paint]
