"""Saved views: a filter of the operations list under a name. The only writer of `SavedView`."""

from dataclasses import dataclass

from django.db import IntegrityError, transaction

from messaging.models import SavedView, User

# One person's views; more than this nobody finds again.
MOST_OWN = 100


class NameTaken(Exception):
    """The person has another view of this name; `view` is that one."""

    def __init__(self, view: SavedView) -> None:
        super().__init__(f"You already have a view named “{view.name}”.")
        self.view = view


class TooMany(Exception):
    """The person keeps as many views as there is room for."""

    def __init__(self) -> None:
        super().__init__(f"You have {MOST_OWN} views. Delete one first.")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a view is to be."""

    name: str
    query: str
    is_shared: bool


def keep(user: User, wish: Wish, *, replaces: bool = False) -> SavedView:
    """Saves the filter under a name of its own. Raises NameTaken, unless it `replaces` that view, and TooMany."""
    own = SavedView.objects.filter(user_id=user.pk)
    if replaces and own.filter(name=wish.name).update(query=wish.query, is_shared=wish.is_shared):
        return own.get(name=wish.name)
    if own.count() >= MOST_OWN:
        raise TooMany
    try:
        with transaction.atomic():
            return SavedView.objects.create(user=user, name=wish.name, query=wish.query, is_shared=wish.is_shared)
    except IntegrityError:
        raise NameTaken(own.get(name=wish.name)) from None


def change(view: SavedView, wish: Wish) -> bool:
    """Gives the view another name, filter or audience; False when it is gone. Raises NameTaken."""
    own = SavedView.objects.filter(user_id=view.user_id)
    try:
        with transaction.atomic():
            kept = own.filter(pk=view.pk)
            return bool(kept.update(name=wish.name, query=wish.query, is_shared=wish.is_shared))
    except IntegrityError:
        raise NameTaken(own.get(name=wish.name)) from None


def forget(view: SavedView) -> bool:
    """Deletes the view; False when it is gone already."""
    return bool(SavedView.objects.filter(pk=view.pk).delete()[0])
