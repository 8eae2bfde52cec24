"""Support's tools on the page of a message: who may use them, what they show, and what each leaves in the audit."""

import json
import shlex
import uuid
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from messaging import models, outbox, workbench
from messaging.access import caretakers
from messaging.catena.client import MESSAGES, CatenaClient
from messaging.insight.comparing import chosen
from messaging.insight.escalation import POST_PATH, curl, posted_body, without_phone
from messaging.simulator import SimulatorServer
from messaging.states import MessageState, Priority
from messaging.views.workbench import EMPTY, MOVED, STRANGER
from tests import factories

pytestmark = pytest.mark.django_db
SECRET = "canary7f3a"
TOOLS = ("Attempts side by side", "Escalation pack", "Our request as cURL", "Raw bodies", "Internal note")


@pytest.fixture
def failed(conversation: models.Conversation, mara: models.User) -> models.Message:
    """A failure with three attempts; the provider's words hold a secret and the driver's phone number."""
    models.FleetUser.objects.filter(pk=conversation.driver_id).update(phone_number="+49 171 555-0123")
    message = factories.failed(conversation, author=mara, text="It's dock $(9) `now`", accepted_at=timezone.now())
    started = timezone.now()
    models.OperationLog.objects.update(catena_created_at=started)
    for number, (code, words) in enumerate([(429, "slow down"), (422, f"token={SECRET} for 0171/5550123")], start=1):
        at = started + timedelta(seconds=30 * number)
        factories.OperationLogFactory(
            operation=message.operation, response_status_code=code, error_details=words, catena_created_at=at,
            response_headers={"X-Request-Id": f"req-{code}", "Content-Type": "text/plain"},
        )  # fmt: skip
    return message


def page_of(client: Any, message: models.Message, query: str = "") -> str:
    answer = client.get(f"/m/{message.uuid}/{query}")
    assert answer.status_code == 200
    return str(answer.content.decode())


def actions() -> list[tuple[str, str]]:
    return [
        (row.action, row.user.username if row.user else "")
        for row in models.AuditEntry.objects.select_related("user").order_by("id")
    ]


@pytest.mark.parametrize(("person", "has_tools"), [("mara", False), ("sol", True), ("ada", True)])
def test_the_tools_are_for_support_and_administrators(
    failed: models.Message, person: str, has_tools: bool, client_of: Any, request: pytest.FixtureRequest
) -> None:
    page = page_of(client_of(request.getfixturevalue(person)), failed)
    assert [tool in page for tool in TOOLS] == [has_tools] * len(TOOLS)


@pytest.mark.parametrize("action", ["note", "care", "reveal"])
def test_a_manager_may_not_use_them_and_an_outsider_finds_nothing(
    failed: models.Message, action: str, mara: models.User, outsider: models.User, client_of: Any
) -> None:
    posted = {"note": "hello", "owner": "me", "seen": ""}
    assert client_of(mara).post(reverse(action, args=[failed.uuid]), posted).status_code == 403
    assert client_of(outsider).post(reverse(action, args=[failed.uuid]), posted).status_code == 404
    assert actions() == []
    assert not models.MessageNote.objects.exists()


@pytest.mark.parametrize("action", ["note", "care", "reveal"])
def test_a_get_of_an_action_shows_the_page_and_writes_nothing(
    failed: models.Message, action: str, sol: models.User, client_of: Any
) -> None:
    answer = client_of(sol).get(reverse(action, args=[failed.uuid]))
    assert (answer.status_code, answer["Location"].split("#")[0]) == (303, f"/m/{failed.uuid}/")
    assert actions() == []


def test_the_last_two_attempts_are_compared_unless_others_are_asked_for(
    failed: models.Message, sol: models.User, client_of: Any
) -> None:
    page = page_of(client_of(sol), failed)
    assert 'aria-label="Attempts 2 and 3"' in page
    assert "<strong>422 Unprocessable" in page
    assert "<strong>req-422</strong>" in page
    assert '<span class="vh">The same: </span>text/plain' in page
    for query in ("?compare=1,3", "?compare=3&compare=1"):
        assert 'aria-label="Attempts 1 and 3"' in page_of(client_of(sol), failed, query)


@pytest.mark.parametrize(
    ("asked", "count", "pair"),
    [
        ([], 0, None), ([], 1, None), ([], 2, (1, 2)), ([], 5, (4, 5)), (["2,3"], 3, (2, 3)), (["3", "1"], 3, (1, 3)),
        (["2,2"], 3, (2, 3)), (["0,9"], 3, (2, 3)), (["x"], 3, (2, 3)), (["²,1"], 3, (2, 3)), (["9" * 500], 3, (2, 3)),
    ],
)  # fmt: skip
def test_which_attempts_are_compared(asked: list[str], count: int, pair: tuple[int, int] | None) -> None:
    assert chosen(asked, count) == pair


def test_one_attempt_is_compared_with_nothing(
    conversation: models.Conversation, sol: models.User, client_of: Any
) -> None:
    assert "Attempts side by side" not in page_of(client_of(sol), factories.failed(conversation))


def test_the_curl_command_is_what_was_sent_quoted_and_without_a_token(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient, mara: models.User
) -> None:
    known = factories.IncomingFactory(conversation=talk)
    text = "It's $(rm -rf /) `id` \\ \"x\"\nsecond line 'end'"
    made = outbox.compose(mara, talk, text, Priority.HIGH, known, uuid.uuid4(), timezone.now())
    models.Message.objects.filter(pk=made.pk).update(not_before=timezone.now() - timedelta(seconds=60))
    outbox.drain(talk.pk, catena_client)
    message = models.Message.objects.select_related("connection", "sender", "recipient", "reply_to").get(pk=made.pk)
    attempt = models.SendAttempt.objects.get(message=message)
    body = posted_body(message)
    assert sha256(json.dumps(body, sort_keys=True).encode()).hexdigest() == attempt.body_sha256
    assert POST_PATH == MESSAGES
    command = curl(message, "https://api.example/")
    words = shlex.split(command, comments=True)
    assert words[:4] == ["curl", "--request", "POST", f"https://api.example{MESSAGES}"]
    assert "Authorization: Bearer $CATENA_TOKEN" in words
    assert json.loads(words[-1]) == body
    assert command.startswith("# Running this sends a real message")
    for secret in (catena.client_id, catena.client_secret, "Bearer ey"):
        assert secret not in command


def test_a_mirrored_message_has_no_request_of_ours(
    conversation: models.Conversation, sol: models.User, client_of: Any
) -> None:
    page = page_of(client_of(sol), factories.IncomingFactory(conversation=conversation))
    assert "Our request as cURL" not in page
    assert "Raw bodies" in page


def test_the_escalation_pack_holds_ids_and_times_but_no_secret_no_words_and_no_driver(
    failed: models.Message, sol: models.User, client_of: Any
) -> None:
    page = page_of(client_of(sol), failed)
    pack = page.partition('id="escalation-text"')[2].partition("</pre>")[0]
    operation = models.Operation.objects.get()
    for known in (
        failed.uuid,
        operation.catena_id,
        failed.connection.catena_id,
        "req-7c55, req-429, req-422",
        "HTTP 422",
    ):
        assert str(known) in pack
    assert f"{operation.logs.all()[2].catena_created_at:%Y-%m-%d %H:%M:%S}Z" in pack
    for hidden in (SECRET, "5550123", "555-0123", "Luis", "dock"):
        assert hidden not in pack
    assert "[phone]" in pack


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("call +49 171 555 0123 now", "call [phone] now"), ("0171-5550123", "[phone]"), ("00491715550123", "[phone]"),
        ("at 2026-05-12 14:03:21", "at 2026-05-12 14:03:21"), ("id 12345678", "id 12345678"),
    ],
)  # fmt: skip
def test_a_phone_number_is_hidden_however_it_is_written(text: str, shown: str) -> None:
    assert without_phone(text, "+49 (171) 555-0123") == shown


def test_raw_bodies_need_a_reveal_which_is_kept_and_ends(
    failed: models.Message, sol: models.User, ada: models.User, client_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.Operation.objects.update(raw={"region": "eu-7", "note": f"password: {SECRET}", "api_key": SECRET})
    client = client_of(sol)
    assert "eu-7" not in page_of(client, failed)
    answer = client.post(reverse("reveal", args=[failed.uuid]))
    address = answer["Location"].partition("#")[0]
    opened = client.get(address).content.decode()
    assert "eu-7" in opened
    assert SECRET not in opened
    assert actions() == [("raw_revealed", "sol")]
    assert models.AuditEntry.objects.get().message == failed

    proof = address.partition("=")[2]
    assert "eu-7" not in page_of(client_of(ada), failed, f"?revealed={proof}")
    other = factories.failed(failed.conversation)
    models.Operation.objects.update(raw={"region": "eu-7"})
    assert "eu-7" not in page_of(client, other, f"?revealed={proof}")
    assert "eu-7" not in page_of(client, failed, f"?revealed={proof[:-2]}xx")
    monkeypatch.setattr(workbench, "OPEN_FOR", timedelta(seconds=-1))
    assert "eu-7" not in page_of(client, failed, f"?revealed={proof}")


def test_a_note_is_kept_with_its_author_and_read_by_the_fleets_managers(
    failed: models.Message, sol: models.User, mara: models.User, client_of: Any
) -> None:
    answer = client_of(sol).post(reverse("note", args=[failed.uuid]), {"note": " Called <b>them</b> "})
    assert (answer.status_code, answer["Location"]) == (303, f"/m/{failed.uuid}/#team")
    page = page_of(client_of(mara), failed)
    assert "Called &lt;b&gt;them&lt;/b&gt;" in page
    assert sol.label in page
    assert reverse("note", args=[failed.uuid]) not in page
    assert actions() == [("note_added", "sol")]
    assert "Called" not in json.dumps(models.AuditEntry.objects.get().detail)


@pytest.mark.parametrize("text", ["", " \n", "x" * (workbench.NOTE_LENGTH + 1)])
def test_a_refused_note_keeps_what_was_typed(
    failed: models.Message, sol: models.User, client_of: Any, text: str
) -> None:
    answer = client_of(sol).post(reverse("note", args=[failed.uuid]), {"note": text})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert f">{text.strip()}</textarea>" in page
    assert (EMPTY in page) is not text.strip().startswith("x")
    assert not models.MessageNote.objects.exists()


def test_a_message_is_taken_given_and_released_and_each_is_audited(
    failed: models.Message, sol: models.User, ada: models.User, mara: models.User, client_of: Any
) -> None:
    client, address = client_of(sol), reverse("care", args=[failed.uuid])
    assert "Nobody looks after this yet" in page_of(client, failed)
    client.post(address, {"owner": "me", "seen": ""})
    assert f"<strong>{sol.label}</strong> looks after this" in page_of(client_of(mara), failed)
    client.post(address, {"owner": ada.pk, "seen": sol.pk})
    assert models.MessageCare.objects.get().owner == ada
    client.post(address, {"owner": "none", "seen": ada.pk})
    assert models.MessageCare.objects.get().owner is None
    assert actions() == [("care_given", "sol"), ("care_given", "sol"), ("care_released", "sol")]


def test_who_comes_second_does_not_take_a_message_away(
    failed: models.Message, sol: models.User, ada: models.User, client_of: Any
) -> None:
    address = reverse("care", args=[failed.uuid])
    client_of(ada).post(address, {"owner": "me", "seen": ""})
    answer = client_of(sol).post(address, {"owner": "me", "seen": ""}, follow=True)
    assert MOVED in answer.content.decode()
    assert models.MessageCare.objects.get().owner == ada
    # The same press again changes nothing and leaves no second trace.
    client_of(ada).post(address, {"owner": "me", "seen": ""})
    assert actions() == [("care_given", "ada")]


@pytest.mark.parametrize("word", ["", "x", "999999", "-1", "mara"])
def test_only_colleagues_of_support_can_be_given_a_message(
    failed: models.Message, sol: models.User, mara: models.User, client_of: Any, word: str
) -> None:
    owner = mara.pk if word == "mara" else word
    answer = client_of(sol).post(reverse("care", args=[failed.uuid]), {"owner": owner, "seen": ""}, follow=True)
    assert STRANGER in answer.content.decode()
    assert not models.MessageCare.objects.exists()


def test_related_messages_are_repeats_twins_and_the_drivers_next_words(
    failed: models.Message, sol: models.User, mara: models.User, client_of: Any
) -> None:
    talk, at = failed.conversation, failed.occurred_at
    twin = factories.OutgoingFactory(
        conversation=talk,
        author=mara,
        text=failed.text,
        occurred_at=at + timedelta(minutes=9),
        state=MessageState.WAITING,
    )
    late = factories.OutgoingFactory(
        conversation=talk, text=failed.text, occurred_at=at + timedelta(minutes=11), state=MessageState.WAITING
    )
    before = factories.IncomingFactory(conversation=talk, occurred_at=at - timedelta(minutes=1))
    reply = factories.IncomingFactory(conversation=talk, occurred_at=at + timedelta(minutes=2))
    again = outbox.resend(failed, mara, timezone.now(), is_sure=True).message
    client = client_of(sol)
    page = page_of(client, failed).partition("Related messages")[2]
    shown = {one: str(one.uuid) in page for one in (twin, late, before, reply, again)}
    assert shown == {twin: True, late: False, before: False, reply: True, again: True}
    assert "The driver&#x27;s next words" in page
    other_way = page_of(client, again).partition("Related messages")[2]
    assert f"/m/{failed.uuid}/" in other_way
    assert other_way.count(f'href="/m/{failed.uuid}/"') == 1
    assert "Related messages" not in page_of(client_of(mara), failed)


def test_our_own_request_is_told_to_support_with_worker_and_digest(
    failed: models.Message, sol: models.User, mara: models.User, client_of: Any
) -> None:
    factories.SendAttemptFactory(message=failed, worker="host-3/7", body_sha256="ab12" * 16)
    page = page_of(client_of(sol), failed)
    assert "POST /v2/telematics/messages by host-3/7, SHA-256 of the body ab12ab12ab12ab12…" in page
    assert "host-3/7" not in page_of(client_of(mara), failed)


@pytest.mark.parametrize("person", ["mara", "sol"])
def test_the_page_costs_the_same_with_much_beside_it(
    failed: models.Message, person: str, client_of: Any, request: pytest.FixtureRequest, sol: models.User
) -> None:
    client, costs = client_of(request.getfixturevalue(person)), []
    page_of(client, failed)
    for _ in range(2):
        with CaptureQueriesContext(database) as queries:
            page_of(client, failed)
        costs.append(len(queries))
        for number in range(8):
            workbench.note(sol, failed, f"note {number}")
            factories.IncomingFactory(conversation=failed.conversation)
            factories.OutgoingFactory(conversation=failed.conversation, text=failed.text, state=MessageState.WAITING)
            factories.OperationLogFactory(operation=failed.operation)
            factories.UserFactory(role=models.Role.SUPPORT)
    assert costs[0] == costs[1] <= 12


def test_only_who_sees_a_message_or_an_incident_can_be_given_it(
    failed: models.Message, sol: models.User, ada: models.User, mara: models.User
) -> None:
    """An administrator who is neither superuser nor in a fleet of it would meet a page that does not exist."""
    blind = factories.UserFactory(username="blind", role=models.Role.ADMINISTRATOR)
    fleet = failed.connection.fleet
    member = factories.UserFactory(username="member", role=models.Role.ADMINISTRATOR, fleets=[fleet])
    able = {one.pk for one in (sol, ada, member)}
    assert {one.pk for one in workbench.colleagues(failed)} == able
    for place in ({"connection": failed.connection}, {"source_name": failed.connection.source_name}):
        incident = models.Incident(**place)
        assert {one.pk for one in caretakers(incident.places)} == able
    assert not models.Message.objects.visible_to(blind).exists()
