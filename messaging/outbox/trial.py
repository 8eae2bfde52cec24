"""Support's test of a connection: a real, short message in synchronous mode, so that the provider's answer is there at once.

It goes through the outbox like any other message: never lost, never sent twice. Catena keeps no queue for it, repeats nothing
and sends no webhook (contract section 7); what an answer did not tell, the looks and sweeps find out as ever.
"""

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction

from messaging.models import Connection, FleetUser, Message, User
from messaging.outbox.compose import compose_locked, open_conversation
from messaging.states import Priority

WINDOW = timedelta(hours=1)


class TooManyTests(Exception):
    """The connection has had its tests of this hour; `str()` is one sentence for people."""

    def __init__(self) -> None:
        most = settings.TEST_SENDS_PER_HOUR
        counted = "No test messages" if most == 0 else f"No more than {most} test message{'' if most == 1 else 's'}"
        super().__init__(f"{counted} may be sent on one connection within an hour.")


def send_test(author: User, driver: FleetUser, text: str, client_token: UUID, now: datetime) -> Message:
    """Puts a test to this driver in the queue, due at once and of no use after ten minutes.

    Idempotent by (author, client_token). The caller has checked `access.can_review`. Raises `TooManyTests` and `NoSender`;
    then nothing is kept.
    """
    try:
        with transaction.atomic():
            return _send_test(author, driver, text, client_token, now)
    except IntegrityError:
        # The same token at the same moment on another connection
        return Message.objects.get(author=author, client_token=client_token)


def _send_test(author: User, driver: FleetUser, text: str, client_token: UUID, now: datetime) -> Message:
    # So that two at once do not both find room for one.
    Connection.objects.select_for_update(no_key=True).get(pk=driver.connection_id)
    existing = Message.objects.filter(author=author, client_token=client_token).first()
    if existing is not None:
        return existing
    lately = Message.objects.filter(connection_id=driver.connection_id, is_test=True, occurred_at__gt=now - WINDOW)
    if lately.count() >= settings.TEST_SENDS_PER_HOUR:
        raise TooManyTests
    conversation = open_conversation(driver)
    return compose_locked(author, conversation, text, Priority.MEDIUM, None, client_token, now, is_test=True)
