"""Choices as HTML: the options of a select, the strips of which one is chosen. Python like the rows: loops of small things."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from django import template
from django.utils.safestring import SafeString

from messaging.states import Priority
from messaging.templatetags.delivery import PRIORITY_ICONS, icon

register = template.Library()

CURRENT = ' aria-current="true"'


@register.simple_tag
def options(choices: Iterable[tuple[Any, str]], current: Any) -> SafeString:
    """An option for each value and its words; the current value is selected."""
    return SafeString(
        "".join(
            f'<option value="{escape(str(value))}"{" selected" if value == current else ""}>{escape(words)}</option>'
            for value, words in choices
        )
    )


@register.simple_tag
def filter_selects(selects: Mapping[str, Mapping[str, Any]], names: str) -> SafeString:
    """The selects of a filter's fields, by their names with blanks between; each with a label for those who do not see."""
    return SafeString("".join(_filter_select(selects[name]) for name in names.split()))


def _filter_select(select: Mapping[str, Any]) -> str:
    name, blank = select["name"], f'<option value="">{escape(select["any"])}</option>' if select["any"] else ""
    return (
        f'<label class="vh" for="f-{name}">{escape(select["label"])}</label><select class="select" id="f-{name}" name="{name}">'
        f"{blank}{options(select['choices'], select['current'])}</select>"
    )


@register.simple_tag
def filter_links(strip: Iterable[tuple[str, str, str]], shown: str, attention: int) -> SafeString:
    """A link for each view of the inbox (word, label, address), with the number of those that need attention."""
    count = f' <span class="count count-bad">{attention}</span>' if attention else ""
    return SafeString(
        " ".join(
            f'<a href="{escape(url)}"{CURRENT if word == shown else ""}>{label}{count if word == "attention" else ""}</a>'
            for word, label, url in strip
        )
    )


@register.simple_tag
def priority_strip(current: str) -> SafeString:
    """The priorities of a message to write, of which the current one is chosen."""
    choices = " ".join(_priority(known, " checked" if known == current else "") for known in Priority)
    return SafeString(
        f'<fieldset class="strip-label"><legend class="vh">Priority</legend><span class="strip">{choices}</span></fieldset>'
    )


def _priority(priority: Priority, checked: str) -> str:
    # High carries a note of what it is for, which the page shows while it is chosen.
    look, note = (' class="strip-high"', ' aria-describedby="priority-note"') if priority == Priority.HIGH else ("", "")
    return (
        f'<label{look}><input type="radio" name="priority" value="{priority.value}"{checked}{note}>'
        f"{icon(PRIORITY_ICONS[priority])}{priority.label}</label>"
    )
