"""Statements written by hand are planned once per database session, unless a pooler forbids it."""

import pytest
from django.conf import LazySettings
from django.db import connection

from messaging.models.statements import numbered, prepared_cursor

pytestmark = pytest.mark.django_db
STATEMENT = "SELECT %s::int + 4711"


def kept() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements WHERE statement LIKE %s", ["%4711%"])
        return [row[0] for row in cursor.fetchall()]


def test_a_statement_written_by_hand_is_kept_by_the_database() -> None:
    with prepared_cursor() as cursor:
        cursor.execute(STATEMENT, [1])
        assert cursor.fetchone() == (4712,)
    assert len(kept()) == 1


def test_nothing_is_kept_behind_a_pooler_that_cannot_keep_it(settings: LazySettings) -> None:
    settings.PREPARED_STATEMENTS = False
    before = kept()
    with prepared_cursor() as cursor:
        cursor.execute(STATEMENT.replace("::int", "::bigint"), [1])
        assert cursor.fetchone() == (4712,)
    assert kept() == before


@pytest.mark.parametrize(
    ("query", "text", "names"),
    [
        ("SELECT 1", b"SELECT 1", ()),
        ("SELECT %s, %s", b"SELECT $1, $2", ("%0", "%1")),
        ("SELECT %(b)s, %(a)s, %(b)s", b"SELECT $1, $2, $1", ("b", "a")),
        ("SELECT %(a)s %% 97, '%%s'", b"SELECT $1 % 97, '%s'", ("a",)),
    ],
)
def test_placeholders_become_numbers_in_the_order_of_their_first_mention(
    query: str, text: bytes, names: tuple[str, ...]
) -> None:
    assert numbered(query) == (text, names)


def test_values_find_their_placeholders_by_name_whatever_else_is_given() -> None:
    with prepared_cursor() as cursor:
        cursor.execute("SELECT %(b)s::int - %(a)s::int, %(b)s::text", {"a": 1, "unused": object(), "b": 3})
        assert cursor.fetchone() == (2, "3")


def test_a_statement_has_one_plan_whatever_its_values() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW plan_cache_mode")
        assert cursor.fetchone() == ("force_generic_plan",)
    with prepared_cursor() as cursor:
        for value in range(3):
            cursor.execute("SELECT %(value)s::int + 8148", {"value": value})
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE %s", ["%8148%"]
        )
        assert cursor.fetchall() == [(3, 0)]
