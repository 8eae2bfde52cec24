"""How mail leaves this installation: EMAIL_URL, or the single EMAIL_* variables, as an entry of Django's MAILERS."""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from dashboard.env import Env

SMTP = "django.core.mail.backends.smtp.EmailBackend"
CONSOLE = "django.core.mail.backends.console.EmailBackend"
# A mail server that does not answer must not hold a worker.
TIMEOUT_SECONDS = 10
USUAL_PORTS = {"smtp": 25, "smtp+tls": 587, "smtps": 465}
EXAMPLE = "smtp+tls://user:password@mail.example.com:587"


def from_url(url: str) -> dict[str, Any]:
    """`smtp://`, `smtp+tls://` (STARTTLS) or `smtps://`, with user and password percent-encoded; `console:` prints.

    `smtp://...?tls=true` is the same as `smtp+tls://`. Raises ImproperlyConfigured, without the password in its text.
    """
    if url.startswith("console:"):
        return {"BACKEND": CONSOLE}
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host or parts.scheme not in USUAL_PORTS:
        raise ImproperlyConfigured(f"EMAIL_URL is no address of a mail server. Set it to one such as {EXAMPLE}.")
    has_tls = parse_qs(parts.query).get("tls", [""])[-1].lower() in {"true", "1", "yes"}
    return _smtp(
        host,
        port or USUAL_PORTS[parts.scheme],
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        use_tls=parts.scheme == "smtp+tls" or (parts.scheme == "smtp" and has_tls),
        use_ssl=parts.scheme == "smtps",
    )


def from_variables(env: Env) -> dict[str, Any]:
    """EMAIL_HOST and its like; each has Django's default."""
    use_tls, use_ssl = env.flag("EMAIL_USE_TLS", default=False), env.flag("EMAIL_USE_SSL", default=False)
    if use_tls and use_ssl:
        raise ImproperlyConfigured("Both EMAIL_USE_TLS and EMAIL_USE_SSL are true. Keep one of them.")
    return _smtp(
        env.text("EMAIL_HOST", "localhost"),
        env.integer("EMAIL_PORT", 25, least=1),
        env.text("EMAIL_HOST_USER"),
        env.secret("EMAIL_HOST_PASSWORD"),
        use_tls=use_tls,
        use_ssl=use_ssl,
    )


def _smtp(host: str, port: int, username: str, password: str, *, use_tls: bool, use_ssl: bool) -> dict[str, Any]:
    options = {
        "host": host,
        "port": port,
        "username": username,
        "password": password,
        "use_tls": use_tls,
        "use_ssl": use_ssl,
        "timeout": TIMEOUT_SECONDS,
    }
    return {"BACKEND": SMTP, "OPTIONS": options}
