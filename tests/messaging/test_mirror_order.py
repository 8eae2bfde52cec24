"""Whatever the order in which versions of a message and the news of its operation come, the rows end the same."""

import itertools
import uuid
from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import pytest
from django.db import connection as database
from django.db import transaction
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from messaging import mirror, models
from tests import factories
from tests.messaging import records
from tests.messaging.records import moment

OWN, THEIRS, ANSWER = (uuid.UUID(int=number) for number in (1, 2, 3))
THREAD = uuid.UUID(int=9)
WORDS = st.sampled_from([None, "pending", "sent", "delivered", "read", "relayed", "queued"])
MINUTES = st.integers(0, 3)
MAYBE_TIME = st.one_of(st.none(), MINUTES.map(moment))
COLUMNS = (
    "catena_id", "direction", "state", "text", "occurred_at", "sender__name", "recipient__name", "sender_name",
    "source_id", "thread_id", "source_thread_id", "reply_to_catena_id", "reply_to__catena_id", "record_status",
    "delivered_at", "read_at", "catena_updated_at", "deleted_at", "raw", "operation_status",
)  # fmt: skip


@st.composite
def versions(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Versions of three records. Those of one record and time agree, except that an event lacks what a list shows."""
    found = []
    for record_id in (OWN, THEIRS, ANSWER):
        for minute in draw(st.sets(MINUTES, min_size=1, max_size=3)):
            listed = {
                "id": record_id,
                "by_driver": record_id == THEIRS,
                "at": moment(record_id.int),
                "message_text": f"version {minute}",
                "updated_at": moment(minute),
                "status": draw(WORDS),
                "delivered_at": draw(MAYBE_TIME),
                "read_at": draw(MAYBE_TIME),
                "deleted_at": draw(st.one_of(st.none(), st.just(moment(minute)))),
            }
            links = {"thread_id": THREAD, "source_thread_id": "thr_1", "reply_to_message_id": None}
            if record_id == ANSWER:
                links["reply_to_message_id"] = draw(st.sampled_from([OWN, THEIRS])) if not found else THEIRS
            found += draw(st.sampled_from([[listed], [listed | links], [listed, listed | links]]))
    return found


class OrderTest(TestCase):
    # Shrinking takes minutes on a database, and the steps are few enough to be read as they are.
    @settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])
    @given(data=st.data(), bodies=versions())
    def test_any_order_with_repeats_of_any_versions_ends_in_the_same_rows(
        self, data: st.DataObject, bodies: list[dict[str, Any]]
    ) -> None:
        outcomes = []
        steps: list[dict[str, Any] | str] = [*bodies, "operation"]
        for number in range(2):
            order = data.draw(st.permutations(steps), label=f"order {number}")
            repeated = order + data.draw(st.lists(st.sampled_from(steps), max_size=4), label=f"repeats {number}")
            outcomes.append(_outcome(repeated, data.draw(st.integers(1, 5), label=f"page {number}")))
        assert outcomes[0] == outcomes[1]


def _outcome(steps: list[dict[str, Any] | str], size: int) -> dict[str, Any]:
    """The rows after these steps, records in pages of `size`, in a neighbourhood of their own that is gone afterwards."""
    with transaction.atomic():
        office = factories.FleetUserFactory(is_driver=False, name="Dana Whitfield", source_id="usr_1")
        driver = factories.FleetUserFactory(connection=office.connection, name="Luis Ortega", source_id="drv_1")
        conversation = factories.ConversationFactory(driver=driver)
        own = factories.accepted(conversation, text="Dock 4 is free", occurred_at=moment(-5))
        for is_record, group in itertools.groupby(steps, lambda step: isinstance(step, dict)):
            page = [records.message(conversation, **step) for step in group if isinstance(step, dict)]
            for part in itertools.batched(page, size):
                mirror.apply_messages(part)
            if not is_record:
                mirror.apply_operation(records.operation(own, resource_id=OWN))
        conversation.refresh_from_db()
        rows = list(models.Message.objects.order_by("catena_id").values(*COLUMNS))
        summary = (conversation.last_text, conversation.last_at, conversation.thread_id)
        transaction.set_rollback(True)
    for row in rows:
        for name in ("connection_id", "sender_id", "recipient_id"):
            (row["raw"] or {}).pop(name, None)
    return {"rows": rows, "summary": summary}


def _at_once(*works: Callable[[], object]) -> list[BaseException]:
    """Runs each in its own thread and database session, started together; returns what they raised."""
    start, raised = Barrier(len(works)), []

    def run(work: Callable[[], object]) -> None:
        try:
            start.wait(10)
            work()
        except BaseException as error:
            raised.append(error)
        finally:
            database.close()

    threads = [Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return raised


@pytest.mark.django_db(transaction=True)
def test_workers_that_apply_the_same_page_at_once_make_each_message_once() -> None:
    connection = factories.ConnectionFactory()
    talks = [factories.ConversationFactory(driver=factories.FleetUserFactory(connection=connection)) for _ in range(3)]
    own = factories.accepted(talks[0])
    answer = uuid.uuid4()
    page = [records.message(talk, at=moment(minute)) for talk in talks for minute in range(8)]
    page.append(records.message(talks[0], id=answer, by_driver=False, at=moment(9)))
    page += [records.message(talks[1], sender_id=None, source_sender_id="drv_new", at=moment(n)) for n in range(3)]
    raised = _at_once(
        lambda: mirror.apply_messages(page),
        lambda: mirror.apply_messages(page[::-1]),
        lambda: [mirror.apply_message(record) for record in page],
        lambda: mirror.apply_operation(records.operation(own, resource_id=answer)),
    )
    assert raised == []
    assert sorted(models.Message.objects.values_list("catena_id", flat=True), key=str) == sorted(
        (record.id for record in page), key=str
    )
    own.refresh_from_db()
    assert (own.catena_id, own.record_status, own.catena_updated_at) == (answer, "", moment(9))
    for talk in models.Conversation.objects.all():
        assert talk.last_message == talk.thread.order_by("-occurred_at", "-id").first()
