"""What the database writes by itself for support: causes and search words, whoever writes the message."""

import pytest
from django.db import connection as database
from django.db import transaction
from django.db.models import F
from django.db.utils import IntegrityError
from django.utils import timezone

from messaging.models import Incident, IncidentEntry, Message, MessageWords
from tests import factories as f

pytestmark = pytest.mark.django_db


def vector_of(message: Message) -> str:
    return str(MessageWords.objects.values_list("vector", flat=True).get(message=message))


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("", ""),
        ("Samsara could not be reached", "Samsara could not be reached"),
        (
            "Motive answered 503 (unavailable): request 7f3a-11 at 14:02",
            "Motive answered # (unavailable): request # at #:#",
        ),
        ("Driver 8b1f6a3e-5f0c-4c55-9d6a-0f2f3f1f2e4d is gone", "Driver # is gone"),
        ("x" * 300, "x" * 200),
    ],
)
def test_a_cause_is_the_reason_without_ids_and_numbers(reason: str, cause: str) -> None:
    message = f.failed(f.ConversationFactory(), reason=reason)

    message.refresh_from_db()

    assert message.cause == cause


def test_a_cause_follows_its_reason_whoever_changes_it() -> None:
    message = f.failed(f.ConversationFactory(), reason="Answer 1")

    Message.objects.filter(pk=message.pk).update(reason="Broken line 22")
    message.refresh_from_db()
    assert message.cause == "Broken line #"

    with database.cursor() as cursor:
        cursor.execute("UPDATE messaging_message SET reason = '' WHERE id = %s", [message.pk])
    message.refresh_from_db()
    assert message.cause == ""


def test_every_new_message_has_its_search_words_however_many_come_at_once() -> None:
    conversation = f.ConversationFactory()
    first, second = (
        f.IncomingFactory(conversation=conversation, text="Dock 7 is closed"),
        f.IncomingFactory(conversation=conversation, text=None),
    )

    assert vector_of(first) == "'7':2 'closed':4 'dock':1 'is':3"
    assert vector_of(second) == ""
    assert MessageWords.objects.filter(connection=conversation.connection, occurred_at=first.occurred_at).exists()


def test_search_words_follow_a_text_that_changes_and_nothing_else() -> None:
    message = f.IncomingFactory(text="before")

    Message.objects.filter(pk=message.pk).update(text="after all", occurred_at=F("occurred_at"))

    assert vector_of(message) == "'after':1 'all':2"


def test_a_text_of_any_length_can_be_stored() -> None:
    many = " ".join(f"word{n}" for n in range(200_000))

    message = f.IncomingFactory(text=many)

    assert len(vector_of(message)) < 20_000


def test_two_open_incidents_of_one_cause_in_one_place_are_impossible() -> None:
    now = timezone.now()
    columns = {
        "source_name": "motive",
        "error_type": "auth",
        "opened_at": now,
        "first_failed_at": now,
        "last_failed_at": now,
    }
    first = Incident.objects.create(**columns)

    with pytest.raises(IntegrityError), transaction.atomic():
        Incident.objects.create(**columns)

    Incident.objects.filter(pk=first.pk).update(resolved_at=now)
    assert Incident.objects.create(**columns).changed_xid == 0
    assert Incident.objects.filter(changed_xid__gt=0).count() == 2


def test_the_timeline_of_an_incident_is_append_only() -> None:
    now = timezone.now()
    incident = Incident.objects.create(source_name="motive", opened_at=now, first_failed_at=now, last_failed_at=now)
    entry = IncidentEntry.objects.create(incident=incident, at=now, kind=IncidentEntry.Kind.OPENED)

    with pytest.raises(IntegrityError), transaction.atomic():
        IncidentEntry.objects.filter(pk=entry.pk).update(text="something else")
