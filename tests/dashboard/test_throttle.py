"""Guessing is slow, mistyping is not punished, and no form goes round the count."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection as database
from django.test import Client, RequestFactory, override_settings
from django.utils import timezone

from dashboard import throttle
from dashboard.throttle import Caller
from messaging import models
from tests import factories

MARA = Caller(account="mara", address="192.0.2.1")


def tries(client: Client, name: str, count: int, password: str = "wrong") -> list[int]:
    return [client.post("/login/", {"username": name, "password": password}).status_code for _ in range(count)]


@pytest.mark.django_db
def test_the_eleventh_wrong_password_is_not_looked_at(client: Client, mara: models.User) -> None:
    assert tries(client, "mara", 10) == [200] * 10

    answer = client.post("/login/", {"username": "mara", "password": factories.PASSWORD})

    assert answer.status_code == 429
    assert 880 < int(answer.headers["Retry-After"]) <= 900
    assert "Too many tries. Wait 15 minutes" in answer.content.decode()
    assert 'value="mara"' in answer.content.decode()
    assert "_auth_user_id" not in client.session


@pytest.mark.django_db
def test_a_colleague_at_another_desk_still_gets_in(client: Client, mara: models.User) -> None:
    tries(client, "mara", 11)

    answer = client.post("/login/", {"username": "mara", "password": factories.PASSWORD}, REMOTE_ADDR="192.0.2.9")

    assert answer.status_code == 302


@pytest.mark.django_db
def test_a_success_starts_the_count_afresh(client: Client, mara: models.User) -> None:
    tries(client, "mara", 9)

    assert tries(client, "mara", 1, factories.PASSWORD) == [302]
    assert models.LogInAttempt.objects.count() == 0


@pytest.mark.django_db
def test_many_names_from_one_address_are_stopped_too() -> None:
    now = timezone.now()
    answers = [throttle.reserve(Caller(account=f"name{n}", address="192.0.2.1"), now) for n in range(51)]

    assert answers[:50] == [None] * 50
    assert answers[50] == throttle.WINDOW


@pytest.mark.django_db
def test_many_addresses_against_one_name_are_stopped_too() -> None:
    now = timezone.now()
    answers = [throttle.reserve(Caller(account="mara", address=f"192.0.2.{n}"), now) for n in range(101)]

    assert answers[:100] == [None] * 100
    assert answers[100] == throttle.WINDOW


@pytest.mark.django_db
def test_a_refused_try_does_not_lengthen_the_wait_and_the_wait_ends() -> None:
    start = timezone.now()
    for minute in range(10):
        assert throttle.reserve(MARA, start + timedelta(minutes=minute)) is None

    assert throttle.reserve(MARA, start + timedelta(minutes=10)) == timedelta(minutes=5)
    assert throttle.reserve(MARA, start + timedelta(minutes=11)) == timedelta(minutes=4)
    assert throttle.reserve(MARA, start + timedelta(minutes=15, seconds=1)) is None
    assert models.LogInAttempt.objects.count() == 10, "what no longer counts is removed"


@pytest.mark.django_db(transaction=True)
def test_tries_at_the_same_moment_do_not_slip_through_together() -> None:
    now = timezone.now()

    def attempt(_: int) -> bool:
        try:
            return throttle.reserve(MARA, now) is None
        finally:
            database.close()

    with ThreadPoolExecutor(8) as pool:
        passed = sum(pool.map(attempt, range(40)))

    assert 1 <= passed <= 10
    assert models.LogInAttempt.objects.count() == passed


@pytest.mark.django_db
def test_the_typed_name_is_not_kept_in_clear(client: Client) -> None:
    tries(client, "My-Password-In-The-Wrong-Field", 1)

    [row] = models.LogInAttempt.objects.values_list("account", "address")
    assert len(row[0]) == 64
    assert "password" not in row[0].lower()


@pytest.mark.parametrize(
    ("behind_proxy", "forwarded", "address"),
    [
        (False, "203.0.113.5", "127.0.0.1"),
        (True, "203.0.113.5", "203.0.113.5"),
        (True, "1.2.3.4, 203.0.113.5", "203.0.113.5"),
        (True, "", "127.0.0.1"),
    ],
)
def test_only_the_last_hop_of_a_trusted_proxy_names_the_address(
    behind_proxy: bool, forwarded: str, address: str
) -> None:
    request = RequestFactory().post("/login/", {"username": " Mara "}, headers={"X-Forwarded-For": forwarded})

    with override_settings(BEHIND_PROXY=behind_proxy):
        caller = throttle.caller_of(request)

    assert caller.address == address
    assert caller.account == throttle.caller_of(RequestFactory().post("/", {"username": "mara"})).account


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["get", "head"])
def test_the_admin_form_leads_to_the_one_log_in(client: Client, method: str) -> None:
    answer = getattr(client, method)("/admin/login/?next=/admin/messaging/message/")

    assert answer.status_code == 302
    assert answer.headers["Location"] == "/login/?next=%2Fadmin%2Fmessaging%2Fmessage%2F"


@pytest.mark.django_db
def test_a_password_posted_to_the_admin_form_is_refused(client: Client, ada: models.User) -> None:
    answer = client.post("/admin/login/", {"username": "ada", "password": factories.PASSWORD})

    assert answer.status_code == 405
    assert "_auth_user_id" not in client.session


@pytest.mark.django_db
def test_a_signed_in_person_without_the_role_is_told_so_instead_of_sent_in_circles(
    client: Client, mara: models.User
) -> None:
    client.force_login(mara)

    answer = client.get("/admin/", follow=True)

    assert answer.status_code == 403
    assert "Your role does not include this page" in answer.content.decode()
