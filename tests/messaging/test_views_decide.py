"""The page on which people decide: what it shows, what it refuses, and that no typed word is lost."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from messaging import models, reconcile
from messaging.states import AttemptOutcome, DecisionKind, MessageState, Question
from tests import factories

pytestmark = pytest.mark.django_db
S = MessageState
K = DecisionKind


@pytest.fixture
def asked(conversation: models.Conversation, mara: models.User) -> models.Message:
    """A message without an answer, posted an hour ago, of which nothing was found."""
    at = timezone.now() - timedelta(hours=1)
    message: models.Message = factories.OutgoingFactory(
        conversation=conversation, author=mara, state=S.NEEDS_DECISION, question=Question.UNPROVEN, fence=1,
        unknown_since=at, occurred_at=at, text="Use the south gate",
    )  # fmt: skip
    attempt = factories.SendAttemptFactory(
        message=message, outcome=AttemptOutcome.AMBIGUOUS, posting_at=at, error_text="ConnectionResetError", looks=6
    )
    for minutes in (1, 12):
        models.Look.objects.create(
            attempt=attempt, at=at + timedelta(minutes=minutes), window_from=at, window_to=at + timedelta(minutes=10),
            is_complete=True, read_count=3,
            nearest=[{"id": "0198", "created_at": at.isoformat(), "differs": ["message_text"]}],
        )  # fmt: skip
    conversation.summarise()
    return message


def address(message: models.Message) -> str:
    return f"/m/{message.uuid}/decide/"


def form(message: models.Message, kind: str = K.WAS_SENT, **more: str) -> dict[str, str]:
    return {"kind": kind, "reason": "I called him", "seen": reconcile.stamp(message), **more}


def text_of(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def fresh(message: models.Message) -> models.Message:
    return models.Message.objects.get(pk=message.pk)


def test_the_page_tells_the_evidence_and_offers_three_verdicts(
    client_of: Any, mara: models.User, asked: models.Message
) -> None:
    factories.IncomingFactory(conversation=asked.conversation, text="Which gate?")
    html = text_of(client_of(mara).get(address(asked)))
    for words in (
        "Use the south gate", "not proven", "the answer was lost", "was read 6 times", "has another text", "Which gate?",
        "Send again: the driver may see it twice", "It was sent", "Leave it unsent", "I know that the driver may get it twice",
    ):  # fmt: skip
        assert words in html, words
    assert "checked" not in html, "the dialog chooses nothing by itself"
    assert "Send the next one anyway" not in html, "nothing waits"


def test_letting_the_next_one_go_is_offered_where_one_waits(
    client_of: Any, mara: models.User, asked: models.Message
) -> None:
    behind = factories.OutgoingFactory(conversation=asked.conversation, state=S.WAITING)
    client = client_of(mara)
    assert "Send the next one anyway" in text_of(client.get(address(asked)))
    answer = client.post(address(asked), form(asked, K.SEND_NEXT))
    assert (answer.status_code, answer["Location"]) == (303, asked.get_absolute_url())
    assert (fresh(asked).detached, fresh(behind).state) == (True, S.QUEUED)


@pytest.mark.parametrize(
    ("kind", "state"), [(K.WAS_SENT, S.CLOSED_SENT), (K.LEAVE_UNSENT, S.CLOSED_NOT_SENT), (K.SEND_AGAIN, S.QUEUED)]
)
def test_a_verdict_is_recorded_and_shown(
    client_of: Any, mara: models.User, asked: models.Message, kind: K, state: S
) -> None:
    client = client_of(mara)
    answer = client.post(address(asked), form(asked, kind, is_sure="1"))
    assert (answer.status_code, fresh(asked).state) == (303, state)
    html = text_of(client.get(answer["Location"]))
    assert "I called him" in html
    assert models.Decision.objects.get().user == mara


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"kind": K.SEND_AGAIN.value}, "Tick that you know the driver may get it twice"),
        ({"kind": ""}, "Choose what should happen."),
        ({"kind": "burn"}, "Choose what should happen."),
        ({"seen": ""}, "This form was damaged on the way."),
        ({"seen": "x" * 100}, "This form was damaged on the way."),
    ],
)
def test_a_refusal_keeps_what_was_typed(
    client_of: Any, mara: models.User, asked: models.Message, changed: dict[str, str], words: str
) -> None:
    answer = client_of(mara).post(address(asked), form(asked, **{"reason": "He <b>has</b> it", **changed}))
    html = text_of(answer)
    assert answer.status_code == 422
    assert words in html
    assert "He &lt;b&gt;has&lt;/b&gt; it</textarea>" in html
    assert not models.Decision.objects.exists()


def test_a_verdict_without_a_reason_is_refused(client_of: Any, mara: models.User, asked: models.Message) -> None:
    for reason in ("", "   ", "x" * 1001):
        answer = client_of(mara).post(address(asked), form(asked, reason=reason))
        assert answer.status_code == 422
    assert "Shorten it to 1000 characters" in text_of(answer)
    assert fresh(asked).state == S.NEEDS_DECISION


def test_the_second_person_learns_who_was_first_and_keeps_their_words(
    client_of: Any, mara: models.User, sol: models.User, asked: models.Message
) -> None:
    seen = form(asked)
    client_of(mara).post(address(asked), seen)
    answer = client_of(sol).post(address(asked), {**seen, "kind": K.SEND_AGAIN, "is_sure": "1", "reason": "No answer"})
    html = text_of(answer)
    assert answer.status_code == 409
    assert f"{mara.label} has decided at" in html
    assert "it was sent. Reason: I called him" in html
    assert "No answer</textarea>" in html
    assert (fresh(asked).state, models.Decision.objects.count()) == (S.CLOSED_SENT, 1)


def test_pressing_twice_is_one_decision_and_no_complaint(
    client_of: Any, mara: models.User, asked: models.Message
) -> None:
    seen, client = form(asked), client_of(mara)
    assert [client.post(address(asked), seen).status_code for _ in range(2)] == [303, 303]
    assert models.Decision.objects.count() == 1


def test_a_message_that_was_found_meanwhile_cannot_be_decided_about(
    client_of: Any, mara: models.User, asked: models.Message
) -> None:
    seen = form(asked)
    operation = factories.OperationFactory(connection=asked.connection)
    models.Message.objects.filter(pk=asked.pk).update(state=S.ACCEPTED, operation=operation, question="")
    answer = client_of(mara).post(address(asked), seen)
    assert answer.status_code == 409
    assert "has changed meanwhile" in text_of(answer)
    assert "I called him</textarea>" in text_of(answer)


def test_a_send_that_could_still_be_under_way_is_not_offered_again_yet(
    client_of: Any, mara: models.User, asked: models.Message
) -> None:
    now = timezone.now()
    models.SendAttempt.objects.update(posting_at=now, finished_at=now)
    client = client_of(mara)
    assert "until then the first try could still be under way" in text_of(client.get(address(asked)))
    answer = client.post(address(asked), form(asked, K.SEND_AGAIN, is_sure="1"))
    assert (answer.status_code, fresh(asked).state) == (409, S.NEEDS_DECISION)


def test_support_decides_too_and_strangers_see_nothing(
    client_of: Any, sol: models.User, asked: models.Message, db: None
) -> None:
    stranger = factories.UserFactory()
    for method in ("get", "post"):
        assert getattr(client_of(stranger), method)(address(asked), form(asked)).status_code == 404
    assert fresh(asked).state == S.NEEDS_DECISION
    assert client_of(sol).post(address(asked), form(asked)).status_code == 303


def test_a_message_of_the_driver_has_no_such_page(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    incoming = factories.IncomingFactory(conversation=conversation)
    assert client_of(mara).get(address(incoming)).status_code == 404


def test_a_settled_message_has_nothing_to_decide(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message = factories.accepted(conversation)
    html = text_of(client_of(mara).get(address(message)))
    assert "Nothing has to be decided" in html
    assert '<form class="form' not in html


def test_what_never_left_needs_no_second_tick(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message = factories.OutgoingFactory(conversation=conversation, state=S.NEEDS_DECISION, question=Question.POISON)
    client = client_of(mara)
    html = text_of(client.get(address(message)))
    assert "Nothing was sent." in html
    assert "may see it twice" not in html
    assert client.post(address(message), form(message, K.SEND_AGAIN)).status_code == 303
    assert fresh(message).state == S.QUEUED


def test_the_ways_to_the_page_are_on_the_bubble_and_on_the_message(
    client_of: Any, mara: models.User, asked: models.Message
) -> None:
    client = client_of(mara)
    for page in (asked.conversation.get_absolute_url(), asked.get_absolute_url()):
        assert f'href="{address(asked)}"' in client.get(page).content.decode()


def poll(client: Client, message: models.Message, stamp: str) -> str:
    page = client.get(address(message)).content.decode()
    since = page.split('name="since" value="')[1].split('"')[0]
    models.Message.objects.filter(pk=message.pk).update(worker="touched")
    query = {"v": "decision", "scope": str(message.pk), "since": since, "q": stamp, "every": "0"}
    return text_of(client.get("/_f/live/", query, headers={"HX-Request": "true"}))


@pytest.mark.django_db(transaction=True)
def test_the_poll_says_above_the_form_that_a_colleague_was_first(
    client_of: Any, mara: models.User, sol: models.User, asked: models.Message
) -> None:
    stamp = reconcile.stamp(asked)
    assert "This has changed meanwhile" not in poll(client_of(sol), asked, stamp)
    client_of(mara).post(address(asked), form(asked))
    news = poll(client_of(sol), asked, stamp)
    assert "This has changed meanwhile" in news
    assert f"Marked as sent by {mara.label}" in news
    assert "<textarea" not in news, "what is being typed is not touched"


def test_the_page_costs_the_same_number_of_queries_however_much_is_known(
    client_of: Any, mara: models.User, asked: models.Message
) -> None:
    client, costs = client_of(mara), []
    for _ in range(2):
        with CaptureQueriesContext(database) as queries:
            client.get(address(asked))
        costs.append(len(queries))
        attempt = asked.send_attempts.get()
        for minutes in range(20, 30):
            at = attempt.posting_at + timedelta(minutes=minutes)
            models.Look.objects.create(attempt=attempt, at=at, window_from=at, window_to=at, is_complete=True)
            factories.IncomingFactory(conversation=asked.conversation)
            factories.OutgoingFactory(conversation=asked.conversation, state=S.WAITING)
    assert costs[0] == costs[1] <= 12


def test_what_catena_never_ends_can_be_marked_as_sent_and_nothing_else(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    message = factories.accepted(conversation, accepted_at=timezone.now() - timedelta(hours=30))
    client = client_of(mara)
    html = text_of(client.get(address(message)))
    assert "has never said what became of it" in html
    assert [kind for kind in K if f'value="{kind}"' in html] == [K.WAS_SENT]
    assert client.post(address(message), form(message)).status_code == 303
    assert fresh(message).state == S.CLOSED_SENT
