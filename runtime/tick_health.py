"""How the ticks themselves fare, as `health.*` signals.

| signal | value |
|---|---|
| `health.latency_ms` | of the tick before this one: from its frameset's capture until its result was there |
| `health.tick_ms` | of the tick before this one: from its start until its result was there |
| `health.framesets_skipped` | beats that were over before a tick could start, since the start |

They describe the machine and not the drive, so only a live runtime tells them. In a replay they stay unknown: otherwise
two replays of one drive could fire differently. A recording holds what the live runtime said (`/tick`).
"""

from __future__ import annotations

from collections.abc import Mapping

from runtime.messages import NANOSECONDS_PER_MILLISECOND, SignalValue


class TickHealth:
    """Told after every tick, asked on the next. Owned by the tick's thread."""

    def __init__(self) -> None:
        self._values: dict[str, SignalValue] = {}

    def note(self, began_ns: int, result_ns: int, captured_ns: int | None, skipped: int) -> None:
        """One tick is over: monotonic times; `captured_ns` is None when it had no frame."""
        self._values = {
            "health.tick_ms": (result_ns - began_ns) / NANOSECONDS_PER_MILLISECOND,
            "health.framesets_skipped": float(skipped),
        }
        if captured_ns is not None:
            self._values["health.latency_ms"] = (result_ns - captured_ns) / NANOSECONDS_PER_MILLISECOND

    def signals(self) -> Mapping[str, SignalValue]:
        """The values for the next tick; nothing before the first, and never in a replay."""
        return self._values
