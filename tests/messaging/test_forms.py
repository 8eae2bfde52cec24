"""What people type, and what is said about mistakes."""

import uuid
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from messaging import forms, models
from tests import factories


def given(**fields: Any) -> dict[str, Any]:
    return {"message_text": "Use the south gate", "priority": "medium", "client_token": str(uuid.uuid4()), **fields}


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  Dock 7  ", "Dock 7"),
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("x" * 1000, "x" * 1000),
        ("🚚" * 1000, "🚚" * 1000),
        ("\r\n" + "x" * 1000 + "\r\n", "x" * 1000),
    ],
    ids=["blanks", "line ends", "at the limit", "characters, not bytes", "blanks do not count"],
)
def test_a_text_is_kept_as_people_mean_it(typed: str, kept: str) -> None:
    form = forms.MessageForm(given(message_text=typed))
    assert form.is_valid()
    assert form.cleaned_data["message_text"] == kept


@pytest.mark.parametrize("typed", ["", " ", "\r\n\t", None])
def test_a_text_without_words_is_refused(typed: str | None) -> None:
    assert forms.MessageForm(given(message_text=typed)).errors == {"message_text": ["Write a message first."]}


def test_the_limit_is_a_setting_and_the_message_says_by_how_much(settings: Any) -> None:
    settings.MESSAGE_TEXT_LIMIT = 5
    assert forms.MessageForm(given(message_text="1234567")).errors == {
        "message_text": ["The message is 2 characters too long. Shorten it to 5."]
    }


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({"priority": "urgent"}, {"priority": ["Choose Low, Medium or High."]}),
        ({"priority": None}, {"priority": ["Choose a priority."]}),
        ({"client_token": "12"}, {"client_token": [forms.DAMAGED]}),
        ({"client_token": None}, {"client_token": [forms.DAMAGED]}),
    ],
)
def test_each_mistake_says_what_to_do(fields: dict[str, Any], errors: dict[str, Any]) -> None:
    assert forms.MessageForm(given(**fields)).errors == errors


@pytest.mark.django_db
def test_a_reply_answers_only_messages_that_its_conversation_shows(
    mara: models.User, conversation: models.Conversation, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    shown = factories.IncomingFactory(conversation=conversation)
    deleted = factories.IncomingFactory(conversation=conversation, deleted_at=factories.EPOCH)
    elsewhere = factories.IncomingFactory(
        conversation=factories.ConversationFactory(connection=conversation.connection)
    )

    def answered(message: models.Message) -> models.Message | None:
        form = forms.ReplyForm(conversation, mara, given(reply_to=str(message.uuid)))
        return form.cleaned_data["reply_to"] if form.is_valid() else None

    assert [answered(message) for message in (shown, deleted, elsewhere)] == [shown, None, None]


@pytest.mark.django_db
def test_a_driver_and_the_named_connection_must_agree(mara: models.User, conversation: models.Conversation) -> None:
    driver, connection = conversation.driver, conversation.connection
    right = forms.ComposeForm(mara, given(recipient=str(driver.catena_id), connection=str(connection.catena_id)))
    wrong = forms.ComposeForm(mara, given(recipient=str(driver.catena_id), connection=str(uuid.uuid4())))
    assert right.is_valid()
    assert right.cleaned_data["recipient"] == driver
    assert list(wrong.errors) == ["recipient"]


def test_time_zones_are_grouped_by_region_and_name_no_aliases_of_the_system() -> None:
    groups = dict(forms.time_zones())
    assert ("America/Chicago", "Chicago") in groups["America"]
    assert ("America/Argentina/Buenos_Aires", "Argentina, Buenos Aires") in groups["America"]
    assert ("UTC", "UTC") in groups["General"]
    assert not {"Etc", "posix", "right"} & set(groups)
    assert ("Asia/Kolkata", "Kolkata") in groups["Asia"]
    assert "Asia/Calcutta" not in dict(groups["Asia"])


@pytest.mark.django_db
def test_an_older_name_of_a_zone_stays_chosen_when_something_else_is_saved(mara: models.User) -> None:
    mara.time_zone = "Asia/Calcutta"
    form = forms.SettingsForm({"time_zone": "Asia/Calcutta", "theme": "dark", "undo_seconds": "20"}, instance=mara)
    assert '<option value="Asia/Calcutta" selected>' in str(form["time_zone"])
    assert form.is_valid(), form.errors
    assert form.save().time_zone == "Asia/Calcutta"
    mara.time_zone = ""
    assert not forms.SettingsForm(
        {"time_zone": "Asia/Calcutta", "theme": "dark", "undo_seconds": "20"}, instance=mara
    ).is_valid()
