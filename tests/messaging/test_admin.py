"""The panel shows everything to administrators, changes next to nothing, and audits what it changes."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from messaging import models
from messaging.states import MessageState
from tests import factories

S = MessageState
pytestmark = pytest.mark.django_db

READ_ONLY = [
    "message", "conversation", "operation", "gate", "fleetuser", "auditentry", "decision", "sendattempt", "look",
    "webhookevent", "refuseddelivery", "groupmessage", "synccursor", "verification", "webhooksubscription", "webhookwatch",
    "incident", "incidententry",
]  # fmt: skip
NEVER_ADDED = [*READ_ONLY, "connection", "fleet"]


@pytest.fixture
def manager_of_roles() -> models.User:
    """An administrator by role alone, with no fleet and no superuser's powers."""
    return factories.UserFactory(username="adam", role=models.Role.ADMINISTRATOR, is_staff=True)


@pytest.fixture
def failed(conversation: models.Conversation, mara: models.User) -> models.Message:
    message = factories.failed(conversation, author=mara, source_id="src-77", catena_id=uuid4())
    factories.SendAttemptFactory(message=message, worker="worker-9")
    return message


def a_look(message: models.Message, **columns: Any) -> models.Look:
    at = timezone.now()
    return models.Look.objects.create(
        attempt=message.send_attempts.get(), at=at, window_from=at, window_to=at, is_complete=True,
        nearest=[{"id": "0198", "created_at": at.isoformat(), "differs": ["priority"]}], **columns,
    )  # fmt: skip


def an_incident() -> models.IncidentEntry:
    now = timezone.now()
    one = models.Incident.objects.create(
        source_name="samsara", error_type="tsp", opened_at=now, first_failed_at=now, last_failed_at=now
    )
    return models.IncidentEntry.objects.create(incident=one, at=now, kind="opened")


def row_of(model: str, failed: models.Message) -> Any:
    """A row of each kind, so that its page has something to show."""
    makers: dict[str, Callable[[], Any]] = {
        "message": lambda: failed,
        "conversation": lambda: failed.conversation,
        "operation": lambda: failed.operation,
        "groupmessage": lambda: factories.GroupAppearanceFactory(conversation=failed.conversation).group,
        "gate": lambda: models.Gate.objects.create(reason="Restored"),
        "fleetuser": lambda: failed.recipient,
        "auditentry": lambda: models.AuditEntry.objects.create(action="compose", message=failed, detail={"seq": 1}),
        "decision": lambda: models.Decision.objects.create(
            message=failed, user=failed.author, kind="was_sent", reason="Seen"
        ),
        "sendattempt": failed.send_attempts.get,
        "look": lambda: a_look(failed),
        "webhookevent": lambda: models.WebhookEvent.objects.create(
            key="k", event_name="message.added", body={"a": [1]}
        ),
        "refuseddelivery": lambda: models.RefusedDelivery.objects.create(
            cause="signature", minute=timezone.now(), count=3
        ),
        "incident": lambda: an_incident().incident,
        "incidententry": an_incident,
        "synccursor": lambda: models.SyncCursor.objects.create(name="messages"),
        "verification": lambda: models.Verification.objects.create(
            at=timezone.now(), rule_count=44, seconds=0.5, breaches=["one_head: conversation <1>"]
        ),
        "webhooksubscription": lambda: models.WebhookSubscription.objects.create(
            catena_id=uuid4(), event_name="message.added", url="https://dash.example/hooks/catena/", status="stale"
        ),
        "webhookwatch": lambda: models.WebhookWatch.objects.create(url="https://dash.example/hooks/catena/"),
        "connection": lambda: failed.connection,
        "fleet": lambda: failed.connection.fleet,
        "user": lambda: failed.author,
        "fleetmembership": models.FleetMembership.objects.first,
    }
    return makers[model]()


def change(model: str, row: Any) -> str:
    return reverse(f"admin:messaging_{model}_change", args=[row.pk])


def found(client: Client, model: str, query: dict[str, str]) -> list[str]:
    answer = client.get(reverse(f"admin:messaging_{model}_changelist"), query)
    assert answer.status_code == 200
    return re.findall(rf"/admin/messaging/{model}/(\d+)/change/", answer.content.decode())


def test_every_model_of_ours_is_on_the_panel() -> None:
    shown = {model._meta.model_name for model in admin.site._registry if model._meta.app_label == "messaging"}
    assert shown == {*READ_ONLY, "connection", "explanation", "fleet", "user", "fleetmembership"}


@pytest.mark.parametrize("model", [*READ_ONLY, "connection", "fleet", "user", "fleetmembership"])
def test_lists_and_records_open_for_an_administrator_by_role(
    failed: models.Message, manager_of_roles: models.User, client_of: Any, model: str
) -> None:
    client, row = client_of(manager_of_roles), row_of(model, failed)
    assert str(row.pk) in found(client, model, {})
    assert client.get(change(model, row)).status_code == 200
    assert client.get(reverse(f"admin:messaging_{model}_changelist"), {"q": str(uuid4())}).status_code == 200
    assert client.get(reverse(f"admin:messaging_{model}_changelist"), {"q": "\x00 o'brien %"}).status_code == 200


@pytest.mark.parametrize("model", READ_ONLY)
def test_mirrored_rows_and_history_cannot_be_changed_or_deleted(
    failed: models.Message, ada: models.User, client_of: Any, model: str
) -> None:
    client, row = client_of(ada), row_of(model, failed)
    assert client.post(change(model, row), {"text": "forged", "state": "succeeded"}).status_code == 403
    assert client.post(reverse(f"admin:messaging_{model}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("model", NEVER_ADDED)
def test_nothing_that_catena_or_the_engines_write_can_be_added(ada: models.User, client_of: Any, model: str) -> None:
    assert client_of(ada).get(reverse(f"admin:messaging_{model}_add")).status_code == 403


@pytest.mark.parametrize("person", ["mara", "sol"])
def test_other_roles_stay_outside_even_as_staff(
    person: str, client_of: Any, failed: models.Message, request: pytest.FixtureRequest
) -> None:
    user = request.getfixturevalue(person)
    client = client_of(user)
    assert client.get(reverse("admin:index")).status_code == 302
    models.User.objects.filter(pk=user.pk).update(is_staff=True)
    assert client.get(reverse("admin:messaging_message_changelist")).status_code == 403
    assert client.get(change("message", failed)).status_code == 403


def test_any_id_finds_its_message(failed: models.Message, ada: models.User, client_of: Any) -> None:
    factories.failed(factories.ConversationFactory())
    client = client_of(ada)
    assert failed.operation is not None
    ids = [
        failed.uuid, failed.catena_id, failed.operation.catena_id, failed.client_token, failed.conversation.uuid,
        failed.conversation.driver.catena_id, str(failed.uuid).replace("-", ""), "src-77", "luis ORT", "mara",
    ]  # fmt: skip
    for known in ids:
        assert set(found(client, "message", {"q": f" {known} "})) == {str(failed.pk)}, known


def test_the_searches_for_a_lost_request_stand_with_it_and_with_its_message(
    failed: models.Message, ada: models.User, client_of: Any
) -> None:
    look = a_look(failed, problem="Catena answered 503")
    client = client_of(ada)
    for address in (change("message", failed), change("sendattempt", look.attempt), change("look", look)):
        assert "Catena answered 503" in client.get(address).content.decode(), address
    assert found(client, "look", {"q": str(failed.uuid)}) == [str(look.pk)]


def test_messages_are_found_by_the_question_they_ask(
    conversation: models.Conversation, ada: models.User, client_of: Any
) -> None:
    other = factories.ConversationFactory()
    unproven = factories.OutgoingFactory(conversation=conversation, state=S.NEEDS_DECISION, question="unproven")
    factories.OutgoingFactory(conversation=other, state=S.NEEDS_DECISION, question="poison")
    assert set(found(client_of(ada), "message", {"question__exact": "unproven"})) == {str(unproven.pk)}


def test_any_id_finds_its_operation_once(failed: models.Message, ada: models.User, client_of: Any) -> None:
    client, operation = client_of(ada), failed.operation
    assert operation is not None
    log = factories.OperationLogFactory(operation=operation)
    for known in (operation.catena_id, log.catena_id, failed.uuid, failed.catena_id):
        page = client.get(reverse("admin:messaging_operation_changelist"), {"q": str(known)}).content.decode()
        assert page.count(f'class="field-catena_id"><a href="/admin/messaging/operation/{operation.pk}/') == 1, known


def test_filters_find_what_is_stuck_and_what_is_failed(
    connection: models.Connection, ada: models.User, client_of: Any
) -> None:
    now, client = timezone.now(), client_of(ada)

    def talk() -> models.Conversation:
        return factories.ConversationFactory(driver=factories.FleetUserFactory(connection=connection))

    slow = factories.accepted(talk(), accepted_at=now - timedelta(minutes=11))
    factories.accepted(talk())
    late = factories.OutgoingFactory(conversation=talk(), state=S.POSTING, lease_until=now - timedelta(seconds=1))
    factories.OutgoingFactory(conversation=talk(), state=S.POSTING, lease_until=now + timedelta(minutes=1))
    lost = factories.OutgoingFactory(conversation=talk(), state=S.UNKNOWN, unknown_since=now)
    failed = factories.failed(talk())
    wanted = {
        ("stuck", "pending"): slow, ("stuck", "lease"): late, ("stuck", "unknown"): lost,
        ("situation", "failed"): failed, ("situation", "attention"): failed, ("situation", "slow"): slow,
    }  # fmt: skip
    for (name, value), message in wanted.items():
        assert set(found(client, "message", {name: value})) == {str(message.pk)}, value
    assert len(set(found(client, "message", {"situation": "nonsense", "stuck": "nonsense"}))) == 6


def test_a_message_shows_its_attempts_badge_and_way_to_the_dashboard(
    failed: models.Message, ada: models.User, client_of: Any
) -> None:
    page = client_of(ada).get(change("message", failed)).content.decode()
    for words in (
        "Recipient device offline",
        "worker-9",
        "<span>Failed</span>",
        "Open in dashboard",
        failed.get_absolute_url(),
    ):
        assert words in page
    operation = client_of(ada).get(change("operation", failed.operation)).content.decode()
    for words in (
        "Recipient device offline",
        "req-7c55",
        str(failed.uuid),
        "<span>Failed</span>",
        "Accepted by Catena",
    ):
        assert words in operation


def test_the_badge_of_the_list_knows_the_gates(connection: models.Connection, ada: models.User, client_of: Any) -> None:
    factories.OutgoingFactory(
        conversation=factories.ConversationFactory(driver=factories.FleetUserFactory(connection=connection)),
        claim_count=1,
    )
    models.Gate.objects.create(connection=connection, state="closed", reason="Too many requests")
    page = client_of(ada).get(reverse("admin:messaging_message_changelist")).content.decode()
    assert '<span class="chip tone-hi">' in page
    assert "<span>Paused</span>" in page


@pytest.mark.parametrize("model", ["message", "operation", "conversation", "sendattempt", "fleetuser"])
def test_a_list_costs_the_same_with_three_rows_and_with_forty(ada: models.User, client_of: Any, model: str) -> None:
    client, costs = client_of(ada), []
    found(client, model, {})
    for more in (3, 37):
        for _ in range(more):
            factories.SendAttemptFactory(message=factories.failed(factories.ConversationFactory()))
        with CaptureQueriesContext(database) as queries:
            found(client, model, {})
        costs.append(len(queries))
    assert costs[0] == costs[1] <= 12


def test_a_connection_takes_only_a_sender_of_its_own(
    connection: models.Connection, ada: models.User, client_of: Any
) -> None:
    own = factories.FleetUserFactory(connection=connection, is_driver=False, name="Own Dispatcher")
    foreign = factories.FleetUserFactory(is_driver=False, name="Foreign Dispatcher")
    client, address = client_of(ada), change("connection", connection)
    page = client.get(address).content.decode()
    assert "Own Dispatcher" in page
    assert "Foreign Dispatcher" not in page
    assert client.post(address, {"pinned_sender": foreign.pk}).status_code == 200
    assert client.post(address, {"pinned_sender": own.pk, "status": "deleted"}).status_code == 302
    connection.refresh_from_db()
    assert (connection.pinned_sender, connection.status) == (own, "active")
    entry = models.AuditEntry.objects.get()
    assert (entry.action, entry.user, entry.connection, entry.detail["pinned_sender"]) == (
        "pin_sender",
        ada,
        connection,
        own.pk,
    )


def test_a_fleet_takes_only_its_hours(fleet: models.Fleet, ada: models.User, client_of: Any) -> None:
    sent = {"expires_high_hours": 2, "expires_other_hours": 24, "name": "Renamed"}
    assert client_of(ada).post(change("fleet", fleet), sent).status_code == 302
    fleet.refresh_from_db()
    assert (fleet.expires_high_hours, fleet.expires_other_hours, fleet.name) == (2, 24, "Northern Haulage")
    assert models.AuditEntry.objects.get().detail["expires_high_hours"] == 2


def person_form(user: models.User, **changes: Any) -> dict[str, Any]:
    kept = {
        name: getattr(user, name)
        for name in ("username", "first_name", "last_name", "email", "role", "time_zone", "theme")
    }
    inline = {"memberships-TOTAL_FORMS": 1, "memberships-INITIAL_FORMS": 0, "memberships-0-fleet": ""}
    return {**kept, "undo_seconds": user.undo_seconds, "is_active": "on", "has_shortcuts": "on", **inline, **changes}


def test_a_role_and_a_fleet_are_given_and_audited(
    sol: models.User, fleet: models.Fleet, ada: models.User, client_of: Any
) -> None:
    answer = client_of(ada).post(
        change("user", sol), person_form(sol, role="administrator", **{"memberships-0-fleet": fleet.pk})
    )
    assert answer.status_code == 302
    sol.refresh_from_db()
    assert (sol.role, sol.is_staff, sol.is_superuser) == ("administrator", True, False)
    assert models.FleetMembership.objects.filter(user=sol, fleet=fleet).exists()
    audited = dict(models.AuditEntry.objects.values_list("action", "detail"))
    assert audited["person_changed"]["role"] == "administrator"
    assert audited["fleets_changed"]["added"] == [fleet.pk]


def test_taking_the_role_away_closes_the_panel(manager_of_roles: models.User, ada: models.User, client_of: Any) -> None:
    client_of(ada).post(change("user", manager_of_roles), person_form(manager_of_roles, role="support"))
    manager_of_roles.refresh_from_db()
    assert not manager_of_roles.is_staff
    assert client_of(manager_of_roles).get(reverse("admin:index")).status_code == 302


def test_an_administrator_cannot_raise_himself_or_touch_a_superuser(
    manager_of_roles: models.User, ada: models.User, client_of: Any
) -> None:
    client = client_of(manager_of_roles)
    client.post(change("user", manager_of_roles), person_form(manager_of_roles, is_superuser="on"))
    manager_of_roles.refresh_from_db()
    assert not manager_of_roles.is_superuser
    assert client.post(change("user", ada), person_form(ada, role="manager")).status_code == 403
    assert client.post(reverse("admin:auth_user_password_change", args=[ada.pk]), {"password1": "x"}).status_code == 403


def test_a_person_is_added_with_a_role_and_never_deleted(ada: models.User, client_of: Any) -> None:
    client = client_of(ada)
    form = {
        "username": "nora", "first_name": "Nora", "last_name": "Vik", "role": "support", "usable_password": "true",
        "password1": "slow-otter-bridge-41", "password2": "slow-otter-bridge-41",
        "memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0,
    }  # fmt: skip
    assert client.post(reverse("admin:messaging_user_add"), form).status_code == 302
    nora = models.User.objects.get(username="nora")
    assert (nora.role, nora.is_staff) == ("support", False)
    assert client.post(reverse("admin:messaging_user_delete", args=[nora.pk]), {"post": "yes"}).status_code == 403
    entry = models.AuditEntry.objects.get(action="person_added")
    assert "slow-otter" not in str(entry.detail)


def test_removing_a_membership_is_audited(mara: models.User, ada: models.User, client_of: Any) -> None:
    row = models.FleetMembership.objects.get(user=mara)
    client = client_of(ada)
    client.post(reverse("admin:messaging_fleetmembership_delete", args=[row.pk]), {"post": "yes"})
    assert not models.FleetMembership.objects.exists()
    assert models.AuditEntry.objects.get().detail["removed"] == [row.fleet_id]


def test_dead_events_are_processed_again_and_done_ones_are_not(ada: models.User, client_of: Any) -> None:
    for state in ("dead", "parked", "done"):
        models.WebhookEvent.objects.create(key=state, event_name="message.added", body={"a": 1}, state=state, tries=9)
    chosen = list(models.WebhookEvent.objects.values_list("pk", flat=True))
    answer = client_of(ada).post(
        reverse("admin:messaging_webhookevent_changelist"),
        {"action": "process_again", "_selected_action": chosen}, follow=True,
    )  # fmt: skip
    assert "2 of 3 will be processed again within a second." in answer.content.decode()
    assert dict(models.WebhookEvent.objects.values_list("key", "tries")) == {"dead": 0, "parked": 0, "done": 9}
    assert models.AuditEntry.objects.get().detail == {"chosen": 3, "again": 2}


def test_the_panel_is_served_under_the_strict_policy(ada: models.User, client_of: Any) -> None:
    policy = client_of(ada).get(reverse("admin:messaging_user_add"))["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
