"""What a conversation's row repeats of its messages, written for any number of conversations in two statements."""

from collections.abc import Iterable

from messaging.models.statements import prepared_cursor

_SUMMARY = """
SELECT c.id, l.id, l.occurred_at, l.text, i.id, i.occurred_at, {unanswered},
  (SELECT count(*) FROM messaging_message m WHERE m.conversation_id = c.id AND m.deleted_at IS NULL AND {attention})
FROM unnest(%(ids)s::bigint[]) c (id)
LEFT JOIN LATERAL (SELECT m.id, m.occurred_at, m.text FROM messaging_message m
  WHERE m.conversation_id = c.id AND m.deleted_at IS NULL ORDER BY m.occurred_at DESC, m.id DESC LIMIT 1) l ON TRUE
LEFT JOIN LATERAL (SELECT m.id, m.occurred_at FROM messaging_message m
  WHERE m.conversation_id = c.id AND m.deleted_at IS NULL AND m.direction = 'in' ORDER BY m.id DESC LIMIT 1) i ON TRUE
"""
_SUMMARISE = """
UPDATE messaging_conversation c SET last_message_id = k.last_id, last_at = k.last_at, last_text = k.last_text,
  last_incoming_id = k.incoming_id, last_incoming_at = k.incoming_at, unanswered_since = k.unanswered,
  attention_count = k.attention
FROM unnest(%(ids)s::bigint[], %(last_ids)s::bigint[], %(last_ats)s::timestamptz[], %(texts)s::text[],
  %(incoming_ids)s::bigint[], %(incoming_ats)s::timestamptz[], %(unanswered)s::timestamptz[], %(attention)s::int[])
  k (id, last_id, last_at, last_text, incoming_id, incoming_at, unanswered, attention)
WHERE c.id = k.id
"""


def repeat_messages(conversation_ids: Iterable[int], attention: str, unanswered: str, length: int) -> None:
    """Writes the repeated columns anew. `attention` is the condition, of messages `m`, for what asks for somebody,
    `unanswered` since when conversation `c` waits for an answer, `length` that of the snippet. The caller holds the locks of
    the rows in a transaction.
    """
    ids = list(conversation_ids)
    if not ids:
        return
    with prepared_cursor() as cursor:
        cursor.execute(_SUMMARY.format(attention=attention, unanswered=unanswered), {"ids": ids})
        found = [(*row[:3], " ".join((row[3] or "").split())[:length], *row[4:]) for row in cursor.fetchall()]
        names = ("ids", "last_ids", "last_ats", "texts", "incoming_ids", "incoming_ats", "unanswered", "attention")
        cursor.execute(_SUMMARISE, dict(zip(names, map(list, zip(*found, strict=True)), strict=True)))
