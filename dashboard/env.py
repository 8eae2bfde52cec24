"""Typed readers of the environment. Owns no setting; an error names the variable and the cure."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.exceptions import ImproperlyConfigured

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off"})


def read_dotenv(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with a `.env` file beneath it: a variable that is already set wins over the file.

    Lines are `NAME=value`; blank lines and lines that start with `#` are skipped; one pair of quotes around the value
    is removed. A line without `=` raises ImproperlyConfigured with its number.
    """
    merged: dict[str, str] = {}
    if path.is_file():
        for number, line in enumerate(_content(path, "The file .env").splitlines(), start=1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            name, separator, value = text.removeprefix("export ").partition("=")
            if not separator:
                raise ImproperlyConfigured(f"{path.name} line {number} has no '='. Write it as NAME=value.")
            merged[name.strip()] = _unquoted(value.strip())
    merged.update(environ)
    return merged


def _content(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    raise ImproperlyConfigured(f"{name} cannot be read ({reason}). Make it a readable text file, or remove it.")


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


class Env:
    """Reads one environment. Every reader raises ImproperlyConfigured that names the variable when the value is unusable."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ

    def text(self, name: str, default: str = "") -> str:
        """The value without outer blanks; an empty one counts as not set, as compose files pass it."""
        return self._environ.get(name, "").strip() or default

    def flag(self, name: str, *, default: bool) -> bool:
        word = self.text(name, str(default)).lower()
        if word in TRUE_WORDS:
            return True
        if word in FALSE_WORDS:
            return False
        raise ImproperlyConfigured(f"{name} is {word!r}. Set it to true or false.")

    def integer(self, name: str, default: int, *, least: int = 0) -> int:
        word = self.text(name, str(default))
        try:
            number = int(word)
        except ValueError:
            raise ImproperlyConfigured(f"{name} is {word!r}. Set it to a whole number of at least {least}.") from None
        if number < least:
            raise ImproperlyConfigured(f"{name} is {number}. Set it to a whole number of at least {least}.")
        return number

    def seconds(self, name: str, default: float) -> float:
        word = self.text(name, str(default))
        try:
            value = float(word)
        except ValueError:
            value = -1.0
        if value < 0 or value != value or value == float("inf"):
            raise ImproperlyConfigured(f"{name} is {word!r}. Set it to a number of seconds, 0 or more.")
        return value

    def share(self, name: str, default: float) -> float:
        word = self.text(name, str(default))
        try:
            value = float(word)
        except ValueError:
            value = -1.0
        if not 0 < value <= 1:
            raise ImproperlyConfigured(f"{name} is {word!r}. Set it to a share above 0 and up to 1, such as {default}.")
        return value

    def words(self, name: str, default: str = "") -> list[str]:
        """A comma separated list, blanks removed."""
        return [word.strip() for word in self.text(name, default).split(",") if word.strip()]

    def secret(self, name: str, default: str = "") -> str:
        """The value of NAME, or the content of the file that NAME_FILE names (mounted secrets). Both set is an error."""
        value, file_name = self.text(name), self.text(f"{name}_FILE")
        if value and file_name:
            raise ImproperlyConfigured(f"Both {name} and {name}_FILE are set. Keep one of them.")
        if not file_name:
            return value or default
        return _content(Path(file_name), f"The file that {name}_FILE names").strip()

    def url(self, name: str, default: str) -> str:
        """An http or https address without its last slash."""
        address = self.text(name, default).rstrip("/")
        try:
            parts = urlsplit(address)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            usable = False
        if not usable:
            raise ImproperlyConfigured(f"{name} is {address!r}. Set it to an address such as {default}.")
        return address

    def one_of(self, name: str, default: str, words: Collection[str]) -> str:
        word = self.text(name, default)
        if word not in words:
            raise ImproperlyConfigured(f"{name} is {word!r}. Set it to one of {', '.join(words)}.")
        return word

    def zone(self, name: str, default: str) -> str:
        """The name of a time zone that this machine or the tzdata package knows."""
        zone = self.text(name, default)
        try:
            ZoneInfo(zone)
        except (ValueError, OSError, ZoneInfoNotFoundError):
            raise ImproperlyConfigured(
                f"{name} is {zone!r}, which is no time zone. Set it to a name such as UTC or Europe/Berlin."
            ) from None
        return zone
