"""What a person typed as a question to the words of messages, in the language of `to_tsquery`. Knows no table."""

MOST_CHARACTERS = 200
MOST_WORDS = 12


def query_of(text: str) -> str | None:
    """All words of the text, the last one as the beginning of a word, for `to_tsquery('simple', …)`; None when it has no word.

    Reads the first MOST_CHARACTERS characters and of them the first MOST_WORDS words. Never raises, and PostgreSQL accepts
    what it returns whatever the text: each word stands in quotes, so that no character of it is an operator, and is cut
    into lexemes by the parser that cut the messages.
    """
    storable = text[:MOST_CHARACTERS].replace("\0", " ").encode("utf-8", "ignore").decode()
    words = [word for word in storable.split() if any(map(str.isalnum, word))][:MOST_WORDS]
    if not words:
        return None
    return " & ".join(map(_quoted, words)) + ":*"


def _quoted(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"
