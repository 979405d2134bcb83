"""Masking what a run says: by the values this process knows, and by the names under which something stands."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from jobdeck.secret.forms import LEAST, LONG, Escaped, cuttable_forms_of, escaped_of, forms_of
from jobdeck.secret.names import MASK, SCHEME, hide_named, is_sensitive
from jobdeck.secret.pieces import Pieces

# A shorter text is whole: nothing that cuts texts leaves so little.
_CUT_FROM: Final = 1_024


@dataclass(frozen=True, slots=True)
class _Known:
    """Every secret this process has seen; never changed, so that any thread may read it."""

    references: Mapping[str, str] = field(default_factory=dict)
    """Of each value; empty for a password of the configuration, which has none."""
    forms: tuple[str, ...] = ()
    """Longest first: a secret that begins like another must not be left half in sight."""
    escaped: tuple[Escaped, ...] = ()
    pieces: Pieces = field(default_factory=Pieces)

    def with_one(self, value: str, reference: str) -> _Known:
        references = {**self.references, value: reference or self.references.get(value, "")}
        if value in self.references:
            return _Known(references, self.forms, self.escaped, self.pieces)
        forms = sorted({*self.forms, *forms_of(value)}, key=len, reverse=True)
        pieces = Pieces(self.pieces.forms | cuttable_forms_of(value))
        return _Known(references, tuple(forms), (*self.escaped, *escaped_of(value)), pieces)


NOTHING: Final = _Known()
_lock = threading.Lock()
_known = NOTHING


def remember(value: str, reference: str = "") -> None:
    """From now on mask this value, its long lines (a key is often logged line by line) and its usual encodings."""
    global _known
    if _known.references.get(value) == reference:
        return
    with _lock:
        _known = _known.with_one(value, reference)


def reference_of(text: str) -> str | None:
    """The reference whose value this is, as a whole."""
    return (_known.references.get(text) or None) if len(text) >= LEAST else None


def shows_value(text: str) -> bool:
    """Whether a value of at least 8 characters stands in the text as it is."""
    return any(len(value) >= LONG and value in text for value in _known.references)


def without_values(text: str, *, cut: bool = False) -> str:
    """`text` with every value this process knows masked; those under 4 characters stay: they hide nothing.

    `cut`: the text may be a piece of a longer one, so half of a value at its border is masked as well.
    """
    known = _known
    for form in known.forms:
        if form in text:
            text = text.replace(form, MASK)
    for anchor, pattern in known.escaped:
        if anchor in text:
            text = pattern.sub(MASK, text)
    return known.pieces.mask(text) if cut else text


def redact(text: str, *, cut: bool = False) -> str:
    """`without_values`, and what stands in the text under the name of a secret masked too."""
    return hide_named(without_values(text, cut=cut))


def masked(value: Any, *, by_name: bool = True) -> Any:
    """A JSON value with the secrets in its texts, keys and numbers masked, and what has the name of a secret.

    Without `by_name` only values count: for what is not only shown but used again.
    """
    if isinstance(value, str):
        return redact(value, cut=len(value) >= _CUT_FROM) if by_name else without_values(value)
    if isinstance(value, Mapping):
        return {
            without_values(name) if isinstance(name, str) else name: MASK
            if by_name and hides(name, item)
            else masked(item, by_name=by_name)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(item, by_name=by_name) for item in value]
    return masked_number(value)


def hides(name: object, item: Any) -> bool:
    """Whether `item` is to be masked because of its name alone. What is empty, or only refers to a secret, is not."""
    if item is None or isinstance(item, bool) or not is_sensitive(str(name)):
        return False
    if isinstance(item, str):
        return item != "" and SCHEME not in item
    return not isinstance(item, Mapping | list | tuple) or bool(item)


def masked_number(value: Any) -> Any:
    """A number as it is, or the mask where its digits are a secret."""
    if value is None or isinstance(value, bool):
        return value
    said = str(value)
    shown = without_values(said)
    return value if shown == said else shown
