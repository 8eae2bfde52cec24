"""Saved views: kept, opened, renamed, replaced, shared and deleted by plain forms; nobody touches another's."""

from typing import Any

import pytest
from django.urls import reverse

from messaging import models, saved
from tests import factories

pytestmark = pytest.mark.django_db
OPS = "/ops/"


@pytest.fixture
def own(sol: models.User) -> models.SavedView:
    return models.SavedView.objects.create(user=sol, name="Motive down", query="code=503")


def keep(client: Any, **fields: Any) -> Any:
    return client.post(reverse("saved_views"), {"name": "Mine", "query": "code=503", **fields})


def change(client: Any, view: models.SavedView, **fields: Any) -> Any:
    return client.post(reverse("saved_view", args=[view.pk]), {"name": view.name, "action": "change", **fields})


def all_views() -> list[tuple[str, str, bool]]:
    return list(models.SavedView.objects.values_list("name", "query", "is_shared"))


def test_a_filter_is_kept_under_a_name_and_opened(sol: models.User, client_of: Any) -> None:
    client = client_of(sol)
    answer = keep(
        client, name="  Late   ones ", query="code=503&status=&range=7d&before=1.1&evil=1&from=2026-05-12T00:00Z"
    )
    query = "from=2026-05-12T00%3A00%3A00Z&code=503"
    assert (answer.status_code, answer["Location"]) == (303, f"{OPS}?{query}")
    assert all_views() == [("Late ones", query, False)]
    page = client.get(answer["Location"]).content.decode()
    assert "<bdi>Late ones</bdi>" in page
    assert 'aria-current="true"><bdi>Late ones' in " ".join(page.split()).replace('" >', '">')


def test_a_name_that_is_taken_asks_before_it_replaces(own: models.SavedView, sol: models.User, client_of: Any) -> None:
    client = client_of(sol)
    refused = keep(client, name=own.name, query="code=404", is_shared="1")
    page = refused.content.decode()
    assert refused.status_code == 409
    assert all_views() == [(own.name, "code=503", False)]
    assert "You already have a view named “Motive down”." in page
    assert 'value="Motive down"' in page
    assert 'name="replace"' in page
    assert 'value="code=404"' in page
    assert keep(client, name=own.name, query="code=404", is_shared="1", replace="1").status_code == 303
    assert all_views() == [(own.name, "code=404", True)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": " "}, "Give the view a name."),
        ({"name": "x" * 61}, "The name is too long."),
        ({"query": ""}, "Choose a filter first"),
        ({"query": "evil=1"}, "Choose a filter first"),
        ({"query": "text=" + "x" * 1000}, "too long to be kept"),
        ({"query": "cause=" + "%C3%A9" * 166}, "too long to be kept"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_the_words_still_there(
    sol: models.User, client_of: Any, fields: dict[str, str], words: str
) -> None:
    answer = keep(client_of(sol), **fields)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert words in page
    assert all_views() == []
    assert f'value="{fields.get("name", "Mine")}"' in page


def test_a_view_is_renamed_shared_and_given_another_filter(
    own: models.SavedView, sol: models.User, client_of: Any
) -> None:
    client = client_of(sol)
    assert change(client, own, name="Motive", is_shared="1").status_code == 303
    assert all_views() == [("Motive", "code=503", True)]
    assert change(client, own, name="Motive", query="code=404").status_code == 303
    assert all_views() == [("Motive", "code=404", False)]


def test_a_rename_onto_another_view_is_refused_and_keeps_what_was_typed(
    own: models.SavedView, sol: models.User, client_of: Any
) -> None:
    models.SavedView.objects.create(user=sol, name="Other", query="code=404")
    answer = change(client_of(sol), own, name="Other", is_shared="1")
    assert answer.status_code == 409
    assert 'id="refused"' in answer.content.decode()
    assert all_views() == [("Motive down", "code=503", False), ("Other", "code=404", False)]


def test_a_view_is_deleted_by_its_owner_alone(
    own: models.SavedView, sol: models.User, mara: models.User, client_of: Any
) -> None:
    models.SavedView.objects.update(is_shared=True)
    foreign = client_of(mara)
    assert change(foreign, own, action="delete").status_code == 404
    assert change(foreign, own, name="Hers").status_code == 404
    assert all_views() == [(own.name, "code=503", True)]
    assert change(client_of(sol), own, action="delete").status_code == 303
    assert all_views() == []


def test_shared_views_are_seen_by_everybody_and_private_ones_by_nobody_else(
    own: models.SavedView, sol: models.User, mara: models.User, client_of: Any
) -> None:
    client, page = client_of(mara), reverse("saved_views")
    for address in (OPS, page, reverse("causes")):
        assert "Motive down" not in client.get(address).content.decode()
    models.SavedView.objects.update(is_shared=True)
    for address in (OPS, page, reverse("causes")):
        assert "Motive down" in client.get(address).content.decode()
    assert reverse("saved_view", args=[own.pk]) not in client.get(page).content.decode()


def test_a_shared_view_shows_each_person_only_what_they_may_see(
    connection: models.Connection, sol: models.User, mara: models.User, client_of: Any
) -> None:
    foreign = factories.failed(
        factories.ConversationFactory(driver=factories.FleetUserFactory(connection=factories.ConnectionFactory()))
    )
    query = f"connection={foreign.connection.catena_id}"
    models.SavedView.objects.create(user=sol, name="Theirs", query=query, is_shared=True)
    assert str(foreign.uuid) in client_of(sol).get(f"{OPS}?{query}").content.decode()
    assert str(foreign.uuid) not in client_of(mara).get(f"{OPS}?{query}").content.decode()


def test_a_get_changes_no_view_and_nobody_keeps_views_without_end(
    own: models.SavedView, sol: models.User, client_of: Any
) -> None:
    client = client_of(sol)
    assert client.get(reverse("saved_view", args=[own.pk]) + "?action=delete").status_code == 405
    views = [models.SavedView(user=sol, name=f"{n}", query="code=1") for n in range(saved.MOST_OWN)]
    models.SavedView.objects.bulk_create(views)
    answer = keep(client, name="One more")
    assert (answer.status_code, "Delete one first" in answer.content.decode()) == (409, True)


def test_the_page_of_views_costs_the_same_with_many(
    sol: models.User, client_of: Any, django_assert_num_queries: Any, django_assert_max_num_queries: Any
) -> None:
    client = client_of(sol)
    for more in (2, 40):
        for number in range(more):
            models.SavedView.objects.create(
                user=factories.UserFactory(), name=f"{number}", query="code=1", is_shared=True
            )
        with django_assert_max_num_queries(7):
            assert client.get(reverse("saved_views") + "?code=503").status_code == 200
