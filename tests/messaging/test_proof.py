"""The dossier of a message: complete, for those who see the message, and without headers for a manager."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from messaging import models
from messaging.models import AuditEntry, MessageNote
from messaging.states import AttemptOutcome, DecisionKind
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def failed(conversation: models.Conversation, mara: models.User, sol: models.User) -> models.Message:
    """Written, posted twice, decided, failed, noted, revealed, handled."""
    message = factories.failed(
        conversation, author=mara, text="Use the <b>south</b> gate", handled_at=timezone.now(), handled_by=sol,
        handled_note="Called the driver", delivered_at=timezone.now() + timedelta(minutes=1),
    )  # fmt: skip
    factories.SendAttemptFactory(
        message=message, outcome=AttemptOutcome.UNSENT, http_status=None, error_text="no route"
    )
    models.Decision.objects.create(message=message, user=sol, kind=DecisionKind.SEND_AGAIN, reason="Driver has nothing")
    MessageNote.objects.create(message=message, author=sol, text="Provider says a week")
    AuditEntry.objects.create(message=message, user=sol, action="raw_revealed", detail={"attempt": 1})
    AuditEntry.objects.create(message=message, user=None, action="operation_found", detail={"was": "unknown"})
    AuditEntry.objects.create(message=message, user=sol, action="care_given", detail={"owner": mara.pk, "was": None})
    AuditEntry.objects.create(message=message, user=None, action="something_new", detail={"key": "AKIA token=abc123"})
    return message


def page_of(client: Any, message: models.Message) -> str:
    answer = client.get(reverse("dossier", args=[message.uuid]))
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_a_dossier_tells_everything_that_is_known(failed: models.Message, sol: models.User, client_of: Any) -> None:
    page = page_of(client_of(sol), failed)
    assert failed.operation is not None
    for known in (
        str(failed.uuid), str(failed.operation.catena_id), "Use the &lt;b&gt;south&lt;/b&gt; gate", "Wrote it",
        "Decided: send again", "Driver has nothing", "Not sent: Catena could not be reached", "no route",
        "Attempt 1: failed, 503 Service unavailable, provider error", "Recipient device offline", "X-Request-Id: req-7c55",
        "Delivered", "Provider says a week", "Looked at the raw headers and bodies", "attempt: 1",
        "Put it into somebody&#x27;s care", f"owner: {failed.author.label}", "was: unknown", "Something new",
        "Marked it as handled", "Called the driver",
    ):  # fmt: skip
        assert known in page, known
    assert "abc123" not in page


def test_times_stand_in_utc_and_in_the_persons_own_zone(
    failed: models.Message, sol: models.User, client_of: Any
) -> None:
    models.Message.objects.filter(pk=failed.pk).update(occurred_at="2026-05-12T23:03:21Z")
    sol.time_zone = "Europe/Berlin"
    sol.save()
    page = page_of(client_of(sol), failed)
    assert "2026-05-12 23:03:21" in page
    assert "2026-05-13 01:03:21" in page
    assert "Local (Europe/Berlin)" in page


def test_a_manager_gets_it_without_headers_and_internal_notes(
    failed: models.Message, mara: models.User, client_of: Any
) -> None:
    page = page_of(client_of(mara), failed)
    assert "Attempt 1: failed" in page
    assert "req-7c55" not in page
    assert "Provider says a week" not in page
    assert "Response headers are not part of this copy." in page


def test_nobody_else_finds_it(failed: models.Message, outsider: models.User, client_of: Any) -> None:
    assert client_of(outsider).get(reverse("dossier", args=[failed.uuid])).status_code == 404


def test_it_names_what_repeats_the_message(failed: models.Message, mara: models.User, client_of: Any) -> None:
    again = factories.OutgoingFactory(conversation=failed.conversation, author=mara, retry_of=failed)
    assert f'<dt>Repeated by</dt> <dd> <a class="mono" href="/m/{again.uuid}/"' in page_of(client_of(mara), failed)
    assert f'<dt>Repeats</dt> <dd> <a class="mono" href="/m/{failed.uuid}/"' in page_of(client_of(mara), again)


def test_the_drivers_own_message_has_a_dossier_too(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    heard = factories.IncomingFactory(conversation=conversation, text="At the gate")
    page = page_of(client_of(mara), heard)
    assert "At the gate" in page
    assert "Every attempt" not in page


def test_the_message_page_leads_to_it(failed: models.Message, mara: models.User, client_of: Any) -> None:
    page = client_of(mara).get(reverse("message", args=[failed.uuid])).content.decode()
    assert reverse("dossier", args=[failed.uuid]) in page


def test_it_costs_the_same_however_much_happened(failed: models.Message, sol: models.User, client_of: Any) -> None:
    client = client_of(sol)
    page_of(client, failed)
    with CaptureQueriesContext(database) as before:
        page_of(client, failed)
    for number in range(20):
        MessageNote.objects.create(message=failed, author=factories.UserFactory(), text=f"note {number}")
        AuditEntry.objects.create(message=failed, user=factories.UserFactory(), action="reveal")
        factories.OperationLogFactory(operation=failed.operation)
    with CaptureQueriesContext(database) as after:
        page_of(client, failed)
    assert len(before) == len(after) <= 12
