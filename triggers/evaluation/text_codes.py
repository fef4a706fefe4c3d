"""A small number for every text, so that columns of text can be compared as fast as numbers.

One book of codes serves all tables and all literals of a program and of those that it evolves into. Texts that come
from outside (class names, states) get at most `MAX_CODES` of them; those beyond are equal to nothing that a rule
names. Literals always get a code: their number is bounded by the rules, at most `MAX_LITERALS` in a process's life.
"""

from __future__ import annotations

from threading import Lock

MAX_CODES = 65_536
MAX_LITERALS = 1_000_000
UNKNOWN_CODE = -1
_UNLISTED_CODE = -2


class TextCodes(dict[str | None, int]):
    """Codes by text, in the order of meeting; None is unknown. A program may be built while another one runs."""

    def __init__(self) -> None:
        super().__init__({None: UNKNOWN_CODE})
        self._lock = Lock()
        self._literals = 0
        self._next = 1

    def __missing__(self, text: str) -> int:
        if len(self) - self._literals > MAX_CODES:
            return _UNLISTED_CODE
        return self._add(text)

    def literal(self, text: str) -> int:
        """The code of a text that a rule names. Raises ValueError when there were far too many of them."""
        if text not in self:
            if self._literals >= MAX_LITERALS:
                raise ValueError(f"more than {MAX_LITERALS} texts were named by rules since the start: start anew")
            self._literals += 1
            self._add(text)
        return self[text]

    def _add(self, text: str) -> int:
        with self._lock:
            if text not in self:
                self[text] = self._next
                self._next += 1
        return self[text]
