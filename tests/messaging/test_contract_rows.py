"""What we do about Catena's open questions when reading (contract section 16): each row has a test that bears its number."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.urls import reverse

from messaging import mirror, models, sync
from messaging.catena.client import CatenaClient, CatenaConfig
from messaging.models import WebhookEvent
from messaging.simulator import Fault, SimulatorServer, changes, drivers, render
from messaging.states import Direction, EventState, MessageState
from tests import factories
from tests.messaging import records
from tests.messaging.hooks import SECRET, apply, body_of, deliver, envelope, process
from tests.messaging.records import moment

pytestmark = pytest.mark.django_db
# The others are about sending (1 to 7, 9, 11, 22, 23, 26) or ask for nothing (27).
READING = {8, 10, *range(12, 22), 24, 25}
LIST = "GET /v2/telematics/messages"


@pytest.fixture(autouse=True)
def secrets(settings: Any) -> None:
    settings.CATENA_WEBHOOK_SECRETS = [SECRET]


def only_message() -> models.Message:
    return models.Message.objects.get()


def test_every_row_that_concerns_reading_has_a_test() -> None:
    assert {int(name.split("_")[2]) for name in globals() if name.startswith("test_row_")} == READING


@pytest.mark.parametrize(
    ("level", "support", "reason"),
    [
        ("read", "implemented", "read-only"),
        ("read_write", "not_supported", "cannot send messages"),
        ("read_write", "not_implemented", "cannot send messages"),
        ("read_write", "implemented", None),
        (None, None, None),
    ],
)
def test_row_8_what_catena_says_of_a_provider_or_a_fleet_disables_sending_and_silence_does_not(
    connection: models.Connection, level: str | None, support: str | None, reason: str | None
) -> None:
    mirror.apply_freshness(records.freshness(connection, share_level=level))
    models.Connection.objects.update(message_support=support)
    connection.refresh_from_db()
    obstacle = connection.sending_obstacle
    assert (obstacle is None) if reason is None else (reason in str(obstacle))


def test_row_10_a_stale_connection_asks_for_a_sign_in_until_a_poll_finds_it_recovered(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    place, world = talk.connection, catena.world
    with world.lock:
        stale = changes.set_connection_status(world, str(place.catena_id), "stale")
        notice = render.connection_event(world, stale)
    apply(envelope("connection.staled", notice))
    place.refresh_from_db()
    assert "must sign in again" in str(place.sending_obstacle)
    with world.lock:
        changes.set_connection_status(world, str(place.catena_id), "active")
    sync.directory(catena_client)
    place.refresh_from_db()
    assert place.sending_obstacle is None


@pytest.mark.parametrize(
    ("key", "encode", "status"),
    [
        (SECRET.encode(), base64.b64encode, 202),
        (hashlib.sha256(SECRET.encode()).digest(), base64.b64encode, 401),
        (SECRET.encode(), bytes.hex, 401),
    ],
)
def test_row_12_the_key_is_the_secret_as_text_and_the_signature_standard_base64(
    key: bytes, encode: Any, status: int
) -> None:
    body, timestamp = json.dumps(envelope("message.added")).encode(), datetime.now(UTC).isoformat(timespec="seconds")
    signature = encode(hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).digest())
    text = signature.decode() if isinstance(signature, bytes) else signature
    assert deliver(body, **{"X-Catena-Timestamp": timestamp, "X-Catena-Signature": text}) == status


def test_row_13_what_is_signed_and_old_is_kept_aside_acknowledged_and_read_from_the_lists(
    conversation: models.Conversation,
) -> None:
    record = records.message(conversation)
    assert deliver(envelope("message.added", body_of(record)), age=timedelta(minutes=6)) == 202
    assert process() == 0
    assert (WebhookEvent.objects.get().state, models.Message.objects.count()) == (EventState.DEAD, 0)
    assert {one.name for one in models.SyncCursor.objects.asked()} == {"round messages", "round operations"}


def test_row_14_a_bad_signature_is_401_and_our_own_fault_503(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    event = envelope("message.added")
    assert deliver(event, "a-secret-that-nobody-configured-here") == 401
    with monkeypatch.context() as here:
        here.setattr("messaging.inbox.receiving.redacted", lambda event: 1 / 0)
        assert deliver(event) == 503
    settings.CATENA_WEBHOOK_SECRETS = []
    assert deliver(event) == 503
    assert models.RefusedDelivery.objects.get().count == 1


def test_row_15_neither_a_changed_nor_a_missing_event_id_shows_a_message_twice(
    conversation: models.Conversation,
) -> None:
    record = body_of(records.message(conversation))
    for identity in (str(uuid4()), str(uuid4()), None):
        assert apply(envelope("message.added", record, id=identity)).state == EventState.DONE
    assert str(only_message().catena_id) == record["id"]


def test_row_16_a_lost_event_is_made_good_by_the_lists(
    talk: models.Conversation, catena: SimulatorServer, catena_client: CatenaClient
) -> None:
    with catena.world.lock:
        written = drivers.write(catena.world, str(talk.driver.catena_id), "Nobody told you")
        catena.world.tick()
    sync.messages_all(catena_client, datetime.now(UTC) + timedelta(seconds=1))
    assert models.Message.objects.get(catena_id=written.id).text == "Nobody told you"


def test_row_17_the_mark_of_a_sweep_stays_behind_now_by_the_overlap(
    talk: models.Conversation, catena_client: CatenaClient
) -> None:
    now = datetime.now(UTC)
    sync.messages_all(catena_client, now)
    mark = models.SyncCursor.objects.get(name="messages", connection=talk.connection)
    assert mark.position == now - timedelta(hours=2)


def test_row_18_an_event_without_a_thread_goes_by_its_people_and_the_listing_fills_the_thread(
    conversation: models.Conversation,
) -> None:
    record, thread = records.message(conversation), uuid4()
    apply(envelope("message.added", body_of(record)))
    assert (only_message().conversation, only_message().thread_id) == (conversation, None)
    mirror.apply_message(records.message(conversation, id=record.id, thread_id=thread, reply_to_message_id=uuid4()))
    assert only_message().thread_id == thread
    apply(envelope("message.modified", {**body_of(record), "updated_at": moment(5).isoformat()}))
    assert only_message().thread_id == thread, "and a later event does not empty it"
    nameless = records.message(conversation, sender_id=None, recipient_id=None, thread_id=thread, at=moment(1))
    apply(envelope("message.added", body_of(nameless)))
    assert models.Message.objects.get(catena_id=nameless.id).conversation == conversation


@pytest.mark.parametrize("is_driver", [True, False])
def test_row_19_the_senders_role_tells_the_direction_when_the_record_does_not(
    conversation: models.Conversation, is_driver: bool
) -> None:
    record = records.message(conversation, by_driver=True, sent_by_driver=None)
    if not is_driver:
        office = models.FleetUser.objects.get(connection=conversation.connection, is_driver=False)
        record = records.message(
            conversation, sent_by_driver=None, sender_id=office.catena_id, recipient_id=conversation.driver.catena_id
        )
    apply(envelope("message.added", body_of(record)))
    assert only_message().direction == (Direction.IN if is_driver else Direction.OUT)


def test_row_19_our_own_operation_tells_the_direction_when_nobody_is_named(conversation: models.Conversation) -> None:
    message = factories.accepted(conversation)
    record = records.message(
        conversation, sent_by_driver=None, sender_id=None, recipient_id=conversation.driver.catena_id
    )
    done = records.operation(message, status="success", resource_id=record.id)
    apply(envelope("resource_operation.succeeded", body_of(done)))
    apply(envelope("message.added", body_of(record)))
    assert (only_message().direction, only_message().author) == (Direction.OUT, message.author)


@pytest.mark.parametrize("is_message_first", [True, False])
def test_row_20_our_own_send_is_shown_once_in_any_order_of_arrival(
    conversation: models.Conversation, is_message_first: bool
) -> None:
    message = factories.accepted(conversation)
    record = records.message(conversation, by_driver=False, message_text=message.text)
    done = records.operation(message, status="success", resource_id=record.id)
    events = [
        envelope("message.added", body_of(record)),
        envelope("resource_operation.succeeded", body_of(done)),
    ]
    for event in events if is_message_first else reversed(events):
        apply(event)
    assert (only_message().pk, only_message().catena_id) == (message.pk, record.id)
    assert only_message().state == MessageState.SUCCEEDED


def test_row_21_the_furthest_status_is_shown_the_raw_one_kept_and_a_missing_receipt_claims_nothing(
    conversation: models.Conversation,
) -> None:
    record = records.message(conversation, by_driver=False, status="delivered", delivered_at=moment(1))
    apply(envelope("message.added", body_of(record)))
    back = {**body_of(record), "status": "sent", "delivered_at": None, "updated_at": moment(9).isoformat()}
    apply(envelope("message.modified", back))
    message = only_message()
    assert (message.record_status, message.delivered_at, message.read_at) == ("delivered", moment(1), None)
    assert (message.raw or {})["status"] == "sent"


def test_row_24_unknown_words_and_fields_are_kept_and_what_cannot_be_read_is_an_alarm(
    conversation: models.Conversation, caplog: pytest.LogCaptureFixture
) -> None:
    record = records.message(conversation, status="teleported", mood="fine")
    assert apply(envelope("message.added", body_of(record), lane=4)).body["lane"] == 4
    message = only_message()
    assert (message.record_status, (message.raw or {})["mood"]) == ("teleported", "fine")
    assert not [one for one in caplog.records if one.levelname == "ERROR"]
    event = apply(envelope("message.added", {**body_of(record), "connection_id": 7}))
    assert event.state == EventState.DEAD
    assert [one.levelname for one in caplog.records if one.name == "messaging.inbox.processing"] == ["ERROR"]


def test_row_25_a_refused_cursor_starts_the_window_again_and_leaves_nothing_out(
    talk: models.Conversation, catena: SimulatorServer
) -> None:
    client = CatenaClient(
        CatenaConfig(catena.url, catena.token_url, catena.client_id, catena.client_secret, page_size=5)
    )
    now = datetime.now(UTC) + timedelta(seconds=1)
    # The first page comes, the cursor of the second is refused.
    catena.world.faults.add(Fault("slow", LIST, times=1, seconds=0))
    refusal = catena.world.faults.add(Fault("refused", LIST, times=1, status=400))
    assert sync.messages_all(client, now).problems == []
    place = str(talk.connection.catena_id)
    assert models.Message.objects.count() == sum(one.connection_id == place for one in catena.world.messages.values())
    assert refusal.used == 1


def test_row_25_what_catena_deleted_is_hidden(
    conversation: models.Conversation, mara: models.User, client_of: Any
) -> None:
    def is_shown() -> bool:
        page = client_of(mara).get(reverse("conversation", args=[conversation.uuid]))
        return "At the old gate" in page.content.decode()

    record = records.message(conversation, message_text="At the old gate")
    apply(envelope("message.added", body_of(record)))
    before = is_shown()
    gone = {**body_of(record), "updated_at": moment(2).isoformat(), "deleted_at": moment(2).isoformat()}
    apply(envelope("message.modified", gone))
    assert (before, is_shown()) == (True, False)
