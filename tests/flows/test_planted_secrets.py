"""Thirty secrets in headers, error texts and bodies, brought in by every door: none of them is anywhere afterwards."""

import contextlib
import logging
import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.core import mail
from django.db import connection as database
from django.test import Client
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from messaging import mirror, models, outbox, sync
from messaging.catena import types
from messaging.catena.client import CatenaClient
from messaging.simulator import Fault, SimulatorServer
from messaging.states import MessageState
from tests import factories
from tests.messaging import hooks, records
from tests.messaging.conftest import catena, catena_client, talk

__all__ = ["catena", "catena_client", "talk"]
pytestmark = pytest.mark.django_db
MARK = "PLANT"
WRITE = "POST /v2/telematics/messages"

HEADERS = [
    ("Set-Cookie", "sid={}; Path=/"), ("Authorization", "Bearer {}"), ("X-Api-Key", "{}"), ("Location", "https://h/x?t={}"),
    ("X-Request-Id", "token={}"), ("Proxy-Authorization", "Digest u={}"), ("X-Trace-Id", "Bearer {}"), ("Cookie", "a={}"),
    ("X-Amz-Security-Token", "{}"), ("x-ratelimit-reset", "secret={}"),
]  # fmt: skip
TEXTS = [
    "Refused. Authorization: Bearer {}", "login failed for password={}", "bad api_key: '{}'", "GET https://dana:{}@tsp.example/x",
    '{{"client_secret": "{}"}}', "sent Cookie: session={}; a=b", "token eyJ{}.eyJzdWIi.c2ln expired",
    "callback ?access_token={}&x=1", "Basic {}12==", "X-Api-Key: {}",
]  # fmt: skip
BODIES: list[dict[str, Any]] = [
    {"credentials": {"user": "dana", "pin": "{}"}}, {"request": {"headers": {"X": "{}"}}}, {"debug": "password={}"},
    {"trace": ["Authorization: Basic {}12=="]}, {"source_data": {"api_key": "{}"}}, {"session_token": "{}"},
    {"nested": {"deep": [{"client_secret": "{}"}]}}, {"curl": "curl -H 'Authorization: Bearer {}'"},
    {"link": "https://dana:{}@tsp.example/"}, {"set_cookie": "{}"},
]  # fmt: skip


def secret(number: int) -> str:
    return f"{MARK}{number:02}x9Qz7"


def filled(value: Any, number: int) -> Any:
    if isinstance(value, str):
        return value.replace("{{", "{").replace("}}", "}").replace("{}", secret(number))
    if isinstance(value, dict):
        return {name: filled(item, number) for name, item in value.items()}
    return [filled(item, number) for item in value]


def send_one(talk: models.Conversation, author: models.User, client: CatenaClient) -> models.Message:
    message = factories.OutgoingFactory(conversation=talk, author=author)
    outbox.drain(talk.pk, client, worker="test")
    message.refresh_from_db()
    return message


def through_attempts(
    talk: models.Conversation, author: models.User, catena: SimulatorServer, client: CatenaClient
) -> None:
    """Headers and error texts as the provider's answers to Catena's tries."""
    for number, ((name, value), text) in enumerate(zip(HEADERS, TEXTS, strict=True)):
        headers, details = {name: filled(value, number), "Retry-After": "20"}, filled(text, 10 + number)
        fault = Fault("attempt_failure", times=1, error_type="validation", status=422, headers=headers, details=details)
        catena.world.faults.add(fault)
        message = send_one(talk, author, client)
        for _ in range(50):
            sync.operations(client, timezone.now(), everything=True)
            message.refresh_from_db()
            if message.state == MessageState.FAILED:
                break
        assert (message.state, message.response_status_code) == (MessageState.FAILED, 422)


def through_refusals(
    talk: models.Conversation, author: models.User, catena: SimulatorServer, client: CatenaClient
) -> None:
    """The same texts in Catena's own refusals of our requests."""
    for number, text in enumerate(TEXTS):
        catena.world.faults.add(Fault("refused", WRITE, times=1, status=422, details=filled(text, 10 + number)))
        assert send_one(talk, author, client).state == MessageState.REJECTED


def through_bodies(talk: models.Conversation) -> None:
    """Fields that nobody documented, in listings and in signed events, of every kind of record."""
    for number, body in enumerate(BODIES, start=20):
        extra, at = filled(body, number), timezone.now() + timedelta(seconds=number)
        log = {
            "id": str(uuid4()), "resource_operation_id": str(uuid4()), "status": "failed", "error_type": "tsp",
            "error_details": "Nothing", "created_at": at.isoformat(), "updated_at": at.isoformat(), **extra,
        }  # fmt: skip
        operation = {
            "id": str(uuid4()), "connection_id": str(talk.connection.catena_id), "resource": "message", "payload": {},
            "operation_type": "create", "status": "failed", "created_at": at.isoformat(), "updated_at": at.isoformat(),
            "logs": [log], **extra,
        }  # fmt: skip
        mirror.apply_operation(types.Operation.parse(operation))
        assert models.Operation.objects.filter(catena_id=operation["id"]).exists()
        message = records.message(talk, **extra)
        mirror.apply_message(message)
        assert models.Message.objects.filter(catena_id=message.id).exists()
        event = hooks.envelope("message.added", {**records.message(talk).raw, **extra}, **extra)
        assert hooks.deliver(event) == 202
        assert hooks.deliver(hooks.envelope("resource_operation.failed", {**operation, "id": str(uuid4())})) == 202
        # Signed and unreadable: kept aside with its reason.
        assert hooks.deliver(hooks.envelope("message.added", {"id": "no id", **extra})) == 202
    hooks.process()
    fleet = talk.connection.fleet
    assert fleet is not None
    mirror.apply_fleet(records.fleet(**filled(BODIES[2], 22)))
    mirror.apply_connection(records.connection(fleet_id=fleet.catena_id, **filled(BODIES[0], 20)))
    mirror.apply_fleet_user(records.user(talk.connection, **filled(BODIES[4], 24)), talk.connection)


def dump() -> str:
    """Every row of every table as text."""
    found = []
    with database.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            if model._meta.managed:
                cursor.execute(f"SELECT t::text FROM {model._meta.db_table} t")
                found += [f"{model._meta.db_table}: {row}" for (row,) in cursor.fetchall()]
    return "\n".join(found)


def addresses(talk: models.Conversation) -> list[str]:
    found = [reverse(name) for name in ("inbox", "operations", "connections", "unexplained")]
    found += ["/ops/?range=all&status=failed", reverse("conversation", args=[talk.uuid])]
    found.append(reverse("connection", args=[talk.connection.catena_id]))
    for message in models.Message.objects.all():
        found += [reverse(name, args=[message.uuid]) for name in ("message", "dossier")]
    with contextlib.suppress(NoReverseMatch):
        found.append(f"{reverse('search')}?q={MARK}")
    for model in admin.site._registry:
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        found.append(reverse(f"admin:{name}_changelist"))
        found += [reverse(f"admin:{name}_change", args=[row.pk]) for row in model._default_manager.order_by("-pk")[:6]]
    return found


def shown(client: Client, talk: models.Conversation) -> str:
    pages = []
    for address in addresses(talk):
        answer = client.get(address)
        assert answer.status_code in {200, 302}, address
        page = answer.content.decode() if answer.status_code == 200 else ""
        # A search says back what was asked for, which is the mark alone; a secret has its number after it.
        pages.append(re.sub(rf"{MARK}(?!\d\d)", "", page))
    return "\n".join(pages)


def leaks(where: str) -> set[str]:
    return {line.strip()[max(line.strip().find(MARK) - 80, 0) :][:200] for line in where.splitlines() if MARK in line}


def test_thirty_planted_secrets_are_nowhere(
    talk: models.Conversation, mara: models.User, sol: models.User, ada: models.User, catena: SimulatorServer,
    catena_client: CatenaClient, client_of: Any, settings: Any, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    settings.CATENA_WEBHOOK_SECRETS = [hooks.SECRET]
    through_attempts(talk, mara, catena, catena_client)
    through_refusals(talk, mara, catena, catena_client)
    through_bodies(talk)
    assert models.WebhookEvent.objects.count() >= 3 * len(BODIES)
    stored = dump()
    assert leaks(stored) == set()
    # What stood around the secrets is there: they were taken out, not lost with the rest.
    for kept in ("login failed for [hidden]", "token [hidden] expired", "curl -H", "Retry-After"):
        assert kept in stored, kept
    for user in (mara, sol, ada):
        user.user_permissions.add(Permission.objects.get(codename="export_messages"))
    for user in (sol, ada):
        assert leaks(shown(client_of(user), talk)) == set()
        file = client_of(user).post(reverse("export"), {"filter": "range=all"})
        body = b"".join(file.streaming_content).decode()
        assert body.count("\r\n") > len(HEADERS)
        assert leaks(body) == set()
    assert leaks("\n".join(f"{one.subject}\n{one.body}" for one in mail.outbox)) == set()
    assert leaks("\n".join(record.getMessage() for record in caplog.records)) == set()
    assert leaks(caplog.text) == set()
