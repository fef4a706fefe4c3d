"""What can be wrong with a condition's text, and the words in which it is told."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from triggers.language.types import Type

NUMBER, BOOLEAN, TEXT = Type.NUMBER, Type.BOOLEAN, Type.TEXT


@dataclass(frozen=True, slots=True)
class TextMistake:
    """What is wrong, `offset` characters into the text."""

    offset: int
    message: str
    value: str
    fix: str


class CheckError(ValueError):
    """The text is not an expression of the language."""

    def __init__(self, mistakes: list[TextMistake]) -> None:
        super().__init__("; ".join(mistake.message for mistake in mistakes))
        self.mistakes = mistakes


LANGUAGE_HINT = "use signals, numbers, text, + - * / // % **, comparisons, and or not in, if else, and functions"


def describe(node: ast.expr) -> str:
    """A piece of Python that the language does not have."""
    names = {
        ast.Lambda: "a lambda",
        ast.ListComp: "a comprehension",
        ast.GeneratorExp: "a comprehension",
        ast.SetComp: "a comprehension",
        ast.DictComp: "a comprehension",
        ast.Subscript: "an index in [ ]",
        ast.JoinedStr: "an f-string",
        ast.NamedExpr: "':='",
        ast.List: "a list",
        ast.Tuple: "a list (outside 'in')",
        ast.Dict: "a dictionary",
        ast.Set: "a set",
        ast.Starred: "'*'",
        ast.Await: "await",
    }
    return names.get(type(node), f"{type(node).__name__}")


def type_fix(found: Type, expected: Type) -> str:
    """What to write where `found` stands and `expected` is needed."""
    if (found, expected) == (NUMBER, BOOLEAN):
        return "compare it with something, such as > 0"
    if (found, expected) == (BOOLEAN, NUMBER):
        return "write it alone, or (1 if … else 0) to count it"
    if TEXT in (found, expected):
        return "compare text with text in quotes, numbers with numbers"
    return f"write {expected.value}"
