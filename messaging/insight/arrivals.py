"""What support is told of the webhook receiver: what it refused, and what it took but nobody could use."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Sum

from messaging.models import RefusedDelivery, WebhookEvent
from messaging.states import EventState

REFUSED_WITHIN = timedelta(hours=24)
DEAD_WITHIN = timedelta(days=7)
# A scanner that finds the address now and then is nobody's trouble.
WORTH_TELLING = 5


@dataclass(frozen=True, slots=True)
class Arrivals:
    """`refused` deliveries of the last day, when they are worth telling, and `dead` events of the last week."""

    refused: int
    dead: int


def arrivals(now: datetime) -> Arrivals:
    """Two short queries."""
    refused = (
        RefusedDelivery.objects.filter(minute__gt=now - REFUSED_WITHIN).aggregate(total=Sum("count"))["total"] or 0
    )
    dead = WebhookEvent.objects.filter(state=EventState.DEAD, received_at__gt=now - DEAD_WITHIN).count()
    return Arrivals(refused if refused >= WORTH_TELLING else 0, dead)
