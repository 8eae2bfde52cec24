"""Reading the environment: what is meant, and one sentence when it cannot be meant."""

import re
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from dashboard.env import Env, read_dotenv

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_variable_that_is_set_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("PORT=1\nTIME_ZONE = 'Europe/Oslo' \n\n# a comment\nexport NAME=\"a = b\"\n")

    assert read_dotenv(file, {"PORT": "2"}) == {"PORT": "2", "TIME_ZONE": "Europe/Oslo", "NAME": "a = b"}


def test_no_file_means_the_environment_alone(tmp_path: Path) -> None:
    assert read_dotenv(tmp_path / ".env", {"A": "1"}) == {"A": "1"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"GOOD=1\nbroken line\n", ".env line 2 has no '='. Write it as NAME=value."),
        (
            b"\xff\xfe\x00",
            "The file .env cannot be read (it is not UTF-8 text). Make it a readable text file, or remove it.",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / ".env"
    file.write_bytes(content)

    with pytest.raises(ImproperlyConfigured) as refused:
        read_dotenv(file, {})

    assert str(refused.value) == sentence


@pytest.mark.parametrize("word", ["1", "true", "YES", " on "])
def test_a_flag_understands_yes(word: str) -> None:
    assert Env({"FLAG": word}).flag("FLAG", default=False) is True


@pytest.mark.parametrize("word", ["0", "false", "No", "off"])
def test_a_flag_understands_no(word: str) -> None:
    assert Env({"FLAG": word}).flag("FLAG", default=True) is False


@pytest.mark.parametrize("environ", [{}, {"X": ""}, {"X": "  "}])
def test_an_empty_value_counts_as_not_set(environ: dict[str, str]) -> None:
    env = Env(environ)

    assert env.text("X", "default") == "default"
    assert env.flag("X", default=True) is True
    assert env.integer("X", 8) == 8
    assert env.seconds("X", 2.5) == 2.5
    assert env.words("X", "a, b,,c") == ["a", "b", "c"]
    assert env.secret("X") == ""
    assert env.url("X", "https://host.example/") == "https://host.example"
    assert env.zone("X", "UTC") == "UTC"


@pytest.mark.parametrize(
    ("read", "value", "sentence"),
    [
        (lambda env: env.flag("X", default=True), "maybe", "X is 'maybe'. Set it to true or false."),
        (lambda env: env.integer("X", 1), "many", "X is 'many'. Set it to a whole number of at least 0."),
        (lambda env: env.integer("X", 1, least=1), "0", "X is 0. Set it to a whole number of at least 1."),
        (lambda env: env.seconds("X", 1), "soon", "X is 'soon'. Set it to a number of seconds, 0 or more."),
        (lambda env: env.seconds("X", 1), "-1", "X is '-1'. Set it to a number of seconds, 0 or more."),
        (lambda env: env.seconds("X", 1), "nan", "X is 'nan'. Set it to a number of seconds, 0 or more."),
        (lambda env: env.seconds("X", 1), "inf", "X is 'inf'. Set it to a number of seconds, 0 or more."),
        (lambda env: env.one_of("X", "A", ("A", "B")), "C", "X is 'C'. Set it to one of A, B."),
        (
            lambda env: env.zone("X", "UTC"),
            "Mars/Base",
            "X is 'Mars/Base', which is no time zone. Set it to a name such as UTC or Europe/Berlin.",
        ),
        (
            lambda env: env.zone("X", "UTC"),
            "../etc/passwd",
            "X is '../etc/passwd', which is no time zone. Set it to a name such as UTC or Europe/Berlin.",
        ),
        (
            lambda env: env.url("X", "https://host.example"),
            "host.example",
            "X is 'host.example'. Set it to an address such as https://host.example.",
        ),
        (
            lambda env: env.url("X", "https://host.example"),
            "https://host:port",
            "X is 'https://host:port'. Set it to an address such as https://host.example.",
        ),
    ],
)  # fmt: skip
def test_an_unusable_value_names_the_variable_and_the_cure(read: object, value: str, sentence: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refused:
        read(Env({"X": value}))  # type: ignore[operator]

    assert str(refused.value) == sentence


def test_a_secret_may_come_from_a_mounted_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-the-file\n")

    assert Env({"KEY_FILE": str(file)}).secret("KEY") == "from-the-file"


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="Both KEY and KEY_FILE are set"):
        Env({"KEY": "a", "KEY_FILE": str(tmp_path)}).secret("KEY")


def test_a_secret_file_that_is_missing_is_named_with_its_variable(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"The file that KEY_FILE names cannot be read \(No such file"):
        Env({"KEY_FILE": str(tmp_path / "none")}).secret("KEY")


def documented(path: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE))


def variables_in_use() -> set[str]:
    source = (ROOT / "dashboard/settings.py").read_text(encoding="utf-8")
    plain = set(re.findall(r'env\.(?!secret)\w+\(\s*"(\w+)"', source))
    secrets = set(re.findall(r'env\.secret\(\s*"(\w+)"', source))
    return plain | secrets | {f"{name}_FILE" for name in secrets}


@pytest.mark.parametrize(
    ("path", "pattern"), [(".env.example", r"^#?([A-Z][A-Z_]+)="), ("README.md", r"^\| `([A-Z_]+)`")]
)
def test_every_variable_is_documented_and_no_other(path: str, pattern: str) -> None:
    assert len(variables_in_use()) > 20
    assert documented(path, pattern) == variables_in_use()
