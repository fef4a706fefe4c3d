"""Opening several files before anything is started, so that people hear of all that is wrong at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from runtime.formats.documents import DocumentError, Problem

Opened = TypeVar("Opened")


class Openings:
    """Opens one file after another and tells the problems of all of them at once, instead of those of the first."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []

    def open(self, action: Callable[[], Opened]) -> Opened | None:
        """What `action` gives; None, with its problems noted, when it raises DocumentError."""
        try:
            return action()
        except DocumentError as error:
            self._problems += error.problems
            return None

    def settle(self) -> None:
        """Raises DocumentError with every problem noted so far."""
        if self._problems:
            raise DocumentError({str(problem): problem for problem in self._problems}.values())
