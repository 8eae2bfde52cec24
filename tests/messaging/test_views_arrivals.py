"""What the receiver refused and what nobody could use is told to those who can act on it."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from messaging import models
from tests import factories

pytestmark = pytest.mark.django_db
PAGES = ("/ops/", "/ops/webhooks/")


def refused(count: int, hours: int = 1) -> None:
    at = timezone.now() - timedelta(hours=hours)
    models.RefusedDelivery.objects.create(cause="signature", minute=at, count=count)


def dead(key: str = "k") -> None:
    models.WebhookEvent.objects.create(key=key, event_name="trailer.detached", state="dead", reason="Not known")


@pytest.mark.parametrize("address", PAGES)
def test_support_is_told_of_refused_webhooks_and_dead_events(client_of: Any, sol: models.User, address: str) -> None:
    refused(7)
    dead()
    page = client_of(sol).get(address).content.decode()
    assert "7 webhooks were refused in the last 24 hours" in page
    assert "1 event of the last week could not be used" in page
    assert "/admin/messaging/webhookevent/" not in page


def test_an_administrator_is_led_to_the_events(client_of: Any) -> None:
    dead("a")
    dead("b")
    page = (
        client_of(factories.UserFactory(role=models.Role.ADMINISTRATOR, is_staff=True)).get(PAGES[1]).content.decode()
    )
    assert "2 events of the last week could not be used" in page
    assert 'href="/admin/messaging/webhookevent/?state__exact=dead"' in page


def test_what_is_long_ago_or_rare_is_not_told(client_of: Any, sol: models.User) -> None:
    refused(4)
    refused(70, hours=25)
    assert "were refused" not in client_of(sol).get(PAGES[0]).content.decode()


def test_a_fleet_manager_is_not_told_of_the_receiver(client_of: Any, mara: models.User) -> None:
    refused(7)
    dead()
    page = client_of(mara).get(PAGES[0]).content.decode()
    assert ("were refused" in page, "could not be used" in page) == (False, False)
