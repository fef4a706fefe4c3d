"""Fixed sizes of what evaluation allocates, and what each window takes at most.

Windows over signals grow up to their bound (`MAX_ENTRIES`, or what `FASTEST_HZ` ticks a second put into them); those
that follow items are allocated in full when they are built.
"""

from __future__ import annotations

from collections.abc import Mapping

from triggers.language.expressions import Expression, Operation
from triggers.language.populations import Population

#: Items of one population in one tick; those beyond are left out of it and counted.
CAPACITY: Mapping[Population, int] = {Population.TRACKS: 512, Population.OBJECTS: 256, Population.CAMERAS: 64}

MAX_ENTRIES = 2048  # of one window over signals
MAX_ROWS = 128  # of one window that follows items
FASTEST_HZ = 100.0

_ENTRY_BYTES = 128  # a tuple of time and value in a deque, as CPython holds it
_NUMBER_BYTES = 8

#: Entries of a scalar window weigh this many times as much as a time and a value.
_SCALAR_WEIGHTS = {
    "count_within": 1, "flips": 1, "min_within": 1, "max_within": 1, "mean_within": 1.5, "std_within": 2,
    "lag": 1, "delta": 1, "rate": 1,
}  # fmt: skip

#: Numbers per row and item in the arrays of a window that follows items.
_ITEM_WEIGHTS = {
    "lag": 1, "delta": 1, "rate": 1, "min_within": 2, "max_within": 2, "mean_within": 6, "std_within": 6,
    "count_within": 1, "flips": 1, "class_flips": 1, "presence_flips": 1, "state_flips": 1, "box_jitter": 2,
    "displacement_px": 4,
}  # fmt: skip


def window_bytes(node: Expression) -> int:
    """What the windows of this node alone (not its operands') take at most."""
    if not isinstance(node, Operation):
        return 0
    if node.population is not None:
        numbers = _ITEM_WEIGHTS.get(node.name, 0) * MAX_ROWS * CAPACITY[node.population]
        return numbers * _NUMBER_BYTES
    entries = min(MAX_ENTRIES + 3, (node.parameter or 0.0) * FASTEST_HZ + 3)
    return round(_SCALAR_WEIGHTS.get(node.name, 0) * entries * _ENTRY_BYTES)
