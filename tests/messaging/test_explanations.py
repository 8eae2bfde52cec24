"""What is said of a failure: which entry speaks, that a card is never bolder than our own doubt, and that edits count at once."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from messaging import models, outbox
from messaging.insight import explanations
from messaging.insight.explanations import Failure, best, holds, ranked
from messaging.insight.starting_set import STARTING_SET, add_missing
from messaging.models import Explanation
from messaging.states import AttemptOutcome, MessageState
from tests import factories

S = MessageState
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def starting_set() -> None:
    add_missing(Explanation)


def entry(**facts: Any) -> Explanation:
    defaults = {"title": "Known", "what": "It is known.", "who": "fleet", "again": "yes", "step": "resend"}
    return Explanation.objects.create(**{**defaults, **facts})


def page_of(client: Any, message: models.Message) -> str:
    answer = client.get(reverse("message", args=[message.uuid]))
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_the_starting_set_is_added_once_and_edited_entries_stay() -> None:
    assert Explanation.objects.count() == len(STARTING_SET)
    Explanation.objects.filter(code_from=429).update(title="Ours now")
    assert add_missing(Explanation) == 0
    assert Explanation.objects.get(code_from=429).title == "Ours now"


def test_no_two_entries_of_the_starting_set_name_the_same() -> None:
    facts = [tuple(one[name] for name in ("error_type", "code_from", "code_to", "words")) for one in STARTING_SET]
    assert len(set(facts)) == len(facts)
    choices = (("who", Explanation.Who), ("again", Explanation.Again), ("step", Explanation.Step))
    for one in STARTING_SET:
        for name, known in choices:
            assert one[name] in known.values, one


@pytest.mark.parametrize("error_type", ["auth", "validation", "network", "tsp", "rejected", "expired", ""])
@pytest.mark.parametrize(
    "code", [None, 400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 415, 422, 423, 425, 429, 500, 503, 599]
)
def test_every_type_and_every_common_code_is_explained(error_type: str, code: int | None) -> None:
    found = best(explanations.current(), Failure(("samsara",), error_type, code, ""))
    assert found is not None or (error_type, code) == ("", None)
    if code is not None and error_type not in {"rejected", "expired"}:
        assert found is not None
        assert found.is_specific


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"source_name": "samsara"}, True), ({"source_name": "Samsara"}, True), ({"source_name": "motive"}, False),
        ({"error_type": "tsp"}, True), ({"error_type": "auth"}, False), ({"code_from": 503}, True),
        ({"code_from": 500, "code_to": 599}, True), ({"code_from": 504}, False), ({"words": "DEVICE off"}, True),
        ({"words": "device on"}, False), ({"is_active": False}, False), ({}, True),
    ],
)  # fmt: skip
def test_an_entry_holds_when_all_that_it_names_agrees(facts: dict[str, Any], expected: bool) -> None:
    failure = Failure(("samsara_us", "samsara"), "tsp", 503, "Samsara answered #: Recipient device offline")
    assert holds(Explanation(**facts), failure) is expected


def test_a_code_that_is_not_known_agrees_with_no_code() -> None:
    assert not holds(Explanation(code_from=0, code_to=599), Failure(("samsara",), "network", None, ""))


def test_the_most_telling_entry_speaks_whatever_the_order_of_writing() -> None:
    words, general = entry(words="a very long piece of the text"), entry(error_type="tsp", is_specific=False)
    span, code = entry(code_from=500, code_to=599), entry(code_from=503)
    kind, both = entry(error_type="tsp"), entry(error_type="tsp", code_from=503)
    source, longer = entry(source_name="samsara"), entry(words="a very long piece of the text indeed")
    expected = [source, both, kind, code, span, longer, words, general]
    for listed in (expected, expected[::-1], sorted(expected, key=lambda one: one.pk)):
        assert ranked(listed) == expected


def test_of_two_that_name_the_same_the_older_one_speaks() -> None:
    first, second = entry(code_from=599), entry(code_from=599)
    assert ranked([second, first]) == [first, second]


def test_a_card_says_what_happened_who_can_mend_it_and_what_to_do(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    failed = factories.failed(
        conversation, author=mara, error_type="validation", response_status_code=422,
        reason="Samsara answered 422 (it did not accept the content): Recipient is not active",
    )  # fmt: skip
    page = page_of(client_of(mara), failed)
    assert "Luis Ortega is not active at Samsara" in page
    assert "The fleet: Northern Haulage" in page
    assert "Would fail again" in page
    assert "no phone number is known" in page


@pytest.mark.parametrize("again", ["yes", "later", "pointless"])
@pytest.mark.parametrize(
    ("columns", "lost"),
    [
        ({"error_type": "network", "response_status_code": None}, False), ({"response_status_code": 500}, False),
        ({"response_status_code": None}, False), ({"response_status_code": 422}, True),
    ],
)  # fmt: skip
def test_where_we_doubt_the_card_says_so_whatever_the_entry_says(
    conversation: models.Conversation,
    mara: models.User,
    client_of: Any,
    again: str,
    columns: dict[str, Any],
    lost: bool,
) -> None:
    failed = factories.failed(conversation, author=mara, **columns)
    entry(source_name="samsara", error_type=failed.error_type, again=again)
    if lost:
        factories.SendAttemptFactory(message=failed, outcome=AttemptOutcome.AMBIGUOUS, http_status=None)
    doubt = outbox.doubt_about(failed)
    assert doubt
    page = page_of(client_of(mara), failed)
    assert "May have arrived: ask first" in page
    assert doubt in page.replace("&#x27;", "'")
    assert "Safe to send again" not in page


def test_a_safe_failure_offers_to_send_again_once(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    failed = factories.failed(conversation, author=mara, response_status_code=429, error_type="tsp")
    page = page_of(client_of(mara), failed)
    assert "asks to slow down" in page
    assert page.count(f'action="{reverse("resend", args=[failed.uuid])}"') == 1
    answer = client_of(mara).post(reverse("resend", args=[failed.uuid]), {"back": "message"})
    assert answer.status_code == 303
    after = page_of(client_of(mara), failed)
    assert "Look at what was sent again" in after
    assert f'action="{reverse("resend", args=[failed.uuid])}"' not in after


def test_a_message_that_is_still_tried_says_wait(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    tried = factories.accepted(
        conversation, author=mara, failed_attempts=1, attempt_count=1, error_type="tsp", response_status_code=503,
        reason="Samsara answered 503 (unavailable)",
    )  # fmt: skip
    page = page_of(client_of(mara), tried)
    assert "Wait: Catena tries again by itself" in page
    assert "Sending again now could reach the driver twice" in page
    assert reverse("resend", args=[tried.uuid]) not in page


@pytest.mark.parametrize("state", [S.QUEUED, S.SUCCEEDED])
def test_what_has_not_failed_has_no_card(
    state: str, conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    columns = {"operation": factories.OperationFactory(status="success")} if state == S.SUCCEEDED else {}
    shown = factories.OutgoingFactory(conversation=conversation, author=mara, state=state, **columns)
    assert 'id="why"' not in page_of(client_of(mara), shown)


def test_the_drivers_other_connection_is_offered_where_there_is_one(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    failed = factories.failed(conversation, author=mara, response_status_code=404, error_type="tsp")
    elsewhere = factories.FleetUserFactory(name="Luis Ortega")  # of another fleet
    assert str(elsewhere.catena_id) not in page_of(client_of(mara), failed)
    second = factories.ConnectionFactory(fleet=failed.connection.fleet, description="Motive South")
    twin = factories.FleetUserFactory(connection=second, name="luis ortega")
    page = page_of(client_of(mara), failed)
    assert f"{reverse('compose')}?recipient={twin.catena_id}" in page
    assert "Write over Motive South instead" in page


def test_a_known_phone_number_can_be_dialled(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    conversation.driver.phone_number = "+1 (555) 010-7788"
    conversation.driver.save(update_fields=["phone_number"])
    failed = factories.failed(conversation, author=mara, response_status_code=503)
    page = page_of(client_of(mara), failed)
    assert 'href="tel:+15550107788"' in page
    assert "Call Luis Ortega" in page


def test_an_author_gets_the_refused_text_back_to_edit(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    failed = factories.failed(
        conversation, author=mara, text="A very long story", response_status_code=422, error_type="validation",
        reason="Samsara answered 422: Text is longer than 160 characters",
    )  # fmt: skip
    client = client_of(mara)
    page = page_of(client, failed)
    assert "The message is too long for Samsara" in page
    address = f"{reverse('conversation', args=[conversation.uuid])}?text_of={failed.uuid}"
    assert f"{address}#composer" in page
    assert "A very long story</textarea>" in client.get(address).content.decode()


def test_a_text_that_may_have_arrived_is_not_put_in_the_composer(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    failed = factories.failed(conversation, author=mara, text="A very long story", response_status_code=500)
    address = f"{reverse('conversation', args=[conversation.uuid])}?text_of={failed.uuid}"
    assert "A very long story</textarea>" not in client_of(mara).get(address).content.decode()


def test_a_changed_entry_speaks_at_once_on_the_next_page(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    failed = factories.failed(conversation, author=mara, response_status_code=429)
    client = client_of(mara)
    assert "asks to slow down" in page_of(client, failed)
    changed = Explanation.objects.get(code_from=429, error_type="")
    changed.title = "{provider} has had enough of {unknown} {0}"
    changed.save()
    assert "Samsara has had enough of {unknown} {0}" in page_of(client, failed)
    bubble = client.get(reverse("conversation", args=[conversation.uuid])).content.decode()
    assert "Samsara has had enough of {unknown} {0}" in bubble
    changed.is_active = False
    changed.save()
    assert "has had enough" not in page_of(client, failed)


def test_kept_entries_are_read_again_only_when_the_table_has_changed() -> None:
    explanations.current()
    with CaptureQueriesContext(
        database,
    ) as asked:
        explanations.current()
        explanations.current(explanations.stamp())
    assert len(asked) == 2
    entry(code_from=418)
    with CaptureQueriesContext(database) as asked:
        explanations.current()
    assert len(asked) == 2


def test_a_failure_in_a_conversation_costs_no_further_query(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    client, address = client_of(mara), reverse("conversation", args=[conversation.uuid])
    factories.OutgoingFactory(conversation=conversation, author=mara, state=S.CANCELLED)
    explanations.current()
    client.get(address)
    with CaptureQueriesContext(database) as without:
        client.get(address)
    for _ in range(5):
        factories.failed(conversation, author=mara, response_status_code=503)
    with CaptureQueriesContext(database) as with_failures:
        page = client.get(address).content.decode()
    assert page.count("Samsara was down or overloaded") == 5
    assert len(with_failures) == len(without)


def test_the_page_of_a_failure_stays_within_its_queries(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    failed = factories.failed(conversation, author=mara, response_status_code=404)
    client = client_of(mara)
    page_of(client, failed)
    with CaptureQueriesContext(database) as asked:
        page_of(client, failed)
    assert len(asked) <= 12, [one["sql"][:100] for one in asked]


def test_our_own_refusals_are_told_apart_from_the_providers(conversation: models.Conversation) -> None:
    refused = factories.OutgoingFactory(
        conversation=conversation, state=S.REJECTED, response_status_code=403, settled_at=timezone.now(),
    )  # fmt: skip
    (group,) = explanations.groups(timezone.now())
    assert group.failure.error_type == "rejected"
    found = best(explanations.current(), group.failure)
    assert found is not None
    assert found.title == "The fleet does not let us send messages"
    assert group.newest_id == refused.pk


def test_groups_gather_what_no_entry_can_tell_apart(conversation: models.Conversation) -> None:
    for number in range(3):
        factories.failed(conversation, reason=f"Samsara answered 503: unit {number}a9 is offline")
    factories.failed(conversation, occurred_at=timezone.now() - timedelta(days=31))
    (group,) = explanations.groups(timezone.now())
    assert (group.count, group.drivers, group.failure.text) == (3, 1, "Samsara answered #: unit # is offline")
