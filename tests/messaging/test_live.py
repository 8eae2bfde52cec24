"""Nothing that changed is ever skipped by a page's next look, in whatever order transactions commit."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from messaging import live, models
from messaging.changes import Changes, changed_rows, changes_of, inbox_changes_sql
from tests import factories

NO_GATES: dict[int | None, models.outlook.ClosedGate] = {}


def inbox_changes(user: models.User, since: live.Cursor) -> Changes:
    look = live.glance(user, since=since, along=inbox_changes_sql(user))
    return changes_of(look.along, user, timezone.now(), look.gates)


def changed_ids(user: models.User, since: live.Cursor, conversation_id: int | None = None) -> set[int]:
    if conversation_id is None:
        found = inbox_changes(user, since)
    else:
        found = changed_rows(user, conversation_id, since, timezone.now(), NO_GATES)
    return {row["id"] for row in found.conversations}


def in_thread(work: Callable[[], None]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.django_db(transaction=True)
def test_a_look_after_a_change_tells_it_once(conversation: models.Conversation, mara: models.User) -> None:
    factories.IncomingFactory(conversation=conversation)
    conversation.summarise()
    before = live.glance(mara)
    assert not live.glance(mara, since=before.cursor).changed
    factories.IncomingFactory(conversation=conversation, text="Gate is blocked")
    conversation.summarise()
    after = live.glance(mara, since=before.cursor)
    assert (after.changed, after.inbox_unread) == (True, 1)
    assert changed_ids(mara, before.cursor) == {conversation.pk}
    assert changed_ids(mara, after.cursor) == set()


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_began_first_and_commits_last_is_not_skipped(
    conversation: models.Conversation, mara: models.User
) -> None:
    other = factories.ConversationFactory(driver=factories.FleetUserFactory(connection=conversation.connection))
    for row in (conversation, other):
        factories.IncomingFactory(conversation=row)
        row.summarise()
    start = live.glance(mara).cursor
    written, may_commit = threading.Event(), threading.Event()

    def slow_change() -> None:
        with transaction.atomic():
            models.Conversation.objects.filter(pk=conversation.pk).update(last_text="the slow one")
            written.set()
            assert may_commit.wait(10)

    slow = in_thread(slow_change)
    assert written.wait(10)
    models.Conversation.objects.filter(pk=other.pk).update(last_text="the quick one")
    look = live.glance(mara, since=start)
    assert changed_ids(mara, start) == {other.pk}
    may_commit.set()
    slow.join(10)
    assert live.glance(mara, since=look.cursor).changed
    assert changed_ids(mara, look.cursor) == {conversation.pk}


@pytest.mark.django_db(transaction=True)
def test_a_person_is_told_only_of_their_own_fleets(
    conversation: models.Conversation, mara: models.User, sol: models.User, outsider: models.User
) -> None:
    since = live.glance(sol).cursor
    factories.IncomingFactory(conversation=conversation)
    conversation.summarise()
    told = {user.username: live.glance(user, since=since).changed for user in (mara, sol, outsider)}
    assert told == {"mara": True, "sol": True, "outsider": False}
    assert changed_ids(outsider, since, conversation.pk) == set()


@pytest.mark.django_db(transaction=True)
def test_a_held_message_is_repainted_while_its_countdown_runs(
    conversation: models.Conversation, mara: models.User
) -> None:
    message = factories.OutgoingFactory(
        conversation=conversation, author=mara, not_before=timezone.now() + timedelta(seconds=10)
    )
    conversation.summarise()
    since = live.glance(mara).cursor
    look = live.glance(mara, live.Scope(conversation_id=conversation.pk), since)
    assert (look.changed, look.is_lively, look.every_ms) == (True, True, live.PENDING_POLL_MS)
    found = changed_rows(mara, conversation.pk, since, timezone.now(), NO_GATES)
    assert [(row["id"], row["badge"].key, row["can_undo"]) for row in found.bubbles] == [(message.pk, "held", True)]


@pytest.mark.parametrize(
    "text",
    ["", "x", "0.1:1:", "9999999999999.1:2:", "1.5:4:", "1.5:9:5,4", "1.5:9:11", "1.5:9:5,5", "1.1:1:'; drop table x"],
)
def test_a_cursor_that_we_did_not_write_is_stale(text: str) -> None:
    with pytest.raises(live.StaleCursor):
        live.Cursor.parse(text)


@pytest.mark.django_db
def test_a_cursor_survives_its_way_through_the_page(mara: models.User) -> None:
    cursor = live.glance(mara).cursor
    assert live.Cursor.parse(str(cursor)) == cursor


@pytest.mark.django_db(transaction=True)
def test_a_look_costs_one_query_and_its_rows_another_of_which_the_inbox_saves_one(
    conversation: models.Conversation, mara: models.User, django_assert_num_queries: Any
) -> None:
    since = live.glance(mara).cursor
    factories.IncomingFactory(conversation=conversation)
    conversation.summarise()
    with django_assert_num_queries(2):
        look = live.glance(mara, live.Scope(conversation_id=conversation.pk), since)
        found = changed_rows(mara, conversation.pk, since, timezone.now(), look.gates)
    assert (len(found.conversations), len(found.bubbles)) == (1, 1)
    with django_assert_num_queries(1):
        found = inbox_changes(mara, since)
    assert (len(found.conversations), len(found.bubbles)) == (1, 0)


@pytest.mark.django_db
def test_a_look_names_every_gate_that_stops_sending_now(conversation: models.Conversation, mara: models.User) -> None:
    until = timezone.now().replace(microsecond=0) + timedelta(minutes=5)
    passed = factories.ConnectionFactory()
    models.Gate.objects.create(
        connection=conversation.connection, state="closed", reason="Too many requests", until=until
    )
    models.Gate.objects.create(connection=passed, state="closed", reason="Over", until=timezone.now() - timedelta(1))
    models.Gate.objects.create(state="locked", reason="Restored from a backup")
    probed = factories.ConnectionFactory()
    models.Gate.objects.create(
        connection=probed, state="closed", cause="ambiguity", reason="Unclear", probe_at=until - timedelta(hours=1)
    )
    assert live.glance(mara).gates == models.closed_gates(timezone.now())
    assert live.glance(mara).gates == {
        conversation.connection_id: models.outlook.ClosedGate("Too many requests", until),
        probed.pk: models.outlook.ClosedGate("Unclear", None, until - timedelta(hours=1), "ambiguity"),
        None: models.outlook.ClosedGate("Restored from a backup", None),
    }


@pytest.mark.django_db(transaction=True)
def test_what_was_said_before_a_person_joined_is_no_news_to_them(conversation: models.Conversation) -> None:
    joined = timezone.now() - timedelta(hours=1)
    newcomer = factories.UserFactory(fleets=[conversation.connection.fleet], date_joined=joined)
    factories.IncomingFactory(conversation=conversation, occurred_at=joined - timedelta(days=40))
    conversation.summarise()
    assert live.glance(newcomer).inbox_unread == 0
    assert not models.Conversation.objects.unread_by(newcomer).exists()
    factories.IncomingFactory(conversation=conversation)
    conversation.summarise()
    assert live.glance(newcomer).inbox_unread == 1
    assert models.Conversation.objects.unread_by(newcomer).get() == conversation
