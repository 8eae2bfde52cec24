"""Who may do what. Rows are scoped by `visible_to`; these answer for actions."""

from django.db.models import Q, QuerySet

from messaging.models import Connection, FleetMembership, Role, User
from messaging.models.directory import sees_every_fleet
from messaging.models.subscriptions import tends_webhooks

__all__ = [
    "can_care",
    "can_decide",
    "can_resend",
    "can_review",
    "can_send",
    "caretakers",
    "is_administrator",
    "may_export",
    "may_send",
    "may_withdraw",
    "sees_every_fleet",
    "tends_webhooks",
]

EXPORT = "export_messages"


def is_administrator(user: User) -> bool:
    return user.is_active and (user.is_superuser or user.role == Role.ADMINISTRATOR)


def can_review(user: User) -> bool:
    """Support work: attempt headers, retries, decisions, every fleet."""
    return user.is_active and (user.is_superuser or user.role == Role.SUPPORT)


def can_care(user: User) -> bool:
    """Looking after incidents: support and administrators."""
    return can_review(user) or is_administrator(user)


def caretakers(places: "QuerySet[Connection]") -> "QuerySet[User]":
    """Everybody for whom `can_care` holds and who sees one of these connections, by name."""
    member = Q(memberships__fleet__in=places.order_by().values("fleet"))
    able = Q(is_superuser=True) | Q(role=Role.SUPPORT) | Q(member, role=Role.ADMINISTRATOR)
    return User.objects.filter(able, is_active=True).distinct().order_by("first_name", "last_name", "username")


def may_export(user: User) -> bool:
    """Taking messages out as a file: a permission of its own, given to single people. One query, none for a superuser."""
    if user.is_superuser or not user.is_active:
        return user.is_active
    return user.user_permissions.filter(codename=EXPORT, content_type__app_label="messaging").exists()


def can_decide(user: User, connection: Connection) -> bool:
    """Verdicts on sends that may have arrived: support, and those who write to the fleet."""
    return can_review(user) or can_send(user, connection)


def can_resend(user: User, connection: Connection) -> bool:
    """Sending a failure again, unchanged: support, and those who write to the fleet."""
    return can_review(user) or can_send(user, connection)


def can_send(user: User, connection: Connection) -> bool:
    """Whether this person may write to drivers on this connection. Asked when composing and again when claiming."""
    is_member = user.is_active and not user.is_superuser and _is_member(user, connection)
    return may_send(is_active=user.is_active, is_superuser=user.is_superuser, may_write=is_member)


def _is_member(user: User, connection: Connection) -> bool:
    fleet_id = connection.fleet_id
    return fleet_id is not None and FleetMembership.objects.filter(user_id=user.pk, fleet_id=fleet_id).exists()


def may_send(*, is_active: bool, is_superuser: bool, may_write: bool) -> bool:
    """The rule of `can_send`, for a claim that has read its facts with the message.

    `may_write`: a member of the fleet; or support, when the message is one that support sent again.
    """
    return is_active and (is_superuser or may_write)


def may_withdraw(user: User, author_id: int | None) -> bool:
    """Whether this person may withdraw a message that has not left: its author, support, an administrator."""
    return user.is_active and (user.pk == author_id or can_review(user) or is_administrator(user))
