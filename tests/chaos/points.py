"""The named instants of the failure table (reliability plan 2.11): where a process of the product is made to die.

A function of the product is wrapped as the process starts, so that the product itself knows nothing of this. A name that has
gone raises: the table must be mended, not skipped.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from threading import Event
from typing import Any

POSTS_A_MESSAGE = b"POST /v2/telematics/messages"
type Predicate = Callable[[tuple[Any, ...], Any], bool]


def always(arguments: tuple[Any, ...], answer: Any) -> bool:
    return True


def has_answer(arguments: tuple[Any, ...], answer: Any) -> bool:
    return answer is not None


def is_our_post(arguments: tuple[Any, ...], answer: Any) -> bool:
    return bytes(arguments[0]._outgoing).startswith(POSTS_A_MESSAGE)


@dataclass(frozen=True)
class Point:
    """`is_after`: when the function has returned, or (False) before it is called."""

    module: str
    name: str
    is_after: bool = False
    applies: Predicate = always


POINTS = {
    "1 composed, not committed": Point("messaging.outbox.compose", "_note", is_after=True),
    "2 committed, not answered": Point("messaging.views.compose", "_sent"),
    "3 before the claim": Point("messaging.outbox.sending", "claim"),
    "4 claimed": Point("messaging.outbox.sending", "claim", is_after=True, applies=has_answer),
    "5 connected, no intent yet": Point("messaging.outbox.sending", "begin_post"),
    "6 intent, no byte yet": Point("messaging.outbox.sending", "begin_post", is_after=True),
    "8 request out, no answer yet": Point("messaging.catena.transport", "Wire.receive", applies=is_our_post),
    "9 answer in, not recorded": Point("messaging.outbox.sending", "finish_surely"),
    "11 recorded": Point("messaging.outbox.sending", "finish_surely", is_after=True),
    "12 moved, not promoted": Point("messaging.outbox.finish", "promote"),
    "13 reaper between its steps": Point("messaging.outbox.queue", "_lose_posts"),
    "13 reaper after the posts": Point("messaging.outbox.queue", "_lose_posts", is_after=True),
    "17 listed, not bound": Point("messaging.outbox", "settle"),
    "18 decided, not committed": Point("messaging.reconcile.decide", "_audit"),
}
HALF = "7 half of the request"
# The process waits at this one until the file that CHAOS_HOLD names has gone.
HOLD = "10 about to record"
FREEZE = "16 "
FROZEN_MOMENT = 0.3


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def freeze() -> None:
    """Stopped until somebody continues this process; so only once."""
    os.kill(os.getpid(), signal.SIGSTOP)
    # Another thread may be the one that takes the signal; this one must not run on meanwhile.
    Event().wait(FROZEN_MOMENT)


def arm(name: str) -> None:
    """From now on this process dies at that instant. `16 <name>` stops it there instead."""
    if name == HALF:
        _replace("messaging.catena.transport", "Wire.transmit", _halved)
    elif name == HOLD:
        _replace("messaging.outbox.sending", "finish_surely", _held)
    elif name.startswith(FREEZE):
        _arm(POINTS[name.removeprefix(FREEZE)], freeze)
    else:
        _arm(POINTS[name], die)


def _arm(point: Point, act: Callable[[], None]) -> None:
    left = [act]

    def strike(arguments: tuple[Any, ...], answer: Any) -> None:
        if left and point.applies(arguments, answer):
            left.pop()()

    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def struck(*arguments: Any, **named: Any) -> Any:
            if not point.is_after:
                strike(arguments, None)
            answer = original(*arguments, **named)
            if point.is_after:
                strike(arguments, answer)
            return answer

        return struck

    _replace(point.module, point.name, wrapper)


def _replace(module: str, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    holder: Any = import_module(module)
    *path, last = name.split(".")
    if path:
        holder = attrgetter(".".join(path))(holder)
    setattr(holder, last, wrapper(getattr(holder, last)))


def _halved(original: Callable[..., Any]) -> Callable[..., Any]:
    def transmit(wire: Any) -> None:
        if bytes(wire._outgoing).startswith(POSTS_A_MESSAGE):
            wire.first_byte_started = True
            wire.sock.sendall(bytes(wire._outgoing[: len(wire._outgoing) // 2]))
            die()
        original(wire)

    return transmit


def _held(original: Callable[..., Any]) -> Callable[..., Any]:
    hold = Path(os.environ["CHAOS_HOLD"])

    def finish_surely(*arguments: Any, **named: Any) -> Any:
        reached = hold.with_suffix(".reached")
        reached.touch()
        while hold.exists():
            Event().wait(0.02)
        return original(*arguments, **named)

    return finish_surely
