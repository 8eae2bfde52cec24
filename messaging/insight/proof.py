"""The dossier of one message: who did what to it and what Catena reported, as rows for paper. Reads only."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db.models import Q
from django.utils.timezone import localtime

from messaging.insight.meanings import code_phrase, error_type_words
from messaging.insight.story import Story
from messaging.insight.timeline import OUTCOMES
from messaging.mirror.redaction import redact_headers, scrub
from messaging.models import AuditEntry, Message, MessageNote, User
from messaging.states import DecisionKind, Direction, MessageState, OperationStatus

# More entries of one message than these are not printed; the page says so.
MOST_ENTRIES = 500
# What people and Backhaul did, in words; an action that is not listed here is told by its own name.
ACTIONS = {
    "compose": "Wrote it", "resend": "Sent it again", "cancel": "Undid it before it left", "handled": "Marked it as handled",
    "decide": "Decided about it", "escalated": "Put before people: not accepted in its time",
    "operation_found": "Its operation was found at Catena", "operation_contradicted": "Catena changed its word",
    "sent_twice": "Catena has two operations of it", "raw_revealed": "Looked at the raw headers and bodies",
    "note_added": "Wrote an internal note", "care_given": "Put it into somebody's care",
    "care_released": "Took it out of somebody's care", "test_send": "Sent it as a test of the connection",
}  # fmt: skip
# Facts of these actions that are the key of a person; in others `was` is a state.
PEOPLE, ABOUT_PEOPLE = ("owner", "was"), {"care_given", "care_released"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. `at` None means that nobody knows when; `headers` are only filled for those who may see them."""

    at: datetime | None
    who: str
    what: str
    detail: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def utc(self) -> str:
        return f"{self.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if self.at else "not known"

    @property
    def local(self) -> str:
        return f"{localtime(self.at):%Y-%m-%d %H:%M:%S}" if self.at else "not known"


@dataclass(frozen=True, slots=True)
class Dossier:
    """Everything known of a message, each list oldest first. `is_cut` says that there are more actions than are listed."""

    people: list[Entry]
    attempts: list[Entry]
    receipts: list[Entry]
    notes: list[Entry]
    audit: list[Entry]
    related: list[tuple[str, Message]]
    is_cut: bool


def dossier(story: Story, *, is_reviewer: bool) -> Dossier:
    """The dossier of a message. Headers and internal notes only for reviewers. At most four queries."""
    message = story.message
    entries = list(message.audit_entries.select_related("user").order_by("id")[: MOST_ENTRIES + 1])
    notes = MessageNote.objects.filter(message=message).select_related("author")[:MOST_ENTRIES] if is_reviewer else ()
    return Dossier(
        people=_sorted(_people(story)),
        attempts=[*_posts(story), *_attempts(story, with_headers=is_reviewer)],
        receipts=list(_receipts(story)),
        notes=[Entry(note.created_at, note.author.label, "Note", note.text) for note in notes],
        audit=_audit(entries[:MOST_ENTRIES]),
        related=_related(message),
        is_cut=len(entries) > MOST_ENTRIES,
    )


def _sorted(entries: Iterator[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.at or datetime.max.replace(tzinfo=UTC))


def _people(story: Story) -> Iterator[Entry]:
    message = story.message
    yield Entry(message.occurred_at, _author(message), "Wrote it")
    for verdict in story.verdicts:
        yield Entry(verdict.at, verdict.by, f"Decided: {DecisionKind(verdict.kind).label.lower()}", verdict.reason)
    if message.state == MessageState.CANCELLED:
        yield Entry(message.settled_at, _label(message.settled_by), "Undid it before it left")
    if message.escalated_at:
        yield Entry(message.escalated_at, "Backhaul", "Put before people: not accepted in its time")
    if story.resent:
        yield Entry(story.resent.at, story.resent.by, "Sent it again as a new message")
    if message.handled_at and (story.resent is None or message.handled_note):
        yield Entry(message.handled_at, _label(message.handled_by), "Marked it as handled", message.handled_note)


def _author(message: Message) -> str:
    if message.author:
        return message.author.label
    return message.sender_name or ("The driver" if message.direction == Direction.IN else "Somebody outside Backhaul")


def _label(user: object) -> str:
    return str(getattr(user, "label", "")) or "Nobody known"


def _posts(story: Story) -> Iterator[Entry]:
    for post in story.posts:
        words, _ = OUTCOMES[post.outcome]
        code = f" (HTTP {post.http_status})" if post.http_status else ""
        yield Entry(post.posting_at, "Backhaul to Catena", f"{words}{code}", scrub(post.error_text))


def _attempts(story: Story, *, with_headers: bool) -> Iterator[Entry]:
    for attempt in story.attempts:
        is_success = attempt.status == OperationStatus.SUCCESS
        words = "accepted" if is_success else attempt.status
        code = f", {attempt.code} {code_phrase(attempt.code)}".rstrip() if attempt.code else ""
        kind = f", {error_type_words(attempt.error_type).lower()}" if attempt.error_type else ""
        headers = tuple(sorted(redact_headers(attempt.headers).items())) if with_headers else ()
        what = f"Attempt {attempt.number}: {words}{code}{kind}"
        yield Entry(attempt.at, f"Catena to {story.provider}", what, scrub(attempt.details), headers)


def _receipts(story: Story) -> Iterator[Entry]:
    message = story.message
    if message.group_size is not None:
        return  # what is said of a group is said of nobody in it
    if message.delivered_at or message.record_status == "delivered":
        yield Entry(message.delivered_at, story.provider, "Delivered")
    if message.read_at or message.record_status == "read":
        yield Entry(message.read_at, story.provider, "Read")


def _audit(entries: list[AuditEntry]) -> list[Entry]:
    """With the names of the people whom an entry tells of by their keys. A query only when there are such."""
    given = [entry.detail.get(name) for entry in entries if entry.action in ABOUT_PEOPLE for name in PEOPLE]
    keys = {key for key in given if isinstance(key, int)}
    people = {user.pk: user.label for user in User.objects.filter(pk__in=keys)} if keys else {}
    return [_audited(entry, people) for entry in entries]


def _audited(entry: AuditEntry, people: dict[int, str]) -> Entry:
    named = people if entry.action in ABOUT_PEOPLE else {}
    told = {name: named.get(value, value) if name in PEOPLE else value for name, value in entry.detail.items()}
    facts = "; ".join(f"{name}: {value}" for name, value in sorted(told.items()) if value not in ("", None))
    words = ACTIONS.get(entry.action) or entry.action.replace("_", " ").capitalize()
    return Entry(entry.at, entry.user.label if entry.user else "Backhaul", words, scrub(facts))


def _related(message: Message) -> list[tuple[str, Message]]:
    """What it repeats, what repeats it, and what it answers. One query."""
    found = Message.objects.filter(Q(retry_of=message) | Q(pk=message.retry_of_id) | Q(pk=message.reply_to_id))
    words = {message.retry_of_id: "Repeats", message.reply_to_id: "Answers"}
    return [(words.get(one.pk, "Repeated by"), one) for one in found.order_by("id")[:MOST_ENTRIES]]
