"""Shortens the product's long waits by one factor, so that a run of minutes passes through what takes hours.

Applied at the start of a worker process and to nothing else. Settings that the environment offers (lease, time-outs) are
set there instead. What is not in this list runs at its true speed: the keeper's and the reconciler's beat of two seconds.
"""

from datetime import timedelta
from importlib import import_module
from typing import Any

# Module, names, and the least that a shortened wait may become, in seconds.
WAITS = (
    ("messaging.outbox.queue", ("FIRST_LOOK_AFTER",), 0.2),
    ("messaging.outbox.finish", ("FIRST_LOOK_AFTER",), 0.2),
    ("messaging.reconcile.absence", ("LEAST_SETTLE",), 1.0),
    ("messaging.reconcile.looks", ("SCHEDULE", "LAST_LOOK_AFTER", "LEAST_GAP", "FAILED_GAP", "JOINED_GAP"), 0.2),
    ("messaging.reconcile.matching", ("CREATED_BEFORE", "CREATED_AFTER"), 20.0),
    ("messaging.mirror.listing", ("CREATED_BEFORE", "CREATED_AFTER"), 20.0),
    ("messaging.sync.pending", ("SLACK",), 10.0),
    ("messaging.tasks.rounds", ("FROZEN_SECONDS",), 2.0),
)
# Ten times the slowest listing seen: of hours that is a wise wait, of this run's beats of seconds it is not. The looks that
# follow the schedule come within a run.
FIXED = (("messaging.reconcile.absence", "SETTLE_FACTOR", 0), ("messaging.reconcile.looks", "HOURLY", 20.0))


def hasten(factor: float) -> None:
    """Divides every wait by `factor`; 1 changes nothing. Raises AttributeError when a name has gone: mend the list."""
    if factor == 1:
        return
    for module_name, names, least in WAITS:
        module = import_module(module_name)
        for name in names:
            setattr(module, name, _shorter(getattr(module, name), factor, least))
    for module_name, name, value in FIXED:
        module = import_module(module_name)
        getattr(module, name)
        setattr(module, name, value)


def _shorter(wait: Any, factor: float, least: float) -> Any:
    if isinstance(wait, tuple):
        return tuple(max(one / factor, least) for one in wait)
    if isinstance(wait, timedelta):
        return max(wait / factor, timedelta(seconds=least))
    return max(wait / factor, least)
