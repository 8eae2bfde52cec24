"""Found words in a text: escaped first, then marked; of a long text the part around the first of them."""

import re
from collections.abc import Sequence

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString

register = template.Library()

EXCERPT_LENGTH = 200
# How much of an excerpt stands before the first found word.
LEAD = 60


@register.simple_tag
def marked(text: str, words: Sequence[str]) -> SafeString:
    """The text as HTML with every word of `words` in `<mark>`, wherever it stands and in whatever case."""
    if not words:
        return SafeString(escape(text))
    pattern = re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))), re.IGNORECASE)
    parts, end = [], 0
    for found in pattern.finditer(text):
        parts += [escape(text[end : found.start()]), f"<mark>{escape(found[0])}</mark>"]
        end = found.end()
    return SafeString("".join([*parts, escape(text[end:])]))


@register.simple_tag
def excerpt(text: str, words: Sequence[str]) -> SafeString:
    """At most EXCERPT_LENGTH characters of the text on one line, around the first found word, marked like `marked`."""
    line = " ".join(text.split())
    pattern = re.compile("|".join(map(re.escape, words)), re.IGNORECASE) if words else None
    found = pattern.search(line) if pattern else None
    start = max(0, found.start() - LEAD) if found and found.end() > EXCERPT_LENGTH else 0
    end = start + EXCERPT_LENGTH
    shown = marked(line[start:end], words)
    return SafeString(f"{'… ' if start else ''}{shown}{' …' if end < len(line) else ''}")
