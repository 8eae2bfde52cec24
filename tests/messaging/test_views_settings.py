"""A person's own settings, password and the list of keys."""

import re
from typing import Any

import pytest

from messaging import models
from tests import factories

pytestmark = pytest.mark.django_db
CHOSEN = {"time_zone": "America/Chicago", "theme": "dark", "undo_seconds": "20"}


def test_settings_are_stored_and_said_to_be(client_of: Any, mara: models.User) -> None:
    client = client_of(mara)
    answer = client.post("/settings/", CHOSEN)
    assert (answer.status_code, answer["Location"]) == (303, "/settings/")
    assert (answer.cookies["theme"].value, answer.cookies["theme"]["httponly"]) == ("dark", True)
    mara.refresh_from_db()
    assert (mara.time_zone, mara.theme, mara.undo_seconds, mara.has_shortcuts) == ("America/Chicago", "dark", 20, False)
    html = client.get("/settings/").content.decode()
    assert "Your settings are saved." in html
    assert 'data-theme="dark"' in html
    assert 'data-tz="America/Chicago"' in html
    assert 'data-shortcuts="off"' in html
    assert '<option value="America/Chicago" selected>' in html
    assert re.search(r'value="20"[^>]* checked', html)


def test_nothing_but_the_settings_can_be_changed(client_of: Any, mara: models.User) -> None:
    client_of(mara).post("/settings/", {**CHOSEN, "role": "support", "is_superuser": "1", "username": "eve"})
    mara.refresh_from_db()
    assert (mara.role, mara.is_superuser, mara.username) == ("manager", False, "mara")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"time_zone": "Mars/Olympus"}, "Choose a time zone from the list."),
        ({"time_zone": "../etc/passwd"}, "Choose a time zone from the list."),
        ({"theme": "pink"}, "Select a valid choice"),
        ({"undo_seconds": "9"}, "Select a valid choice"),
        ({"undo_seconds": ""}, "Choose an undo time."),
    ],
)
def test_what_is_not_offered_is_refused_and_nothing_is_stored(
    client_of: Any, mara: models.User, given: dict[str, str], said: str
) -> None:
    answer = client_of(mara).post("/settings/", {**CHOSEN, **given})
    html = answer.content.decode()
    assert answer.status_code == 422
    assert said in html
    assert "data-theme" not in html
    mara.refresh_from_db()
    assert (mara.time_zone, mara.theme, mara.undo_seconds) == ("", "system", 0)


def test_times_are_shown_in_the_chosen_zone(
    client_of: Any, mara: models.User, conversation: models.Conversation
) -> None:
    factories.IncomingFactory(conversation=conversation, occurred_at=factories.EPOCH)
    client = client_of(mara)
    assert ">14:03</time>" in client.get(f"/c/{conversation.uuid}/").content.decode()
    client.post("/settings/", CHOSEN)
    assert ">09:03</time>" in client.get(f"/c/{conversation.uuid}/").content.decode()


def test_the_settings_name_the_person_and_let_them_log_out(client_of: Any, mara: models.User) -> None:
    html = client_of(mara).get("/settings/").content.decode()
    main = html[html.index("<main") :]
    assert mara.label in main
    assert 'action="/logout/"' in main
    assert 'href="/settings/password/"' in main


def test_a_password_is_changed_only_with_the_old_one(client_of: Any, mara: models.User) -> None:
    client = client_of(mara)
    new = {"new_password1": "south-yard-gate-9", "new_password2": "south-yard-gate-9"}
    refused = client.post("/settings/password/", {"old_password": "wrong", **new})
    assert refused.status_code == 200
    assert "field-error" in refused.content.decode()
    accepted = client.post("/settings/password/", {"old_password": factories.PASSWORD, **new})
    assert accepted["Location"] == "/settings/"
    assert "Your password is changed." in client.get("/settings/").content.decode()
    mara.refresh_from_db()
    assert mara.check_password("south-yard-gate-9")


def test_the_keys_are_a_page_of_their_own(client_of: Any, mara: models.User) -> None:
    html = client_of(mara).get("/help/keys/").content.decode()
    main = html[html.index("<main") : html.index("</main>")]
    assert "<h1>Keyboard</h1>" in main
    assert main.count("<dt>") >= 10
