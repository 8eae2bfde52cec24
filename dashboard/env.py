"""Typed readers of the environment. Owns no setting; an error names the variable and the cure."""

import os
from collections.abc import Mapping
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off", ""})


def read_dotenv(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with a `.env` file beneath it: a variable that is already set wins over the file.

    Lines are `NAME=value`; blank lines and lines that start with `#` are skipped; one pair of quotes around the value
    is removed. A line without `=` raises ImproperlyConfigured with its number.
    """
    merged: dict[str, str] = {}
    if path.is_file():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            name, separator, value = text.removeprefix("export ").partition("=")
            if not separator:
                raise ImproperlyConfigured(f"{path.name} line {number} has no '='. Write it as NAME=value.")
            merged[name.strip()] = _unquoted(value.strip())
    merged.update(environ)
    return merged


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


class Env:
    """Reads one environment. Every reader raises ImproperlyConfigured that names the variable when the value is unusable."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ

    def text(self, name: str, default: str = "") -> str:
        return self._environ.get(name, default).strip()

    def flag(self, name: str, *, default: bool) -> bool:
        word = self._environ.get(name, str(default)).strip().lower()
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
        try:
            return Path(file_name).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ImproperlyConfigured(
                f"{name}_FILE cannot be read ({error.strerror}). Name a readable file."
            ) from None
