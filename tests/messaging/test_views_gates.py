"""Everyone sees why sending waits and until when; who reviews opens and closes gates by hand; nobody else does."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from messaging import gates, live, models
from messaging.states import GateCause, GateState
from tests import factories
from tests.messaging.test_hostile_input import WORDS

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
C = GateCause
WHOLE = "/connections/gate/"
NOTICE = re.compile(r'<div id="paused">\s*(<div class="banner">.*?</div>\s*</div>)?\s*</div>', re.DOTALL)


def address_of(connection: models.Connection) -> str:
    return reverse("connection_gate", args=[connection.catena_id])


def page_of(client: Any, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return str(answer.content.decode())


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def notice(client: Any, address: str) -> str:
    found = NOTICE.search(page_of(client, address))
    assert found
    return words(found[1] or "")


def clock(moment: Any) -> str:
    """As pages write it: with its day, unless that is today."""
    local = timezone.localtime(moment)
    return str(local.strftime("%H:%M" if local.date() == timezone.localdate() else "%-d %b %Y, %H:%M"))


def gate_of(connection: models.Connection | None) -> models.Gate:
    return models.Gate.objects.get(connection=connection)


# What is seen


@pytest.fixture
def shown_on(conversation: models.Conversation) -> list[str]:
    return ["/", conversation.get_absolute_url(), "/compose/"]


def test_no_page_says_anything_while_every_gate_is_open(
    shown_on: list[str], mara: models.User, conversation: models.Conversation, client_of: Any
) -> None:
    models.Gate.objects.create(connection=conversation.connection)
    client = client_of(mara)
    assert [notice(client, address) for address in shown_on] == ["", "", ""]
    assert "Sending is paused" not in "".join(page_of(client, address) for address in shown_on)


@pytest.mark.parametrize("cause", sorted(gates.PROBED_CAUSES))
def test_every_page_that_writes_says_why_it_waits_and_when_it_is_tried_again(
    shown_on: list[str], mara: models.User, client_of: Any, cause: GateCause
) -> None:
    again = gates.close_gate(None, cause, timezone.now(), timedelta(minutes=4))
    client = client_of(mara)
    for address in shown_on:
        assert notice(client, address) == (
            f"Sending is paused. {cause.label} , tried again at {clock(again)} . Messages wait and go out by themselves."
        )


def test_a_pause_with_a_time_names_it_and_the_connection_is_linked(
    shown_on: list[str], mara: models.User, conversation: models.Conversation, client_of: Any
) -> None:
    mine = conversation.connection
    until = gates.close_gate(mine.pk, C.RATE_LIMIT, timezone.now(), timedelta(minutes=4))
    client = client_of(mara)
    for address in shown_on:
        said = notice(client, address)
        assert said.startswith(f"Sending is paused on Northern Haulage, {mine.label}")
        assert f"until {clock(until)}" in said
        assert f'href="/connections/{mine.catena_id}/"' in page_of(client, address)


def test_what_a_person_paused_says_so_and_shows_no_tag_of_theirs(
    conversation: models.Conversation, mara: models.User, sol: models.User, client_of: Any
) -> None:
    gates.close_by_hand(conversation.connection_id, sol, "<b>Maintenance</b>", timezone.now())
    page = page_of(client_of(mara), conversation.get_absolute_url())
    assert "&lt;b&gt;Maintenance&lt;/b&gt;" in page
    assert "<b>Maintenance" not in page
    assert "until somebody lets it go on" in page


def test_a_conversation_says_nothing_of_other_connections_and_nobody_hears_of_foreign_ones(
    conversation: models.Conversation, mara: models.User, outsider: models.User, client_of: Any
) -> None:
    other = factories.ConnectionFactory(fleet=conversation.connection.fleet)
    foreign = factories.ConnectionFactory()
    for one in (other, foreign):
        gates.close_gate(one.pk, C.AMBIGUITY, timezone.now())
    client = client_of(mara)
    assert notice(client, conversation.get_absolute_url()) == ""
    inbox = notice(client, "/")
    assert other.label in inbox
    assert foreign.label not in inbox
    assert notice(client_of(outsider), "/") == ""


def test_many_paused_connections_are_counted_and_cost_one_query(
    fleet: models.Fleet, mara: models.User, client_of: Any, django_assert_max_num_queries: Any
) -> None:
    for one in factories.ConnectionFactory.create_batch(9, fleet=fleet):
        gates.close_gate(one.pk, C.AMBIGUITY, timezone.now())
    client = client_of(mara)
    with django_assert_max_num_queries(12):
        said = notice(client, "/")
    assert said.count("Sending is paused on") == 3
    assert said.endswith("6 more connections")


def test_the_composer_stays_usable_and_the_message_waits(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    again = gates.close_gate(conversation.connection_id, C.AMBIGUITY, timezone.now(), timedelta(minutes=4))
    client = client_of(mara)
    page = page_of(client, conversation.get_absolute_url())
    token = re.search(r'name="client_token" value="([^"]+)"', page)
    assert token
    form = {"message_text": "Dock 4", "priority": "low", "client_token": token[1]}
    assert client.post(f"{conversation.get_absolute_url()}reply/", form).status_code == 303
    assert models.Message.objects.get().state == "queued"
    shown = page_of(client, conversation.get_absolute_url())
    assert f"Paused: {C.AMBIGUITY.label}, tried again at {clock(again)}" in shown


# How it is repainted


def poll(client: Any, since: live.Cursor, view: str, scope: int | str = "") -> str:
    asked = {"v": view, "scope": scope, "since": str(since), "every": live.IDLE_POLL_MS}
    return str(client.get("/_f/live/", asked, headers=HTMX).content.decode())


@pytest.mark.django_db(transaction=True)
def test_a_gate_that_moves_is_told_by_the_next_poll_with_no_message_waiting(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    client, since = client_of(mara), live.glance(mara).cursor
    places = [("inbox", ""), ("conversation", conversation.pk), ("page", "")]
    assert [poll(client, since, *place) for place in places] == ["", "", ""]
    gates.close_gate(conversation.connection_id, C.AMBIGUITY, timezone.now())
    for place in places:
        told = poll(client, since, *place)
        assert '<hx-partial hx-target="#paused" hx-swap="innerMorph">' in told
        assert C.AMBIGUITY.label in told
    later = live.glance(mara).cursor
    assert [poll(client, later, *place) for place in places] == ["", "", ""]
    gates.open_probed(gate_of(conversation.connection), timezone.now())
    for place in places:
        told = poll(client, later, *place)
        assert 'hx-target="#paused"' in told
        assert "Sending is paused" not in told


@pytest.mark.django_db(transaction=True)
def test_a_foreign_gate_is_no_news_and_no_scope_reveals_one(
    conversation: models.Conversation, outsider: models.User, client_of: Any
) -> None:
    client, since = client_of(outsider), live.glance(outsider).cursor
    gates.close_gate(conversation.connection_id, C.AMBIGUITY, timezone.now())
    assert poll(client, since, "inbox") == ""
    assert C.AMBIGUITY.label not in poll(client, since, "conversation", conversation.pk)


@pytest.mark.django_db(transaction=True)
def test_other_news_carry_no_notice(conversation: models.Conversation, mara: models.User, client_of: Any) -> None:
    gates.close_gate(None, C.LOGIN, timezone.now())
    client, since = client_of(mara), live.glance(mara).cursor
    factories.IncomingFactory(conversation=conversation)
    conversation.summarise()
    assert "#paused" not in poll(client, since, "inbox")


@pytest.mark.django_db(transaction=True)
def test_the_list_of_connections_repaints_its_own_notice(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    client, since = client_of(mara), live.glance(mara).cursor
    gates.close_gate(None, C.LOGIN, timezone.now())
    told = poll(client, since, "connections")
    assert "All sending is paused" in told
    assert 'hx-target="#paused"' not in told


@pytest.mark.django_db(transaction=True)
def test_a_thread_opened_by_a_click_brings_its_own_notice(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    gates.close_gate(conversation.connection_id, C.AMBIGUITY, timezone.now())
    opened = client_of(mara).get(f"/_f{conversation.get_absolute_url()}", headers=HTMX).content.decode()
    assert re.search(r'hx-target="#paused"[^>]*>.*Sending is paused', opened, re.DOTALL)


# By hand


@pytest.mark.parametrize("who", ["sol", "ada"])
@pytest.mark.parametrize("is_whole", [True, False])
def test_who_reviews_pauses_and_resumes_with_a_reason_and_the_audit_keeps_it(
    who: str, is_whole: bool, connection: models.Connection, client_of: Any, request: pytest.FixtureRequest
) -> None:
    person, one = request.getfixturevalue(who), None if is_whole else connection
    client, address = client_of(person), WHOLE if is_whole else address_of(connection)
    page = "/connections/" if is_whole else f"/connections/{connection.catena_id}/"
    assert f'action="{address}"' in page_of(client, page)
    closed = client.post(address, {"action": "close", "reason": " Provider\nmaintenance "})
    assert (closed.status_code, closed["Location"]) == (303, page)
    gate = gate_of(one)
    assert (gate.state, gate.cause, gate.reason) == (GateState.CLOSED, C.OPERATOR, "Provider maintenance")
    shown = page_of(client, page)
    assert "Sending is paused on" in shown
    assert 'value="close"' not in shown
    assert client.post(address, {"action": "open", "reason": "It is over"}).status_code == 303
    assert gate_of(one).state == GateState.OPEN
    assert "Messages go out again" in page_of(client, page)
    entries = models.AuditEntry.objects.order_by("id").values_list("action", "user", "connection", "detail__reason")
    key = one.pk if one else None
    assert list(entries) == [
        ("gate_closed", person.pk, key, "Provider maintenance"), ("gate_opened", person.pk, key, "It is over"),
    ]  # fmt: skip


def test_a_manager_sees_no_form_and_is_refused(
    connection: models.Connection, mara: models.User, client_of: Any
) -> None:
    client = client_of(mara)
    assert "gate-reason" not in page_of(client, "/connections/")
    assert "gate-reason" not in page_of(client, f"/connections/{connection.catena_id}/")
    for address in (WHOLE, address_of(connection)):
        assert client.post(address, {"action": "close", "reason": "I want to"}).status_code == 403
    assert not models.Gate.objects.exists()


def test_an_outsider_is_told_that_there_is_no_such_connection(
    connection: models.Connection, outsider: models.User, client_of: Any
) -> None:
    form = {"action": "close", "reason": "I want to"}
    assert client_of(outsider).post(address_of(connection), form).status_code == 404
    assert client_of(outsider).post(WHOLE, form).status_code == 403
    assert not models.Gate.objects.exists()


def test_a_get_only_leads_back_to_the_page(connection: models.Connection, sol: models.User, client_of: Any) -> None:
    client = client_of(sol)
    assert client.get(WHOLE)["Location"] == "/connections/"
    assert client.get(address_of(connection))["Location"] == f"/connections/{connection.catena_id}/"
    assert not models.Gate.objects.exists()


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"action": "close"}, "Write a reason"),
        ({"action": "close", "reason": " \t "}, "Write a reason"),
        ({"action": "close", "reason": "\x01\x02"}, "Write a reason"),
        ({"action": "close", "reason": "a\x00b"}, "Null characters are not allowed."),
        ({"action": "close", "reason": "x" * 201}, "Shorten it to 200 characters."),
        ({"reason": "Because"}, "Choose whether sending pauses or goes on."),
        ({"action": "lock", "reason": "<i>Because</i>"}, "Choose whether sending pauses or goes on."),
    ],
)
@pytest.mark.parametrize("is_whole", [True, False])
def test_a_form_that_says_too_little_or_too_much_changes_nothing_and_keeps_what_was_typed(
    form: dict[str, str], sentence: str, is_whole: bool, connection: models.Connection, sol: models.User, client_of: Any
) -> None:
    answer = client_of(sol).post(WHOLE if is_whole else address_of(connection), form)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert sentence in page
    assert "<i>Because" not in page
    if "Because" in form.get("reason", ""):
        assert "Because" in page
    assert not models.Gate.objects.exists()


def test_two_people_at_once_are_told_when_nothing_was_left_to_do(
    connection: models.Connection, sol: models.User, client_of: Any
) -> None:
    client = client_of(sol)
    opened = client.post(address_of(connection), {"action": "open", "reason": "It is over"}, follow=True)
    assert "Nothing was changed: sending is not paused" in opened.content.decode()
    gates.close_by_hand(connection.pk, sol, "First", timezone.now())
    closed = client.post(address_of(connection), {"action": "close", "reason": "Second"}, follow=True)
    assert "a colleague has paused sending" in closed.content.decode()
    assert gate_of(connection).reason == "First"


def test_a_gate_locked_by_a_restore_offers_no_way_out_here(
    connection: models.Connection, sol: models.User, client_of: Any
) -> None:
    models.Gate.objects.create(state=GateState.LOCKED, cause=C.RESTORE, reason="The database was restored")
    client = client_of(sol)
    page = page_of(client, "/connections/")
    assert "locked until the restored database has been checked" in page
    assert "gate-reason" not in page
    for action in ("open", "close"):
        client.post(WHOLE, {"action": action, "reason": "Please"})
    assert gate_of(None).state == GateState.LOCKED
    assert not models.AuditEntry.objects.exists()


def test_what_catena_paused_can_be_kept_paused(connection: models.Connection, sol: models.User, client_of: Any) -> None:
    gates.close_gate(connection.pk, C.AMBIGUITY, timezone.now())
    client = client_of(sol)
    page = page_of(client, f"/connections/{connection.catena_id}/")
    assert "Let sending go on" in page
    assert "Keep it paused" in page
    client.post(address_of(connection), {"action": "close", "reason": "Wait for Samsara"})
    assert (gate_of(connection).cause, gate_of(connection).probe_at) == (C.OPERATOR, None)


def test_no_form_of_a_gate_breaks_over_damaged_fields(
    connection: models.Connection, sol: models.User, client_of: Any
) -> None:
    client = client_of(sol)
    client.raise_request_exception = False
    forms = [{"action": action, "reason": word} for word in WORDS for action in (word, "close", "open")]
    answers = [client.post(address, form) for address in (WHOLE, address_of(connection)) for form in forms]
    assert {answer.status_code for answer in answers} == {303, 422}
    assert page_of(client, "/connections/")
