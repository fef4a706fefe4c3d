"""What a recurrent network remembers: state outputs of one run that are inputs of the next.

Each stream (the one batch, or each camera of a network that runs once per camera) has two buffers for each state. A run
reads one and writes the other, and then they change places: nothing is copied, and a run that fails leaves the state
that it read untouched. The buffers are handed to nobody, so a reset may overwrite them.

A state begins anew, with its `initial` value, at the start, when told (`reset`), when time runs backwards, and when
its stream has not run for longer than `reset_after_s`: gaps are seen in framesets' own times, so a replay of the same
framesets resets at the same ones. A camera without a frame does not run; its state waits for it, up to that gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.inference.manifest import StateInput
from runtime.messages import NANOSECONDS_PER_SECOND

#: Buffers of each state: one that is read and one that is written.
TURNS = 2


class ResetRule:
    """Says which states of a stream begin anew before a run; for backends that keep states elsewhere than here."""

    def __init__(self, states: Sequence[StateInput], streams: int) -> None:
        self._gaps_ns = tuple(round(state.reset_after_s * NANOSECONDS_PER_SECOND) for state in states)
        self._last_ns: list[int | None] = [None] * streams

    def is_due(self, stream: int, state: int, time_ns: int) -> bool:
        """True when this state must be `initial` for a run at `time_ns`."""
        last_ns = self._last_ns[stream]
        return last_ns is None or not 0 <= time_ns - last_ns <= self._gaps_ns[state]

    def ran(self, stream: int, time_ns: int) -> None:
        """Note a run that succeeded."""
        self._last_ns[stream] = time_ns

    def reset(self) -> None:
        """Every state of every stream begins anew."""
        self._last_ns = [None] * len(self._last_ns)


class StateMemory:
    """The states of all streams, in memory of this process."""

    def __init__(self, states: Sequence[StateInput], streams: int) -> None:
        self._states = tuple(states)
        self._rule = ResetRule(states, streams)
        #: Without states every run is like every other.
        self.turns = TURNS if states else 1
        self._turn = [0] * streams
        self._buffers: list[list[list[NDArray[Any]]]] = [
            [[np.full(state.shape, state.initial, state.dtype) for state in states] for _ in range(TURNS)]
            for _ in range(streams)
        ]

    def reads(self, stream: int, turn: int) -> list[NDArray[Any]]:
        """What a run with this turn takes, one array for each state."""
        return self._buffers[stream][turn]

    def writes(self, stream: int, turn: int) -> list[NDArray[Any]]:
        """What a run with this turn gives."""
        return self._buffers[stream][(turn + 1) % TURNS]

    def begin(self, stream: int, time_ns: int) -> int:
        """The turn of the next run; states that are due begin anew."""
        turn = self._turn[stream]
        for index, state in enumerate(self._states):
            if self._rule.is_due(stream, index, time_ns):
                self._buffers[stream][turn][index].fill(state.initial)
        return turn

    def end(self, stream: int, time_ns: int) -> None:
        """The run succeeded: what it wrote is what the next one reads."""
        self._turn[stream] = (self._turn[stream] + 1) % self.turns
        self._rule.ran(stream, time_ns)

    def reset(self) -> None:
        """Every state begins anew with the next run."""
        self._rule.reset()
