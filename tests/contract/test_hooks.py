"""Our receiver against our own description of it, with requests that Schemathesis makes of `hooks.yaml`.

HOOKS_EXAMPLES makes more of it; HOOKS_SEED repeats one.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, given, seed, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core import NotSet
from schemathesis.specs.openapi.checks import status_code_conformance

from dashboard.handler import make_application
from messaging import models
from messaging.states import EventState
from messaging.views import webhooks
from tests.messaging import forgeries
from tests.messaging.door import Receiver, open_receiver

SEED = int(os.environ.get("HOOKS_SEED", "20261126"))
EXAMPLES = int(os.environ.get("HOOKS_EXAMPLES", "100"))
DESCRIPTION = Path(__file__).parent / "hooks.yaml"
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
pytestmark = pytest.mark.django_db


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.CATENA_WEBHOOK_SECRETS = [forgeries.SECRET]
    with open_receiver() as found:
        yield found


@pytest.fixture
def operation(receiver: Receiver) -> Any:
    """The one operation of the description, on the product's WSGI application."""
    schema = schemathesis.openapi.from_path(DESCRIPTION)
    schema.app = make_application()
    return schema["/hooks/catena/"]["POST"]


def each(operation: Any, mode: GenerationMode, ask: Callable[[Case], None]) -> None:
    """Calls `ask` with `EXAMPLES` cases that fit the description, or in the other mode do not."""
    bounds = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    bounds(seed(SEED)(given(case=operation.as_strategy(mode))(ask)))()


def body_of(case: Case) -> bytes:
    if isinstance(case.body, NotSet):
        return b""
    return case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()


@pytest.mark.parametrize("mode", MODES)
def test_no_request_without_our_secret_gets_in_or_an_answer_that_is_not_described(
    operation: Any, mode: GenerationMode
) -> None:
    answers: Counter[int] = Counter()

    def ask(case: Case) -> None:
        answer = case.call(headers={"Host": "testserver"})
        case.validate_response(answer, checks=[not_a_server_error, status_code_conformance])
        answers[answer.status_code] += 1

    each(operation, mode, ask)

    sys.stdout.write(f"\nseed {SEED}, {mode.value}: {dict(answers)}\n")
    assert answers[401] > 0
    assert 202 not in answers
    assert not models.WebhookEvent.objects.exists()


def test_a_signed_event_that_fits_the_description_is_taken(operation: Any, receiver: Receiver) -> None:
    states: Counter[str] = Counter()

    def ask(case: Case) -> None:
        models.WebhookEvent.objects.all().delete()
        sent = forgeries.signed(body_of(case))
        assert receiver(sent) == 202
        states[models.WebhookEvent.objects.get().state] += 1

    each(operation, GenerationMode.POSITIVE, ask)

    assert states.keys() == {EventState.NEW.value}


def test_a_signed_event_of_another_shape_is_never_answered_4xx_or_5xx(operation: Any, receiver: Receiver) -> None:
    """Catena sends it once only: what we cannot use is put aside, and what is only unusual is taken."""
    states: Counter[str] = Counter()

    def ask(case: Case) -> None:
        assert receiver(forgeries.signed(body_of(case))) == 202

    each(operation, GenerationMode.NEGATIVE, ask)

    states.update(models.WebhookEvent.objects.values_list("state", flat=True))
    assert states[EventState.DEAD] > 0


def test_the_description_is_ours_and_names_every_answer_that_the_view_can_give(receiver: Receiver) -> None:
    described = yaml.safe_load(DESCRIPTION.read_text(encoding="utf-8"))["paths"]["/hooks/catena/"]["post"]["responses"]
    seen = {receiver(replace(sent, answers=frozenset())) for sent in _one_of_each()}
    assert seen <= {int(status) for status in described}
    assert seen == {202, 400, 401, 405, 411, 413, 415}
    assert set(webhooks.ANSWERS.values()) <= seen


def _one_of_each() -> Iterator[forgeries.Delivery]:
    honest = forgeries.signed(forgeries.BODY)
    yield honest
    yield replace(honest, raw=honest.raw[:-1])
    yield replace(honest, headers={})
    yield forgeries.signed(forgeries.BODY, secret=forgeries.RETIRED)
    yield replace(honest, method="GET")
    yield replace(honest, length=None)
    yield forgeries.signed(forgeries.BODY, raw=forgeries.bomb(5 * forgeries.MIB))
