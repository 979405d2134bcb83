"""`:name` in the text of a query: which values it asks for, and the same text with a database's own placeholders."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

# What a colon means nothing in comes first: text, quoted names, comments, dollar quotes, casts. What is not ended
# reaches to the end: the database refuses it anyway, and looking for its end again and again would take long.
_TOKEN: Final = re.compile(
    r"""
      (?<!\w)[eE]'(?:[^'\\]|''|\\.)*(?:'|\Z)
    | '(?:[^']|'')*(?:'|\Z)
    | "(?:[^"]|"")*(?:"|\Z)
    | --[^\n]*
    | /\*(?:.*?\*/|.*)
    | (?<![\w$])(?P<quote>\$(?:[A-Za-z_]\w*)?\$)(?:.*?(?P=quote)|.*)
    | ::
    | (?<![\w\]]):(?P<name>[A-Za-z_]\w*)
    """,
    re.VERBOSE | re.DOTALL,
)


def names_in(query: str) -> list[str]:
    """The names that the query asks a value for, each once, in order."""
    return list(dict.fromkeys(found["name"] for found in _TOKEN.finditer(query) if found["name"]))


def with_placeholders(query: str, placeholder: Callable[[str], str]) -> str:
    """The query with each `:name` replaced by what `placeholder` gives for the name."""
    return _TOKEN.sub(lambda found: placeholder(found["name"]) if found["name"] else found[0], query)
