"""One message told from the rows: a sentence for people, and its timeline. One statement reads it, nothing writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Case, Exists, OuterRef, QuerySet, Subquery, TextField, When
from django.db.models.expressions import RawSQL
from django.db.models.functions import JSONObject

from messaging.models import Connection, Decision, Look, Message, OperationLog, SendAttempt
from messaging.models.explanations import STAMP_SQL
from messaging.states import LIVELY_STATES, RESENDABLE_STATES, UNDECIDED_STATES, Badge, Direction, MessageState, held_up

S = MessageState
# A receipt that has not come by then is not waited for on an open page.
RECEIPT_PATIENCE = timedelta(hours=24)
# Situations that somebody takes care of and then says so.
HANDLED_BY_PEOPLE = frozenset({"failed", "not_sent", "expired", "late", "sent_after_all", "sent_twice"})

_LOG = ("catena_id", "status", "error_type", "error_details", "response_status_code", "response_headers")
_PERSON = {"first": "user__first_name", "last": "user__last_name", "login": "user__username"}
_POST = ("id", "outcome", "http_status", "error_class", "error_text", "looks", "worker", "body_sha256")
_POST_TIMES = {
    "began": "posting_at", "ended": "finished_at", "looked": "looked", "next": "next_look_at", "operation": "operation_id",
    "found": "operation__catena_created_at",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of Catena at the provider. `headers` passed the allow-list before they were stored."""

    number: int
    catena_id: str
    at: datetime
    status: str
    error_type: str
    details: str
    code: int | None
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Post:
    """One POST of ours to Catena. `outcome` and `finished_at` are None while it is open.

    `looks` counts how often one without an answer was looked for. `found_at` is when Catena made an operation of it, which
    `is_second` says is not the message's own.
    """

    id: int
    posting_at: datetime
    finished_at: datetime | None
    outcome: str | None
    http_status: int | None
    error_class: str
    error_text: str
    looks: int = 0
    looked_at: datetime | None = None
    next_look_at: datetime | None = None
    found_at: datetime | None = None
    is_second: bool = False
    worker: str = ""
    body_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One decision of a person on an ambiguous send."""

    id: int
    kind: str
    reason: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Resent:
    """The message that repeats this one, and who sent it."""

    url: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Story:
    """A message with everything that happened to it, each list oldest first, and the badge of this moment.

    `held_up_by` is the address of the message that it waits behind and that may have been sent. `has_receipts` says that
    its provider has ever reported one. `entries_stamp` is that of the explanations, None where none can be wanted.
    """

    message: Message
    badge: Badge
    attempts: Sequence[Attempt]
    posts: Sequence[Post]
    verdicts: Sequence[Verdict]
    resent: Resent | None
    now: datetime
    held_up_by: str = ""
    has_receipts: bool = True
    entries_stamp: str | None = None

    @property
    def provider(self) -> str:
        return self.message.connection.provider

    @property
    def is_pending(self) -> bool:
        return self.message.state in LIVELY_STATES

    @property
    def needs_handling(self) -> bool:
        """What asks for somebody and nobody has taken care of yet. A decision is another matter."""
        return self.message.handled_at is None and self.badge.key in HANDLED_BY_PEOPLE

    @property
    def is_over(self) -> bool:
        """Nothing more is expected on the page: a final state that nobody need act on, and the last receipt in or no longer
        waited for. What a person closed may still turn up at Catena.
        """
        message = self.message
        if self.is_pending or message.state == S.NEEDS_DECISION or self.needs_handling:
            return False
        may_change = {S.SUCCEEDED, S.MIRRORED, S.CLOSED_SENT, S.CLOSED_NOT_SENT}
        if message.direction == Direction.IN or message.state not in may_change:
            return True
        return self.badge.key == "read" or self.now - message.occurred_at > RECEIPT_PATIENCE


def with_story(found: "QuerySet[Message]") -> "QuerySet[Message]":
    """Lets each message of the queryset be told by `tell` without a further query."""
    logs = OperationLog.objects.filter(operation_id=OuterRef("operation_id")).order_by("catena_created_at", "id")
    latest = Look.objects.filter(attempt_id=OuterRef("pk")).order_by("-id").values("at")[:1]
    posts = SendAttempt.objects.filter(message_id=OuterRef("pk")).annotate(looked=Subquery(latest)).order_by("id")
    repeats = Message.objects.filter(retry_of_id=OuterRef("pk")).exclude(state=S.CANCELLED).order_by("id")
    unsettled = Message.objects.filter(
        conversation_id=OuterRef("conversation_id"), state__in=sorted(UNDECIDED_STATES), detached=False
    )
    receipts = Connection.objects.filter(tsp_id=OuterRef("connection__tsp_id"), first_receipt_at__isnull=False)
    author = {name: path.replace("user__", "author__") for name, path in _PERSON.items()}
    verdicts = Decision.objects.filter(message_id=OuterRef("pk")).order_by("id")
    return found.select_related(
        "conversation__driver", "connection__fleet", "sender", "recipient", "operation",
        "author", "settled_by", "handled_by", "reply_to", "retry_of",
    ).annotate(
        told_logs=ArraySubquery(logs.values(row=_packed(_LOG, at="catena_created_at"))),
        told_posts=ArraySubquery(posts.values(row=_packed(_POST, **_POST_TIMES))),
        told_verdicts=ArraySubquery(verdicts.values(row=_packed(("id", "kind", "reason"), **_PERSON, at="created_at"))),
        told_behind=Subquery(unsettled.values(row=_packed(("uuid", "state")))[:1]),
        told_receipts=Exists(receipts),
        told_entries=Case(
            When(state__in=sorted(RESENDABLE_STATES | {S.ACCEPTED}), then=RawSQL(STAMP_SQL, ())),  # noqa: S611 (a constant)
            output_field=TextField(),
        ),
        told_repeats=ArraySubquery(repeats.values(row=_packed(("uuid",), **author, at="occurred_at"))),
    )  # fmt: skip


def _packed(same: Sequence[str], **renamed: str) -> JSONObject:
    return JSONObject(**{name: name for name in same}, **renamed)


def tell(message: Message, badge: Badge, now: datetime) -> Story:
    """The story of a message that came through `with_story`. No query."""
    rows = vars(message)
    behind = rows["told_behind"] if message.state == S.WAITING else None
    return Story(
        message=message,
        badge=held_up(badge, behind["state"]) if behind else badge,
        held_up_by=f"/m/{behind['uuid']}/decide/" if behind else "",
        attempts=[_attempt(number, row) for number, row in enumerate(rows["told_logs"], start=1)],
        posts=[_post(row, message.operation_id) for row in rows["told_posts"]],
        verdicts=[_verdict(row) for row in rows["told_verdicts"]],
        resent=next((_resent(row) for row in reversed(rows["told_repeats"])), None),
        now=now,
        has_receipts=rows["told_receipts"],
        entries_stamp=rows["told_entries"],
    )


def _attempt(number: int, row: Mapping[str, Any]) -> Attempt:
    return Attempt(
        number=number,
        catena_id=row["catena_id"],
        at=datetime.fromisoformat(row["at"]),
        status=row["status"],
        error_type=row["error_type"],
        details=row["error_details"],
        code=row["response_status_code"],
        headers=row["response_headers"] if isinstance(row["response_headers"], dict) else {},
    )


def _post(row: Mapping[str, Any], operation_id: int | None) -> Post:
    return Post(
        id=row["id"],
        posting_at=datetime.fromisoformat(row["began"]),
        finished_at=_moment(row["ended"]),
        outcome=row["outcome"],
        http_status=row["http_status"],
        error_class=row["error_class"],
        error_text=row["error_text"],
        looks=row["looks"],
        looked_at=_moment(row["looked"]),
        next_look_at=_moment(row["next"]),
        found_at=_moment(row["found"]),
        worker=row["worker"],
        body_sha256=row["body_sha256"],
        is_second=row["operation"] is not None and row["operation"] != operation_id,
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _verdict(row: Mapping[str, Any]) -> Verdict:
    return Verdict(row["id"], row["kind"], row["reason"], _label(row), datetime.fromisoformat(row["at"]))


def _resent(row: Mapping[str, Any]) -> Resent:
    return Resent(f"/m/{row['uuid']}/", _label(row), datetime.fromisoformat(row["at"]))


def _label(row: Mapping[str, Any]) -> str:
    return f"{row['first']} {row['last']}".strip() or str(row["login"])
