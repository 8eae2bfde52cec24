"""What stands around every page is printed by Python: what people wrote stays text there, and constants become text early."""

from datetime import UTC, datetime

import pytest
from django.template import Context, Template
from django.template.base import TextNode

from messaging.live import Own
from messaging.models.outlook import delivery_of
from messaging.states import Facts, delivery
from messaging.templatetags.fields import filter_links, options, priority_strip
from messaging.templatetags.frame import favicon, own_word

HOSTILE = "<b>\"Lou\"</b> & 'Co'"
ESCAPED = "&lt;b&gt;&quot;Lou&quot;&lt;/b&gt; &amp; &#x27;Co&#x27;"
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def own(total: int = 1, reason: str = "") -> Own:
    failed = delivery(Facts("out", "failed", reason=reason), NOW)
    return Own("u-1", "/m/u-1/", HOSTILE, "high", failed, total)


def test_the_word_of_a_failure_keeps_what_people_and_providers_wrote_as_text() -> None:
    html = own_word(own(reason=HOSTILE))

    assert HOSTILE not in html
    assert f"<strong>High priority message to {ESCAPED}</strong>: Failed: {ESCAPED}</a></div>" in html


@pytest.mark.parametrize(("total", "words"), [(1, ""), (3, "and 2 more"), (100, "and 99+ more")])
def test_the_word_of_a_failure_counts_the_others(total: int, words: str) -> None:
    assert (f">{words}</a></div>" in own_word(own(total))) == bool(words)


def test_there_is_no_word_without_a_failure() -> None:
    assert own_word(None) == Template("{% load frame %}{% own_word nav.own %}").render(Context()) == ""


def test_an_option_keeps_its_words_as_text_and_knows_whether_it_is_chosen() -> None:
    assert options([(1, HOSTILE), (2, "Two")], 2) == (
        f'<option value="1">{ESCAPED}</option><option value="2" selected>Two</option>'
    )


def test_the_views_of_the_inbox_say_which_is_open_and_what_needs_attention() -> None:
    strip = [("all", "All", "/"), ("attention", "Attention", "/?show=attention&fleet=1")]
    assert filter_links(strip, "all", 4) == (
        '<a href="/" aria-current="true">All</a> <a href="/?show=attention&amp;fleet=1">Attention'
        ' <span class="count count-bad">4</span></a>'
    )
    assert "count" not in filter_links(strip, "all", 0)


def test_one_priority_is_chosen_and_only_high_has_a_note() -> None:
    html = priority_strip("medium")

    assert [
        html.count(words) for words in (" checked", 'value="medium" checked', 'aria-describedby="priority-note"')
    ] == [
        1,
        1,
        1,
    ]


def test_the_icon_of_the_tab_says_that_something_needs_attention() -> None:
    assert 'href="/static/favicon-attention.svg" data-calm="/static/favicon.svg"' in favicon(1)
    assert 'href="/static/favicon.svg" data-calm="/static/favicon.svg"' in favicon(None)


def test_a_constant_icon_is_text_from_the_start_and_a_variable_one_looks_the_same() -> None:
    constant = Template('{% load delivery %}{% icon "inbox" %}')
    variable = Template("{% load delivery %}{% icon name %}")

    assert isinstance(constant.nodelist[-1], TextNode)
    assert constant.render(Context()) == variable.render(Context({"name": "inbox"})) != ""


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"read_at": NOW},
        {"delivered_at": NOW},
        {"record_status": "delivered"},
        {"record_status": "sent"},
        {"corrected_at": NOW},
        {"is_sent_twice": True},
        {"escalated_at": NOW, "composed_at": NOW},
    ],
)
def test_the_shortcut_for_what_was_accepted_says_what_delivery_says(facts: dict[str, object]) -> None:
    row = dict.fromkeys(
        ("operation_status", "reason", "failed_attempts", "accepted_at", "not_before", "delivered_at", "read_at"), None
    )
    row |= dict.fromkeys(
        ("record_status", "escalated_at", "corrected_at", "is_sent_twice", "group_size", "connection_id"), None
    )
    row |= dict.fromkeys(("settled_by__first_name", "settled_by__last_name", "settled_by__username"), None)
    row |= {"direction": "out", "state": "succeeded", "claim_count": 1, "occurred_at": facts.get("composed_at", NOW)}
    row |= {"connection__tsp_slug": "samsara", "connection__source_name": "samsara"}
    row |= {name: value for name, value in facts.items() if name in row}

    expected = delivery(Facts(**{"direction": "out", "state": "succeeded", "provider": "Samsara", **facts}), NOW)  # type: ignore[arg-type]
    assert delivery_of(row, NOW, {}) == expected
