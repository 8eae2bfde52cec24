"""The survey after a restore goes on where it stopped and passes over what it may not read; the unlock keeps a pause."""

from datetime import timedelta
from typing import Any

import pytest

from messaging import gates, models, reconcile
from messaging.catena.client import CatenaClient
from messaging.simulator import Fault, SimulatorServer
from messaging.states import GateState, MessageState
from tests import factories
from tests.messaging.test_restore import fresh, is_locked, now, restored

pytestmark = pytest.mark.django_db
LISTED = "GET /v2/integrations/connections/resource-operations"
S = MessageState


def test_a_survey_that_stopped_goes_on_at_the_connection_where_it_stopped(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    other = factories.ConnectionFactory(fleet=talk.connection.fleet)
    restored()
    first = min(talk.connection_id, other.pk)
    catena.world.faults.add(Fault("slow", match=LISTED, times=1, seconds=0))
    catena.world.faults.add(Fault("server_error", match=LISTED, times=1, status=503))
    stopped = reconcile.survey_open(catena_client, now())
    assert stopped is not None
    assert (list(stopped.survey["done"]), stopped.surveyed_at) == ([str(first)], None)
    catena.world.requests_seen.clear()
    done = reconcile.survey_open(catena_client, now())
    assert done is not None
    assert done.surveyed_at is not None
    assert catena.world.requests_seen[LISTED] == 1


def test_a_connection_that_catena_refuses_to_list_is_named_and_its_messages_go_to_people(
    client_of: Any, sol: models.User, talk: models.Conversation, mara: models.User, catena: SimulatorServer,
    catena_client: CatenaClient,
) -> None:  # fmt: skip
    message = factories.OutgoingFactory(conversation=talk, author=mara)
    restored()
    catena.world.faults.add(Fault("refused", match=LISTED, times=1, status=403))
    done = reconcile.survey_open(catena_client, now())
    assert done is not None
    assert (done.surveyed_at is not None, fresh(message).state) == (True, S.NEEDS_DECISION)
    assert len(done.survey["unread"]) == 1
    page = client_of(sol).get("/ops/restore/").content.decode()
    assert "Catena refused to list these connections" in page
    assert str(talk.connection) in page


def test_a_survey_that_is_told_to_slow_down_waits_as_long_as_catena_said(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    restored()
    catena.world.faults.add(Fault("rate_limited", match=LISTED, times=1, retry_after_seconds=30))
    assert reconcile.survey_open(catena_client, now()) is not None
    assert reconcile.survey_open(catena_client, now()) is None
    assert is_locked(), "a 429 does not write over the lock"
    done = reconcile.survey_open(catena_client, now() + timedelta(seconds=40))
    assert done is not None
    assert done.surveyed_at is not None


def test_a_pause_set_by_hand_before_the_lock_stands_again_after_it(mara: models.User, sol: models.User) -> None:
    gates.close_by_hand(None, sol, "Depot is closed", now())
    restored(surveyed_at=now())
    reconcile.unlock(mara, "Looked", now())
    gate = models.Gate.objects.get(connection=None)
    assert (gate.state, gate.cause, gate.reason, gate.changed_by) == ("closed", "operator", "Depot is closed", sol)
    assert gates.open_by_hand(None, mara, "Depot is open", now())


def test_a_pause_that_was_over_before_the_lock_stays_over(mara: models.User, sol: models.User) -> None:
    gates.close_by_hand(None, sol, "Depot is closed", now())
    gates.open_by_hand(None, sol, "Depot is open", now())
    restored(surveyed_at=now())
    reconcile.unlock(mara, "Looked", now())
    assert models.Gate.objects.get(connection=None).state == GateState.OPEN
