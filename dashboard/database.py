"""What DATABASE_URL means to Django."""

from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

Settings = dict[str, Any]

# READ COMMITTED with short limits: no statement of a page or an engine needs longer, and a stuck lock must show itself.
SESSION_LIMITS = "-c statement_timeout=15000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=30000"
PASSED_ON = ("sslmode", "sslrootcert", "connect_timeout")
FORM = "postgresql://user:password@host:5432/backhaul"


def from_url(url: str) -> Settings:
    """Django's DATABASES entry for a `postgresql://` URL. Raises ImproperlyConfigured for any other."""
    parts, port = _split(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    options: dict[str, Any] = {"options": SESSION_LIMITS}
    options.update({name: query[name] for name in PASSED_ON if name in query})
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")) or "postgres",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.get("host", unquote(parts.hostname or "")),
        "PORT": port or query.get("port", ""),
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }


def _split(url: str) -> tuple[SplitResult, str]:
    """The URL's parts and its port. The message never repeats the URL: it holds the password."""
    try:
        parts = urlsplit(url)
        port = str(parts.port or "")
    except ValueError:
        raise ImproperlyConfigured(
            f"DATABASE_URL cannot be read: its host or port is malformed. Write it as {FORM}; "
            "write a special character of the password as a percent code (@ is %40, / is %2F)."
        ) from None
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(f"DATABASE_URL must start with postgresql:// (for example {FORM}).")
    return parts, port
