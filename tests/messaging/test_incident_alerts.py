"""Alerts leave once, say nothing that is private, and a failed one is told and tried again."""

import hashlib
import hmac
import json
import smtplib
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.db import connection as database
from django.utils import timezone

from messaging import incidents, models
from messaging.checks import check_alerts
from messaging.incidents import alerts
from tests import factories
from tests.messaging.test_incidents import fail

pytestmark = pytest.mark.django_db
NOW = timezone.now()
Kind = models.IncidentEntry.Kind
SECRET = "a-secret-of-the-receiver-of-alerts"


class Receiver:
    """Somebody's webhook receiver on this machine. Answers `status`, `headers` and then `body`, all after `delay` seconds."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status, self.headers, self.delay = 200, {"Content-Length": "0"}, 0.0
        self.is_over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                outer.is_over.wait(outer.delay)
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/alerts?of=backhaul"


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    made = Receiver()
    threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True).start()
    settings.ALERT_WEBHOOK_URL, settings.ALERT_WEBHOOK_SECRET = made.url, SECRET
    yield made
    made.is_over.set()
    made.server.shutdown()
    made.server.server_close()


def opened(connection: models.Connection) -> models.Incident:
    fail(connection, 5)
    incidents.watch(NOW)
    return models.Incident.objects.get()


def lines(incident: models.Incident) -> list[tuple[str, str]]:
    alerting = incident.entries.filter(kind__in=[Kind.ALERTED, Kind.ALERT_FAILED]).order_by("id")
    return list(alerting.values_list("kind", "text"))


def test_an_opening_is_told_once_by_each_way(connection: models.Connection, settings: Any, receiver: Receiver) -> None:
    settings.ALERT_EMAILS = ["desk@example.com", "night@example.com"]
    one = opened(connection)
    assert incidents.tell_due(NOW) == 1
    assert incidents.tell_due(NOW + timedelta(hours=2)) == 0
    (letter,) = mail.outbox
    assert letter.to == ["desk@example.com", "night@example.com"]
    assert letter.subject == "Incident: Samsara, Northern Haulage: tsp 503"
    assert "5 messages to 2 drivers failed." in letter.body
    assert f"{settings.PUBLIC_URL}/ops/incidents/{one.uuid}/" in letter.body
    ((_, body),) = receiver.got
    told = json.loads(body)["incident"]
    assert (told["id"], told["failures"], told["drivers"]) == (str(one.uuid), 5, 2)
    assert (told["provider"], told["fleet"], told["response_status_code"]) == ("samsara", "Northern Haulage", 503)
    assert lines(one) == [(Kind.ALERTED, "By e-mail."), (Kind.ALERTED, "By webhook.")]
    one.refresh_from_db()
    assert (one.alerted_at, one.alert_due_at) == (NOW, None)


def test_an_alert_holds_no_text_no_name_and_no_secret(
    connection: models.Connection, settings: Any, receiver: Receiver
) -> None:
    settings.ALERT_EMAILS = ["desk@example.com"]
    driver = factories.FleetUserFactory(connection=connection, name="Zebulon Quick", phone_number="+1 555 0100 777")
    place = factories.ConversationFactory(driver=driver)
    for _ in range(5):
        factories.failed(place, text="the gate code is 4711", reason="Zebulon Quick has no device", settled_at=NOW)
    incidents.watch(NOW)
    incidents.tell_due(NOW)
    ((headers, body),) = receiver.got
    everything = f"{headers} {body.decode()} {mail.outbox[0].message()}"
    for private in ("4711", "Zebulon", "0100", SECRET):
        assert private not in everything


def test_the_webhook_is_signed_over_its_time_and_body(connection: models.Connection, receiver: Receiver) -> None:
    opened(connection)
    incidents.tell_due(NOW)
    ((headers, body),) = receiver.got
    stamp, given = (part.partition("=")[2] for part in headers["x-backhaul-signature"].split(","))
    assert abs(int(stamp) - NOW.timestamp()) < 1
    assert given == hmac.new(SECRET.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()


def test_nobody_is_told_when_nothing_is_set_up(connection: models.Connection) -> None:
    one = opened(connection)
    assert incidents.tell_due(NOW) == 0
    assert (one.alert_due_at, lines(one)) == (None, [])


def test_a_failed_way_alone_is_tried_again_three_times_in_all(
    connection: models.Connection, settings: Any, receiver: Receiver
) -> None:
    settings.ALERT_EMAILS = ["desk@example.com"]
    receiver.status = 500
    one = opened(connection)
    told = [incidents.tell_due(NOW + timedelta(seconds=after)) for after in (0, 59, 60, 359, 360, 36_000)]
    assert told == [1, 0, 1, 0, 1, 0]
    assert (len(mail.outbox), len(receiver.got)) == (1, 3)
    assert [json.loads(body)["try"] for _, body in receiver.got] == [1, 2, 3]
    assert lines(one) == [
        (Kind.ALERTED, "By e-mail."),
        (Kind.ALERT_FAILED, "By webhook: the receiver answered 500. Tried again in 1 min."),
        (Kind.ALERT_FAILED, "By webhook: the receiver answered 500. Tried again in 5 min."),
        (Kind.ALERT_FAILED, "By webhook: the receiver answered 500. Nobody is told."),
    ]


def test_a_redirect_is_not_followed(connection: models.Connection, receiver: Receiver) -> None:
    receiver.status, receiver.headers = 302, {"Location": receiver.url, "Content-Length": "0"}
    one = opened(connection)
    incidents.tell_due(NOW)
    assert len(receiver.got) == 1
    assert lines(one)[0][1].startswith("By webhook: the receiver answered 302.")


def test_an_answer_without_end_is_not_read(connection: models.Connection, receiver: Receiver) -> None:
    receiver.headers = {"Content-Length": "1000000000000"}
    one = opened(connection)
    incidents.tell_due(NOW)
    assert lines(one) == [(Kind.ALERTED, "By webhook.")]


def test_a_receiver_that_hangs_is_left(
    connection: models.Connection, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "WEBHOOK_SECONDS", 0.3)
    receiver.delay = 60.0
    one = opened(connection)
    began = time.monotonic()
    incidents.tell_due(NOW)
    assert time.monotonic() - began < 20
    assert lines(one)[0][0] == Kind.ALERT_FAILED


def test_a_mail_server_that_refuses_is_told_without_its_words(connection: models.Connection, settings: Any) -> None:
    settings.ALERT_EMAILS = ["desk@example.com"]
    settings.MAILERS = {"default": {"BACKEND": f"{__name__}.Refusing"}}
    one = opened(connection)
    incidents.tell_due(NOW)
    assert lines(one) == [
        (
            Kind.ALERT_FAILED,
            "By e-mail: the mail server did not take it (SMTPAuthenticationError). Tried again in 1 min.",
        )
    ]


class Refusing(BaseEmailBackend):
    """A mail server that does not know us, and says so with what it should not repeat."""

    def send_messages(self, email_messages: Any) -> int:
        raise smtplib.SMTPAuthenticationError(535, b"password hunter2 is wrong")


def test_a_relapse_is_told_after_an_hour_and_not_before(connection: models.Connection, settings: Any) -> None:
    settings.ALERT_EMAILS = ["desk@example.com"]
    opened(connection)
    incidents.tell_due(NOW)
    for minutes, letters in ((31, 1), (45, 1), (76, 1), (90, 2)):
        at = NOW + timedelta(minutes=minutes)
        if letters == 2 or minutes == 45:
            fail(connection, 1, at=at)
        incidents.watch(at)
        incidents.tell_due(at)
        assert len(mail.outbox) == letters, minutes


def test_an_incident_that_is_resolved_is_not_told(
    connection: models.Connection, settings: Any, sol: models.User
) -> None:
    settings.ALERT_EMAILS = ["desk@example.com"]
    incidents.resolve(opened(connection), sol, NOW)
    assert (incidents.tell_due(NOW), mail.outbox) == (0, [])


@pytest.mark.django_db(transaction=True)
def test_two_workers_tell_an_opening_once(connection: models.Connection, receiver: Receiver) -> None:
    opened(connection)
    receiver.delay = 0.2
    barrier = threading.Barrier(4)
    told: list[int] = []

    def tell() -> None:
        barrier.wait(10)
        told.append(incidents.tell_due(NOW))
        database.close()

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == [0, 0, 0, 1]
    assert len(receiver.got) == 1


def test_what_a_worker_had_not_told_when_it_died_is_told_by_another(
    connection: models.Connection, settings: Any, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ALERT_EMAILS = ["desk@example.com"]
    one = opened(connection)

    def dies(*_: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(alerts, "send_webhook", dies)
        with pytest.raises(SystemExit):
            incidents.tell_due(NOW)
    assert [incidents.tell_due(NOW + timedelta(seconds=after)) for after in (60, 599, 600, 1300)] == [0, 0, 1, 0]
    assert (len(mail.outbox), json.loads(receiver.got[0][1])["try"]) == (1, 2)
    assert lines(one) == [(Kind.ALERTED, "By e-mail."), (Kind.ALERTED, "By webhook.")]


def test_an_alert_that_kills_every_worker_is_given_up(
    connection: models.Connection, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> None:
        raise SystemExit

    one = opened(connection)
    monkeypatch.setattr(alerts, "send_webhook", dies)
    for hours in range(3):
        with pytest.raises(SystemExit):
            incidents.tell_due(NOW + timedelta(hours=hours))
    assert incidents.tell_due(NOW + timedelta(hours=3)) == 0
    one.refresh_from_db()
    assert (one.alert_due_at, lines(one)) == (
        None, [(Kind.ALERT_FAILED, "Each worker that tried ended meanwhile. Nobody is told.")]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://alerts.example.com/x", True), ("http://127.0.0.1:9000/x", True), ("http://localhost/x", True),
        ("http://alerts.example.com/x", False), ("https://me:secret@alerts.example.com/x", False), ("ftp://127.0.0.1", False),
        ("https://", False), ("http://127.0.0.1.example.com/x", False), ("https://[::1", False), ("https://a:99999999/", False),
    ],
)  # fmt: skip
def test_alerts_leave_by_https_or_stay_on_this_machine(url: str, allowed: bool) -> None:
    assert alerts.is_allowed(url) is allowed


def test_the_checks_name_what_is_wrong(settings: Any) -> None:
    assert check_alerts() == []
    settings.ALERT_WEBHOOK_URL, settings.ALERT_WEBHOOK_SECRET = "http://alerts.example.com", "short"
    settings.ALERT_EMAILS, settings.DEFAULT_FROM_EMAIL = ["desk"], "Backhaul <desk@example.com>"
    found = check_alerts()
    assert [one.id for one in found] == ["messaging.E005", "messaging.E006", "messaging.E007"]
    assert "desk." in found[2].msg


def test_a_wrong_address_is_not_told_even_when_nobody_checked(connection: models.Connection, settings: Any) -> None:
    settings.ALERT_WEBHOOK_URL = "http://alerts.example.com"
    one = opened(connection)
    incidents.tell_due(NOW)
    assert "neither https nor on this machine" in lines(one)[0][1]
