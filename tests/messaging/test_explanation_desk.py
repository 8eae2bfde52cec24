"""Where explanations are written: the panel with its preview, and the worklist of what nobody has explained."""

from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from messaging import models
from messaging.insight.starting_set import add_missing
from messaging.models import AuditEntry, Explanation
from tests import factories

pytestmark = pytest.mark.django_db
ADD = "/admin/messaging/explanation/add/"
FORM = {
    "title": "The yard is closed", "what": "{provider} says that the yard is closed.", "who": "fleet", "again": "later",
    "step": "wait", "advice": "", "source_name": "", "error_type": "tsp", "code_from": "", "code_to": "", "words": "",
    "is_specific": "on", "is_active": "on",
}  # fmt: skip


@pytest.fixture(autouse=True)
def starting_set() -> None:
    add_missing(Explanation)


@pytest.fixture
def odd_failures(conversation: models.Conversation) -> list[models.Message]:
    """Three that no specific entry speaks for, and one that has its own."""
    reason = "Samsara reported an error: Yard 7 is closed for stocktaking"
    odd = [factories.failed(conversation, reason=reason, response_status_code=None) for _ in range(3)]
    return [*odd, factories.failed(conversation, response_status_code=429, reason="Samsara answered 429")]


def page_of(client: Any, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_the_worklist_shows_what_no_specific_entry_speaks_for(
    odd_failures: list[models.Message], ada: models.User, client_of: Any
) -> None:
    page = page_of(client_of(ada), reverse("unexplained"))
    assert "25 % of 4 failures have an explanation of their own; 3 have not." in page
    assert "Yard # is closed for stocktaking" in page
    assert "People read: Samsara reported an error" in page
    assert "source_name=samsara&amp;error_type=tsp&amp;words=is+closed+for+stocktaking" in page
    assert "asks to slow down" not in page


def test_the_link_of_the_worklist_fills_the_form_and_shows_what_it_would_explain(
    odd_failures: list[models.Message], ada: models.User, client_of: Any
) -> None:
    address = f"{ADD}?source_name=samsara&error_type=tsp&words=is+closed+for+stocktaking"
    page = page_of(client_of(ada), address)
    assert 'value="is closed for stocktaking"' in page
    assert "Speaks for 3 failures." in page


def test_a_written_entry_takes_its_failures_off_the_worklist(
    odd_failures: list[models.Message], ada: models.User, client_of: Any
) -> None:
    client = client_of(ada)
    assert client.post(ADD, {**FORM, "words": "closed for stocktaking"}).status_code == 302
    assert "Every failure is explained" in page_of(client, reverse("unexplained"))
    made = Explanation.objects.get(title="The yard is closed")
    assert made.changed_by == ada
    assert AuditEntry.objects.filter(action="explanation_added", user=ada).count() == 1
    shown = page_of(client, reverse("message", args=[odd_failures[0].uuid]))
    assert "Samsara says that the yard is closed." in shown


@pytest.mark.parametrize("is_new", [True, False])
def test_a_preview_counts_unsaved_edits_and_saves_nothing(
    odd_failures: list[models.Message], ada: models.User, client_of: Any, is_new: bool
) -> None:
    kept = Explanation.objects.get(code_from=425)
    before = list(Explanation.objects.order_by("pk").values())
    address = ADD if is_new else f"/admin/messaging/explanation/{kept.pk}/change/"
    edited = {**FORM, "words": "closed for stocktaking", "_preview": "Preview"}
    page = " ".join(client_of(ada).post(address, edited).content.decode().split())
    assert "Speaks for 3 failures." in page
    assert 'value="The yard is closed"' in page
    assert "Yard # is closed for stocktaking" in page
    assert list(Explanation.objects.order_by("pk").values()) == before
    assert not AuditEntry.objects.exists()


def test_a_preview_tells_where_a_more_telling_entry_speaks(
    odd_failures: list[models.Message], ada: models.User, client_of: Any
) -> None:
    given = {**FORM, "error_type": "", "is_specific": "", "_preview": "Preview"}
    page = " ".join(client_of(ada).post(ADD, given).content.decode().split())
    assert "Speaks for 0 failures." in page
    assert "It also agrees with 4 of which a more telling entry speaks." in page


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"words": "dock 7"}, "Leave numbers and ids out"), ({"code_from": "500", "code_to": "499"}, "cannot be below"),
        ({"code_to": "499"}, "cannot be below"), ({"title": ""}, "This field is required"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("button", ["_preview", "_save"])
def test_mistakes_are_named_and_what_was_typed_stays(
    wrong: dict[str, str], words: str, button: str, ada: models.User, client_of: Any
) -> None:
    answer = client_of(ada).post(ADD, {**FORM, "advice": "Typed with care", **wrong, button: "1"})
    page = answer.content.decode()
    assert answer.status_code == 200
    assert words in page
    assert "Typed with care" in page


def test_the_list_counts_the_failures_of_each_entry_in_one_query(
    odd_failures: list[models.Message], ada: models.User, client_of: Any
) -> None:
    client = client_of(ada)
    page_of(client, "/admin/messaging/explanation/")
    with CaptureQueriesContext(database) as asked:
        page = page_of(client, "/admin/messaging/explanation/?q=slow")
    assert 'class="field-spoken">1<' in page
    assert len(asked) <= 12


@pytest.mark.parametrize(("person", "status"), [("sol", 200), ("ada", 200), ("mara", 404), ("outsider", 404)])
def test_the_worklist_is_for_support_and_administrators(
    person: str, status: int, client_of: Any, request: pytest.FixtureRequest
) -> None:
    assert client_of(request.getfixturevalue(person)).get(reverse("unexplained")).status_code == status


def test_support_reads_the_worklist_and_has_no_link_into_the_panel(
    odd_failures: list[models.Message], sol: models.User, client_of: Any
) -> None:
    page = page_of(client_of(sol), reverse("unexplained"))
    assert "An administrator writes explanations" in page
    assert "/admin/" not in page


def test_only_administrators_open_the_entries(sol: models.User, client_of: Any) -> None:
    assert client_of(sol).post(ADD, FORM).status_code in {302, 403}
    assert not Explanation.objects.filter(title="The yard is closed").exists()


def test_the_worklist_costs_the_same_however_many_causes_there_are(
    conversation: models.Conversation, sol: models.User, client_of: Any
) -> None:
    client, counts = client_of(sol), []
    for batch in range(2):
        for number in range(1 + 9 * batch):
            said = f"Samsara reported an error: cause {'abcdefghij'[number]}{'x' * batch}"
            factories.failed(conversation, reason=said, response_status_code=None)
        page_of(client, reverse("unexplained"))
        with CaptureQueriesContext(database) as asked:
            page_of(client, reverse("unexplained"))
        counts.append(len(asked))
    assert counts[0] == counts[1] <= 12
