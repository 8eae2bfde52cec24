"""The card beside a failure: what happened, who can mend it, whether sending again is safe, and the next step."""

from dataclasses import dataclass
from urllib.parse import quote

from django.db.models import Q
from django.urls import reverse

from messaging import outbox
from messaging.access import can_send
from messaging.insight.explanations import best, current, failure_of, filled
from messaging.insight.story import Story
from messaging.models import Explanation, FleetUser, Message, User
from messaging.states import RESENDABLE_STATES, MessageState, OperationStatus, Tone

S = MessageState
Again, Step = Explanation.Again, Explanation.Step
# People of one name in a fleet: more than these are not looked through.
MOST_TWINS = 5
STILL_TRYING = "Catena still tries by itself. Sending again now could reach the driver twice."
AGAIN_TONES = {Again.YES: Tone.OK, Again.LATER: Tone.WAIT, Again.POINTLESS: Tone.NEUTRAL, Again.CHECK: Tone.HIGH}
AGAIN_ICONS = {Again.YES: "circle-check", Again.LATER: "clock", Again.POINTLESS: "ban", Again.CHECK: "help-circle"}
STEP_ICONS = {
    Step.RESEND: "rotate-cw", Step.SHORTEN: "reply", Step.CONNECTION: "plug", Step.OTHER_CONNECTION: "send",
    Step.CALL: "user", Step.WAIT: "hourglass", Step.ESCALATE: "copy",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class NextStep:
    """One thing to do. Without `url` it is words alone; `is_resend` says that a form does it."""

    words: str
    icon: str
    url: str = ""
    is_resend: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """What the message page says of a failure. `again_why` is the doubt, or empty; `entry_id` is what an administrator edits."""

    title: str
    what: str
    who: str
    again: str
    again_tone: str
    again_icon: str
    again_why: str
    advice: str
    step: NextStep
    entry_id: int
    is_specific: bool


def is_explained(message: Message) -> bool:
    """Whether a message has a card: what failed for good, and what is pending after a failed attempt."""
    return message.state in RESENDABLE_STATES or _is_still_tried(message)


def _is_still_tried(message: Message) -> bool:
    is_pending = message.operation_status in {"", OperationStatus.PENDING}
    return message.state == S.ACCEPTED and is_pending and message.failed_attempts > 0


def card(story: Story, user: User) -> Card | None:
    """The card for this person; None when the message has not failed or no entry holds for it.

    It is never bolder than `outbox.doubt_about`: where that doubts, the card says so whatever the entry says. An entry may
    be more careful. At most six queries, none for a message that has not failed.
    """
    message = story.message
    if not is_explained(message):
        return None
    entry = best(current(story.entries_stamp), failure_of(_row(message)))
    if entry is None:
        return None
    names = story.provider, message.conversation.driver.name
    again, why = _again(entry, message)
    return Card(
        title=filled(entry.title, *names),
        what=filled(entry.what, *names),
        who=_who(entry, message, story.provider, user),
        again="Not now" if _is_still_tried(message) else again.label,
        again_tone=AGAIN_TONES[again],
        again_icon=AGAIN_ICONS[again],
        again_why=why,
        advice=filled(entry.advice, *names),
        step=_step(entry, story, user),
        entry_id=entry.pk,
        is_specific=entry.is_specific,
    )


def _row(message: Message) -> dict[str, object]:
    return {
        "state": message.state, "error_type": message.error_type, "response_status_code": message.response_status_code,
        "cause": message.cause, "connection__tsp_slug": message.connection.tsp_slug,
        "connection__source_name": message.connection.source_name,
    }  # fmt: skip


def _again(entry: Explanation, message: Message) -> tuple[Explanation.Again, str]:
    """Whether sending again is safe, and what speaks against it."""
    if _is_still_tried(message):
        return Again.CHECK, STILL_TRYING
    doubt = outbox.doubt_about(message)
    return (Again.CHECK, doubt) if doubt else (Again(entry.again), "")


def _who(entry: Explanation, message: Message, provider: str, user: User) -> str:
    match entry.who:
        case Explanation.Who.SENDER if message.author_id == user.pk:
            return "You, who wrote it"
        case Explanation.Who.SENDER:
            return "Whoever wrote it"
        case Explanation.Who.FLEET:
            fleet = message.connection.fleet
            return f"The fleet: {fleet.name}" if fleet else "The fleet"
        case Explanation.Who.PROVIDER:
            return provider
        case _:
            return "Your administrator"


def _step(entry: Explanation, story: Story, user: User) -> NextStep:
    """The entry's step, or the nearest one that this person can take with this message."""
    message = story.message
    if story.resent:
        return NextStep("Look at what was sent again", "rotate-cw", story.resent.url)
    if _is_still_tried(message):
        return NextStep("Wait: Catena tries again by itself", "hourglass")
    match entry.step:
        case Step.RESEND:
            return NextStep("Send again", "rotate-cw", reverse("resend", args=[message.uuid]), is_resend=True)
        case Step.SHORTEN:
            return _rewrite(message, user)
        case Step.CONNECTION:
            return _look(message)
        case Step.OTHER_CONNECTION:
            return _other_connection(message, user) or _call(message)
        case Step.CALL:
            return _call(message)
        case Step.WAIT:
            return NextStep("Wait, then look again", "hourglass")
        case _:
            return NextStep(f"Write to {story.provider}'s support", STEP_ICONS[Step.ESCALATE], "#ids-head")


def _look(message: Message) -> NextStep:
    url = reverse("connection", args=[message.connection.catena_id])
    return NextStep("Look at the connection", STEP_ICONS[Step.CONNECTION], url)


def _call(message: Message) -> NextStep:
    """Dials where a number is known; else the conversation, whose details say how else the driver is known."""
    driver = message.conversation.driver
    digits = "".join(sign for sign in driver.phone_number if sign.isdigit() or sign == "+")
    if digits.strip("+"):
        return NextStep(f"Call {driver.name}", "user", f"tel:{quote(digits, safe='+')}")
    return NextStep(
        f"Reach {driver.name} another way: no phone number is known", "user", _conversation(message, "#context")
    )


def _rewrite(message: Message, user: User) -> NextStep:
    """The text in the composer again, for its author where the driver certainly has not got it; else an empty composer."""
    if may_rewrite(message, user):
        words = "Edit and send again"
        return NextStep(words, STEP_ICONS[Step.SHORTEN], _conversation(message, f"?text_of={message.uuid}#composer"))
    if can_send(user, message.connection):
        return NextStep("Write it anew", STEP_ICONS[Step.SHORTEN], _conversation(message, "#composer"))
    return NextStep("Open the conversation", "message-square", _conversation(message, f"#m-{message.uuid}"))


def may_rewrite(message: Message, user: User) -> bool:
    """Whether this person may take the text of a message that came to nothing, change it, and send it as a new one."""
    if message.author_id != user.pk or message.state not in RESENDABLE_STATES | {S.CANCELLED}:
        return False
    return message.state != S.FAILED or not outbox.doubt_about(message)


def _conversation(message: Message, rest: str) -> str:
    return reverse("conversation", args=[message.conversation.uuid]) + rest


def _other_connection(message: Message, user: User) -> NextStep | None:
    """The same driver, by phone or name, on another connection of the fleet that can be written to. One query."""
    driver, fleet_id = message.conversation.driver, message.connection.fleet_id
    if fleet_id is None:
        return None
    same = FleetUser.objects.visible_to(user).reachable().filter(connection__fleet_id=fleet_id)
    same = same.exclude(connection_id=message.connection_id).select_related("connection")
    is_same = Q(name__iexact=driver.name)
    if driver.phone_number:
        is_same |= Q(phone_number=driver.phone_number)
    for twin in same.filter(is_same)[:MOST_TWINS]:
        if twin.connection.sending_obstacle is None:
            url = f"{reverse('compose')}?recipient={twin.catena_id}"
            return NextStep(f"Write over {twin.connection.label} instead", STEP_ICONS[Step.OTHER_CONNECTION], url)
    return None
