"""Two hundred random lives of fifty steps. MACHINE_EXAMPLES and MACHINE_STEPS make more of it; MACHINE_SEED repeats one."""

import itertools
import logging
import os
import sys
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from messaging import models
from messaging.states import TRANSITIONS, MessageState
from tests import factories
from tests.messaging.machine import GUARDS, STAGES, K, Life, O
from tests.messaging.played import Ground

EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "200"))
STEPS = int(os.environ.get("MACHINE_STEPS", "50"))
SEED = int(os.environ.get("MACHINE_SEED", "20261125"))
# So many lives share a transaction: PostgreSQL carries the rows of those that were rolled back along until it ends.
BATCH = 50
BATCHES = [min(BATCH, EXAMPLES - first) for first in range(0, EXAMPLES, BATCH)]


def told_lives() -> None:
    """Chance alone would seldom get this far: each way in which a lost send can turn up late, and each way to wait."""
    for stage, status in itertools.product(STAGES, ("pending", "success", "failed")):
        life = Life()
        life.find_late(0, stage, status)
        life.teardown()
    for outcome, status in itertools.product((O.ACCEPTED, O.UNSENT), ("pending", "success", "failed")):
        life = Life()
        life.lose(0, "Call me", False, True)
        for _ in range(2):
            life.compose(0, "Use gate 4", "high")
        life.conclude(life.rows()[0], K.SEND_NEXT)
        life.send(0, outcome, False, True, status)
        life.give_up_looking()
        life.conclude(life.rows()[0], K.SEND_AGAIN)
        life.cancel(0)
        life.wait(timedelta(hours=25))
        life.expire()
        life.report(0, "success", 5)
        life.close_what_never_ends(0)
        life.teardown()

    # A verdict about one send finds the operation of its twin.
    life = Life()
    life.lose(1, "Call me", False, False)
    life.give_up_looking()
    life.decide(0, K.SEND_AGAIN, False, False)
    life.lose(1, "Call me", True, True)
    life.give_up_looking()
    life.lose(1, "Call me", True, False)
    life.report(0, "pending", -5)
    life.close_what_never_ends(0)
    life.teardown()
    # A listing that is read for one send shows how another has ended.
    life = Life()
    life.lose(1, "Call me", False, False)
    life.lose(0, "Call me", True, False)
    life.report(0, "pending", -5)
    life.find_late(0, "asked", "failed")
    life.teardown()


def told_ends() -> None:
    """The ends of a second try, and of a worker that dies before its first."""
    for end in ("cancel", "expire", "die", "fail", "restore"):
        life = Life()
        life.lose(0, "Call me", False, True)
        life.give_up_looking()
        [lost] = life.rows()
        if end == "restore":
            # As a restored database may show it: back in the queue, and nobody has decided anything.
            models.Message.objects.update(state=MessageState.QUEUED, question="")
            life.before[lost.pk] = MessageState.QUEUED
        else:
            life.conclude(lost, K.SEND_AGAIN)
        if end == "cancel":
            life.cancel(0)
        elif end == "expire":
            life.wait(timedelta(hours=25))
            life.expire()
        elif end == "fail":
            life.send(0, O.ACCEPTED, False, True)
            life.report(0, "failed", 5)
            life.resend(0, False)
            life.resend(0, True)
        else:
            life.claim(0)
            life.begin(0) if end == "restore" else life.wait(timedelta(seconds=70))
            life.reap()
        life.teardown()


def told_guards() -> None:
    """What chance seldom meets: a gate that closes under a claim, an answer after the lease, one operation too many."""
    life = Life()
    life.compose(0, "Call me", "high")
    life.claim(0)
    life.gate(True)
    life.compose(1, "Call me", "high")
    life.claim(1)
    life.begin(0)
    life.gate(False)
    life.begin(0)
    life.wait(timedelta(seconds=70))
    life.reap()
    life.finish(0, O.ACCEPTED, True, True)
    for status in ("success", "pending", "failed", "success"):
        life.wait(timedelta(seconds=1))
        life.report(0, status, 5)
    life.teardown()
    life = Life()
    life.lose(0, "Call me", True, True)
    life.catena.take(life.claims_made[-1].draft, life.now)
    life.wait(timedelta(seconds=6))
    life.look()
    life.decide(0, K.SEND_AGAIN, False, False)
    life.teardown()


@pytest.mark.django_db
@pytest.mark.parametrize("batch", range(len(BATCHES)))
def test_no_random_life_breaks_a_rule_and_all_of_them_reach_every_move(
    conversation: models.Conversation, batch: int
) -> None:
    other = factories.ConversationFactory(driver=factories.FleetUserFactory(connection=conversation.connection))
    people = [factories.UserFactory(is_superuser=True, undo_seconds=0) for _ in range(2)]
    Life.ground = Ground(people[0], people[1], [conversation, other])
    bounds = settings(
        max_examples=BATCHES[batch],
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    logging.disable(logging.CRITICAL)
    try:
        if not batch:
            told_lives()
            told_ends()
            told_guards()
        run_state_machine_as_test(seed(SEED + batch)(Life), settings=bounds)
    finally:
        logging.disable(logging.NOTSET)
    if batch + 1 < len(BATCHES):
        return
    known = {(str(before), str(after)) for before, moves in TRANSITIONS.items() for after in moves}
    sys.stdout.write(f"\nseed {SEED}: {EXAMPLES} lives of {STEPS} steps, {len(Life.moves)} of {len(known)} moves\n")
    missing = sorted(known - Life.moves), sorted(GUARDS - Life.guards)
    assert missing == ([], []), "every move of the table was made and every guard was hit"
