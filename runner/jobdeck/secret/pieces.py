"""Finding half a secret at the border of a text that may have been cut: a line of 8 KiB, a chunk of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from jobdeck.secret.forms import LEAST, LONG
from jobdeck.secret.names import MASK

# The mark of a text that was cut; a piece may stand before it.
_ELLIPSIS: Final = "…"
# Stands in no form and in no text that is stored.
_BETWEEN: Final = "\0"


@dataclass(frozen=True, slots=True)
class _Group:
    """The forms of which equally many characters are a piece, by their beginnings and ends."""

    least: int
    longest: int
    starts: Mapping[str, tuple[str, ...]]
    ends: Mapping[str, tuple[str, ...]]

    def begins_in(self, text: str) -> int | None:
        """Where in the text a form begins and goes on to the end of the text."""
        for at in range(max(0, len(text) - self.longest + 1), len(text) - self.least + 1):
            for form in self.starts.get(text[at : at + self.least], ()):
                if form.startswith(text[at:]):
                    return at
        return None

    def ends_in(self, text: str) -> int | None:
        """Up to where the text is the end of a form."""
        for at in range(min(len(text), self.longest - 1), self.least - 1, -1):
            for form in self.ends.get(text[at - self.least : at], ()):
                if form.endswith(text[:at]):
                    return at
        return None


class Pieces:
    """How much a text costs depends on the length of the forms and not on how many there are."""

    def __init__(self, forms: Iterable[str] = ()) -> None:
        self.forms = frozenset(forms)
        self._joined = _BETWEEN.join(self.forms)
        by_least: dict[int, list[str]] = {}
        for form in sorted(self.forms):
            by_least.setdefault(_least(form), []).append(form)
        self._groups = [_group(least, found) for least, found in by_least.items()]

    def mask(self, text: str) -> str:
        """`text` with pieces of forms at its borders, and at the marks where it was cut, masked."""
        if not self._groups:
            return text
        return _ELLIPSIS.join(map(self._mask, text.split(_ELLIPSIS)))

    def _mask(self, text: str) -> str:
        if len(text) >= LONG and text in self._joined:
            return MASK
        for group in self._groups:
            if (begin := group.begins_in(text)) is not None:
                text = text[:begin] + MASK
            if (end := group.ends_in(text)) is not None:
                text = MASK + text[end:]
        return text


def _least(form: str) -> int:
    # Half of it, so that of two parts one is masked at least.
    return max(LEAST, min(LONG, (len(form) + 1) // 2))


def _group(least: int, forms: Iterable[str]) -> _Group:
    starts: dict[str, tuple[str, ...]] = {}
    ends: dict[str, tuple[str, ...]] = {}
    for form in forms:
        starts[form[:least]] = (*starts.get(form[:least], ()), form)
        ends[form[-least:]] = (*ends.get(form[-least:], ()), form)
    return _Group(least, max(map(len, forms)), starts, ends)
