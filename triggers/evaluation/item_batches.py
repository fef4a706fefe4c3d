"""Many comparisons of one column with numbers, done in one array operation.

Rule sets compare the same few fields with hundreds of thresholds (`distance_m < 30`, `distance_m < 35`, ...). A
comparison remembers nothing, so a program may compute all of one column and one operator together where the first of
them stands: the column comes before it, whatever reads the others comes later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from triggers.evaluation.item_steps import NUMBER_COMPARISONS
from triggers.evaluation.item_table import TRUE, UNKNOWN
from triggers.evaluation.scalar_steps import Slots, Step
from triggers.language.expressions import Constant, Expression, Operation

#: Operator, the column's key.
BatchKey: TypeAlias = tuple[str, bytes]


def batches_of(nodes: Iterable[Expression]) -> dict[BatchKey, list[Operation]]:
    """The comparisons of a column with a number that can be done together, in the order of `nodes`."""
    found: dict[BatchKey, list[Operation]] = {}
    for node in nodes:
        if isinstance(node, Operation) and node.population is not None and node.name in NUMBER_COMPARISONS:
            column, threshold = node.operands
            if column.population is not None and isinstance(threshold, Constant):
                found.setdefault((node.name, column.key), []).append(node)
    return {key: batch for key, batch in found.items() if len(batch) > 1}


def batch_step(slots: Slots, batch: list[Operation], slot_of: Mapping[bytes, int]) -> Step:
    """One step for all comparisons of a batch."""
    apply: Callable[..., Any] = NUMBER_COMPARISONS[batch[0].name]
    column = slot_of[batch[0].operands[0].key]
    outs = [slot_of[node.key] for node in batch]
    thresholds = np.array([slots[slot_of[node.operands[1].key]] for node in batch], np.float64)[:, None]

    def step() -> None:
        values, unknown = slots[column]
        truth = apply(values, thresholds).view(np.int8) * TRUE
        if unknown is not None:
            truth[:, unknown] = UNKNOWN
        for out, row in zip(outs, truth, strict=True):
            slots[out] = row

    return step
