"""The receiver: what is authentic is stored before it is acknowledged, and nothing genuine is answered 4xx."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from messaging import inbox, models
from messaging.states import EventState
from messaging.views import webhooks
from tests.messaging.hooks import ADDRESS, NEXT_SECRET, SECRET, deliver, envelope, headers_of

pytestmark = pytest.mark.django_db
EVENT = envelope("message.added", {"id": "019de3a1-4b7c-7d10-8f52-2a6b9c0d1e31"})


@pytest.fixture(autouse=True)
def secrets(settings: Any) -> None:
    settings.CATENA_WEBHOOK_SECRETS = [SECRET, NEXT_SECRET]


def test_a_delivery_is_stored_once_however_often_it_comes() -> None:
    for attempt in (1, 2, 3):
        assert deliver({**EVENT, "delivery_attempt": attempt}) == 202
    event = models.WebhookEvent.objects.get()
    assert (event.event_name, event.state, event.key) == ("message.added", EventState.NEW, EVENT["id"])
    assert event.next_at is not None


def test_an_event_without_an_id_is_known_by_its_body() -> None:
    nameless = {**EVENT, "id": None}
    assert [deliver({**nameless, "delivery_attempt": attempt}) for attempt in (1, 2)] == [202, 202]
    assert deliver({**nameless, "version": "1.1"}) == 202
    assert models.WebhookEvent.objects.count() == 2


def test_a_proxy_may_have_removed_the_packing() -> None:
    assert deliver(EVENT, packed=False) == 202


def test_both_secrets_of_a_rotation_are_accepted_and_told_apart() -> None:
    for secret in (SECRET, NEXT_SECRET):
        assert deliver(envelope("message.added"), secret) == 202
    assert len(set(models.WebhookEvent.objects.values_list("signed_by", flat=True))) == 2


def test_without_a_secret_catena_is_asked_to_keep_the_event(settings: Any) -> None:
    settings.CATENA_WEBHOOK_SECRETS = []
    assert deliver(EVENT) == 503
    assert not models.WebhookEvent.objects.exists()


def test_a_foreign_signature_is_refused_and_counted() -> None:
    assert deliver(EVENT, "a-secret-that-nobody-configured-here") == 401
    assert not models.WebhookEvent.objects.exists()
    assert models.RefusedDelivery.objects.get().cause == "signature"


def test_several_refusals_raise_an_alarm_and_have_the_lists_read_instead(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(4):
        deliver(EVENT, "a-secret-that-nobody-configured-here")
    assert not models.SyncCursor.objects.asked().exists()
    for _ in range(5):
        deliver(EVENT, "a-secret-that-nobody-configured-here")
    assert {one.name for one in models.SyncCursor.objects.asked()} == {"round messages", "round operations"}
    assert [record.levelname for record in caplog.records if record.levelname == "ERROR"] == ["ERROR"]


def test_what_was_signed_too_long_ago_is_set_aside_and_read_from_the_lists() -> None:
    assert deliver(EVENT, age=timedelta(minutes=6)) == 202
    event = models.WebhookEvent.objects.get()
    assert (event.state, "more than 5 minutes ago" in event.reason) == (EventState.DEAD, True)
    assert models.SyncCursor.objects.asked().count() == 2
    assert deliver(EVENT) == 202, "the same event in time is another matter"
    assert models.WebhookEvent.objects.filter(state=EventState.NEW).count() == 1


def test_an_old_copy_of_an_event_that_is_here_adds_nothing() -> None:
    assert [deliver(EVENT), deliver(EVENT, age=timedelta(minutes=6))] == [202, 202]
    assert models.WebhookEvent.objects.get().state == EventState.NEW
    assert not models.SyncCursor.objects.asked().exists()


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b'{"version": "1.0", "version": "1.1", "data": [], "webhook_id": "x"}',
        b"[]",
        b'{"data": NaN}',
        b"\xff",
    ],
)
def test_what_catena_signed_and_nobody_can_read_is_kept_as_dead(body: bytes) -> None:
    assert deliver(body) == 202
    event = models.WebhookEvent.objects.get()
    assert (event.state, event.reason.startswith("It cannot be read")) == (EventState.DEAD, True)
    assert event.body["unreadable"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"method": "get"}, 405),
        ({"content_type": "text/plain"}, 415),
        ({"headers": {"Content-Encoding": "br"}}, 415),
        ({"headers": {"Content-Length": ""}}, 411),
        ({"headers": {"Content-Length": str(webhooks.MOST_BYTES + 1)}}, 413),
        ({"headers": {"Content-Length": "9" * 40}}, 413),
        ({"headers": {"Content-Encoding": "gzip"}}, 400),
        ({"headers": {"X-Catena-Signature": ""}}, 401),
    ],
)
def test_what_the_head_shows_to_be_no_delivery_is_refused(change: dict[str, Any], status: int) -> None:
    body = json.dumps(EVENT).encode()
    asked = {"content_type": "application/json", **change}
    method = asked.pop("method", "post")
    headers = {**headers_of(body), **asked.pop("headers", {})}
    if method == "get":
        response = Client().get(ADDRESS, headers=headers)
    else:
        extra = {"CONTENT_LENGTH": headers.pop("Content-Length")} if "Content-Length" in headers else {}
        response = Client().post(ADDRESS, body, headers=headers, **asked, **extra)
    assert response.status_code == status
    assert not models.WebhookEvent.objects.exists()


def test_a_bomb_is_refused_at_its_limit() -> None:
    assert deliver(b'"' + b"a" * (5 * 1024 * 1024) + b'"') == 413


def test_when_nothing_can_be_stored_catena_is_asked_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging.inbox.receiving.STORE_SQL", "SELECT no_such_column")
    assert deliver(EVENT) == 503


def test_a_receiver_with_its_hands_full_asks_catena_to_try_again() -> None:
    for _ in range(webhooks.READERS):
        assert webhooks._places.acquire(blocking=False)
    try:
        assert deliver(EVENT) == 503
    finally:
        webhooks._places.release(webhooks.READERS)
    assert deliver(EVENT) == 202


def test_a_visitors_session_is_not_looked_at(
    django_assert_max_num_queries: Any, client_of: Any, mara: models.User
) -> None:
    body = json.dumps(EVENT).encode()
    with django_assert_max_num_queries(2):
        response = Client().post(ADDRESS, body, content_type="application/json", headers=headers_of(body))
    assert response.status_code == 202


def test_secrets_in_an_event_are_not_stored_and_texts_are_stored_word_for_word() -> None:
    log = {
        "id": "019de3a1-4b7c-7d10-8f52-2a6b9c0d1e31", "error_details": "Authorization: Bearer abcdefghij",
        "response_headers": {"Set-Cookie": "a=b", "X-Request-Id": "r-1"},
    }  # fmt: skip
    record = {
        "id": "019de3a1-4b7c-7d10-8f52-2a6b9c0d1e31", "payload": {"message_text": "Gate password: 4711"}, "logs": [log],
        "api_key": "k-12345", "unknown_field": {"note": "kept"}, "status": "failed",
    }  # fmt: skip
    deliver(envelope("resource_operation.failed", record))
    kept = models.WebhookEvent.objects.get().body["data"][0]
    assert kept["payload"]["message_text"] == "Gate password: 4711"
    assert kept["unknown_field"] == {"note": "kept"}
    assert "api_key" not in kept
    assert kept["logs"][0]["response_headers"] == {"X-Request-Id": "r-1"}
    assert "abcdefghij" not in json.dumps(kept)


def test_personal_data_that_nobody_is_shown_is_not_stored() -> None:
    deliver(envelope("user.added", {"id": "u", "first_name": "Ann", "licence_number": "L-1", "employee_number": "E-1"}))
    kept = models.WebhookEvent.objects.get().body["data"][0]
    assert kept["first_name"] == "Ann"
    assert "E-1" not in json.dumps(kept)


def test_old_events_lose_their_body_and_then_their_row() -> None:
    for state, days in (("done", 10), ("done", 31), ("dead", 61), ("new", 61)):
        event = models.WebhookEvent.objects.create(key=f"{state}{days}", event_name="x", body={"a": 1}, state=state)
        models.WebhookEvent.objects.filter(pk=event.pk).update(received_at=timezone.now() - timedelta(days=days))
    inbox.forget_old(timezone.now())
    left = {one.key: one.body for one in models.WebhookEvent.objects.all()}
    assert left == {"done10": {"a": 1}, "done31": {}, "new61": {"a": 1}}
