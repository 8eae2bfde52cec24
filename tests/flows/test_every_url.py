"""Walks every address: a GET writes nothing, an outsider finds nothing, and nobody gets in without logging in."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connection as database
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from messaging import incidents, live, models, recovery
from tests import factories

pytestmark = pytest.mark.django_db
PUBLIC = {"/login/", "/healthz", "/readyz"}
# Tables that a session or the framework writes by itself.
NOT_OURS = ("django_session", "django_migrations", "django_content_type")
SignIn = Callable[[models.User], Client]


@pytest.fixture
def objects(conversation: models.Conversation, mara: models.User) -> dict[str, str]:
    """Route prefix to the id of an object of mara's fleet."""
    factories.IncomingFactory(conversation=conversation)
    message = factories.failed(conversation, author=mara)
    models.Gate.objects.create(connection=conversation.connection)
    for _ in range(5):
        factories.failed(conversation, author=mara)
    incidents.watch(timezone.now())
    frozen = recovery.freeze(mara, models.Message.objects.all(), timezone.now())
    # A number that stands in no other address.
    view = models.SavedView.objects.create(pk=730_117, user=mara, name="Failed", query="status=failed")
    return {
        "c/": str(conversation.uuid), "_f/c/": str(conversation.uuid), "m/": str(message.uuid), "_f/m/": str(message.uuid),
        "connections/": str(conversation.connection.catena_id), "_f/connections/": str(conversation.connection.catena_id),
        "ops/incidents/": str(models.Incident.objects.get().uuid), "ops/views/": str(view.pk),
        "ops/recoveries/": str(frozen.uuid),
    }  # fmt: skip


def routes(patterns: list[Any] | None = None, prefix: str = "") -> Iterator[str]:
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        if isinstance(pattern, URLResolver):
            if pattern.app_name != "admin":
                yield from routes(pattern.url_patterns, prefix + str(pattern.pattern))
        elif isinstance(pattern, URLPattern):
            yield prefix + str(pattern.pattern)


def addresses(objects: dict[str, str]) -> list[str]:
    """Every address of the product with its arguments filled in. A route with an argument we cannot fill is an error."""
    return ["/" + filled(route, objects) for route in routes()]


def filled(route: str, objects: dict[str, str]) -> str:
    head, opening, rest = route.partition("<")
    if not opening:
        return route
    prefix = max((known for known in objects if head.startswith(known)), key=len, default=None)
    assert prefix is not None, f"teach this test what stands in {route}"
    return filled(head + objects[prefix] + rest.partition(">")[2], objects)


def admin_addresses() -> list[str]:
    found = ["/admin/"]
    for model in admin.site._registry:
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        found.append(reverse(f"admin:{name}_changelist"))
        row = model._default_manager.first()
        if row is not None:
            found.append(reverse(f"admin:{name}_change", args=[row.pk]))
    return found


def digest() -> dict[str, str]:
    """One figure per table, over every row of every table."""
    figures = {}
    with database.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            table = model._meta.db_table
            if model._meta.managed and table not in NOT_OURS:
                cursor.execute(f"SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {table} t")
                figures[table] = cursor.fetchone()[0]
    return figures


@pytest.mark.parametrize("htmx", [False, True], ids=["page", "fragment"])
@pytest.mark.parametrize("role", ["mara", "sol", "ada", "outsider"])
def test_a_get_writes_nothing_on_any_address(
    role: str, htmx: bool, objects: dict[str, str], client_of: SignIn, request: pytest.FixtureRequest
) -> None:
    user = request.getfixturevalue(role)
    client = client_of(user)
    headers = {"HX-Request": "true"} if htmx else {}
    since = str(live.glance(user).cursor)
    before = digest()
    listed = addresses(objects) + (admin_addresses() if role == "ada" else [])
    for address in listed:
        answer = client.get(address, {"since": since, "v": "inbox", "every": "3800"}, headers=headers)
        assert answer.status_code != 500, address
    after = digest()
    assert {table for table in before if before[table] != after[table]} == set()


def test_nobody_gets_in_without_logging_in(objects: dict[str, str], client: Client) -> None:
    for address in [*addresses(objects), "/admin/", "/admin/messaging/message/"]:
        answer = client.get(address)
        if address in PUBLIC:
            assert answer.status_code in {200, 503}, address
        else:
            assert (answer.status_code, address in PUBLIC) in {(302, False), (405, False)}, address
            assert answer.status_code == 405 or "/login/" in answer["Location"], address


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("htmx", [False, True], ids=["page", "fragment"])
def test_an_outsider_finds_nothing_of_another_fleet(
    method: str, htmx: bool, objects: dict[str, str], outsider: models.User, client_of: SignIn
) -> None:
    client = client_of(outsider)
    before = digest()
    headers = {"HX-Request": "true"} if htmx else {}
    for address in addresses(objects):
        if not any(identity in address for identity in objects.values()):
            continue
        data = (
            {"message_text": "hello", "priority": "high", "client_token": str(uuid.uuid4())} if method == "post" else {}
        )
        answer = getattr(client, method)(address, data, headers=headers)
        redirected = answer.status_code == 302 and address.startswith("/_f/")
        assert answer.status_code in {404, 405} or redirected, f"{method} {address} answered {answer.status_code}"
    assert digest() == before
