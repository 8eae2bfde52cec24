"""The rows that a run starts from. Imports the product's models: call `Installation.open_rows` first."""

from django.db import connection as database
from django.utils import timezone

from messaging import models
from tests import factories
from tests.chaos.cast import Cast, Place


def fill(conversations: int, connections: int, authors: int = 2) -> Cast:
    """Fleets, drivers, people and empty conversations. The sweeps that would read Catena's empty lists have had their
    turn, or they would withdraw everything.
    """
    fleet = factories.FleetFactory()
    homes = [factories.ConnectionFactory(fleet=fleet) for _ in range(connections)]
    for home in homes:
        factories.FleetUserFactory(connection=home, is_driver=False)
    places = [_place(homes[number % connections]) for number in range(conversations)]
    closing = [_place(home) for home in homes]
    writers = [f"writer{number}" for number in range(authors)]
    deciders = ["decider0", "decider1"]
    for name in writers:
        factories.UserFactory(username=name, fleets=[fleet], undo_seconds=0)
    for name in deciders:
        factories.UserFactory(username=name, role=models.Role.SUPPORT)
    for name in ("messages", "directory"):
        models.SyncCursor.objects.create(name=f"round {name}", started_at=timezone.now())
    database.close()
    return Cast(writers, deciders, places, closing)


def _place(home: models.Connection) -> Place:
    driver = factories.FleetUserFactory(connection=home)
    conversation = factories.ConversationFactory(driver=driver)
    return Place(conversation.pk, home.pk, driver.catena_id)
