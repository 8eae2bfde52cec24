"""How a delivery, a priority, a moment and a series look in HTML. Rows call these 50 times a page: no template is loaded here."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache

from django import template
from django.template import Context, Node
from django.template.base import Parser, TextNode, Token
from django.template.library import SimpleNode
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe

from messaging.states import Badge, Priority

register = template.Library()


def constant_tag(function: Callable[[str], str]) -> Callable[[str], str]:
    """Registers `function` as a simple tag of one argument that is called once for a constant, when the template is compiled.

    Pages print some forty icons and addresses; as plain text they cost nothing when they are rendered.
    """

    def compile_tag(parser: Parser, token: Token) -> Node:
        _, word = token.split_contents()
        value = parser.compile_filter(word)
        if not value.is_var and not value.filters:
            return TextNode(conditional_escape(function(value.resolve(Context()))))
        return SimpleNode(function, False, [value], {}, None)

    register.tag(function.__name__, compile_tag)
    return function


PRIORITY_ICONS = {Priority.LOW: "chevrons-down", Priority.MEDIUM: "equal", Priority.HIGH: "chevrons-up"}
SPARK_WIDTH, SPARK_HEIGHT = 120, 28
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TWO_DIGITS = tuple(f"{number:02}" for number in range(60))
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@constant_tag
@lru_cache(maxsize=128)
def icon(name: str) -> SafeString:
    """A decorative icon of the sprite; the words beside it carry the meaning."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"/></svg>', static("icons.svg"), name)


@constant_tag
@lru_cache(maxsize=64)
def asset(path: str) -> str:
    """The address of a static file. Every page names seven; they are found once in the life of a process."""
    return static(path)


@constant_tag
@lru_cache(maxsize=64)
def address(name: str) -> str:
    """The address of a page that takes no argument, found once like `asset`."""
    return reverse(name)


@register.simple_tag
def badge(delivery: Badge, form: str = "list") -> SafeString:
    """`list`: a chip, or a mere tick when all is well. `chip`: always the chip. `long`: the whole sentence, without a box."""
    if form == "long":
        return _long_badge(delivery.long, delivery.icon, "is-quiet" if delivery.quiet else f"tone-{delivery.tone}")
    return _short_badge(delivery.short, delivery.icon, delivery.tone, is_tick=delivery.quiet and form == "list")


@lru_cache(maxsize=256)
def _short_badge(word: str, icon_name: str, tone: str, *, is_tick: bool) -> SafeString:
    if is_tick:
        return format_html('<span class="tick">{}<span class="vh">{}</span></span>', icon(icon_name), word)
    return format_html('<span class="chip tone-{}">{}<span>{}</span></span>', tone, icon(icon_name), word)


@lru_cache(maxsize=1024)
def _long_badge(words: str, icon_name: str, tone: str) -> SafeString:
    return format_html('<span class="status {}">{}<span>{}</span></span>', tone, icon(icon_name), words)


@register.simple_tag
@lru_cache(maxsize=16)
def priority(word: str | None, form: str = "list") -> SafeString:
    """Icon and word. In lists only High and Low show; `full` shows Medium too. Nothing when the priority is not known."""
    if word not in PRIORITY_ICONS or (word == Priority.MEDIUM and form == "list"):
        return SafeString("")
    known = Priority(word)
    hidden = mark_safe('<span class="vh"> priority</span>')
    return format_html(
        '<span class="prio prio-{}">{}<span>{}{}</span></span>',
        known.value,
        icon(PRIORITY_ICONS[known]),
        known.label,
        hidden,
    )


@register.simple_tag
def moment(at: datetime | None) -> SafeString:
    """Today's clock time, this week's day and time, else date and time, in the active time zone; the exact one as its title.

    Nothing when the moment is not known.
    """
    if at is None:
        return SafeString("")
    local = timezone.localtime(at)
    return time_element(at, exact_words(local), near_words(local, timezone.localdate()))


@register.simple_tag
def exact(at: datetime | None) -> SafeString:
    """Date and time to the second, in the active time zone. Nothing when the moment is not known."""
    if at is None:
        return SafeString("")
    local = timezone.localtime(at)
    return time_element(at, str(timezone.get_current_timezone()), exact_words(local))


@register.simple_tag
def clock(at: datetime | None) -> SafeString:
    """The clock time to the second, for a row whose day is plain from its surroundings."""
    if at is None:
        return SafeString("")
    local = timezone.localtime(at)
    return time_element(at, exact_words(local), clock_words(local))


@register.simple_tag
def day_label(day: date) -> str:
    """Today, Yesterday, or the day by name and number; the year only when it is another one."""
    today = timezone.localdate()
    if day == today:
        return "Today"
    if day == today - timedelta(days=1):
        return "Yesterday"
    label = f"{DAYS[day.weekday()]} {day.day} {MONTHS[day.month - 1]}"
    return label if day.year == today.year else f"{label} {day.year}"


def here_and_today() -> tuple[tzinfo, date]:
    """The active time zone, and what day it is there: asked once for all rows."""
    zone = timezone.get_current_timezone()
    return zone, datetime.now(zone).date()


def time_element(at: datetime, title: str, words: str) -> SafeString:
    """`title` and `words` are digits and names of ours. Fifty a page: without escaping, and with the digits from a table, a
    row costs a tenth of what `isoformat` and `strftime` take.
    """
    utc = at.astimezone(UTC)
    # Whole seconds: HTML's datetime takes at most three digits of fraction.
    stamp = f"{utc.year:04}-{TWO_DIGITS[utc.month]}-{TWO_DIGITS[utc.day]}T{clock_words(utc)}Z"
    return SafeString(f'<time datetime="{stamp}" title="{title}">{words}</time>')


def _date(local: datetime) -> str:
    return f"{local.day} {MONTHS[local.month - 1]} {local.year}"


def clock_words(local: datetime) -> str:
    return f"{short_clock(local)}:{TWO_DIGITS[local.second]}"


def short_clock(local: datetime) -> str:
    return f"{TWO_DIGITS[local.hour]}:{TWO_DIGITS[local.minute]}"


def exact_words(local: datetime) -> str:
    return f"{_date(local)}, {clock_words(local)}"


def near_words(local: datetime, today: date) -> str:
    days_ago = (today - local.date()).days
    clock_time = short_clock(local)
    if days_ago == 0:
        return clock_time
    if 0 < days_ago < 7:
        return f"{DAYS[local.weekday()][:3]} {clock_time}"
    return f"{_date(local)}, {clock_time}"


@register.simple_tag
def sparkline(values: Sequence[float], label: str) -> SafeString:
    """A line of the values, oldest first, scaled to its own highest; `label` says what they are ("Failed per hour").

    The text alternative gives the last and the highest value. Nothing for fewer than two values.
    """
    if len(values) < 2:
        return SafeString("")
    top = max(*values, 1)
    across = SPARK_WIDTH / (len(values) - 1)
    points = [
        (round(n * across, 1), round((SPARK_HEIGHT - 4) * (1 - max(value, 0) / top) + 2, 1))
        for n, value in enumerate(values)
    ]
    return format_html(
        '<svg class="spark" viewBox="0 0 {} {}" role="img" aria-label="{}: {} last, {} at most">'
        '<polyline points="{}"/><circle cx="{}" cy="{}" r="2"/></svg>',
        SPARK_WIDTH,
        SPARK_HEIGHT,
        label,
        f"{values[-1]:g}",
        f"{max(values):g}",
        " ".join(f"{x:g},{y:g}" for x, y in points),
        *points[-1],
    )
