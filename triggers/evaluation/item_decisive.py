"""any_within (one true decides) and all_within (one false decides) of every item, all such operators at once.

`Decisive` is what one operator remembers; a `DecisiveBank` computes those of a population that can be computed
together, as rows of a few arrays: a rule set has dozens of them, and each array operation costs far more than its
few dozen numbers. A bank is made beside a running program and takes the operators' memory over at its first tick, so
that an operator that other rules share goes on from where it stood.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from triggers.evaluation.item_table import ItemTable
from triggers.evaluation.truths import FALSE, TRUE, UNKNOWN, Truth

#: What decides each operator.
DECISIVE = {"any_within": TRUE, "all_within": FALSE}
LONG_AGO_NS = -(2**62)
_UNKNOWN = np.int8(UNKNOWN)
_UNKNOWN_BYTE = bytes([UNKNOWN])


class Decisive:
    """The memory of one operator, by place: when it was last decided, and when it was last not known."""

    def __init__(self, length_ns: int, capacity: int, decisive: int) -> None:
        self.length_ns = length_ns
        self.decisive = decisive
        self.is_first = True
        #: Row 0: the newest time at which a value decided; row 1: at which it was unknown, or the item had not come.
        self.times_ns: NDArray[np.int64] = np.full((2, capacity), LONG_AGO_NS, np.int64)


class DecisiveBank:
    """Some of these operators; `update` once a tick."""

    def __init__(self, operators: Sequence[Decisive]) -> None:
        self._operators = operators
        self._decisive = np.array([[each.decisive] for each in operators], np.int8)
        self._otherwise = np.array([[TRUE - each.decisive] for each in operators], np.int8)
        self._lengths_ns = np.array([[each.length_ns] for each in operators], np.int64)
        self._times_ns: NDArray[np.int64] | None = None  # [2, operators, capacity]

    def update(self, table: ItemTable, truths: Sequence[Truth]) -> list[Truth]:
        """Take in each operator's condition at this tick; each operator's value."""
        times_ns = self._take_over(table) if self._times_ns is None else self._times_ns
        places, now_ns, items = table.places, table.time_ns, len(table.items)
        if table.new_places:
            times_ns[0][:, table.new_places] = LONG_AGO_NS
            times_ns[1][:, table.new_places] = now_ns - 1
        said = b"".join([truth.to_bytes(items, "little") for truth in truths])
        rows = np.frombuffer(said, np.int8).reshape(len(truths), items)
        found_ns = times_ns.take(places, axis=2)
        decided_ns, unknown_ns = found_ns
        np.copyto(decided_ns, now_ns, where=rows == self._decisive)
        if _UNKNOWN_BYTE in said:
            np.copyto(unknown_ns, now_ns, where=rows == UNKNOWN)
        times_ns[:, :, places] = found_ns
        start_ns = now_ns - self._lengths_ns
        values = np.where(unknown_ns < start_ns, self._otherwise, _UNKNOWN)
        np.copyto(values, self._decisive, where=decided_ns >= start_ns)
        told = values.tobytes()
        return [int.from_bytes(told[row : row + items], "little") for row in range(0, len(told), items)]

    def _take_over(self, table: ItemTable) -> NDArray[np.int64]:
        """The operators' memory as one array; from now on each of them sees its part of it."""
        times_ns = np.stack([each.times_ns for each in self._operators], axis=1)
        for row, operator in enumerate(self._operators):
            operator.times_ns = times_ns[:, row]
            if operator.is_first:  # which may be in mid-drive: all items are new to it
                operator.times_ns[0, table.places] = LONG_AGO_NS
                operator.times_ns[1, table.places] = table.time_ns - 1
                operator.is_first = False
        self._times_ns = times_ns
        return times_ns
