"""How long the stages of one tick took. It only measures; nothing of a tick's result depends on it."""

from __future__ import annotations

from collections.abc import Callable

from runtime.messages import NANOSECONDS_PER_MILLISECOND


class Laps:
    """Milliseconds by stage."""

    def __init__(self, stopwatch: Callable[[], int]) -> None:
        self._stopwatch = stopwatch
        self._began_ns = self._last_ns = stopwatch()
        self.milliseconds: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """A stage is over."""
        now_ns = self._stopwatch()
        self.milliseconds[stage] = (now_ns - self._last_ns) / NANOSECONDS_PER_MILLISECOND
        self._last_ns = now_ns

    def split(self, stage: str, first_ns: int, rest: str) -> None:
        """Of a stage that measured its first part itself, name the rest."""
        whole_ms = self.milliseconds[stage]
        self.milliseconds[stage] = first_ms = min(first_ns / NANOSECONDS_PER_MILLISECOND, whole_ms)
        self.milliseconds[rest] = whole_ms - first_ms

    @property
    def since_start_ns(self) -> int:
        """How old the tick was at the end of its last stage."""
        return self._last_ns - self._began_ns
