"""How much memory the windows of a rule set may take: known from the rules alone, before any of them runs.

Windows over signals hold at most a fixed number of entries, however long they are; windows that follow each track,
object or camera are arrays of a fixed size. Equal windows of several rules are one. What all of them together can
take at most is held against `MAX_WINDOW_BYTES`.
"""

from __future__ import annotations

from collections.abc import Iterable

from triggers.evaluation.sizes import window_bytes
from triggers.language.expressions import Expression, walk

MAX_WINDOW_BYTES = 256 * 1024 * 1024


class WindowBudget:
    """What the windows of all expressions so far take."""

    def __init__(self) -> None:
        self.spent_bytes = 0
        self._seen: set[bytes] = set()

    def fits_no_more(self, expressions: Iterable[Expression]) -> bool:
        """Count the windows that are new; True when they, and not already others before, are too many."""
        fitted = self.spent_bytes <= MAX_WINDOW_BYTES
        for expression in expressions:
            new = {node.key: window_bytes(node) for node in walk(expression) if node.key not in self._seen}
            self._seen.update(new)
            self.spent_bytes += sum(new.values())
        return fitted and self.spent_bytes > MAX_WINDOW_BYTES
