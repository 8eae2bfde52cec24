"""What a person types becomes a question that PostgreSQL takes, whatever it is."""

import random

import pytest
from django.db import connection

from messaging.models.wording import MOST_WORDS, query_of

HOSTILE = [
    "a & | ! b", "'", "''", "\\", "\\'", "a' | 'b", "it's", "a:*", "a:ABCD", "(((", "!!!", "<->", "<5> x", "x\0y", "\ud800 x",
    "%s %(name)s", "a\\", "🚚 truck", "🚚", "-80", "I-80", "dock/7", "ann@example.com/", "http://x.y/?a=b&c", "\t\r\n", "ﷺ",
    "x" * 5000,     "word " * 500, "'x':*<->'y'", "a\u0301", "\u200bword\u200b", "١٢٣", "\ufeff", "½", "²",
]  # fmt: skip


def matches(said: str, asked: str) -> bool:
    query = query_of(asked)
    if query is None:
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT messaging_words_of(%s) @@ to_tsquery('simple', %s)", [said, query])
        return bool(cursor.fetchone()[0])


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("said", "asked", "found"),
    [
        ("Dock 7 is closed today", "closed dock", True),
        ("Dock 7 is closed today", "DOCK clo", True),  # the last word may be a beginning
        ("Dock 7 is closed today", "clo dock", False),  # the others may not
        ("Dock 7 is closed today", "dock open", False),
        ("Exit I-80 at mile 12", "i-80", True),
        ("Don't stop at O'Hare", "o'hare", True),
        ("Load #48213-B", "#48213", True),
        ("Straße gesperrt", "strasse", False),
        ("Straße gesperrt", "straße", True),
        ("cat & dog", "& dog", True),
        ("cat or dog", "cat | fish", False),
        ("cat", "!dog", False),  # no operator is one
        ("dog", "!dog", True),
        ("anything", "", False),
    ],
)
def test_every_word_must_be_there_and_the_last_may_be_a_beginning(said: str, asked: str, found: bool) -> None:
    assert matches(said, asked) is found


@pytest.mark.parametrize("text", ["", "   ", "!!! ... &&&", "🚚", "\0"])
def test_a_text_without_a_word_asks_nothing(text: str) -> None:
    assert query_of(text) is None


def test_only_so_much_of_a_long_text_is_asked() -> None:
    query = query_of("a " * 1000)
    assert query is not None
    assert query.count("'a'") == MOST_WORDS


@pytest.mark.django_db
def test_no_hostile_text_is_refused_by_the_database() -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    alphabet = "ab7 '\\&|!():*<->\t\"%_-./@#é漢🚚\0\u0301\u202e"
    made = ["".join(dice.choices(alphabet, k=dice.randrange(1, 60))) for _ in range(1000)]
    asked = [query for query in map(query_of, [*HOSTILE, *made]) if query is not None]
    assert len(asked) > 500, seed
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM unnest(%s::text[]) q WHERE to_tsquery('simple', q) IS NOT NULL", [asked])
        assert cursor.fetchone()[0] == len(asked), seed
