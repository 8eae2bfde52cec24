"""Writes what Catena says of an operation: idempotent, never backwards (reliability plan 3.3).

Owns Operation, OperationLog and the columns of Message that repeat them; sends nothing and asks Catena nothing.
Lock order: conversation, then message, then operation.
"""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import connection as database
from django.db import transaction
from django.utils import timezone

from messaging.catena import types
from messaging.mirror.fingerprint import fingerprint, is_new_message
from messaging.mirror.messages import adopt_record
from messaging.mirror.reasons import plain_reason
from messaging.mirror.redaction import keepable, redact_headers, request_ids, scrub, storable, verbatim
from messaging.models import AuditEntry, Connection, Conversation, Message, Operation, OperationLog, SendAttempt
from messaging.models.statements import prepared_cursor
from messaging.states import (
    FINAL_OPERATION_STATUSES,
    TRANSITIONS,
    UNSETTLED_OUTCOMES,
    MessageState,
    OperationStatus,
    may_move,
)

logger = logging.getLogger(__name__)

S = MessageState
# The sweep decides about all later looks (`sync.pending`).
FIRST_POLL_AFTER = timedelta(seconds=1)
# Columns of their own; what else Catena sends stays in `raw`.
KNOWN_LOG_FIELDS = frozenset(
    {
        "id", "resource_operation_id", "status", "error_type", "error_details", "response_status_code",
        "response_headers", "created_at", "updated_at",
    }
)  # fmt: skip
# From these a message may be given its operation: our POST is out, or a person judged without knowing it.
BINDABLE_STATES = frozenset(state for state, after in TRANSITIONS.items() if S.ACCEPTED in after)
# From these only when an earlier POST of the same message has no answer: a person wanted it sent again.
BINDABLE_WHEN_POSTED_BEFORE = frozenset({S.WAITING, S.QUEUED, S.CLAIMED, S.REJECTED})

INSERTED = [field for field in Operation._meta.concrete_fields if not field.primary_key]
INSERT_SQL = (
    f"INSERT INTO messaging_operation ({', '.join(str(f.column) for f in INSERTED)})"  # noqa: S608 (our own names)
    f" VALUES ({', '.join(f'%({f.column})s' for f in INSERTED)}) ON CONFLICT (catena_id) DO NOTHING RETURNING id"
)
# The columns are those of `_bind` for an operation without logs. The state that is looked for is a parameter, or the kept
# plan may go by the partial index of leases, which is full of dead entries, and not by primary key.
BIND_POSTED_SQL = f"""
WITH stored AS ({INSERT_SQL})
UPDATE messaging_message m
SET state = 'accepted', operation_id = stored.id, operation_status = 'pending', accepted_at = %(now)s,
    next_poll_at = %(next_poll_at)s, settled_at = NULL, lease_until = NULL, looks = 0, question = '', attempt_count = 0,
    failed_attempts = 0, reason = '', error_type = '', response_status_code = NULL
FROM stored WHERE m.id = %(message)s AND m.fence = %(fence)s AND m.state = %(posting)s AND m.operation_id IS NULL
"""  # noqa: S608 (our own names)


class _BoundMeanwhile(Exception):
    """The operation found its message between our look and our lock; taking the lock now would invert the order."""


def apply_operation(record: types.Operation) -> Operation | None:
    """Stores the operation with its logs and moves its message, if it has one. None when the connection is not ours yet.

    Any record may come any number of times and in any order: the result is the same. Opens a transaction and locks the
    conversation of the message.
    """
    known = _unchanged(record)
    if known is not None:
        return known
    connection = Connection.objects.filter(catena_id=record.connection_id).first()
    if connection is None:
        logger.warning("Operation %s is of an unknown connection %s", record.id, record.connection_id)
        return None
    while True:
        try:
            with transaction.atomic():
                return _applied(record, connection)
        except _BoundMeanwhile:
            continue


def _unchanged(record: types.Operation) -> Operation | None:
    """The stored row when this record brings nothing new: a sweep sees most operations many times. Takes no lock."""
    if record.updated_at is None:
        return None
    operation = Operation.objects.filter(
        catena_id=record.id, status=record.status, catena_updated_at=record.updated_at
    ).first()
    if operation is None or not Message.objects.filter(operation=operation, operation_status=record.status).exists():
        return None
    stored = set(operation.logs.values_list("catena_id", "catena_updated_at"))
    return operation if {(log.id, log.updated_at) for log in record.logs} <= stored else None


def bind_posted(message_id: int, fence: int, connection_id: int, record: types.Operation, now: datetime) -> bool:
    """`bind_operation` in one statement, for what nearly every POST is answered with: a new operation, still pending.

    The caller holds the conversation's lock. False when anything is out of the ordinary, and then nothing has changed of
    the message: `bind_operation` decides.
    """
    if record.status != OperationStatus.PENDING or record.logs or record.resource_id is not None:
        return False
    operation = Operation(catena_id=record.id, connection_id=connection_id, **_values_of(record))
    own: dict[str, Any] = {
        "message": message_id,
        "fence": fence,
        "posting": S.POSTING.value,
        "now": now,
        "next_poll_at": now + FIRST_POLL_AFTER,
    }
    with prepared_cursor() as cursor:
        cursor.execute(BIND_POSTED_SQL, {**_row_of(operation), **own})
        return bool(cursor.rowcount)


def bind_operation(message: Message, record: types.Operation, now: datetime) -> bool:
    """Gives a message its operation and the state that follows from it; `message` then shows the new state.

    The caller holds the conversation's lock and has read `message` under it; it closes the attempt, promotes the next
    message and summarises. False, with nothing changed of the message, when its state does not allow it or the operation
    proves another message already.
    """
    if not _is_bindable(message):
        return False
    operation, is_new = _stored(record, message.connection)
    if not is_new and Message.objects.filter(operation=operation).exclude(pk=message.pk).exists():
        logger.error("Operation %s already belongs to another message than %s", record.id, message.uuid)
        return False
    return _bind(message, operation, now, now, has_logs=bool(record.logs) or not is_new)


def bind_found(message: Message, operation: Operation, now: datetime) -> bool:
    """`bind_operation` for a stored operation that was looked for. The caller holds its row's lock too."""
    if not _is_bindable(message) or Message.objects.filter(operation=operation).exclude(pk=message.pk).exists():
        return False
    # Our clock and Catena's may disagree a little; nothing is accepted before it was composed or in the future.
    accepted_at = min(max(operation.catena_created_at, message.occurred_at), now)
    return _bind(message, operation, now, accepted_at, has_logs=True)


def _is_bindable(message: Message) -> bool:
    if message.state in BINDABLE_WHEN_POSTED_BEFORE:
        unsettled = SendAttempt.objects.filter(outcome__in=UNSETTLED_OUTCOMES)
        return unsettled.filter(message=message).exists()
    return message.state in BINDABLE_STATES


def _bind(message: Message, operation: Operation, now: datetime, accepted_at: datetime, *, has_logs: bool) -> bool:
    before, after = message.state, _state_of(operation) or S.ACCEPTED
    moved = Message.objects.filter(pk=message.pk, state=before, fence=message.fence, operation=None).update(
        **{
            "next_poll_at": now + FIRST_POLL_AFTER,
            "settled_at": None,
            **_columns_of(operation, now, has_logs=has_logs),
            **(_correction(now) if before == S.CLOSED_NOT_SENT else {}),
        },
        state=after,
        operation=operation,
        accepted_at=accepted_at,
        lease_until=None,
        looks=0,
        question="",
    )
    if not moved:
        return False
    _audit_late_proof(message, operation)
    message.state, message.operation = after, operation
    if operation.resource_id is not None:
        adopt_record(message, operation)
    return True


def _correction(now: datetime) -> dict[str, Any]:
    """A person left it unsent, and it was sent after all: that asks for people anew, whatever they did about it before."""
    return {"corrected_at": now, "handled_at": None, "handled_by": None, "handled_note": ""}


def _applied(record: types.Operation, connection: Connection) -> Operation:
    known = _message_of(record)
    conversation = None
    if known is not None:
        conversation = Conversation.objects.select_for_update().get(pk=known.conversation_id)
    operation, is_new = _stored(record, connection)
    message = None if is_new else _message_of(record)
    if message is not None and conversation is None:
        raise _BoundMeanwhile
    if message is not None and conversation is not None:
        adopt_record(message, operation)
        if _refresh(message, operation):
            conversation.summarise()
    return operation


def _message_of(record: types.Operation) -> Message | None:
    return Message.objects.filter(operation__catena_id=record.id).first()


def _refresh(message: Message, operation: Operation) -> bool:
    """Brings a message in line with its stored operation; False when there was nothing to change."""
    now = timezone.now()
    before = MessageState(message.state)
    after = _state_of(operation)
    columns = _columns_of(operation, now)
    if after is not None and after != before and may_move(before, after):
        columns["state"] = after
    if message.settled_at is not None and "state" not in columns:
        columns.pop("settled_at", None)
    if all(getattr(message, name) == value for name, value in columns.items()):
        return False
    if not Message.objects.filter(pk=message.pk, state=before).update(**columns):
        return False
    if "state" in columns:
        logger.info("Message %s is %s by operation %s", message.uuid, columns["state"], operation.catena_id)
        _audit_late_proof(message, operation)
    return True


def _columns_of(operation: Operation, now: datetime, *, has_logs: bool = True) -> dict[str, Any]:
    """What a message repeats of its operation. A success carries no reason, whatever failed on the way."""
    logs = list(operation.logs.all()) if has_logs else []
    failures = [log for log in logs if log.status == OperationStatus.FAILED]
    last = failures[-1] if failures and operation.status != OperationStatus.SUCCESS else None
    for log in failures:
        log.operation = operation
    columns: dict[str, Any] = {
        "operation_status": operation.status,
        "attempt_count": len(logs),
        "failed_attempts": len(failures),
        "reason": plain_reason(last) if last else "",
        "error_type": last.error_type if last else "",
        "response_status_code": last.response_status_code if last else None,
    }
    if operation.status == OperationStatus.FAILED and last is None:
        columns["reason"] = f"{operation.connection.provider} did not say why"
    if _is_final(operation):
        columns.update(settled_at=now, next_poll_at=None)
    return columns


def _is_final(operation: Operation) -> bool:
    return operation.status in FINAL_OPERATION_STATUSES


def _state_of(operation: Operation) -> MessageState | None:
    match operation.status:
        case OperationStatus.SUCCESS:
            return S.SUCCEEDED
        case OperationStatus.FAILED:
            return S.FAILED
        case _:
            return None


def _audit_late_proof(message: Message, operation: Operation) -> None:
    """A person had closed this message; Catena now says what truly became of it."""
    if message.state in {S.CLOSED_SENT, S.CLOSED_NOT_SENT, S.NEEDS_DECISION}:
        _audit("operation_found", operation, message, {"was": message.state})


def _audit(action: str, operation: Operation, message: Message | None, detail: dict[str, Any]) -> None:
    AuditEntry.objects.create(
        action=action,
        connection=operation.connection,
        message=message,
        conversation_id=message.conversation_id if message else None,
        detail={"operation": str(operation.catena_id), "status": operation.status, **detail},
    )


def _stored(record: types.Operation, connection: Connection) -> tuple[Operation, bool]:
    """The operation row after the merge, locked, and whether it is new: then no message can have it yet."""
    values = _values_of(record)
    operation, is_new = _inserted(Operation(catena_id=record.id, connection=connection, **values)), True
    if operation is None:
        operation, is_new = Operation.objects.select_for_update().get(catena_id=record.id), False
        operation.connection = connection
        _merge(operation, record, values)
    for log in record.logs:
        _store_log(operation, log)
    return operation, is_new


def _inserted(operation: Operation) -> Operation | None:
    """The row with its id, or None when there is one already. By hand, because Django's `ignore_conflicts` forgets which."""
    with prepared_cursor() as cursor:
        cursor.execute(INSERT_SQL, _row_of(operation))
        row = cursor.fetchone()
    if row is None:
        return None
    operation.pk = row[0]
    return operation


def _row_of(operation: Operation) -> dict[str, Any]:
    return {str(f.column): f.get_db_prep_save(f.pre_save(operation, add=True), database) for f in INSERTED}


def _values_of(record: types.Operation) -> dict[str, Any]:
    created = record.created_at or timezone.now()
    return {
        "resource": storable(record.resource)[:100],
        "operation_type": storable(record.operation_type)[:50],
        "status": storable(record.status)[:50],
        "payload": verbatim(record.payload),
        "resource_id": record.resource_id,
        "source_id": storable(record.source_id or "")[:200],
        "catena_created_at": created,
        "catena_updated_at": record.updated_at or created,
        "fingerprint": fingerprint(record.payload) if is_new_message(record.resource, record.operation_type) else "",
        "raw": _raw_of(record),
    }


def _raw_of(record: types.Operation) -> dict[str, Any]:
    """Everything without a column of its own; the text of the message lives in `payload` alone."""
    rest = {name: value for name, value in record.raw.items() if name not in {"payload", "logs"}}
    logs = record.raw.get("logs")
    unknown = [_unknown_fields(log) for log in logs] if isinstance(logs, list) else []
    kept: dict[str, Any] = keepable(rest)
    return {**kept, "logs": unknown} if any(unknown) else kept


def _unknown_fields(log: object) -> Any:
    if not isinstance(log, dict):
        return {}
    rest = {name: value for name, value in log.items() if name not in KNOWN_LOG_FIELDS}
    return {"id": str(log.get("id")), **keepable(rest)} if rest else {}


def merged_status(before: str, before_at: datetime, after: str, after_at: datetime) -> str:
    """pending < success = failed; words that we do not know count as pending. Of two finals, or of two that are not,
    the later one stays.
    """
    was_final, is_final = before in FINAL_OPERATION_STATUSES, after in FINAL_OPERATION_STATUSES
    if was_final != is_final:
        return after if is_final else before
    if after_at == before_at and OperationStatus.PENDING in (before, after):
        # Every operation begins as pending, so of two words of one moment the other one is the later.
        return after if before == OperationStatus.PENDING else before
    return after if after_at > before_at else before


def _merge(operation: Operation, record: types.Operation, values: dict[str, Any]) -> None:
    before, before_at = operation.status, operation.catena_updated_at
    # The answer to a POST may carry no times: it then knows nothing that a record with times does not know better.
    said_at = record.updated_at or before_at
    is_newer = said_at > before_at
    changes: dict[str, Any] = {"status": merged_status(before, before_at, values["status"], said_at)}
    if is_newer:
        changes |= {name: values[name] for name in ("raw", "resource", "operation_type")}
        changes["catena_updated_at"] = said_at
    for name in ("payload", "resource_id", "source_id"):
        if values[name] and (is_newer or not getattr(operation, name)):
            changes[name] = values[name]
    if "payload" in changes:
        changes["fingerprint"] = values["fingerprint"]
    _write_changes(operation, changes)
    if {before, values["status"]} == set(FINAL_OPERATION_STATUSES):
        _report_contradiction(operation, before, values["status"])


def _write_changes(row: Operation | OperationLog, changes: dict[str, Any]) -> None:
    changed = [name for name, value in changes.items() if getattr(row, name) != value]
    for name in changed:
        setattr(row, name, changes[name])
    if changed:
        row.save(update_fields=changed)


def _report_contradiction(operation: Operation, before: str, said: str) -> None:
    """Catena called one operation both success and failed. The later word stands; people must be able to see it."""
    if before == operation.status:
        logger.warning("Operation %s is %s; an older record says %s", operation.catena_id, before, said)
        return
    logger.error("Operation %s turned from %s to %s", operation.catena_id, before, operation.status)
    message = Message.objects.filter(operation=operation).first()
    _audit("operation_contradicted", operation, message, {"was": before})


def _store_log(operation: Operation, record: types.OperationLog) -> None:
    """One attempt, by its id; what is stored of it never goes back to an older word."""
    values = _log_values(record)
    log, is_new = OperationLog.objects.get_or_create(catena_id=record.id, defaults={**values, "operation": operation})
    if is_new:
        return
    if log.operation_id != operation.pk:
        logger.warning("Log %s of operation %s belongs to another one", record.id, operation.catena_id)
        return
    if record.updated_at > log.catena_updated_at:
        values["status"] = merged_status(log.status, log.catena_updated_at, values["status"], record.updated_at)
        _write_changes(log, values)


def _log_values(record: types.OperationLog) -> dict[str, Any]:
    headers = redact_headers(record.response_headers)
    return {
        "status": storable(record.status)[:50],
        "error_type": storable(record.error_type or "")[:50],
        "error_details": scrub(record.error_details or ""),
        "response_status_code": record.response_status_code,
        "response_headers": headers,
        "request_ids": request_ids(headers),
        "catena_created_at": record.created_at,
        "catena_updated_at": record.updated_at,
    }
