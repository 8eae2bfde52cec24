"""Statements written by hand are planned once per database session, unless a pooler forbids it."""

import pytest
from django.conf import LazySettings
from django.db import DataError, connection, transaction

from messaging.models.statements import _take_cursor, numbered, prepared_cursor

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


def test_a_statement_within_another_leaves_the_rows_of_the_outer_one_alone() -> None:
    with prepared_cursor() as outer:
        outer.execute("SELECT generate_series(1, %s)", [3])
        found = [outer.fetchone()]
        with prepared_cursor() as inner:
            inner.execute("SELECT %s::int", [8])
            assert inner.fetchall() == [(8,)]
        found += outer.fetchall()
    assert found == [(1,), (2,), (3,)]


def test_a_cursor_goes_with_its_connection() -> None:
    with prepared_cursor() as cursor:
        cursor.execute("SELECT 1")
        first = cursor.connection
    other = connection.copy()
    try:
        other.connect()
        assert _take_cursor(other.connection).connection is other.connection
    finally:
        other.close()
    with prepared_cursor() as cursor:
        cursor.execute("SELECT %s::int", [2])
        assert (cursor.fetchone(), cursor.connection is first) == ((2,), True)


def test_a_statement_that_fails_leaves_the_cursor_fit_for_the_next() -> None:
    with pytest.raises(DataError), transaction.atomic(), prepared_cursor() as cursor:
        cursor.execute("SELECT 1 / %s", [0])
    with prepared_cursor() as cursor:
        cursor.execute("SELECT 6 / %s", [2])
        assert cursor.fetchone() == (3,)


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
