"""The names that a rule may use."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from triggers.language import vocabulary
from triggers.language.expressions import Expression
from triggers.language.populations import Population
from triggers.language.types import Type
from triggers.language.zones import Zone


@dataclass
class Scope:
    """What names mean in one rule. `signal_types` learns the types of undeclared signals from their use."""

    declared: Mapping[str, Type] = field(default_factory=dict)
    lets: dict[str, Expression] = field(default_factory=dict)
    signal_types: dict[str, Type] = field(default_factory=dict)
    #: Names of the file that speak of items: a meaning for each population of which they make sense.
    item_lets: dict[Population, dict[str, Expression]] = field(default_factory=dict)
    zones: Mapping[str, Zone] = field(default_factory=dict)
    queries: Collection[str] = ()
    classifiers: Collection[str] = ()

    def signal_type(self, name: str) -> Type | None:
        """The type of a signal, ANY while nothing says what it is, None when there is no such signal."""
        for table in (self.signal_types, self.declared, vocabulary.SIGNALS):
            if name in table and table[name] is not Type.ANY:
                return table[name]
        namespace = name.partition(".")[0]
        is_known = name in self.declared or name in vocabulary.SIGNALS or namespace in vocabulary.OPEN_NAMESPACES
        return Type.ANY if is_known else None

    def signal_names(self) -> set[str]:
        """Every signal that may be named."""
        return {*self.declared, *vocabulary.SIGNALS}

    def let(self, name: str, population: Population | None) -> Expression | None:
        """What a `let` name means inside a quantifier of `population` (None: outside of all)."""
        found = self.lets.get(name)
        return self.item_lets.get(population, {}).get(name) if found is None and population is not None else found

    def let_names(self) -> set[str]:
        """Every name that the file gives."""
        return {*self.lets, *(name for names in self.item_lets.values() for name in names)}
