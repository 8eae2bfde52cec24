"""Support's test of a connection: one real message in synchronous mode, through the outbox, and its answer at once."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from messaging import live, models, outbox, verify
from messaging.catena.client import CatenaClient
from messaging.simulator import Fault, SimulatorServer
from messaging.states import MessageState
from tests import factories
from tests.messaging.test_outbox_races import at_once, with_commits

pytestmark = pytest.mark.django_db
S = MessageState


def send(talk: models.Conversation, author: models.User, token: uuid.UUID | None = None) -> models.Message:
    return outbox.send_test(author, talk.driver, "Test from the office", token or uuid.uuid4(), timezone.now())


def fresh(message: models.Message) -> models.Message:
    return models.Message.objects.select_related("operation").get(pk=message.pk)


def fields(talk: models.Conversation, **changed: Any) -> dict[str, Any]:
    given = {
        "recipient": talk.driver.catena_id,
        "text": "Test",
        "is_sure": "1",
        "client_token": uuid.uuid4(),
        **changed,
    }
    return {name: value for name, value in given.items() if value is not None}


def address(talk: models.Conversation) -> str:
    return f"/connections/{talk.connection.catena_id}/test/"


def test_a_test_is_sent_in_synchronous_mode_and_accepted_at_once(
    talk: models.Conversation, sol: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    message = send(talk, sol)
    assert outbox.drain(talk.pk, catena_client) == 1
    sent = fresh(message)
    assert (sent.state, sent.is_test, sent.next_poll_at) == (S.SUCCEEDED, True, None)
    assert message.send_attempts.get().http_status == 200
    (operation,) = catena.world.operations.values()
    assert operation.is_sync
    assert outbox.drain(talk.pk, catena_client) == 0
    assert catena.world.posts_seen == 1


def test_a_502_with_its_operation_is_a_known_failure_with_its_log(
    talk: models.Conversation, sol: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("attempt_failure", error_type="tsp", status=403, details="Device is blocked"))
    message = send(talk, sol)
    outbox.drain(talk.pk, catena_client)
    failed = fresh(message)
    assert (failed.state, failed.error_type, failed.response_status_code) == (S.FAILED, "tsp", 403)
    assert failed.operation is not None
    assert failed.operation.logs.get().error_details == "Device is blocked"
    assert message.send_attempts.get().http_status == 502
    assert outbox.drain(talk.pk, catena_client) == 0
    assert (catena.world.posts_seen, len(next(iter(catena.world.operations.values())).attempts)) == (1, 1)


def test_a_lost_answer_leaves_it_unknown_and_it_is_not_sent_again(
    talk: models.Conversation, sol: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("reset_after_accept", "POST /v2/telematics/messages"))
    message = send(talk, sol)
    outbox.drain(talk.pk, catena_client)
    assert fresh(message).state == S.UNKNOWN
    assert outbox.drain(talk.pk, catena_client) == 0
    assert len(catena.world.journal) == 1


def test_ordinary_messages_are_never_sent_so(
    talk: models.Conversation, mara: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    factories.OutgoingFactory(conversation=talk, author=mara)
    outbox.drain(talk.pk, catena_client)
    assert [one.is_sync for one in catena.world.operations.values()] == [False]


def test_a_test_is_not_sent_again_by_anybody(
    talk: models.Conversation, sol: models.User, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    catena.world.faults.add(Fault("attempt_failure", error_type="validation"))
    message = send(talk, sol)
    outbox.drain(talk.pk, catena_client)
    with pytest.raises(outbox.NotResendable, match="This was a test"):
        outbox.resend(fresh(message), sol, timezone.now(), is_sure=True)


def test_the_same_form_sends_once_and_is_audited_without_its_text(
    conversation: models.Conversation, sol: models.User
) -> None:
    token = uuid.uuid4()
    assert send(conversation, sol, token) == send(conversation, sol, token)
    entry = models.AuditEntry.objects.get()
    assert (entry.action, entry.user) == ("test_send", sol)
    assert "Test from the office" not in str(entry.detail)


def test_a_test_does_not_answer_the_driver(conversation: models.Conversation, sol: models.User) -> None:
    factories.IncomingFactory(conversation=conversation, occurred_at=timezone.now() - timedelta(minutes=5))
    send(conversation, sol)
    conversation.refresh_from_db()
    assert conversation.unanswered_since is not None
    assert not verify.verify(timezone.now()).breaches


def test_a_connection_takes_so_many_within_an_hour(
    conversation: models.Conversation, sol: models.User, settings: Any
) -> None:
    settings.TEST_SENDS_PER_HOUR = 2
    first = send(conversation, sol)
    send(conversation, sol)
    with pytest.raises(outbox.TooManyTests, match="No more than 2 test messages"):
        send(conversation, sol)
    models.Message.objects.filter(pk=first.pk).update(occurred_at=timezone.now() - timedelta(minutes=61))
    assert send(conversation, sol).is_test


@with_commits
def test_two_at_once_do_not_both_find_the_last_place(
    conversation: models.Conversation, sol: models.User, settings: Any
) -> None:
    settings.TEST_SENDS_PER_HOUR = 1

    def tries() -> bool:
        try:
            return send(conversation, sol).is_test
        except outbox.TooManyTests:
            return False

    assert sorted(at_once(tries, tries, tries)) == [False, False, True]


# The page


@pytest.mark.django_db(transaction=True)
def test_support_sends_it_from_the_connections_page_and_sees_the_answer(
    talk: models.Conversation, sol: models.User, client_of: Any, catena_client: CatenaClient
) -> None:
    client, since = client_of(sol), str(live.glance(sol).cursor)
    page = f"/connections/{talk.connection.catena_id}/"
    assert client.post(address(talk), fields(talk)).status_code == 303
    outbox.drain(talk.pk, catena_client)
    shown = client.get(page).content.decode()
    assert "Answered after" in shown
    assert 'Catena <span class="code">200</span>' in shown
    asked = {"v": "connections", "q": talk.connection.catena_id, "since": since, "every": "3800"}
    assert "Answered after" in client.get("/_f/live/", asked, headers={"HX-Request": "true"}).content.decode()
    message = models.Message.objects.get()
    assert "Test of the connection" in client.get(message.get_absolute_url()).content.decode()
    assert "Test</span>" in client.get(talk.get_absolute_url()).content.decode()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"is_sure": None}, "Tick that you know the driver gets this message."),
        ({"recipient": "nobody"}, "Choose a driver of this connection."),
        ({"text": "   "}, "Write a text for the test."),
        ({"text": "x" * 161}, "The text is too long for a test."),
        ({"client_token": "spoiled"}, "Reload the page and try again."),
    ],
)
def test_a_refusal_keeps_what_was_typed_and_sends_nothing(
    conversation: models.Conversation, sol: models.User, client_of: Any, changed: dict[str, Any], words: str
) -> None:
    given = fields(conversation, **{"text": "Can you see <this>?", **changed})
    answer = client_of(sol).post(address(conversation), given)
    page = answer.content.decode()
    assert (answer.status_code, models.Message.objects.count()) == (422, 0)
    assert words in page
    assert "text" in changed or "Can you see &lt;this&gt;?" in page


def test_a_driver_of_another_connection_is_refused(
    conversation: models.Conversation, sol: models.User, client_of: Any
) -> None:
    other = factories.FleetUserFactory()
    answer = client_of(sol).post(address(conversation), fields(conversation, recipient=other.catena_id))
    assert (answer.status_code, models.Message.objects.count()) == (422, 0)


def test_only_support_may_send_a_test(
    conversation: models.Conversation, mara: models.User, outsider: models.User, client_of: Any
) -> None:
    assert client_of(mara).post(address(conversation), fields(conversation)).status_code == 403
    assert client_of(outsider).post(address(conversation), fields(conversation)).status_code == 404
    assert (
        "Test message" not in client_of(mara).get(f"/connections/{conversation.connection.catena_id}/").content.decode()
    )
    assert models.Message.objects.count() == 0
