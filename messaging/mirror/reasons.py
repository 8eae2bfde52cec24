"""Why an attempt failed, in words for fleet staff."""

from messaging.models import OperationLog

LONGEST_REASON = 300
LONGEST_DETAILS = 160

# What a provider's status code means to a person; the others are named by their number alone.
CODE_WORDS = {
    400: "it did not understand the request",
    403: "not allowed",
    404: "not found",
    409: "in conflict with something else",
    410: "gone",
    413: "too long",
    422: "it did not accept the content",
    429: "too many requests",
    500: "an error on its side",
    502: "unavailable",
    503: "unavailable",
}
TIMEOUT_CODES = frozenset({408, 504})
TIMEOUT_WORDS = ("timed out", "timeout", "time-out", "time out", "deadline")


def plain_reason(log: OperationLog) -> str:
    """One line, at most 300 characters, that names the provider; the provider's own words follow, shortened."""
    sentence = _sentence(log, log.operation.connection.provider)
    details = " ".join(log.error_details.split())
    if not details:
        return sentence[:LONGEST_REASON]
    if len(details) > LONGEST_DETAILS:
        details = details[: LONGEST_DETAILS - 1].rstrip() + "…"
    return f"{sentence}: {details}"[:LONGEST_REASON]


def _sentence(log: OperationLog, provider: str) -> str:
    code = log.response_status_code
    if log.error_type == "auth" or code == 401:
        return f"{provider} refused the stored credentials"
    if code in TIMEOUT_CODES or (log.error_type == "network" and code is None and _names_a_timeout(log.error_details)):
        return f"{provider} did not answer in time"
    if code is not None:
        words = CODE_WORDS.get(code)
        return f"{provider} answered {code} ({words})" if words else f"{provider} answered {code}"
    return _of_type(log.error_type, provider)


def _names_a_timeout(details: str) -> bool:
    lowered = details.lower()
    return any(words in lowered for words in TIMEOUT_WORDS)


def _of_type(error_type: str, provider: str) -> str:
    match error_type:
        case "network":
            return f"{provider} could not be reached"
        case "validation":
            return f"{provider} did not accept the message"
        case "tsp" | "":
            return f"{provider} reported an error"
        case _:
            return f"{provider} reported an error ({error_type})"
