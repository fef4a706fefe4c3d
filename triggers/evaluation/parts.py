"""What programs are made of: parts with a slot and a step each, and the storage that a line of programs shares.

A part computes one node (or a helper of one: the edges of an expression, a scalar as a column). Its step owns
whatever it remembers, so that a program which takes a part over takes its windows over too. Its key is the node's, so
that equal expressions are one part; parts only ever read parts that every program with them has as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from triggers.evaluation.item_columns import make_tables
from triggers.evaluation.item_decisive import Decisive
from triggers.evaluation.item_moments import Moments
from triggers.evaluation.item_table import ItemTable
from triggers.evaluation.scalar_steps import Slots, Step
from triggers.evaluation.signal_values import Reading
from triggers.evaluation.temporal_steps import Tick
from triggers.language.populations import Population

if TYPE_CHECKING:
    from triggers.evaluation.program import Program


class Turn(Enum):
    """When in a tick a part that has one value is computed; others are with their population, between the two."""

    FIRST = 0
    LATER = 1  # depends on a quantifier


PartKey: TypeAlias = tuple[str, bytes]


@dataclass(slots=True)
class Part:
    """One value, or one column, of a program."""

    out: int
    turn: Turn | Population
    step: Step | None = None  # None: a constant, which is in its slot from the start
    windows: list[Sized] = field(default_factory=list)
    #: What is computed together with others instead of by a step: see `item_batches` and `signal_values`.
    memory: Decisive | Moments | None = None
    read: Reading | None = None


class Storage:
    """What a program and all that evolve from it share. Only one of them runs: the newest that ever ran."""

    def __init__(self, seed: int, image_sizes: Mapping[str, tuple[int, int]]) -> None:
        self.slots: Slots = []
        self.tick = Tick(seed)
        self.tables: dict[Population, ItemTable] = make_tables(image_sizes)
        self.running: Program | None = None  # the program that ran last
        self.prepared: Program | None = None  # the one that was built last and never ran
