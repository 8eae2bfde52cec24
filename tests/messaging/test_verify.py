"""Each rule finds the breach that it is for: planted with its guard taken away, inside a transaction that is rolled back."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection as database
from django.utils import timezone

from messaging import gates, guards, models, outbox
from messaging.models.statements import prepared_cursor
from messaging.states import AttemptOutcome, MessageState
from messaging.verify import GUARDS, MOST_LINES, PUNCTUAL, RULES, Rule, keep, verify
from tests import factories

pytestmark = pytest.mark.django_db
S = MessageState
O = AttemptOutcome  # noqa: E741
LONG_AGO = timezone.now() - timedelta(hours=3)
SENDING = ("messaging_message", "messaging_sendattempt")


def take_away(kind: str, guard: str) -> None:
    """Drops or disables one guard of the schema."""
    table, _, name = guard.partition(".")
    with database.cursor() as cursor:
        if kind == "trigger":
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {name}")
            return
        if kind in ("index", "check"):
            cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")
            cursor.execute(f"DROP INDEX IF EXISTS {name}")
            return
        cursor.execute(
            "SELECT conname FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND k.conkey = ARRAY[a.attnum]"
            " WHERE k.conrelid = %s::regclass AND a.attname = %s AND k.contype = ANY(%s)",
            [table, name, ["f"] if kind == "foreign_key" else ["u", "p"]],
        )
        for (constraint,) in cursor.fetchall():
            cursor.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{constraint}" CASCADE')


def drop_guards() -> None:
    """Takes every guard of messages and attempts away but their keys, so that any nonsense can be written."""
    with database.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for kind, names in guards.expected().items():
        for guard in names:
            if guard.startswith(SENDING) and kind != "foreign_key" and not guard.endswith(".id"):
                take_away(kind, guard)


def composed(talk: models.Conversation, **columns: Any) -> models.Message:
    """An outgoing message as composing leaves it, with its audit entry."""
    message: models.Message = factories.OutgoingFactory(conversation=talk, **columns)
    models.AuditEntry.objects.create(action="compose", message=message, conversation=talk)
    talk.summarise()
    return message


def posted(message: models.Message, **columns: Any) -> models.SendAttempt:
    attempt: models.SendAttempt = factories.SendAttemptFactory(message=message, **{"outcome": O.AMBIGUOUS, **columns})
    models.Message.objects.filter(pk=message.pk, fence__lt=attempt.fence).update(fence=attempt.fence)
    return attempt


def operation(talk: models.Conversation, **columns: Any) -> models.Operation:
    made: models.Operation = factories.OperationFactory(connection=talk.connection, **columns)
    return made


def unknown(talk: models.Conversation, **columns: Any) -> models.Message:
    message = composed(talk, **{"state": S.UNKNOWN, "unknown_since": timezone.now(), **columns})
    posted(message, next_look_at=timezone.now())
    return message


def bound(talk: models.Conversation, state: S = S.ACCEPTED, status: str = "pending", **columns: Any) -> models.Message:
    message = composed(
        talk, state=state, operation=operation(talk, status=status), operation_status=status,
        next_poll_at=timezone.now(), **columns,
    )  # fmt: skip
    posted(message, outcome=O.ACCEPTED, operation=message.operation)
    return message


def put(message: models.Message, **columns: Any) -> None:
    models.Message.objects.filter(pk=message.pk).update(**columns)


def test_a_message_that_has_not_left_may_not_be_passed_either(conversation: models.Conversation) -> None:
    first = composed(conversation)
    second = bound(conversation)
    [breach] = verify(timezone.now(), rules=[rule for rule in RULES if rule.name == "posted_in_order"]).breaches
    assert breach.ids == f"message {second.uuid} before {first.uuid}"
    models.Decision.objects.create(message=first, user=first.author, kind="send_next", reason="Yes")
    assert not verify(timezone.now(), rules=[breach.rule]).breaches


Plant = Callable[[models.Conversation], Any]


def _two_heads(talk: models.Conversation) -> None:
    composed(talk), composed(talk)


def _stranded(talk: models.Conversation) -> None:
    composed(talk, state=S.WAITING)


def _hole(talk: models.Conversation) -> None:
    put(composed(talk), seq=7)


def _overtaken(talk: models.Conversation) -> None:
    first, second = composed(talk, state=S.ACCEPTED), composed(talk, state=S.ACCEPTED)
    for message in (second, first):
        put(message, operation=operation(talk), next_poll_at=timezone.now())
        message.refresh_from_db()
        posted(message, outcome=O.ACCEPTED, operation=message.operation)


def _twice_composed(talk: models.Conversation) -> None:
    message = unknown(talk)
    posted(message, fence=2)


def _false_proof(talk: models.Conversation) -> None:
    message = unknown(talk)
    posted(message, fence=2, authority="proof_not_sent", prior_attempt=message.send_attempts.get())


def _decision_of_another(talk: models.Conversation) -> None:
    message = unknown(talk)
    other = composed(factories.ConversationFactory(connection=talk.connection))
    decision = models.Decision.objects.create(message=other, user=message.author, kind="send_again", reason="Yes")
    posted(message, fence=2, authority="human", decision=decision)


def _decision_used_twice(talk: models.Conversation) -> None:
    message = unknown(talk)
    decision = models.Decision.objects.create(message=message, user=message.author, kind="send_again", reason="Yes")
    for fence in (2, 3):
        posted(message, fence=fence, authority="human", decision=decision)


def _shared_operation(talk: models.Conversation) -> None:
    message = unknown(talk)
    shared = operation(talk)
    other = unknown(factories.ConversationFactory(connection=talk.connection))
    models.SendAttempt.objects.filter(message__in=[message, other]).update(operation=shared)
    for one in (message, other):
        put(one, operation=shared, state=S.ACCEPTED, next_poll_at=timezone.now())


def _foreign_operation(talk: models.Conversation) -> None:
    message = bound(talk)
    models.Operation.objects.update(connection=factories.ConnectionFactory())
    assert message


def _other_text(talk: models.Conversation) -> None:
    message = bound(talk)
    models.Operation.objects.update(fingerprint="a" * 64)
    models.SendAttempt.objects.update(fingerprint="b" * 64, outcome=O.LOST)
    assert message


def _unbound_acceptance(talk: models.Conversation) -> None:
    message = unknown(talk)
    models.SendAttempt.objects.filter(message=message).update(outcome=O.ACCEPTED)


def _unsent_in_words_alone(talk: models.Conversation) -> None:
    message = bound(talk)
    put(message, state=S.CLOSED_NOT_SENT, settled_by=message.author, operation=None)


def _silently_twice(talk: models.Conversation) -> None:
    message = bound(talk)
    posted(message, fence=2, operation=operation(talk))


def _two_resends(talk: models.Conversation) -> None:
    failed = bound(talk, S.FAILED, "failed")
    for _ in range(2):
        other = factories.ConversationFactory(connection=talk.connection)
        composed(other, retry_of=failed)


def restore() -> None:
    models.Restore.objects.create(cause="by_hand", detected_at=LONG_AGO, restored_to=LONG_AGO, since=LONG_AGO)


PLANTS: dict[str, Plant] = {
    "one_head": _two_heads,
    "waits_behind_somebody": _stranded,
    "sequence_is_whole": _hole,
    "posted_in_order": _overtaken,
    "detached_by_decision": lambda talk: unknown(talk, detached=True),
    "detached_only_if_ambiguous": lambda talk: composed(talk, detached=True),
    "one_open_attempt": lambda talk: [
        posted(message, fence=fence, outcome=None, finished_at=None)
        for message in [composed(talk, state=S.POSTING, lease_until=timezone.now())]
        for fence in (1, 2)
    ],
    "open_attempt_while_posting": lambda talk: composed(talk, state=S.POSTING, lease_until=timezone.now()),
    "first_attempt_is_composed": _twice_composed,
    "proof_proves": _false_proof,
    "human_has_decision": _decision_of_another,
    "one_post_per_decision": _decision_used_twice,
    "one_attempt_per_operation": _shared_operation,
    "finished_attempt_has_end": lambda talk: posted(composed(talk), finished_at=None),
    "fence_of_its_message": lambda talk: put(posted(composed(talk), fence=3).message, fence=2),
    "operation_of_same_connection": _foreign_operation,
    "operation_is_what_was_posted": _other_text,
    "accepted_means_bound": _unbound_acceptance,
    "bound_states_have_operation": lambda talk: composed(talk, state=S.ACCEPTED, next_poll_at=timezone.now()),
    "one_message_per_operation": _shared_operation,
    "operation_needs_attempt": lambda talk: models.SendAttempt.objects.filter(message=bound(talk)).update(
        operation=None, outcome=O.LOST
    ),
    "state_follows_operation": lambda talk: bound(talk, S.SUCCEEDED, "failed"),
    "unknown_is_unsettled": lambda talk: composed(talk, state=S.UNKNOWN, unknown_since=timezone.now()),
    "unknown_is_looked_for": lambda talk: models.SendAttempt.objects.filter(message=unknown(talk)).update(
        next_look_at=None
    ),
    "never_sent_means_never_posted": lambda talk: posted(composed(talk, state=S.CANCELLED)),
    "decision_has_question": lambda talk: composed(talk, state=S.NEEDS_DECISION, question=""),
    "verdict_has_decision": lambda talk: composed(talk, state=S.CLOSED_SENT),
    "verdict_gives_way_to_facts": _unsent_in_words_alone,
    "lease_while_held": lambda talk: composed(talk, lease_until=timezone.now()),
    "sent_twice_is_said": _silently_twice,
    "one_live_resend": _two_resends,
    "resend_is_later": lambda talk: [put(message, retry_of=message) for message in [composed(talk)]],
    "resend_to_the_same_driver": lambda talk: composed(
        factories.ConversationFactory(connection=talk.connection), retry_of=bound(talk, S.FAILED, "failed")
    ),
    "sent_to_its_driver": lambda talk: put(composed(talk), recipient=factories.FleetUserFactory()),
    "composing_is_audited": lambda talk: [factories.OutgoingFactory(conversation=talk), talk.summarise()],
    "summary_is_true": lambda talk: [composed(talk), models.Conversation.objects.update(last_message=None)],
    "status_is_the_operations": lambda talk: put(bound(talk), operation_status="success"),
    "gate_says_why": lambda talk: models.Gate.objects.create(state="closed", cause="login"),
    "lock_has_a_restore": lambda talk: gates.lock("Restored", timezone.now()),
    "restore_locks_sending": lambda talk: restore(),
    "nothing_sent_while_locked": lambda talk: [restore(), gates.lock("Restored", timezone.now()), unknown(talk)],
    "leases_are_taken_back": lambda talk: composed(talk, state=S.CLAIMED, lease_until=LONG_AGO),
    "expired_is_said": lambda talk: composed(talk, expires_at=LONG_AGO),
    "pending_is_asked_for": lambda talk: put(bound(talk), next_poll_at=LONG_AGO),
    "lost_is_looked_for_in_time": lambda talk: models.SendAttempt.objects.filter(message=unknown(talk)).update(
        next_look_at=LONG_AGO
    ),
    "gates_open_in_time": lambda talk: models.Gate.objects.create(state="closed", cause="rate_limit", until=LONG_AGO),
}


def test_every_rule_has_a_planted_breach() -> None:
    assert set(PLANTS) == {rule.name for rule in (*RULES, *PUNCTUAL)}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_breach_is_found_with_its_ids(conversation: models.Conversation, name: str) -> None:
    drop_guards()
    PLANTS[name](conversation)
    with database.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    [rule] = [rule for rule in (*RULES, *PUNCTUAL) if rule.name == name]
    lines = [str(breach) for breach in verify(timezone.now(), rules=[rule]).breaches]
    assert lines
    assert all(word in lines[0] for word in (name, "(", ")"))


def found() -> set[str]:
    return {breach.rule.name for breach in verify(timezone.now()).breaches}


@pytest.mark.parametrize("kind", guards.expected())
def test_a_guard_that_is_gone_is_a_breach_of_its_own(kind: str) -> None:
    with database.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    words, gone = kind.replace("_", " "), []
    assert not verify(timezone.now(), rules=[GUARDS]).breaches
    for guard in guards.expected()[kind]:
        take_away(kind, guard)
        gone.append(f"{words} {guard}")
        found = missing_guards()
        assert sorted(guard for guard in found if guard.startswith(words)) == sorted(gone)
        assert len(found) == len(gone) or kind == "unique_column"  # with a key go the references to it
    report = verify(timezone.now(), rules=[GUARDS])
    assert (report.total, len(report.breaches)) == (len(found), min(len(found), MOST_LINES))


def missing_guards() -> list[str]:
    with prepared_cursor() as cursor:
        cursor.execute(guards.MISSING_SQL, guards.expected())
        return [guard for (guard,) in cursor.fetchall()]


def test_every_trigger_of_the_migrations_is_watched() -> None:
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT tgrelid::regclass || '.' || tgname FROM pg_trigger"
            " WHERE NOT tgisinternal AND tgrelid::regclass::text LIKE 'messaging\\_%'"
        )
        assert sorted(name for (name,) in cursor.fetchall()) == sorted(guards.TRIGGERS)


def test_a_healthy_life_breaks_no_rule(conversation: models.Conversation, mara: models.User) -> None:
    bound(conversation, S.SUCCEEDED, "success")
    unknown(conversation)
    composed(conversation, state=S.WAITING)
    cancelled = composed(conversation, state=S.WAITING)
    assert outbox.cancel(cancelled, mara, timezone.now())
    report = verify(timezone.now())
    assert (report.breaches, report.uncounted) == ([], 0)
    assert report.rules == len(RULES) + len(PUNCTUAL) + 1


def test_a_stopped_installation_is_not_blamed_for_what_is_due(conversation: models.Conversation) -> None:
    composed(conversation, expires_at=LONG_AGO)
    assert found() == {"expired_is_said"}
    assert not verify(timezone.now(), is_running=False).breaches


def test_the_command_says_what_it_found_and_fails(conversation: models.Conversation) -> None:
    out = StringIO()
    call_command("verify", stdout=out)
    assert out.getvalue().startswith(f"{len(RULES) + len(PUNCTUAL) + 1} rules hold")
    message = composed(conversation, expires_at=LONG_AGO)
    out = StringIO()
    with pytest.raises(CommandError, match="1 breaches of"):
        call_command("verify", stdout=out)
    assert str(message.uuid) in out.getvalue()
    call_command("verify", stopped=True, stdout=StringIO())


@pytest.mark.django_db(transaction=True)
def test_checking_can_write_nothing() -> None:
    from messaging.verify import _snapshot

    with pytest.raises(Exception, match="read-only transaction"), _snapshot():
        factories.FleetFactory()


@pytest.mark.django_db(transaction=True)
def test_a_rule_without_an_answer_is_reported_and_the_others_are_checked() -> None:
    endless = Rule("endless", "it ends", "SELECT 'never' FROM pg_sleep(30)")
    broken = Rule("broken", "it holds", "SELECT 'message 1'")
    report = verify(timezone.now(), rules=[endless, broken], limit=timedelta(milliseconds=50))
    assert [(breach.rule, breach.ids) for breach in report.breaches] == [
        (endless, "not known, no answer within 0.05 s"), (broken, "message 1"),
    ]  # fmt: skip


def test_what_a_run_found_is_kept_for_the_page(conversation: models.Conversation) -> None:
    composed(conversation, expires_at=LONG_AGO)
    kept = keep(verify(timezone.now()))
    assert (len(kept.breaches), kept.rule_count) == (1, len(RULES) + len(PUNCTUAL) + 1)
    assert kept.breaches[0].startswith("expired_is_said: message ")


def test_what_runs_found_long_ago_is_forgotten(conversation: models.Conversation) -> None:
    for days in (100, 80):
        keep(replace(verify(timezone.now()), at=timezone.now() - timedelta(days=days)))
    assert keep(verify(timezone.now())).at > timezone.now() - timedelta(minutes=1)
    assert models.Verification.objects.count() == 2
