"""A checked expression back as text, with `let` names resolved and only the brackets that are needed.

What comes out is a condition of the language again: checked anew it gives an equal expression.
"""

from __future__ import annotations

from triggers.language.expressions import Constant, Expression, Inside, Membership, Operation, SignalRead
from triggers.language.types import Value

_IF, _OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(10)

_BINARY = {
    "or": _OR,
    "and": _AND,
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), _COMPARISON),
    **dict.fromkeys(("+", "-"), _SUM),
    **dict.fromkeys(("*", "/", "//", "%"), _PRODUCT),
    "**": _POWER,
}


def render(expression: Expression) -> str:
    """The text of an expression."""
    return _render(expression)[0]


def clauses(condition: Expression) -> list[str]:
    """The parts that a condition joins with `and`, in order: each must be true for the whole to be."""
    if isinstance(condition, Operation) and condition.name == "and":
        return [text for operand in condition.operands for text in clauses(operand)]
    return [render(condition)]


def _render(node: Expression) -> tuple[str, int]:
    """The text and how tightly it binds."""
    if isinstance(node, Constant):
        return literal(node.value), _SIGN if isinstance(node.value, float) and node.value < 0 else _ATOM
    if isinstance(node, Membership):
        choices = ", ".join(literal(choice) for choice in node.choices)
        return f"{_inside(node.operands[0], _SUM)} in ({choices}{',' if len(node.choices) == 1 else ''})", _COMPARISON
    if isinstance(node, Operation):
        return _operation(node)
    if isinstance(node, Inside):
        return f"inside({literal(node.name)})", _ATOM
    name = str(getattr(node, "name", "?"))
    return _learned(name) if isinstance(node, SignalRead) else name, _ATOM


def _learned(signal: str) -> str:
    """Fleet queries and learned triggers are signals inside and calls in a text."""
    namespace, _, name = signal.partition(".")
    call = {"embedding": "embedding_distance", "classifier": "classifier"}.get(namespace)
    return signal if call is None else f"{call}({literal(name)})"


def _operation(node: Operation) -> tuple[str, int]:
    if node.name == "if":
        condition, then, otherwise = node.operands
        return f"{_inside(then, _OR)} if {_inside(condition, _OR)} else {_inside(otherwise, _IF)}", _IF
    if node.name == "not":
        return f"not {_inside(node.operands[0], _NOT)}", _NOT
    if node.name == "negate":
        return f"-{_inside(node.operands[0], _SIGN)}", _SIGN
    if node.name in _BINARY:
        return _binary(node)
    arguments = [render(operand) for operand in node.operands]
    arguments += [] if node.parameter is None else [literal(node.parameter)]
    return f"{node.name}({', '.join(arguments)})", _ATOM


def _binary(node: Operation) -> tuple[str, int]:
    """Equal operators stand in a row from the left, but comparisons, which Python would chain, and powers."""
    strength = _BINARY[node.name]
    left, right = node.operands
    needs_left = strength + 1 if strength in (_COMPARISON, _POWER) else strength
    return f"{_inside(left, needs_left)} {node.name} {_inside(right, strength + 1)}", strength


def _inside(node: Expression, needed: int) -> str:
    text, strength = _render(node)
    return text if strength >= needed else f"({text})"


def literal(value: Value) -> str:
    """A value as it is written in a condition."""
    if isinstance(value, float):
        return f"{int(value)}" if value.is_integer() and abs(value) < 1e15 else repr(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' if isinstance(value, str) else str(value)
