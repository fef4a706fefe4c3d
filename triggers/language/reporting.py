"""What every part of the checker shares: mistakes at their place in the text, and types that must fit."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod

from runtime.formats.documents import suggest
from triggers.language import expressions, vocabulary
from triggers.language.expressions import Expression, SignalRead
from triggers.language.mistakes import TextMistake, type_fix
from triggers.language.populations import Population
from triggers.language.scope import Scope
from triggers.language.types import Type

ANY = Type.ANY
MAX_MISTAKES = 20  # of one text: nobody reads more, and a hostile text has thousands


class Reporter(ABC):
    """Collects mistakes; goes on behind each with a stand-in of the expected type."""

    def __init__(self, text: str, shift: int, scope: Scope, population: Population | None) -> None:
        self.text = text
        self.shift = shift
        self.scope = scope
        self.mistakes: list[TextMistake] = []
        self.population = population  # of the quantifier around the node that is being checked

    @abstractmethod
    def check(self, node: ast.expr, expected: Type) -> Expression:
        """The expression for `node`, which must be of the `expected` type."""

    def require(self, node: ast.expr, found: Expression, expected: Type) -> Expression:
        """`found` if it is of the `expected` type and not too large; else a mistake."""
        if found.size > vocabulary.MAX_NODES:
            message = f"has more than {vocabulary.MAX_NODES} parts (each use of a let name counted)"
            return self.wrong(node, message, "make two rules", expected)
        if expected is ANY or found.type is expected:
            return found
        if found.type is ANY:
            self._settle(found, expected)  # so that the second pass finds it typed
            return found
        message = f"is {found.type.value}, but {expected.value} is needed here"
        return self.wrong(node, message, type_fix(found.type, expected), expected)

    def _settle(self, found: Expression, expected: Type) -> None:
        """Every signal that gives `found` its type is of the `expected` one; not those of `known(x)` inside it, say."""
        undecided = [found]
        while undecided:
            part = undecided.pop()
            if isinstance(part, SignalRead):
                self.scope.signal_types.setdefault(part.name, expected)
            undecided += [operand for operand in part.operands if operand.type is ANY and part.type is ANY]

    def wrong(self, node: ast.expr, message: str, fix: str, expected: Type) -> Expression:
        """Note a mistake at `node`."""
        if len(self.mistakes) >= MAX_MISTAKES:
            return self.stand_in(expected)
        offset = self._offset(node.col_offset)
        value = self.text[offset : self._offset(node.end_col_offset or node.col_offset)]
        mistake = TextMistake(offset, message, value, fix)
        if mistake not in self.mistakes:
            self.mistakes.append(mistake)
        return self.stand_in(expected)

    def stand_in(self, expected: Type) -> Expression:
        """An expression of the expected type, so that one mistake does not cause others."""
        return expressions.operation("stand-in", expected, ())

    def _offset(self, utf8_offset: int) -> int:
        """`ast` counts bytes of UTF-8."""
        encoded = self.text[self.shift :].encode("utf-8", "surrogatepass")
        return self.shift + len(encoded[:utf8_offset].decode("utf-8", "replace"))

    def suggest(self, name: str, known: set[str]) -> str:
        """A fix for an unknown name."""
        short = {word.partition(".")[2]: word for word in self.scope.signal_names()}
        return f"did you mean {short[name]!r}?" if name in short else suggest(name, known)
