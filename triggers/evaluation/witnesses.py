"""Which item made a quantifier's condition true, and what a firing tells of it.

Of several it is the surest (the highest score, of equal ones the first); of a minimum or maximum its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from runtime.messages import SignalValue
from triggers.evaluation.item_table import ItemTable
from triggers.evaluation.quantifier_steps import selected_numbers
from triggers.evaluation.truths import TRUE, rows_of
from triggers.language import populations
from triggers.language.expressions import Operation
from triggers.language.populations import Population

_FIELDS: Mapping[Population, tuple[str, ...]] = {
    Population.TRACKS: ("camera", "class_name", "track_id", "score"),
    Population.OBJECTS: ("class_name", "object_id", "distance_m"),
    Population.CAMERAS: ("camera", "state"),
}


def witness_of(quantifier: Operation, columns: Sequence[Any], table: ItemTable) -> Any:
    """The item, from the quantifier's operands as columns over the items of `table`; None when there is none."""
    kind = populations.QUANTIFIERS[quantifier.name].kind
    *number, condition = columns
    rows = np.flatnonzero(rows_of(condition, len(table.items)) == TRUE)
    if kind in ("min", "max"):
        numbers = selected_numbers(number[0], condition, table)
        return None if numbers is None else table.items[rows[getattr(np, f"arg{kind}")(numbers)]]
    matching = [table.items[row] for row in rows.tolist()]
    return max(matching, key=_sureness, default=None)


def told_of(population: Population, item: Any) -> dict[str, SignalValue | None]:
    """The fields of an item that a firing tells, by `track.…`, `object.…` or `camera.…`; empty without one."""
    if item is None:
        return {}
    values = {name: getattr(item, name) for name in _FIELDS[population]}
    return {
        f"{population.value}.{name}": value if value is None or isinstance(value, str) else float(value)
        for name, value in values.items()
    }


def _sureness(item: Any) -> float:
    return getattr(item, "score", None) or 0.0
