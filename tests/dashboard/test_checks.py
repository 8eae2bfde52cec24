"""A configuration that cannot work is refused before anything starts, in one sentence, without a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.checks import run_checks
from django.test import override_settings

ROOT = Path(__file__).resolve().parent.parent.parent
SOUND = {
    "SECRET_KEY": "0123456789" * 6,
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "CATENA_CLIENT_ID": "id",
    "CATENA_CLIENT_SECRET": "secret",
}


def manage(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """The real command in a real process whose environment holds nothing but a sound configuration and `variables`."""
    environ = {"PATH": os.environ["PATH"], **{name: os.environ[name] for name in os.environ if name.startswith("COV")}}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT, env=environ | SOUND | variables, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_sound_configuration_passes() -> None:
    done = manage("check")

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"SECRET_KEY": ""},
            "SECRET_KEY is not set. Set it to at least 50 random characters, or SECRET_KEY_FILE to a file that holds them "
            "(`make demo` does this for you).",
        ),
        (
            {"DATABASE_URL": "mysql://host/name"},
            "DATABASE_URL must start with postgresql:// (for example postgresql://user:password@host:5432/backhaul).",
        ),
        ({"WORKER_THREADS": "lots"}, "WORKER_THREADS is 'lots'. Set it to a whole number of at least 1."),
        (
            {"CATENA_REQUESTS_PER_MINUTE": "9"},
            "CATENA_REQUESTS_PER_MINUTE is 9. Set it to at least 10, or to 0 for no limit.",
        ),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL is 'LOUD'. Set it to one of DEBUG, INFO, WARNING, ERROR, CRITICAL."),
        (
            {"TIME_ZONE": "Mars/Base"},
            "TIME_ZONE is 'Mars/Base', which is no time zone. Set it to a name such as UTC or Europe/Berlin.",
        ),
        (
            {"CATENA_CLIENT_SECRET": "", "CATENA_CLIENT_SECRET_FILE": "/none/here"},
            "The file that CATENA_CLIENT_SECRET_FILE names cannot be read (No such file or directory). "
            "Make it a readable text file, or remove it.",
        ),
    ],
)  # fmt: skip
def test_an_unusable_variable_is_named_with_its_cure(variables: dict[str, str], sentence: str) -> None:
    done = manage("check", **variables)

    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Configuration: {sentence}\n")


def test_plain_http_to_catena_is_refused() -> None:
    done = manage("check", CATENA_API_URL="http://api.catena.example")

    assert done.returncode == 1
    assert "CATENA_API_URL does not use https." in done.stderr
    assert "Set CATENA_API_URL to an https:// address." in done.stderr
    assert "Traceback" not in done.stderr


def messages(**changed: object) -> dict[str, str]:
    with override_settings(**changed):
        return {message.id or "": message.msg for message in run_checks() if str(message.id).startswith("messaging")}


SETTINGS = {
    "CATENA_API_URL": "https://api.example",
    "CATENA_TOKEN_URL": "https://auth.example/token",
    "CATENA_CLIENT_ID": "id",
    "CATENA_CLIENT_SECRET": "secret",
    "CATENA_WEBHOOK_SECRETS": [],
}


@pytest.mark.parametrize("address", ["http://127.0.0.1:8801", "http://localhost:8801"])
def test_the_simulator_on_this_machine_may_speak_plain_http(address: str) -> None:
    assert messages(**{**SETTINGS, "CATENA_API_URL": address}) == {}


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"CATENA_CLIENT_ID": ""}, {"messaging.W001": "CATENA_CLIENT_ID is not set: nothing can be sent or read."}),
        (
            {"CATENA_CLIENT_SECRET": ""},
            {"messaging.W002": "CATENA_CLIENT_SECRET is not set: nothing can be sent or read."},
        ),
        ({"CATENA_API_URL": "http://127.0.0.1.evil.example"}, {"messaging.E001": "CATENA_API_URL does not use https."}),
        ({"CATENA_TOKEN_URL": "http://auth.example"}, {"messaging.E002": "CATENA_TOKEN_URL does not use https."}),
        (
            {"PUBLIC_URL": "https://dash.example"},
            {
                "messaging.I001": "CATENA_WEBHOOK_SECRET is not set: webhooks are not taken, and news comes by sweeps "
                "alone."
            },
        ),
        ({"PUBLIC_URL": "https://dash.example", "CATENA_WEBHOOK_SECRETS": ["0" * 32]}, {}),
        (
            {"CATENA_WEBHOOK_SECRETS": ["0" * 32, "short"]},
            {"messaging.E003": "CATENA_WEBHOOK_SECRET holds a secret that is too weak."},
        ),
        (
            {"SEND_ALARM_SECONDS": 60, "LEASE_SECONDS": 60},
            {
                "messaging.E004": "SEND_ALARM_SECONDS must lie between SEND_TOTAL_SECONDS and LEASE_SECONDS, "
                "or a frozen worker could send late."
            },
        ),
        (
            {"SEND_ALARM_SECONDS": 0},
            {"messaging.W003": "SEND_ALARM_SECONDS is 0: a worker that was frozen may send late."},
        ),
    ],
)
def test_what_is_missing_or_unsafe_is_found(changed: dict[str, object], found: dict[str, str]) -> None:
    assert messages(**{**SETTINGS, **changed}) == found
