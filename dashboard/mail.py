"""How mail leaves this installation: EMAIL_URL as an entry of Django's MAILERS."""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

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
    options = {
        "host": host,
        "port": port or USUAL_PORTS[parts.scheme],
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "use_tls": parts.scheme == "smtp+tls" or (parts.scheme == "smtp" and has_tls),
        "use_ssl": parts.scheme == "smtps",
        "timeout": TIMEOUT_SECONDS,
    }
    return {"BACKEND": SMTP, "OPTIONS": options}
