"""The names that a rule may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from triggers.language import vocabulary
from triggers.language.expressions import Expression
from triggers.language.types import Type


@dataclass
class Scope:
    """What names mean in one rule. `signal_types` learns the types of undeclared signals from their use."""

    declared: Mapping[str, Type] = field(default_factory=dict)
    lets: dict[str, Expression] = field(default_factory=dict)
    signal_types: dict[str, Type] = field(default_factory=dict)

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
