"""Conversations and their messages: order, states and the constraints that keep them possible."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.urls import reverse

from messaging.models.directory import Connection
from messaging.models.people import User, name_sql
from messaging.models.summaries import repeat_messages
from messaging.states import (
    ATTENTION_STATES,
    CANCELLABLE_STATES,
    CAUSED_STATES,
    HEAD_STATES,
    LEASED_STATES,
    LIVELY_STATES,
    OPERATION_STATES,
    REPEATABLE_STATES,
    UNANSWERING_STATES,
    UNDECIDED_STATES,
    Direction,
    MessageState,
    Priority,
    Question,
)

S = MessageState
SNIPPET_LENGTH = 120

# How far a person has read conversation `c` (read mark `r`): without a mark, all that was said before they joined.
# A first import of weeks of history is not news to anybody. Takes the parameter `joined`.
READ_THROUGH_SQL = (
    "coalesce(r.read_through, CASE WHEN c.last_incoming_at < %(joined)s THEN c.last_incoming_id ELSE 0 END)"
)


class ConversationQuerySet(models.QuerySet["Conversation"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(connection__in=Connection.objects.visible_to(user))

    def unread_by(self, user: User) -> Self:
        """Those with a driver's message that this person has not read (READ_THROUGH_SQL says the same)."""
        marks = ReadMark.objects.filter(user=user, conversation_id=models.OuterRef("pk"))
        behind = models.Exists(marks.filter(read_through__lt=models.OuterRef("last_incoming_id")))
        return self.filter(behind | (~models.Exists(marks) & Q(last_incoming_at__gte=user.date_joined)))

    def needing_attention(self) -> Self:
        return self.filter(attention_count__gt=0)


class Conversation(models.Model):
    """One driver on one connection. Its row lock orders everything that happens to its messages.

    The `last_*` columns, `unanswered_since` and `attention_count` repeat what its messages say, so that a list reads one row
    per conversation; `summarise` is their only writer.
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    connection = models.ForeignKey(Connection, on_delete=models.PROTECT, related_name="conversations")
    driver = models.ForeignKey("FleetUser", on_delete=models.PROTECT, related_name="conversations")
    next_seq = models.PositiveIntegerField(default=1)
    last_message = models.ForeignKey("Message", on_delete=models.SET_NULL, null=True, related_name="+")
    last_at = models.DateTimeField(null=True)
    last_text = models.CharField(max_length=120, blank=True)
    last_incoming_id = models.BigIntegerField(null=True)
    last_incoming_at = models.DateTimeField(null=True)
    unanswered_since = models.DateTimeField(
        null=True,
        help_text="The driver's first message that nobody answered or waived; null when none waits for an answer.",
    )
    no_answer_through = models.BigIntegerField(
        null=True,
        help_text="The newest message of the driver of which somebody said that it, and all before, wants no answer.",
    )
    no_answer_before = models.BigIntegerField(null=True, help_text="The same before the last press, for its undoing.")
    no_answer_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    attention_count = models.PositiveIntegerField(default=0)
    thread_id = models.UUIDField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    changed_xid = models.BigIntegerField(default=0, editable=False)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        ordering = [F("last_at").desc(nulls_last=True), "-id"]
        constraints = [models.UniqueConstraint(fields=["connection", "driver"], name="conversation_once")]
        indexes = [
            models.Index(F("last_at").desc(nulls_last=True), F("id").desc(), name="conversation_inbox"),  # inbox page
            models.Index(
                F("last_at").desc(nulls_last=True),
                F("id").desc(),
                condition=Q(attention_count__gt=0),
                name="conversation_attention",
            ),
            models.Index(
                F("last_at").desc(nulls_last=True),
                F("id").desc(),
                condition=Q(unanswered_since__isnull=False),
                name="conversation_unanswered",
            ),
            models.Index(fields=["changed_xid"], name="conversation_changed"),  # live.changes_since
        ]

    def __str__(self) -> str:
        return f"{self.driver} on {self.connection}"

    def get_absolute_url(self) -> str:
        return reverse("conversation", args=[self.uuid])

    def summarise(self) -> None:
        """Brings the repeated columns in line with the messages. The caller holds this row's lock in a transaction."""
        summarise([self.pk])


def summarise(conversation_ids: Iterable[int]) -> None:
    """`Conversation.summarise` for many at once. The caller holds their locks in a transaction."""
    repeat_messages(conversation_ids, NEEDS_ATTENTION_SQL, unanswered_since_sql("c"), SNIPPET_LENGTH)


class ReadMark(models.Model):
    """How far one person has read one conversation: `read_through` is the id of the newest message they saw."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="read_marks")
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="read_marks")
    read_through = models.BigIntegerField()
    changed_xid = models.BigIntegerField(default=0, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["conversation", "user"], name="readmark_once")]
        indexes = [models.Index(fields=["user", "changed_xid"], name="readmark_changed")]  # live.changes_since

    def __str__(self) -> str:
        return f"{self.user} read {self.conversation_id} through {self.read_through}"

    @staticmethod
    def advance(user: User, conversation: Conversation, through: int) -> None:
        """Notes that the person saw everything up to this message. The mark never goes back; safe to repeat."""
        marks = ReadMark.objects.filter(user=user, conversation=conversation)
        if marks.filter(read_through__lt=through).update(read_through=through) or marks.exists():
            return
        mark = ReadMark(user=user, conversation=conversation, read_through=through)
        ReadMark.objects.bulk_create([mark], ignore_conflicts=True)


class MessageQuerySet(models.QuerySet["Message"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(connection__in=Connection.objects.visible_to(user))

    def outgoing(self) -> Self:
        return self.filter(direction=Direction.OUT)

    def due(self, now: datetime) -> Self:
        """Heads that may be claimed, the most urgent first; gates are the caller's question."""
        return self.filter(state=S.QUEUED, not_before__lte=now).order_by("send_by", "id")

    def with_expired_lease(self, now: datetime) -> Self:
        return self.filter(state__in=LEASED_STATES, lease_until__lt=now)

    def pending_at_catena(self) -> Self:
        return self.filter(state=S.ACCEPTED)

    def needing_attention(self) -> Self:
        return self.filter(needs_attention_q())

    def news_for(self, reader: User, seen: int) -> Self:
        """What others said after the message `seen`: the driver, a colleague, somebody at the provider's own screen. Of one
        conversation, whose lock lets its messages come in the order of their ids.
        """
        # The provider's record of the reader's own message, which stands for itself until its operation names it
        own = Message.objects.filter(conversation_id=OuterRef("conversation_id"), author=reader, catena_id=None)
        is_own = Q(direction=Direction.OUT, author=None) & Exists(own.filter(text=OuterRef("text")))
        said = self.filter(pk__gt=seen, deleted_at=None).exclude(author=reader).exclude(state=S.CANCELLED)
        return said.exclude(is_own)


def needs_attention_q() -> Q:
    """What nobody has handled yet: a failure, an urgent message that was not accepted in its time, one that was sent
    although a person had left it unsent, one that was sent twice.
    """
    is_late = Q(escalated_at__isnull=False, state__in=sorted(LIVELY_STATES))
    is_surprise = Q(corrected_at__isnull=False) | Q(is_sent_twice=True)
    return (Q(state__in=sorted(ATTENTION_STATES)) | is_late | is_surprise) & Q(handled_at=None)


def _sql_words(states: Iterable[str]) -> str:
    return ", ".join(f"'{state}'" for state in sorted(states))


# `needs_attention_q` for statements written by hand, in the words of the partial indexes. The message is `m`.
NEEDS_ATTENTION_SQL = (
    f"((m.state IN ({_sql_words(ATTENTION_STATES)}) OR m.escalated_at IS NOT NULL"
    f" AND m.state IN ({_sql_words(LIVELY_STATES)}) OR m.corrected_at IS NOT NULL OR m.is_sent_twice)"
    " AND m.handled_at IS NULL)"
)


def unanswered_since_sql(alias: str, *, whatever_was_waived: bool = False) -> str:
    """When the driver of the conversation `alias.id` wrote the first message that nobody answered. Who wrote last decides, not
    who opened it; what certainly did not go out answers nothing, nor does what was written to a group or as a test. Lines
    that came by then are done with when somebody said that they want no answer, whatever time they carry.
    """
    waived = f"(SELECT w.no_answer_through FROM messaging_conversation w WHERE w.id = {alias}.id)"  # noqa: S608 (our own names)
    return (
        f"(SELECT min(i.occurred_at) FROM messaging_message i WHERE i.conversation_id = {alias}.id"  # noqa: S608 (our own words)
        " AND i.direction = 'in' AND i.deleted_at IS NULL"
        f"{'' if whatever_was_waived else f' AND i.id > coalesce({waived}, 0)'}"
        " AND i.occurred_at > coalesce((SELECT max(a.occurred_at)"
        f" FROM messaging_message a WHERE a.conversation_id = {alias}.id AND a.direction = 'out' AND a.deleted_at IS NULL"
        " AND a.group_id IS NULL AND NOT a.is_test"
        f" AND NOT (a.state IN ({_sql_words(UNANSWERING_STATES)}) AND a.handled_at IS NULL)), '-infinity'))"
    )


def waiting_sql(alias: str) -> str:
    """What a page says of a conversation `alias` that waits for an answer, or does not because somebody said so: the columns
    `waits_at`, `heard_through` (the driver's newest message), `waived_through` and `waived_by` (a name; null while that makes
    no difference).
    """
    return (
        f"{alias}.unanswered_since AS waits_at, {alias}.last_incoming_id AS heard_through,"  # noqa: S608 (our own names)
        f" {alias}.no_answer_through AS waived_through, CASE WHEN {alias}.no_answer_through IS NOT NULL"
        f" AND {alias}.unanswered_since IS NULL AND {unanswered_since_sql(alias, whatever_was_waived=True)} IS NOT NULL"
        f" THEN (SELECT {name_sql('p')} FROM messaging_user p"
        f" WHERE p.id = {alias}.no_answer_by_id) END AS waived_by"
    )


def unsettled_head_sql(alias: str, key: str = "conversation_id") -> str:
    """State and uuid, as one text, of the message that may have been sent and that holds up the conversation whose id is
    the column `alias.key`; null when none does. At most one can.
    """
    return (
        f"(SELECT h.state || ' ' || h.uuid FROM messaging_message h WHERE h.conversation_id = {alias}.{key}"  # noqa: S608 (our own names)
        f" AND h.state IN ({_sql_words(UNDECIDED_STATES)}) AND NOT h.detached)"
    )


class Message(models.Model):
    """One message, incoming or outgoing; composed here, or mirrored from Catena (state `mirrored`).

    What each block of columns is for: identity; what was said; our own sending (the row is the queue entry); what
    Catena says of the operation and of the message record; what people did about a failure.

    A message on its way is written four times, each time with all its indexes. So a foreign key has an index only if a
    query needs one, and those that are mostly null leave the nulls out.
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    conversation = models.ForeignKey(Conversation, on_delete=models.PROTECT, related_name="thread", db_index=False)
    connection = models.ForeignKey(Connection, on_delete=models.PROTECT, related_name="+")
    direction = models.CharField(max_length=3, choices=Direction)
    seq = models.PositiveIntegerField(null=True)
    occurred_at = models.DateTimeField(help_text="Composed here, or as the provider dates it. Orders the conversation.")
    created_at = models.DateTimeField(auto_now_add=True)

    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    client_token = models.UUIDField(null=True)
    sender = models.ForeignKey("FleetUser", on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    recipient = models.ForeignKey("FleetUser", on_delete=models.PROTECT, null=True, related_name="+")
    sender_name = models.CharField(max_length=300, blank=True)
    text = models.TextField(null=True)  # noqa: DJ001 (null means that the record carries no text)
    priority = models.CharField(max_length=10, null=True, choices=Priority)  # noqa: DJ001 (null means not set)
    reply_to = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="replies", db_index=False)
    retry_of = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="retries", db_index=False)

    state = models.CharField(max_length=20, choices=MessageState)
    detached = models.BooleanField(default=False)
    send_by = models.DateTimeField(null=True)
    not_before = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    claim_count = models.PositiveSmallIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    worker = models.CharField(max_length=100, blank=True)
    unknown_since = models.DateTimeField(null=True)
    question = models.CharField(
        max_length=20, blank=True, choices=Question, default="", db_default="", help_text="Why a person must decide."
    )
    fingerprint = models.CharField(max_length=64, blank=True)

    operation = models.OneToOneField("Operation", on_delete=models.PROTECT, null=True, related_name="message")
    operation_status = models.CharField(max_length=50, blank=True)
    accepted_at = models.DateTimeField(null=True)
    next_poll_at = models.DateTimeField(null=True)
    looks = models.PositiveSmallIntegerField(default=0, help_text="Listings in a row that did not show the operation.")
    attempt_count = models.PositiveSmallIntegerField(default=0)
    failed_attempts = models.PositiveSmallIntegerField(default=0)
    reason = models.CharField(
        max_length=300, blank=True, help_text="Why it failed, is retried or was refused; for people."
    )
    error_type = models.CharField(max_length=50, blank=True)
    response_status_code = models.IntegerField(null=True)
    # A trigger writes it whenever the reason changes.
    cause = models.CharField(
        max_length=200, blank=True, default="", db_default="", help_text="The reason without ids and numbers."
    )
    settled_at = models.DateTimeField(null=True)
    settled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )

    catena_id = models.UUIDField(null=True, unique=True)
    source_id = models.CharField(max_length=200, blank=True)
    thread_id = models.UUIDField(null=True)
    source_thread_id = models.CharField(max_length=200, blank=True)
    reply_to_catena_id = models.UUIDField(null=True)
    record_status = models.CharField(max_length=50, blank=True)
    delivered_at = models.DateTimeField(null=True)
    read_at = models.DateTimeField(null=True)
    catena_updated_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)
    raw = models.JSONField(null=True)

    group = models.ForeignKey(
        "GroupMessage", on_delete=models.PROTECT, null=True, related_name="appearances", db_index=False
    )
    group_size = models.PositiveSmallIntegerField(null=True, help_text="To how many people; null: to one, directly.")

    handled_at = models.DateTimeField(null=True)
    handled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    handled_note = models.CharField(max_length=500, blank=True, default="", db_default="")
    escalated_at = models.DateTimeField(null=True, help_text="An urgent message was not accepted in its time.")
    corrected_at = models.DateTimeField(
        null=True, help_text="Its operation turned up at Catena after a person had left it unsent."
    )
    is_sent_twice = models.BooleanField(
        default=False, db_default=False, help_text="Catena has two operations of this message."
    )
    is_test = models.BooleanField(
        default=False, db_default=False, help_text="Support's test of a connection: sent in synchronous mode."
    )
    changed_xid = models.BigIntegerField(default=0, editable=False)

    objects = MessageQuerySet.as_manager()

    class Meta:
        ordering = ["occurred_at", "id"]
        permissions = [("export_messages", "Can export messages as CSV")]
        constraints = [
            models.UniqueConstraint(fields=["author", "client_token"], name="message_token_once_per_author"),
            models.UniqueConstraint(fields=["conversation", "seq"], name="message_seq_once"),
            models.UniqueConstraint(
                fields=["conversation"],
                condition=Q(state__in=sorted(HEAD_STATES), detached=False),
                name="message_one_head",
            ),
            models.CheckConstraint(condition=Q(state__in=MessageState.values), name="message_state_is_known"),
            models.CheckConstraint(condition=Q(direction__in=Direction.values), name="message_direction_is_known"),
            models.CheckConstraint(
                condition=Q(priority=None) | Q(priority__in=Priority.values), name="message_priority_is_known"
            ),
            models.CheckConstraint(
                condition=~Q(state__in=sorted(OPERATION_STATES)) | Q(operation__isnull=False),
                name="message_accepted_has_operation",
            ),
            models.CheckConstraint(
                condition=Q(state__in=sorted(LEASED_STATES), lease_until__isnull=False)
                | (~Q(state__in=sorted(LEASED_STATES)) & Q(lease_until=None)),
                name="message_lease_while_held",
            ),
            models.CheckConstraint(
                condition=Q(detached=False)
                | Q(state__in=[S.UNKNOWN, S.NEEDS_DECISION])
                | ~Q(state__in=sorted(HEAD_STATES)),
                name="message_detached_only_if_ambiguous",
            ),
            models.CheckConstraint(
                condition=Q(state=S.MIRRORED, seq=None)
                | (
                    ~Q(state=S.MIRRORED)
                    & Q(
                        direction=Direction.OUT,
                        seq__isnull=False,
                        author__isnull=False,
                        client_token__isnull=False,
                        sender__isnull=False,
                        recipient__isnull=False,
                        text__isnull=False,
                        not_before__isnull=False,
                        send_by__isnull=False,
                        expires_at__isnull=False,
                    )
                ),
                name="message_composed_is_complete",
            ),
            models.CheckConstraint(
                condition=~Q(state=S.UNKNOWN) | Q(unknown_since__isnull=False), name="message_unknown_has_since"
            ),
            models.CheckConstraint(
                condition=~Q(state=S.NEEDS_DECISION) | ~Q(question=""), name="message_decision_has_question"
            ),
            models.UniqueConstraint(
                fields=["group", "conversation"], condition=Q(group__isnull=False), name="message_group_once"
            ),
            # A group message never says who of the group got it.
            models.CheckConstraint(
                condition=Q(group=None, group_size=None)
                | Q(
                    group__isnull=False,
                    group_size__isnull=False,
                    state=S.MIRRORED,
                    catena_id=None,
                    delivered_at=None,
                    read_at=None,
                ),
                name="message_group_has_no_receipt",
            ),
            # Two clicks, two tabs, two people: one resend. One that certainly never left makes room for another.
            models.UniqueConstraint(
                fields=["retry_of"],
                condition=Q(retry_of__isnull=False) & ~Q(state__in=sorted(REPEATABLE_STATES)),
                name="message_resent_once",
            ),
        ]
        indexes = [
            # Conversation page, from the index alone: a plan made for any conversation takes another way otherwise, and reads
            # all of a long one.
            models.Index(fields=["conversation", "occurred_at", "id"], include=["deleted_at"], name="message_page"),
            models.Index(fields=["changed_xid"], name="message_changed"),  # live.changes_since
            models.Index(fields=["source_id"], condition=~Q(source_id=""), name="message_source_id"),  # search
            models.Index(fields=["reply_to"], condition=Q(reply_to__isnull=False), name="message_replies"),  # mirror
            models.Index(fields=["retry_of"], condition=Q(retry_of__isnull=False), name="message_retries"),
            models.Index(fields=["send_by", "id"], condition=Q(state=S.QUEUED), name="message_due"),  # claim
            models.Index(
                fields=["lease_until"], condition=Q(state__in=sorted(LEASED_STATES)), name="message_leased"
            ),  # reap
            models.Index(
                fields=["conversation"],
                condition=Q(state__in=[S.UNKNOWN, S.NEEDS_DECISION]),
                name="message_unsettled",
            ),  # reconcile, decisions
            models.Index(
                fields=["next_poll_at"], condition=Q(state=S.ACCEPTED), name="message_polled"
            ),  # sync.operations
            models.Index(
                fields=["conversation", "seq"], condition=Q(state=S.WAITING), name="message_waiting"
            ),  # promote
            models.Index(
                fields=["-occurred_at", "-id"], condition=Q(direction=Direction.OUT), name="message_outgoing"
            ),  # operations list
            models.Index(
                fields=["-occurred_at", "-id"],
                condition=Q(state__in=sorted(ATTENTION_STATES)),
                name="message_failed",
            ),
            models.Index(
                fields=["connection", "-id"], condition=Q(is_test=True), name="message_tests"
            ),  # support's tests of a connection
            # Read without the table: which causes, where, how many, whom.
            models.Index(
                fields=["occurred_at"],
                include=["connection", "error_type", "response_status_code", "cause", "conversation", "id"],
                condition=Q(state__in=sorted(CAUSED_STATES)),
                name="message_causes",
            ),
            models.Index(
                fields=["settled_at"], condition=Q(state__in=sorted(CAUSED_STATES)), name="message_ended_badly"
            ),  # the watch for incidents
            models.Index(
                fields=["expires_at"], condition=Q(state__in=sorted(CANCELLABLE_STATES)), name="message_expiring"
            ),  # expire
            models.Index(
                fields=["author", "-id"], condition=needs_attention_q(), name="message_to_author"
            ),  # live.glance: what a person is told of their own messages
            models.Index(fields=["conversation"], condition=needs_attention_q(), name="message_attention"),  # summarise
            models.Index(
                fields=["occurred_at"],
                condition=Q(priority=Priority.HIGH, escalated_at=None, state__in=sorted(LIVELY_STATES)),
                name="message_urgent",
            ),  # escalate
        ]

    def __str__(self) -> str:
        return f"{self.direction} {self.state} {self.uuid}"

    def get_absolute_url(self) -> str:
        return reverse("message", args=[self.uuid])
