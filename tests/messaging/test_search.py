"""The one box: what it finds, what it hides, how it marks, and that no text makes it fail or take long."""

import random
import time
import uuid
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from messaging import models, search
from messaging.templatetags.marking import excerpt, marked
from tests import factories

HTMX = {"HX-Request": "true"}
pytestmark = pytest.mark.django_db


def ask(client: Any, text: str) -> Any:
    return client.get(reverse("search"), {"q": text})


def look(user: models.User, text: str, seconds: float = search.TIME_LIMIT_SECONDS) -> search.Answer:
    return search.look_up(user, text, timezone.now(), {}, seconds)


@pytest.fixture
def failed(conversation: models.Conversation, mara: models.User) -> models.Message:
    """A failure that has every kind of id."""
    message = factories.failed(
        conversation,
        author=mara,
        text="Reefer alarm <b>at dock 12</b>",
        source_id="sam-msg-771",
        catena_id=uuid.uuid4(),
    )
    models.Operation.objects.update(source_id="sam-op-1234", resource_id=uuid.uuid4())
    return message


def ids_of(message: models.Message) -> dict[str, str]:
    operation = models.Operation.objects.get()
    return {
        "message": str(message.uuid), "record": str(message.catena_id), "operation": str(operation.catena_id),
        "operation without hyphens": operation.catena_id.hex, "in capitals": str(operation.catena_id).upper(),
        "resource": str(operation.resource_id), "attempt": str(operation.logs.get().catena_id),
        "address": f"https://backhaul.example/m/{message.uuid}/", "provider's message": "sam-msg-771",
        "provider's operation": "sam-op-1234", "request": "req-7c55", "header": "X-Request-Id: req-7c55",
        "quoted": ' "req-7c55"\n',
    }  # fmt: skip


def test_any_id_of_one_message_goes_straight_to_its_page(
    failed: models.Message, sol: models.User, client_of: Any
) -> None:
    client = client_of(sol)
    for kind, text in ids_of(failed).items():
        answer = ask(client, text)
        assert (kind, answer.status_code, answer.get("Location")) == (kind, 302, f"/m/{failed.uuid}/")


def test_no_id_of_another_fleet_is_found(failed: models.Message, outsider: models.User, client_of: Any) -> None:
    client = client_of(outsider)
    for kind, text in ids_of(failed).items():
        answer = ask(client, text)
        assert (kind, answer.status_code) == (kind, 200)
        assert str(failed.uuid) not in answer.content.decode().replace(text, "")


def test_an_id_of_several_messages_lists_them(
    failed: models.Message, conversation: models.Conversation, sol: models.User, client_of: Any
) -> None:
    other = factories.failed(conversation)
    answer = ask(client_of(sol), "req-7c55")
    page = answer.content.decode()
    assert answer.status_code == 200
    assert f"/m/{failed.uuid}/" in page
    assert f"/m/{other.uuid}/" in page
    assert page.count("Request id") == 2


def test_an_id_that_many_messages_of_other_fleets_have_is_found_at_ones_own(
    failed: models.Message, mara: models.User
) -> None:
    elsewhere = factories.ConversationFactory()
    for _ in range(21):
        factories.failed(elsewhere, source_id="job-1")
    models.Message.objects.filter(pk=failed.pk).update(source_id="job-1")
    assert [hit.id for hit in look(mara, "job-1").by_id] == [failed.pk]


def test_a_deleted_message_is_not_found_by_anything(failed: models.Message, sol: models.User) -> None:
    texts = [*ids_of(failed).values(), "reefer alarm"]
    models.Message.objects.update(deleted_at=timezone.now())
    assert [text for text in texts if look(sol, text).by_id or look(sol, text).messages] == []


@pytest.mark.parametrize(
    "text", ["luis", "ORTEGA lu", "lortega", "+49 171 555 0123", "(0171) 5550123", "0049171-5550123", "usr-luis-1"]
)
def test_a_driver_is_found_by_name_user_name_phone_and_the_providers_id(
    conversation: models.Conversation, mara: models.User, outsider: models.User, text: str
) -> None:
    models.FleetUser.objects.filter(pk=conversation.driver_id).update(
        username="lortega", phone_number="+49 (171) 555-0123", source_id="usr-luis-1"
    )
    found = look(mara, text)
    assert [(hit.name, hit.address) for hit in found.drivers] == [("Luis Ortega", f"/c/{conversation.uuid}/")]
    assert found.drivers_total == 1
    assert look(outsider, text).total == 0


def test_a_driver_whom_nobody_wrote_to_leads_to_a_new_message(connection: models.Connection, mara: models.User) -> None:
    driver = factories.FleetUserFactory(connection=connection, name="Zofia Wójcik")
    assert [hit.address for hit in look(mara, "wójcik").drivers] == [f"/compose/?recipient={driver.catena_id}"]


def test_the_likeliest_driver_comes_first(connection: models.Connection, mara: models.User) -> None:
    for name in ("Anna Kowalczyk Lee", "Leena Virtanen", "Lee"):
        factories.FleetUserFactory(connection=connection, name=name)
    assert [hit.name for hit in look(mara, "lee").drivers] == ["Lee", "Leena Virtanen", "Anna Kowalczyk Lee"]


def test_words_are_found_in_any_order_by_their_beginning_the_newest_first(
    failed: models.Message, conversation: models.Conversation, mara: models.User
) -> None:
    reply = factories.IncomingFactory(conversation=conversation, text="Dock was closed, alarm off")
    factories.IncomingFactory(conversation=conversation, text="Dock is free")
    found = look(mara, "dock ala")
    assert [hit.id for hit in found.messages] == [reply.pk, failed.pk]
    assert found.messages_total == 2


def test_what_people_wrote_is_escaped_before_it_is_marked(
    failed: models.Message, mara: models.User, client_of: Any
) -> None:
    page = ask(client_of(mara), "dock <b>at").content.decode()
    assert "&lt;b&gt;at</mark> <mark>dock</mark> 12&lt;/b&gt;" in page
    assert "<b>at" not in page


def test_an_excerpt_of_a_long_text_stands_around_what_was_found() -> None:
    assert marked("a<b", ["<"]) == "a<mark>&lt;</mark>b"
    shown = excerpt("x" * 300 + " needle & hay", ["NEEDLE"])
    assert shown.startswith("… x")
    assert shown.endswith("<mark>needle</mark> &amp; hay")
    assert excerpt("short", []) == "short"


def test_an_empty_question_shows_recent_conversations(
    failed: models.Message, mara: models.User, outsider: models.User, client_of: Any
) -> None:
    assert "Recent conversations" in ask(client_of(mara), "  ").content.decode()
    assert "Recent conversations" not in ask(client_of(outsider), "").content.decode()


def test_the_fragment_never_jumps_and_is_the_page_without_htmx(
    failed: models.Message, sol: models.User, client_of: Any
) -> None:
    client = client_of(sol)
    answer = client.get(reverse("search_results"), {"q": "req-7c55"}, headers=HTMX)
    assert answer.status_code == 200
    assert f"/m/{failed.uuid}/" in answer.content.decode()
    assert "<html" not in answer.content.decode()
    assert client.get(reverse("search_results"), {"q": "a b"})["Location"] == "/search/?q=a+b"


def test_the_page_costs_the_same_with_two_finds_and_with_forty(
    conversation: models.Conversation, sol: models.User, client_of: Any
) -> None:
    client, costs = client_of(sol), []
    for more in (2, 38):
        for _ in range(more):
            factories.failed(conversation, text="The ferry is late")
        factories.FleetUserFactory.create_batch(more, connection=conversation.connection, name="Ferry Man")
        ask(client, "ferry")
        with CaptureQueriesContext(database) as queries:
            assert ask(client, "ferry").status_code == 200
        costs.append(sum("SAVEPOINT" not in one["sql"] for one in queries))
    assert costs[0] == costs[1]
    assert costs[0] <= 12


def test_more_than_a_thousand_finds_ask_for_another_word(
    conversation: models.Conversation, sol: models.User, client_of: Any
) -> None:
    rows = [factories.IncomingFactory.build(conversation=conversation, text="Copy that") for _ in range(1_002)]
    models.Message.objects.bulk_create(rows)
    page = ask(client_of(sol), "copy").content.decode()
    assert "More than 1000 messages: add a word." in page
    assert "1000+" in page
    assert page.count("data-row") == search.MOST_SHOWN


def test_when_the_time_is_up_the_page_asks_for_another_word(failed: models.Message, sol: models.User) -> None:
    clock = search._Clock(0.2)
    slow = "SELECT pg_sleep(30)"

    def sleep() -> str:
        with database.cursor() as cursor:
            cursor.execute(slow)
        return "woke"

    begun = time.monotonic()
    assert clock.run(sleep, "struck") == "struck"
    assert clock.run(lambda: "begun", "not begun") == "not begun"
    assert time.monotonic() - begun < 20
    assert clock.has_struck
    spent = look(sol, "reefer", seconds=0)
    assert (spent.is_cut_short, spent.is_too_broad, spent.total) == (True, True, 0)


def test_a_search_that_is_cut_short_is_told_and_is_no_error(
    failed: models.Message, sol: models.User, client_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "TIME_LIMIT_SECONDS", 0.0)
    answer = ask(client_of(sol), "reefer")
    assert answer.status_code == 200
    assert "Too broad: add a word." in answer.content.decode()


PIECES = [
    "'", '"', "\\", "&", "|", "!", "<->", ":*", "(", ")", "%", "_", "%%", "%s", "%(user)s", "--", "/*", ";", "\0", "\x1b",
    "\ufffd", "💥", "e\u0301", "\u202e", "\u0131", "\u0130", "ß", "a:*", "''", "$1", "{}", "[", "]", "^", "*", "+", "?", "\n",
    "\t", "req-7c55", "dock", "0", "+49171", "ffffffff-ffff-ffff-ffff-ffffffffffff", "x-request-id:", "DROP TABLE", "<script>",
    "{{7*7}}", "I-80", "\u0430" * 60, "z" * 250, "漢字", "\u200b", "--help", "\r\n", "NaN", "null",
]  # fmt: skip


@pytest.mark.chaos  # judged by the clock
def test_a_thousand_hostile_searches_neither_fail_nor_take_long(
    failed: models.Message, sol: models.User, mara: models.User, client_of: Any
) -> None:
    seed = random.randrange(2**32)
    draw, clients = random.Random(seed), [client_of(sol), client_of(mara)]
    slowest = 0.0
    for number in range(1_000):
        text = draw.choice(["", " "]).join(draw.choices(PIECES, k=draw.randint(1, 14)))
        path = draw.choice(["search", "search_results"])
        begun = time.monotonic()
        answer = clients[number % 2].get(reverse(path), {"q": text}, headers=HTMX if path == "search_results" else {})
        slowest = max(slowest, time.monotonic() - begun)
        assert answer.status_code in {200, 302}, (seed, text)
        assert b"<script>" not in answer.content.replace(b"<script src", b""), (seed, text)
    assert slowest < search.TIME_LIMIT_SECONDS, seed
