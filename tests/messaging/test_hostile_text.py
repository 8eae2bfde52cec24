"""What others wrote: names, texts, errors and status words of strangers, on every page that prints them."""

import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from messaging import models
from messaging.states import AttemptOutcome, Authority, Direction, GateState, MessageState
from tests import factories

pytestmark = pytest.mark.django_db

MARKUP = "\"'><img src=x onerror=alert(1)>"
S = MessageState


@pytest.fixture
def talk(mara: models.User) -> models.Conversation:
    """A conversation in which everything that others can write is markup."""
    fleet = factories.FleetFactory(name=MARKUP, fleet_ref=MARKUP)
    models.FleetMembership.objects.create(user=mara, fleet=fleet)
    line = factories.ConnectionFactory(
        fleet=fleet, description=MARKUP, source_name=MARKUP, tsp_slug=MARKUP, schedule_status=MARKUP
    )
    factories.FleetUserFactory(connection=line, is_driver=False, name=MARKUP)
    driver = factories.FleetUserFactory(connection=line, name=MARKUP, username=MARKUP, phone_number=MARKUP[:30])
    return factories.ConversationFactory(driver=driver)


def fill(talk: models.Conversation) -> models.Message:
    """One message of each kind; the answered one is returned."""
    author = factories.UserFactory(username=MARKUP, first_name=MARKUP, last_name=MARKUP)
    asked = factories.IncomingFactory(conversation=talk, text=MARKUP, sender_name=MARKUP)
    factories.IncomingFactory(conversation=talk, direction=Direction.OUT, record_status=MARKUP, text=MARKUP)
    said = {"conversation": talk, "author": author, "text": MARKUP, "reason": MARKUP}
    for state in (S.REJECTED, S.NEEDS_DECISION, S.CLOSED_SENT):
        factories.OutgoingFactory(state=state, settled_by=author, **said)
    factories.OutgoingFactory(state=S.WAITING, **said)
    operation = factories.OperationFactory(connection=talk.connection, status=MARKUP)
    factories.OperationLogFactory(
        operation=operation, status=MARKUP, error_type=MARKUP, error_details=MARKUP,
        response_headers={"x-request-id": MARKUP},
    )  # fmt: skip
    sent = factories.OutgoingFactory(
        state=S.ACCEPTED, operation=operation, operation_status=MARKUP, reply_to=asked, error_type=MARKUP, **said
    )
    models.SendAttempt.objects.create(
        message=sent, fence=1, worker=MARKUP, posting_at=timezone.now(), finished_at=timezone.now(),
        outcome=AttemptOutcome.ACCEPTED, authority=Authority.COMPOSE, error_text=MARKUP,
    )  # fmt: skip
    later = timezone.now() + timedelta(hours=1)
    models.Gate.objects.create(connection=talk.connection, state=GateState.CLOSED, reason=MARKUP, until=later)
    talk.summarise()
    return sent


def everything(client: Client, talk: models.Conversation) -> dict[str, str]:
    """The body of each page and fragment, by its address."""
    thread, since = f"/c/{talk.uuid}/", f"{int(time.time())}.1:1:"
    keys = talk.thread.values_list("pk", "uuid")
    polls = [f"v={view}&scope={talk.pk}&q=" for view in ("inbox", "conversation", "ops", "connections")]
    polls += [f"v=message&scope={pk}" for pk, _ in keys]
    pages = [
        "/", thread, f"{thread}?reply_to={keys[0][1]}", "/ops/?range=all", "/connections/",
        f"/connections/{talk.connection.catena_id}/", f"/compose/?recipient={talk.driver.catena_id}",
        *[f"/m/{uuid}/" for _, uuid in keys],
    ]  # fmt: skip
    fragments = [f"/_f{thread}", f"/_f{thread}quote/?reply_to={keys[0][1]}", "/_f/inbox/rows/", "/_f/recipients/?q=img"]
    fragments += [f"/_f/live/?{poll}&since={since}" for poll in polls]
    htmx = {"HX-Request": "true"}
    answers = {path: client.get(path) for path in pages} | {path: client.get(path, headers=htmx) for path in fragments}
    assert {answer.status_code for answer in answers.values()} == {200}
    return {path: answer.content.decode() for path, answer in answers.items()}


@pytest.mark.parametrize("who", ["mara", "sol", "ada"])
def test_what_others_wrote_is_text_and_never_markup(
    request: pytest.FixtureRequest, client_of: Any, talk: models.Conversation, who: str
) -> None:
    fill(talk)
    bodies = everything(client_of(request.getfixturevalue(who)), talk)
    assert [path for path, body in bodies.items() if "<img" in body] == []
    assert [path for path, body in bodies.items() if "&lt;img" not in body] == []


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}], ids=["form", "fragment"])
@pytest.mark.parametrize(
    "text", ["a\x00b", "x" * 1_000_000, "\u202egnp.exe", "\ud800".encode("utf-8", "surrogatepass") + b"stays"],
    ids=["NUL", "1 MB", "right to left", "half a character"],
)  # fmt: skip
@pytest.mark.parametrize("address", ["/compose/", "/c/{talk}/reply/"])
def test_no_text_breaks_the_form_and_a_refused_one_is_kept(
    client_of: Any, mara: models.User, talk: models.Conversation, address: str, text: str | bytes, headers: Any
) -> None:
    client = client_of(mara)
    client.raise_request_exception = False
    form = {"message_text": text, "priority": "low", "client_token": uuid4(), "recipient": talk.driver.catena_id}
    answer = client.post(address.format(talk=talk.uuid), form, headers=headers)
    assert answer.status_code in {200, 303, 422}
    body = answer.content.decode()
    if answer.status_code == 422:
        # A fragment leaves the field of the page, and so what is in it, alone.
        assert "<textarea" not in body if headers else str(text)[-20:] in body
    else:
        assert talk.thread.count() == 1


def test_a_deleted_message_is_not_quoted(client_of: Any, mara: models.User, conversation: models.Conversation) -> None:
    asked = factories.IncomingFactory(conversation=conversation, text="Take it back")
    factories.OutgoingFactory(conversation=conversation, reply_to=asked, text="On my way")
    page = f"/c/{conversation.uuid}/"
    assert "Take it back" in client_of(mara).get(page).content.decode()
    models.Message.objects.filter(pk=asked.pk).update(deleted_at=timezone.now())
    html = client_of(mara).get(page).content.decode()
    assert "On my way" in html
    assert "Take it back" not in html
