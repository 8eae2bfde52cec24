"""The environment of `manage.py demo`, settled before the settings read it: this machine only, nothing real."""

import argparse
import fcntl
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from django.core.exceptions import ImproperlyConfigured

from dashboard.env import Env
from messaging.management.options import add_demo_options
from messaging.processes import free_port, is_free

SIMULATOR_PORT = 8801
# A demo must never reach a real database, a real Catena account or a real person's mail, whatever a .env file says.
SECRETS = (
    "DATABASE_URL",
    "SECRET_KEY",
    "CATENA_WEBHOOK_SECRET",
    "ALERT_WEBHOOK_URL",
    "ALERT_WEBHOOK_SECRET",
    "EMAIL_URL",
)
EMPTY = (
    *SECRETS, *(f"{name}_FILE" for name in SECRETS), "CATENA_CLIENT_ID_FILE", "CATENA_CLIENT_SECRET_FILE", "ALERT_EMAILS",
)  # fmt: skip
# Held as long as this process lives.
_lock: IO[str] | None = None


def prepare(arguments: Sequence[str], root: Path) -> None:
    """Sets this process's environment, which its children inherit. Raises ImproperlyConfigured when a demo cannot run.

    Makes the var folder with its secrets.
    """
    parser = argparse.ArgumentParser(add_help=False)
    add_demo_options(parser)
    options, _ = parser.parse_known_args(arguments)
    var = (options.var or Path(Env().text("VAR_DIR", str(root / "var")))).absolute()
    if not {"-h", "--help"} & set(arguments):
        _require_port(options.port)
        _lock_folder(var)
    os.environ.update(_environment(options.port, free_port(options.simulator_port or SIMULATOR_PORT), var))


def _require_port(port: int) -> None:
    try:
        if port > 0 and is_free("127.0.0.1", port):
            return
        reason = "is in use by another program" if port > 0 else "does not exist"
    except PermissionError:
        reason = "may be used by root only"
    except OverflowError:
        reason = "does not exist"
    way_out = port + 100 if 1024 <= port < 60000 else 8100
    raise ImproperlyConfigured(f"Port {port} {reason}. Choose another one: make demo PORT={way_out}")


def _lock_folder(var: Path) -> None:
    """Two demos on one folder would share a database and a simulated world that only one of them may write."""
    global _lock
    try:
        var.mkdir(parents=True, exist_ok=True)
        _lock = (var / "demo.lock").open("w")
        fcntl.flock(_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ImproperlyConfigured(
            f"A demo already runs in {var}. Stop it first, or set VAR_DIR to another folder."
        ) from None
    except OSError as error:
        raise ImproperlyConfigured(
            f"The folder {var} cannot be written ({error.strerror}). Make it writable, or set VAR_DIR to one that is."
        ) from None


def _environment(port: int, simulator_port: int, var: Path) -> dict[str, str]:
    catena = f"http://127.0.0.1:{simulator_port}"
    return dict.fromkeys(EMPTY, "") | {
        "VAR_DIR": str(var),
        "DEBUG": "false",
        "SECRET_KEY_FILE": str(_secret(var / "secret_key")),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "ALLOWED_HOSTS": "127.0.0.1,localhost,[::1]",
        "CSRF_TRUSTED_ORIGINS": f"http://127.0.0.1:{port},http://localhost:{port}",
        "BEHIND_PROXY": "false",
        "CATENA_API_URL": catena,
        "CATENA_TOKEN_URL": f"{catena}/realms/catena/protocol/openid-connect/token",
        "CATENA_CLIENT_ID": "backhaul-demo",
        "CATENA_CLIENT_SECRET": "simulated-client-secret",
        "CATENA_WEBHOOK_SECRET_FILE": str(_secret(var / "webhook_secret")),
    }


def _secret(file: Path) -> Path:
    """A file with 64 random characters that only its owner may read; made once."""
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(secrets.token_urlsafe(48))
    return file
