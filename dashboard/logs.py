"""One log line per event: foreign text cannot start a new line or colour a terminal."""

import logging


class LineFormatter(logging.Formatter):
    """`2026-11-22T14:03:21Z LEVEL logger message`, with control characters written as escapes; a traceback keeps its lines."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name of the method we override)
        line = super().formatMessage(record)
        return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
