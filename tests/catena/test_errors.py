"""What error answers tell: reasons, waits and request ids, whatever shape the body has."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from messaging.catena.errors import (
    Ambiguous,
    FieldProblem,
    Problem,
    RateLimited,
    Refused,
    failed_write,
    retry_after,
)
from tests.catena.fake_catena import example

NOW = datetime(2026, 5, 12, 14, 0, tzinfo=UTC)


def test_the_reasons_of_a_422_are_listed_and_its_input_stays_out_of_repr() -> None:
    error = failed_write(422, {}, example("error_422"))
    assert isinstance(error, Refused)
    (entry,) = example("error_422")["detail"]
    (problem,) = error.field_problems
    assert problem == FieldProblem(**entry)
    assert (error.http_status, error.code, error.message) == (422, 422, "Invalid Request Body")
    assert problem.input not in repr(problem)
    assert problem.input not in str(error)


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        (example("error_429"), {}, 12.0),
        (example("error_429"), {"Retry-After": "60"}, 12.0),
        ({"detail": None}, {"Retry-After": "60"}, 60.0),
        (None, {"retry-after": " 60 "}, 60.0),
        (None, {}, None),
        ({"detail": {"retry_after_seconds": 99_999}}, {}, 900.0),
        ({"detail": {"retry_after_seconds": -3}}, {}, 0.0),
        ({"detail": {"retry_after_seconds": True}}, {}, None),
        ({"detail": {"retry_after_seconds": "soon"}}, {"Retry-After": "5"}, 5.0),
        (None, {"Retry-After": "nan"}, None),
        (None, {"Retry-After": "inf"}, None),
        (None, {"Retry-After": "when it suits"}, None),
    ],
)
def test_the_wait_after_a_429_is_the_bodys_then_the_headers_and_bounded(
    body: object, headers: dict[str, str], seconds: float | None
) -> None:
    error = failed_write(429, headers, body)
    assert (type(error), error.retry_after) == (RateLimited, seconds)


@pytest.mark.parametrize(("ahead", "seconds"), [(90, 90.0), (-90, 0.0), (86_400, 900.0)])
def test_a_wait_may_be_a_date(ahead: int, seconds: float) -> None:
    value = format_datetime(NOW + timedelta(seconds=ahead), usegmt=True)
    assert retry_after({"Retry-After": value}, NOW) == seconds


@pytest.mark.parametrize("body", [None, [], "text", 7, {"code": "x", "message": 7, "detail": [7, {}]}])
def test_a_problem_of_any_shape_is_read_without_complaint(body: object) -> None:
    problem = Problem.parse(body)
    assert (problem.code, problem.message, problem.retry_after) == (None, None, None)


def test_a_server_fault_leaves_the_outcome_open_and_keeps_the_request_id() -> None:
    error = failed_write(500, {"X-Request-ID": "req-9"}, example("error_500"))
    assert type(error) is Ambiguous
    assert (error.request_id, error.message) == ("req-9", example("error_500")["message"])
    assert str(error) == "Catena may have taken the message (HTTP 500, request req-9)"


@pytest.mark.parametrize("value", ["", "café", "a\tb", "x" * 500])
def test_a_request_id_is_short_and_printable_or_absent(value: str) -> None:
    request_id = failed_write(500, {"x-correlation-id": value}, None).request_id
    assert request_id is None or request_id == "x" * 128
