"""The tags that every row of every page calls."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.template import Context, Template
from django.utils import timezone

from messaging.states import Badge, Tone
from messaging.templatetags import delivery as tags

BERLIN = ZoneInfo("Europe/Berlin")
SENT = Badge("sent", "Sent", "Accepted by Samsara", "circle-check", Tone.OK, quiet=True)
FAILED = Badge("failed", "Failed", "Failed: <b>offline</b>", "octagon-x", Tone.BAD)


def render(source: str, **context: object) -> str:
    return Template("{% load delivery %}" + source).render(Context(context))


def today_at(hour: int, minute: int = 0) -> datetime:
    return timezone.localtime().replace(hour=hour, minute=minute, second=41, microsecond=123456)


def test_an_icon_is_hidden_from_screen_readers_and_comes_from_the_sprite() -> None:
    html = render('{% icon "send" %}')

    assert html == '<svg class="icon" aria-hidden="true"><use href="/static/icons.svg#send"/></svg>'


def test_success_is_a_tick_with_a_hidden_word_in_lists() -> None:
    html = render("{% badge d %}", d=SENT)

    assert 'class="tick"' in html
    assert '<span class="vh">Sent</span>' in html


def test_success_is_a_chip_where_it_stands_alone() -> None:
    html = render('{% badge d "chip" %}', d=SENT)

    assert 'class="chip tone-ok"' in html
    assert "#circle-check" in html
    assert "<span>Sent</span>" in html


def test_failure_is_a_chip_in_lists() -> None:
    assert 'class="chip tone-bad"' in render("{% badge d %}", d=FAILED)


def test_the_long_form_gives_the_whole_sentence_escaped() -> None:
    html = render('{% badge d "long" %}', d=FAILED)

    assert 'class="status tone-bad"' in html
    assert "Failed: &lt;b&gt;offline&lt;/b&gt;" in html


def test_a_status_word_that_nobody_knows_is_escaped() -> None:
    odd = Badge("unknown_status", "<script>", "Unknown status: <script>", "help-circle", Tone.NEUTRAL)

    assert "<script>" not in render('{% badge d %}{% badge d "long" %}', d=odd)


@pytest.mark.parametrize(("word", "shown"), [("high", "High"), ("low", "Low")])
def test_a_priority_that_stands_out_shows_in_lists(word: str, shown: str) -> None:
    assert f"<span>{shown}<span" in render("{% priority p %}", p=word)


@pytest.mark.parametrize("word", ["medium", None, "", "<i>"])
def test_an_ordinary_or_unknown_priority_shows_nothing_in_lists(word: str | None) -> None:
    assert render("{% priority p %}", p=word) == ""


def test_the_full_form_shows_medium_too() -> None:
    assert "<span>Medium<span" in render('{% priority p "full" %}', p="medium")


def test_a_moment_of_today_is_a_clock_time_with_whole_seconds_in_utc() -> None:
    with timezone.override(BERLIN):
        at = today_at(14, 2)
        html = render("{% moment at %}", at=at)

    assert html.endswith(">14:02</time>")
    assert f'datetime="{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"' in html


def test_a_moment_of_this_week_names_its_day() -> None:
    at = today_at(9, 5) - timedelta(days=2)

    assert render("{% moment at %}", at=at).endswith(f">{at:%a} 09:05</time>")


@pytest.mark.parametrize("days", [-7, 2, -400])
def test_a_moment_further_away_has_its_date(days: int) -> None:
    at = today_at(9, 5) + timedelta(days=days)

    assert f">{at.day} {at:%b} {at.year}, 09:05</time>" in render("{% moment at %}", at=at)


def test_the_exact_form_has_seconds_in_the_active_time_zone() -> None:
    with timezone.override(BERLIN):
        html = render("{% exact at %}", at=datetime(2026, 11, 12, 13, 2, 41, 999_999, tzinfo=UTC))

    assert html == '<time datetime="2026-11-12T13:02:41Z" title="Europe/Berlin">12 Nov 2026, 14:02:41</time>'


def test_the_clock_has_seconds_and_the_date_as_its_title() -> None:
    html = render("{% clock at %}", at=datetime(2026, 11, 12, 13, 2, 41, tzinfo=UTC))

    assert html == '<time datetime="2026-11-12T13:02:41Z" title="12 Nov 2026, 13:02:41">13:02:41</time>'


@pytest.mark.parametrize("tag", ["moment", "exact", "clock"])
def test_a_moment_that_is_not_known_shows_nothing(tag: str) -> None:
    assert render(f"{{% {tag} at %}}", at=None) == ""


def test_days_are_named_the_way_people_say_them() -> None:
    today = timezone.localdate()

    assert tags.day_label(today) == "Today"
    assert tags.day_label(today - timedelta(days=1)) == "Yesterday"
    assert tags.day_label(date(2019, 3, 4)) == "Monday 4 Mar 2019"


def test_a_sparkline_scales_to_its_highest_value_and_says_it_in_words() -> None:
    html = render('{% sparkline values "Failed per hour" %}', values=[0, 8, 4])

    assert 'points="0,26 60,2 120,14"' in html
    assert 'aria-label="Failed per hour: 4 last, 8 at most"' in html


def test_a_flat_sparkline_lies_on_the_ground() -> None:
    assert 'points="0,26 120,26"' in render('{% sparkline values "Sent" %}', values=[0, 0])


@pytest.mark.parametrize("values", [[], [3]])
def test_a_sparkline_of_less_than_two_values_shows_nothing(values: list[int]) -> None:
    assert render('{% sparkline values "Sent" %}', values=values) == ""
