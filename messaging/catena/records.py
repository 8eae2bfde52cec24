"""The one tolerant reader of JSON objects: dataclass fields are the schema. Knows no record of Catena's."""

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, ClassVar, Self
from uuid import UUID

from .errors import BadPayload

type Reader = Callable[[object, str], Any]
type Plan = tuple[tuple[str, Reader, Any], ...]

# What every integer column can hold; no figure of the API comes near it.
LARGEST = 2**31 - 1
PLANS: dict[type[Any], Plan] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A field without a default is required: its absence is a `BadPayload`. One with a default falls back to it when
    the value is missing, null or of another type. Status words and names are plain text, so unknown ones survive.

    `raw` is the body as received, without what may never be stored; neither it nor texts appear in `repr`.
    """

    NEVER_KEPT: ClassVar[frozenset[str]] = frozenset()

    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, body: object, path: str = "") -> Self:
        """Raises `BadPayload` naming the path of the first required field that is missing or of another type."""
        if not isinstance(body, Mapping):
            raise BadPayload("is not an object", path=path)
        given, values = cls._given(body), {}
        for name, read, default in plan(cls):
            try:
                values[name] = read(given.get(name), _join(path, name))
            except ValueError as error:
                if default is MISSING:
                    problem = str(error) if name in given else "is missing"
                    raise BadPayload(problem, path=_join(path, name)) from None
                values[name] = default()
        return cls(**values, raw=cls._kept(body))

    @classmethod
    def _given(cls, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The fields to read from; a record with fallbacks between its fields says so here."""
        return body

    @classmethod
    def _kept(cls, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: value for name, value in body.items() if name not in cls.NEVER_KEPT}


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def plan(cls: type[Record]) -> Plan:
    """Name, reader and default factory (MISSING when required) of each field, read off the annotations once."""
    if cls not in PLANS:
        hints = typing.get_type_hints(cls)
        PLANS[cls] = tuple((f.name, _reader(hints[f.name]), _fallback(f)) for f in fields(cls) if f.name != "raw")
    return PLANS[cls]


def _fallback(f: Any) -> Any:
    if f.default_factory is not MISSING:
        return f.default_factory
    return MISSING if f.default is MISSING else lambda: f.default


def _reader(hint: Any) -> Reader:
    if isinstance(hint, types.UnionType):
        (hint,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return _each(_reader(arguments[0]))
    if origin is Mapping:
        return _texts if arguments[1] is str else _mapping
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.parse
    return SCALARS[hint]


def _each(read: Reader) -> Reader:
    """A list whose unreadable entries are left out: one odd attempt must not hide an operation's status."""

    def read_list(value: object, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError("is not a list")
        found = []
        for index, entry in enumerate(value):
            try:
                found.append(read(entry, f"{path}[{index}]"))
            except (ValueError, BadPayload):
                continue
        return tuple(found)

    return read_list


def _uuid(value: object, path: str) -> UUID:
    if isinstance(value, str) and len(value) == 36:
        try:
            return UUID(value)
        except ValueError:
            pass
    raise ValueError("is not a UUID")


def read_moment(value: object, path: str) -> datetime:
    """RFC 3339 as UTC; a time without zone is UTC, as every time of the API is (CONTRACT section 3)."""
    if isinstance(value, str) and len(value) > len("2026-05-12"):
        try:
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise ValueError("is not a date-time")


def _mapping(value: object, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("is not an object")
    return value


def _texts(value: object, path: str) -> Mapping[str, str]:
    return {name: text for name, text in _mapping(value, path).items() if isinstance(text, str)}


def _number(value: object, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > LARGEST:
        raise ValueError("is not a number in bounds")
    return float(value)


def _whole(value: object, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > LARGEST:
        raise ValueError("is not a whole number in bounds")
    return value


def _exactly(kind: type, description: str) -> Reader:
    def read(value: object, path: str) -> object:
        if not isinstance(value, kind):
            raise ValueError(f"is not {description}")
        return value

    return read


SCALARS: dict[object, Reader] = {
    UUID: _uuid,
    datetime: read_moment,
    float: _number,
    str: _exactly(str, "text"),
    int: _whole,
    bool: _exactly(bool, "true or false"),
}
