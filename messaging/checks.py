"""System checks: each names the variable and the cure."""

from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Tags, register
from django.core.checks import Warning as CheckWarning

from messaging.incidents.alerts import is_allowed


@register(Tags.security)
def check_catena(**_: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    for number, name in enumerate(("CATENA_CLIENT_ID", "CATENA_CLIENT_SECRET"), start=1):
        if not getattr(settings, name):
            found.append(
                CheckWarning(
                    f"{name} is not set: nothing can be sent or read.",
                    hint=f"Set {name} (or {name}_FILE) to the value Catena issued.",
                    id=f"messaging.W00{number}",
                )
            )
    found.extend(_plain_http())
    return found


def _plain_http() -> list[CheckMessage]:
    """Tokens and messages must not cross a network in clear; loopback is the simulator."""
    return [
        Error(
            f"{name} does not use https.",
            hint=f"Set {name} to an https:// address. Plain http is accepted for this machine only.",
            id=f"messaging.E00{number}",
        )
        for number, name in enumerate(("CATENA_API_URL", "CATENA_TOKEN_URL"), start=1)
        if not getattr(settings, name).startswith(("https://", "http://127.0.0.1:", "http://localhost:"))
    ]


@register(Tags.security)
def check_send_times(**_: Any) -> list[CheckMessage]:
    """A POST must end before its worker is ended, and its worker before others take the message for lost."""
    if settings.SEND_TOTAL_SECONDS < settings.SEND_ALARM_SECONDS < settings.LEASE_SECONDS:
        return []
    if settings.SEND_ALARM_SECONDS == 0:
        return [
            CheckWarning(
                "SEND_ALARM_SECONDS is 0: a worker that was frozen may send late.",
                hint="Leave SEND_ALARM_SECONDS unset.",
                id="messaging.W003",
            )
        ]
    return [
        Error(
            "SEND_ALARM_SECONDS must lie between SEND_TOTAL_SECONDS and LEASE_SECONDS, or a frozen worker could send late.",
            hint=f"With SEND_TOTAL_SECONDS={settings.SEND_TOTAL_SECONDS:g} and LEASE_SECONDS={settings.LEASE_SECONDS:g},"
            " choose a value in between.",
            id="messaging.E004",
        )
    ]


@register(Tags.security)
def check_webhook_secrets(**_: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if not settings.CATENA_WEBHOOK_SECRETS and settings.PUBLIC_URL.startswith("https://"):
        found.append(
            Info(
                "CATENA_WEBHOOK_SECRET is not set: webhooks are not taken, and news comes by sweeps alone.",
                hint="Set it to 32 or more random ASCII characters, then run manage.py subscribe_webhooks.",
                id="messaging.I001",
            )
        )
    if not all(len(secret) >= 32 and secret.isascii() for secret in settings.CATENA_WEBHOOK_SECRETS):
        found.append(
            Error(
                "CATENA_WEBHOOK_SECRET holds a secret that is too weak.",
                hint="Use 32 or more ASCII characters; separate the current and the next secret by a comma.",
                id="messaging.E003",
            )
        )
    return found


@register(Tags.security)
def check_alerts(**_: Any) -> list[CheckMessage]:
    """Alerts that could not leave, or would leave in clear, are told before an incident needs them."""
    found: list[CheckMessage] = []
    if settings.ALERT_WEBHOOK_URL and not is_allowed(settings.ALERT_WEBHOOK_URL):
        found.append(
            Error(
                "ALERT_WEBHOOK_URL is not an https address.",
                hint="Set it to an https:// address without user and password. Plain http is accepted for this machine only.",
                id="messaging.E005",
            )
        )
    secret = settings.ALERT_WEBHOOK_SECRET
    if secret and (len(secret) < 32 or not secret.isascii()):
        found.append(
            Error(
                "ALERT_WEBHOOK_SECRET is too weak.",
                hint="Use 32 or more ASCII characters.",
                id="messaging.E006",
            )
        )
    wrong = [word for word in [*settings.ALERT_EMAILS, settings.DEFAULT_FROM_EMAIL] if not _is_mailbox(word)]
    if settings.ALERT_EMAILS and wrong:
        found.append(
            Error(
                f"ALERT_EMAILS or DEFAULT_FROM_EMAIL holds what is no address: {', '.join(wrong)}.",
                hint="Write addresses such as desk@example.com, separated by commas.",
                id="messaging.E007",
            )
        )
    return found


def _is_mailbox(word: str) -> bool:
    """`desk@example.com` or `Desk <desk@example.com>`; `@localhost` is one too."""
    _, address = parseaddr(word)
    name, at, domain = address.partition("@")
    return bool(name and at and domain) and not any(char.isspace() for char in address)
