"""How a mirrored row is written: only when something differs, never by an older version, never too long for its column."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, cast
from uuid import UUID

from django.db.models import CharField, Field, Model
from django.utils import timezone


class Change(StrEnum):
    """What applying one record did. `SKIPPED`: it belongs to a connection that we do not know."""

    NEW = "new"
    CHANGED = "changed"
    SAME = "same"
    SKIPPED = "skipped"


def cut(model: type[Model], name: str, text: str | None) -> str:
    """The text as the column holds it: None as blank, what is too long shortened. A long text is no reason to refuse."""
    column = cast("Field[Any, Any]", model._meta.get_field(name))
    limit = column.max_length if isinstance(column, CharField) else None
    return (text or "")[:limit]


def differing(row: Model, columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if getattr(row, name) != value}


def upsert(model: type[Model], catena_id: UUID, columns: Mapping[str, Any]) -> Change:
    """Inserts, or overwrites the row that is there."""
    row, is_new = model._default_manager.get_or_create(catena_id=catena_id, defaults=columns)
    return Change.NEW if is_new else overwrite(row, columns)


def overwrite(row: Model, columns: Mapping[str, Any]) -> Change:
    """Updates what differs unless the row is newer; the condition in the statement holds when two workers race.

    `columns` holds `catena_updated_at`. No UPDATE when nothing differs: a row that is written is painted again on
    every page that shows it.
    """
    updated_at: datetime = columns["catena_updated_at"]
    if updated_at < row.catena_updated_at:  # type: ignore[attr-defined]
        return Change.SAME
    changes = differing(row, columns)
    if not changes:
        return Change.SAME
    mine = type(row)._default_manager.filter(pk=row.pk, catena_updated_at__lte=updated_at)
    return Change.CHANGED if mine.update(**changes, synced_at=timezone.now()) else Change.SAME
