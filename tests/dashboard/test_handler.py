"""Requests that Django fails to make."""

import sys
from io import BytesIO

import pytest

from dashboard.handler import make_application


@pytest.mark.parametrize("kind", ["application/json; x*=no-such-charset''y", "x" * 20_000])
@pytest.mark.django_db
def test_a_content_type_that_cannot_be_read_is_no_fault_of_ours(kind: str) -> None:
    status: list[str] = []
    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": "/hooks/catena/", "SERVER_NAME": "testserver", "SERVER_PORT": "80",
        "HTTP_HOST": "testserver", "CONTENT_TYPE": kind, "CONTENT_LENGTH": "2", "wsgi.input": BytesIO(b"{}"),
        "wsgi.url_scheme": "http", "wsgi.errors": sys.stderr,
    }  # fmt: skip
    make_application()(environ, lambda line, headers: status.append(line))
    assert status[0].startswith("415")
