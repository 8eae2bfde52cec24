"""The life of a write: accepted, tried at the provider, and ended. Contract, sections 7, 9 and 10.

What the contract marks unknown is decided here as follows. `logs` fills while the operation is still pending; a success has an
entry too. Tries that fail as `auth`, `network` or `tsp` are repeated up to `Pace.max_attempts`; one that fails as `validation`
is final. A message to an inactive or deleted recipient, and one that is too long for the provider, is accepted and then
fails as `validation`. A write on a stale connection is accepted and then fails as `auth`. What was sent becomes a
message record at once when the operation succeeds, under the operation's `resource_id`, and is announced by
`message.added` right after `resource_operation.succeeded`. In sync mode there is one try and no event at all.
"""

from messaging.simulator import drivers, render
from messaging.simulator.faults import (
    ATTEMPT_KINDS,
    LIST_KINDS,
    MAGIC_ATTEMPTS,
    MAGIC_SLOW,
    MAGIC_UNKNOWN,
    Circumstances,
    Fault,
    conjured,
)
from messaging.simulator.records import Attempt, Message, Operation, Resource
from messaging.simulator.wire import Json, fresh_id, stable_id
from messaging.simulator.world import World

_STATUS_CODES = {"auth": 401, "validation": 422, "network": None, "tsp": 503}
_DETAILS = {
    "auth": "Provider refused the stored credentials",
    "validation": "Recipient has no messaging device assigned",
    "network": "Connection to the provider timed out",
    "tsp": "Provider is temporarily unavailable",
}


def accept(world: World, resource: Resource, payload: Json, is_sync: bool) -> tuple[Operation, int]:
    """Takes a write that passed all checks. Hold the lock.

    Returns the operation, ended already if `is_sync`, and the journal's ticket: settle it before answering.
    """
    now = world.now()
    operation = Operation(
        id=fresh_id(),
        resource=resource,
        connection_id=str(payload["connection_id"]),
        payload=payload,
        created_at=now,
        updated_at=now,
        listed_at=world.later(world.pace.list_delay),
        is_sync=is_sync,
    )
    fault = world.faults.take(LIST_KINDS, _circumstances(operation))
    if fault:
        operation.listed_at = world.later(fault.seconds) if fault.kind == "operation_late_in_lists" else None
    world.operations[operation.id] = operation
    ticket = world.enter_journal(operation)
    if is_sync:
        _try_once(world, operation)
    else:
        _announce(world, operation, "created")
        _queue(world, operation)
    world.remember("operation", operation)
    return operation, ticket


def resume(world: World) -> None:
    """Puts the pending operations of an earlier run back to work. Hold the lock."""
    for operation in world.operations.values():
        if operation.status == "pending":
            _queue(world, operation)


def _circumstances(operation: Operation) -> Circumstances:
    return Circumstances(connection_id=operation.connection_id, text=operation.text)


def _announce(world: World, operation: Operation, what: str) -> None:
    if not operation.is_sync:
        record = render.operation(world, operation)
        world.emit(f"resource_operation.{what}", record, operation.connection_id, operation.text)


def _queue(world: World, operation: Operation) -> None:
    pace = world.pace
    delay = pace.attempt_gap if operation.attempts else pace.queue_delay
    if not operation.attempts and world.magic_words and MAGIC_SLOW in operation.text:
        delay = (pace.slow_delay, pace.slow_delay)
    world.agenda.at(world.later(delay), lambda: _try_once(world, operation))


def _try_once(world: World, operation: Operation) -> None:
    attempt = _attempt(world, operation)
    operation.attempts.append(attempt)
    operation.updated_at = world.now()
    if attempt.status == "success":
        _succeed(world, operation)
    elif attempt.error_type == "validation" or operation.is_sync or _is_spent(world, operation):
        operation.status = _end_word(world, operation, "failed")
        _announce(world, operation, "failed")
    else:
        _queue(world, operation)
    world.remember("operation", operation)


def _is_spent(world: World, operation: Operation) -> bool:
    return len(operation.attempts) >= world.pace.max_attempts


def _end_word(world: World, operation: Operation, true_word: str) -> str:
    if world.magic_words and MAGIC_UNKNOWN in operation.text:
        return "escalated"
    return world.word("operation", true_word, operation.connection_id, operation.text)


def _attempt(world: World, operation: Operation) -> Attempt:
    failure = _failure(world, operation)
    attempt = Attempt(fresh_id(), world.now(), "success", response_status_code=200)
    attempt.response_headers = {"X-Request-Id": f"req-{attempt.id[-8:]}"}
    if failure:
        kind = failure.error_type
        attempt.status, attempt.error_type = "failed", kind
        attempt.error_details = failure.details or _DETAILS.get(kind, "Unclassified")
        attempt.response_status_code = failure.status or _STATUS_CODES.get(kind)
        attempt.response_headers = _failure_headers(failure, attempt)
    return attempt


def _failure_headers(failure: Fault, attempt: Attempt) -> dict[str, str] | None:
    if failure.headers is not None:
        return failure.headers
    if attempt.response_status_code is None:
        return None
    extra = {"Retry-After": "20"} if attempt.response_status_code in (429, 503) else {}
    return {**(attempt.response_headers or {}), **extra}


def _failure(world: World, operation: Operation) -> Fault | None:
    """Why this try fails: by a scripted fault, by a magic word, or because of how the world is."""
    fault = world.faults.take(ATTEMPT_KINDS, _circumstances(operation))
    if fault is None and world.magic_words:
        fault = conjured(MAGIC_ATTEMPTS, operation.text)
    if fault and (fault.then_succeed is None or len(operation.attempts) < fault.then_succeed):
        return fault
    return _natural_failure(world, operation)


def _natural_failure(world: World, operation: Operation) -> Fault | None:
    provider = world.provider_of(operation.connection_id)
    recipients = [world.users[identity] for identity in operation.recipient_ids]
    if world.connections[operation.connection_id].status == "stale":
        return Fault("attempt_failure", error_type="auth")
    if len(operation.text) > provider.text_limit:
        details = f"Text is longer than {provider.text_limit} characters"
        return Fault("attempt_failure", error_type="validation", details=details)
    if not operation.text:
        return Fault("attempt_failure", error_type="validation", details="Text is empty")
    if not all(recipient.is_active for recipient in recipients):
        return Fault("attempt_failure", error_type="validation", details="Recipient is not active")
    return None


def _succeed(world: World, operation: Operation) -> None:
    message = _message(world, operation)
    operation.status = _end_word(world, operation, "success")
    operation.resource_id, operation.source_id = message.id, message.source_id
    world.messages[message.id] = message
    _announce(world, operation, "succeeded")
    if not operation.is_sync:
        event = render.message_event(world, message)
        world.emit(f"{message.resource}.added", event, message.connection_id, operation.text)
    drivers.receive(world, message)
    world.remember("message", message)


def _message(world: World, operation: Operation) -> Message:
    payload, now = operation.payload, world.now()
    identity = stable_id("sent", operation.id)
    sender = world.users[str(payload["sender_id"])]
    recipients = operation.recipient_ids
    reply_to, priority = payload.get("reply_to_message_id"), payload.get("priority")
    return Message(
        id=identity,
        resource=operation.resource,
        connection_id=operation.connection_id,
        source_id=f"{world.provider_of(operation.connection_id).prefix}_{int(identity[:8], 16)}",
        sender_id=sender.id,
        recipient_ids=recipients,
        sent_by_driver=sender.is_driver,
        text=operation.text,
        priority=str(priority) if priority else None,
        occurred_at=now,
        created_at=now,
        updated_at=now,
        sender_name=sender.full_name,
        recipient_name=world.users[recipients[0]].full_name,
        reply_to_id=str(reply_to) if reply_to else None,
    )
