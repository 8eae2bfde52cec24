"""When a run has come to rest: everything has ended, waits for a person who will not come, or waits behind such a one."""

import random

from tests.chaos import evidence

# The share of messages that need a decision and that nobody decides: a legal end.
LEFT = 0.15
ASKED = "SELECT array_agg(id) FROM messaging_message WHERE state = 'needs_decision'"
RESTLESS = """
SELECT count(*) FROM messaging_message m WHERE seq IS NOT NULL AND (
    state IN ('queued', 'claimed', 'posting', 'unknown', 'accepted')
    OR state = 'waiting' AND NOT EXISTS (SELECT 1 FROM messaging_message h WHERE h.conversation_id = m.conversation_id
        AND h.state = 'needs_decision' AND NOT h.detached)
    OR state = 'needs_decision' AND id = ANY(%s))
"""


def is_left(message_id: int, seed: int) -> bool:
    """Whether nobody decides this one, whenever it is asked."""
    return random.Random(f"{seed}-left-{message_id}").random() < LEFT


def is_at_rest(url: str, seed: int) -> bool:
    wanted = [key for key in evidence.one_value(url, ASKED) or [] if not is_left(key, seed)]
    return bool(evidence.one_value(url, RESTLESS, [wanted]) == 0)
