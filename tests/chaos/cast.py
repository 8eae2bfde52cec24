"""Who takes part in a run."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class Place:
    """A driver to write to."""

    conversation: int
    connection: int
    driver: UUID


@dataclass(frozen=True)
class Cast:
    """Who writes, who decides, and to whom."""

    authors: list[str]
    deciders: list[str]
    places: list[Place]
    # One more driver of each connection, to whom nobody writes before the end.
    closing: list[Place]
