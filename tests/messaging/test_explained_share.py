"""How much of what the simulated Catena can go wrong with is explained: the whole catalogue, and a sample by its own weights."""

import random
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone

from messaging import mirror, models
from messaging.catena import types
from messaging.catena.errors import REFUSED_WRITES
from messaging.insight.explanations import best, current, error_type_of, failure_of, groups, unexplained
from messaging.insight.starting_set import add_missing
from messaging.simulator import operations
from messaging.simulator.faults import MAGIC_ATTEMPTS, MAGIC_WIRE, Fault
from messaging.states import MessageState
from tests import factories

pytestmark = pytest.mark.django_db
Catalogue = list[tuple[str, int | None, str]]
SAMPLE = 200
WANTED = 95
# What providers say in the words that the contract's examples and the anchors' manuals use, by type and code.
PHRASES: Catalogue = [
    ("auth", 401, "Token expired"), ("auth", 403, "insufficient_scope: messages:write"), ("auth", None, "Certificate rejected"),
    ("validation", 422, "Driver is inactive"), ("validation", 400, "Driver is not assigned to a vehicle"),
    ("validation", 413, "Message too long"), ("network", None, "Connection refused"),
    ("network", None, "Connection reset by peer"),
    ("network", None, "DNS lookup failed"), ("tsp", 429, "Rate limit exceeded"), ("tsp", 503, "Recipient device offline"),
    ("tsp", 500, "Internal server error"), ("tsp", 502, "Bad gateway"), ("tsp", 504, "Gateway timeout"),
    ("tsp", 404, "No such driver"), ("tsp", 409, "Duplicate"), ("tsp", 423, "Locked"), ("validation", 405, "Method not allowed"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def starting_set() -> None:
    add_missing(models.Explanation)


def of_fault(fault: Fault) -> tuple[str, int | None, str]:
    """What an attempt that fails by this fault says, as the simulator fills in what the fault leaves open."""
    kind = fault.error_type
    return kind, fault.status or operations._STATUS_CODES.get(kind), fault.details or operations._DETAILS[kind]


def simulated() -> Catalogue:
    """Every failure of a try that the simulator makes by itself or by a magic word."""
    faults = [*MAGIC_ATTEMPTS.values(), *(Fault("attempt_failure", error_type=kind) for kind in operations._DETAILS)]
    natural = ["Text is longer than 160 characters", "Text is empty", "Recipient is not active"]
    faults += [Fault("attempt_failure", error_type="validation", details=words) for words in natural]
    return [of_fault(fault) for fault in faults]


def failed_by(conversation: models.Conversation, kind: str, code: int | None, words: str) -> models.Message:
    """A message that failed so, brought in by the mirror as a sweep brings it."""
    message = factories.accepted(conversation)
    assert message.operation is not None
    now = timezone.now().isoformat()
    log = {
        "id": str(uuid.uuid4()), "resource_operation_id": str(message.operation.catena_id), "status": "failed",
        "error_type": kind, "error_details": words, "response_status_code": code, "created_at": now, "updated_at": now,
    }  # fmt: skip
    body = {
        "id": str(message.operation.catena_id), "connection_id": str(conversation.connection.catena_id), "resource": "message",
        "operation_type": "create", "status": "failed", "payload": {}, "logs": [log], "created_at": now, "updated_at": now,
    }  # fmt: skip
    mirror.apply_operation(types.Operation.parse(body))
    message.refresh_from_db()
    assert message.state == MessageState.FAILED
    return message


def is_specific(message: models.Message) -> bool:
    connection = message.connection
    row: dict[str, Any] = {
        "state": message.state, "error_type": message.error_type, "response_status_code": message.response_status_code,
        "cause": message.cause, "connection__tsp_slug": connection.tsp_slug,
        "connection__source_name": connection.source_name,
    }  # fmt: skip
    found = best(current(), failure_of(row))
    return found is not None and found.is_specific


@pytest.mark.parametrize(("kind", "code", "words"), [*simulated(), *PHRASES])
def test_each_failure_of_the_catalogue_has_a_specific_explanation(
    kind: str, code: int | None, words: str, conversation: models.Conversation
) -> None:
    assert is_specific(failed_by(conversation, kind, code, words))


def weighed(rng: random.Random) -> Iterator[tuple[str, int | None, str]]:
    """Failures as the simulator makes them, each cause as likely, with three in a hundred in words that nobody foresaw."""
    known = [*simulated(), *PHRASES]
    odd: Catalogue = [("tsp", None, "Ask the yard"), ("validation", None, "Not on a Sunday"), ("network", None, "Hm")]
    for number in range(SAMPLE):
        yield rng.choice(odd if number < SAMPLE * 3 // 100 else known)


def test_at_least_95_percent_by_volume_have_a_specific_explanation(conversation: models.Conversation) -> None:
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    for kind, code, words in weighed(rng):
        failed_by(conversation, kind, code, words)
    found = groups(timezone.now())
    total = sum(group.count for group in found)
    open_ones = unexplained(found, current())
    left = Counter({group.failure.text: group.count for group, _ in open_ones})
    share = 100 * (total - left.total()) / total
    print(f"seed {seed}: {share:.1f} % of {total} failures have a specific explanation; left: {dict(left)}")  # noqa: T201
    assert total == SAMPLE
    assert share >= WANTED, f"seed {seed}"


@pytest.mark.parametrize("code", sorted(REFUSED_WRITES))
def test_each_refusal_of_catena_has_a_specific_explanation(code: int, conversation: models.Conversation) -> None:
    refused = factories.OutgoingFactory(
        conversation=conversation, state=MessageState.REJECTED, response_status_code=code, settled_at=timezone.now(),
        reason="Catena did not accept it",
    )  # fmt: skip
    refused.refresh_from_db()
    assert error_type_of(refused.state, refused.error_type) == "rejected"
    assert is_specific(refused)


def test_what_became_too_old_has_a_specific_explanation(conversation: models.Conversation) -> None:
    assert is_specific(factories.OutgoingFactory(conversation=conversation, state=MessageState.EXPIRED))


def test_the_simulators_refusals_are_among_those_that_are_explained() -> None:
    assert {fault.status for fault in MAGIC_WIRE.values() if fault.kind == "refused"} <= REFUSED_WRITES
