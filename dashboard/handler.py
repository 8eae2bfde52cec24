"""The WSGI handler: Django's, but for a request that Django fails to make."""

from typing import Any

import django
from django.core.exceptions import BadRequest
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest


class Request(WSGIRequest):
    """Takes a Content-Type that cannot be read for none at all.

    Django raises BadRequest for it where nothing catches that: every address would answer 500 to anybody.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            super()._set_content_type_params(meta)  # type: ignore[misc]  # Django's types leave it out
        except BadRequest:
            self.content_type, self.content_params = "", {}


class Handler(WSGIHandler):
    request_class = Request


def make_application() -> Handler:
    """Sets Django up, too."""
    django.setup(set_prefix=False)
    return Handler()
