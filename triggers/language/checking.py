"""A condition's text -> a checked expression, or every mistake in it at its offset.

Python's own parser reads the text (`ast.parse`: nothing is executed); what comes out is rebuilt as `Expression`
nodes, kind by kind, and whatever is not known here is a mistake. Length, size and depth are bounded before any
recursion, so that a hostile text is refused at once.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence

from runtime.formats.documents import suggest
from triggers.language import expressions, populations, vocabulary
from triggers.language.calls import CallChecker, functions_of, outside, usage
from triggers.language.expressions import Constant, Expression, ItemField, Operation
from triggers.language.mistakes import LANGUAGE_HINT, CheckError, describe
from triggers.language.populations import DOMAINS, FIELDS, Population
from triggers.language.scope import Scope
from triggers.language.source import dotted_name, parse
from triggers.language.types import Type

NUMBER, BOOLEAN, TEXT, ANY = Type.NUMBER, Type.BOOLEAN, Type.TEXT, Type.ANY


def check(text: str, scope: Scope, expected: Type, population: Population | None = None) -> Expression:
    """Parse and check `text`, which stands inside a quantifier of `population` (None: outside of all).

    Raises:
        CheckError: with every mistake.
    """
    tree, shift = parse(text)
    checker = _Checker(text, shift, scope, population)
    checker.check(tree, expected)  # learns the types of signals that nothing declares
    if checker.mistakes:
        raise CheckError(checker.mistakes)
    result = checker.check(tree, expected)
    if checker.mistakes:
        raise CheckError(checker.mistakes)
    return result


class _Checker(CallChecker):
    """Turns `ast` nodes into expressions."""

    _depth = 0

    def check(self, node: ast.expr, expected: Type) -> Expression:
        """The expression for `node`, which must be of the `expected` type."""
        if self._depth >= vocabulary.MAX_DEPTH:
            return self.wrong(
                node, f"is nested deeper than {vocabulary.MAX_DEPTH} levels", "split it with `let`", expected
            )
        self._depth += 1
        try:
            handler = _HANDLERS.get(type(node))
            if handler is None:
                return self.wrong(node, f"{describe(node)} is not part of the rule language", LANGUAGE_HINT, expected)
            return self.require(node, handler(self, node, expected), expected)
        finally:
            self._depth -= 1

    # -- leaves

    def _constant(self, node: ast.Constant, expected: Type) -> Expression:
        value = node.value
        if isinstance(value, (bool, str)):
            return expressions.constant(value)
        if isinstance(value, (int, float)) and abs(value) <= vocabulary.MAX_NUMBER and math.isfinite(value):
            return expressions.constant(value)
        if value is None:
            return self.wrong(node, "None is not a value", "write known(x) to ask whether x is known", expected)
        return self.wrong(node, "is not a finite number, text, True or False", "write such a literal", expected)

    def _name(self, node: ast.Name, expected: Type) -> Expression:
        found = self.scope.let(node.id, self.population)
        if found is not None:
            return found
        fields = FIELDS[self.population] if self.population is not None else {}
        if self.population is not None and node.id in fields:
            return expressions.item_field(node.id, fields[node.id], self.population)
        functions = functions_of(self.population)
        if node.id in functions:
            fix = f"write {usage(node.id, functions[node.id])}"
            return self.wrong(node, f"{node.id} is a function and needs brackets", fix, expected)
        return self._unknown_name(node, expected)

    def _unknown_name(self, node: ast.Name, expected: Type) -> Expression:
        name = node.id
        if name.capitalize() in ("True", "False"):
            return self.wrong(node, f"unknown name {name!r}", f"write {name.capitalize()}", expected)
        if name in self.scope.let_names():
            fix = "use it inside any_track(…) or another quantifier of what it speaks of"
            return self.wrong(node, f"{name!r} speaks of other items than are asked about here", fix, expected)
        if populations.populations_of(name):
            message, fix = outside(name, self.population, f"{name} …")
            own = f"write vehicle.{name} for this car, or " if f"vehicle.{name}" in vocabulary.SIGNALS else ""
            return self.wrong(node, message, own + fix, expected)
        known = {*self.scope.let_names(), *self.scope.signal_names(), *functions_of(self.population)}
        known |= set(FIELDS[self.population]) if self.population is not None else set()
        fix = f'write "{name}" if it is meant as text' if expected is TEXT else self.suggest(name, known)
        return self.wrong(node, f"unknown name {name!r}", fix, expected)

    def _attribute(self, node: ast.Attribute, expected: Type) -> Expression:
        name = dotted_name(node)
        if name is None:
            return self.wrong(node, "only signals have dots in their names", "write namespace.signal_name", expected)
        signal_type = self.scope.signal_type(name)
        if signal_type is None:
            known = self.scope.signal_names()
            return self.wrong(node, f"unknown signal {name!r}", self.suggest(name, known), expected)
        return expressions.signal(name, signal_type)

    # -- operators

    def _bool_op(self, node: ast.BoolOp, expected: Type) -> Expression:
        operands = [self.check(value, BOOLEAN) for value in node.values]
        name = "and" if isinstance(node.op, ast.And) else "or"
        result = operands[0]
        for operand in operands[1:]:
            result = expressions.operation(name, BOOLEAN, (result, operand))
        return result

    def _unary(self, node: ast.UnaryOp, expected: Type) -> Expression:
        if isinstance(node.op, ast.Not):
            return expressions.operation("not", BOOLEAN, (self.check(node.operand, BOOLEAN),))
        if not isinstance(node.op, (ast.USub, ast.UAdd)):
            return self.wrong(node, "'~' is not part of the rule language", "write not", expected)
        operand = self.check(node.operand, NUMBER)
        if isinstance(node.op, ast.UAdd):
            return operand
        if isinstance(operand, Constant) and isinstance(operand.value, float):
            return expressions.constant(-operand.value)
        return expressions.operation("negate", NUMBER, (operand,))

    def _binary(self, node: ast.BinOp, expected: Type) -> Expression:
        name = vocabulary.ARITHMETIC.get(type(node.op).__name__)
        if name is None:
            fix = "write and, or" if isinstance(node.op, (ast.BitAnd, ast.BitOr)) else LANGUAGE_HINT
            return self.wrong(node, "bit operators are not part of the rule language", fix, expected)
        return expressions.operation(name, NUMBER, (self.check(node.left, NUMBER), self.check(node.right, NUMBER)))

    def _compare(self, node: ast.Compare, expected: Type) -> Expression:
        result: Expression | None = None
        left_node = node.left
        for operator, right_node in zip(node.ops, node.comparators, strict=True):
            link = self._link(left_node, operator, right_node)
            result = link if result is None else expressions.operation("and", BOOLEAN, (result, link))
            left_node = right_node
        assert result is not None
        return result

    def _link(self, left_node: ast.expr, operator: ast.cmpop, right_node: ast.expr) -> Expression:
        name = type(operator).__name__
        if name in vocabulary.ORDERINGS:
            operands = (self.check(left_node, NUMBER), self.check(right_node, NUMBER))
            return expressions.operation(vocabulary.ORDERINGS[name], BOOLEAN, operands)
        if name in vocabulary.EQUALITIES:
            return expressions.operation(vocabulary.EQUALITIES[name], BOOLEAN, self._same_type(left_node, right_node))
        if name in ("In", "NotIn"):
            found = self._membership(left_node, right_node)
            return found if name == "In" else expressions.operation("not", BOOLEAN, (found,))
        return self.wrong(left_node, "'is' is not part of the rule language", "compare with '=='", BOOLEAN)

    def _same_type(self, left_node: ast.expr, right_node: ast.expr) -> tuple[Expression, Expression]:
        left = self.check(left_node, ANY)
        right = self.check(right_node, left.type)
        self._check_domain(left, [(right_node, right)])
        self._check_domain(right, [(left_node, left)])
        return self.require(left_node, left, right.type), right

    def _check_domain(self, operand: Expression, compared: Sequence[tuple[ast.expr, Expression]]) -> None:
        """A field with a fixed set of texts is compared with these alone: a misspelt one would never be true."""
        while isinstance(operand, Operation) and operand.name == "lag":
            (operand,) = operand.operands
        if not isinstance(operand, ItemField) or operand.population is None:
            return
        known = DOMAINS[operand.population].get(operand.name, ())
        for node, value in compared if known else ():
            if isinstance(value, Constant) and isinstance(value.value, str) and value.value not in known:
                message = f"{operand.name!r} is never {value.value[:64]!r}"
                self.wrong(node, message, suggest(value.value, known), operand.type)

    def _membership(self, left_node: ast.expr, right_node: ast.expr) -> Expression:
        operand = self.check(left_node, ANY)
        if not isinstance(right_node, (ast.Tuple, ast.List, ast.Set)) or not right_node.elts:
            return self.wrong(right_node, "'in' needs a list of values", 'write x in ("left", "right")', BOOLEAN)
        choices = [self.check(element, operand.type) for element in right_node.elts]
        operand = self.require(left_node, operand, choices[0].type)
        self._check_domain(operand, list(zip(right_node.elts, choices, strict=True)))
        values = [choice.value for choice in choices if isinstance(choice, Constant)]
        if len(values) < len(choices):
            return self.wrong(right_node, "'in' needs literal values", "write numbers or text in quotes", BOOLEAN)
        return expressions.membership(operand, tuple(values))

    def _conditional(self, node: ast.IfExp, expected: Type) -> Expression:
        condition = self.check(node.test, BOOLEAN)
        then = self.check(node.body, expected)
        otherwise = self.check(node.orelse, then.type)
        then = self.require(node.body, then, otherwise.type)
        return expressions.operation("if", then.type, (condition, then, otherwise))


_HANDLERS: Mapping[type[ast.expr], Callable[..., Expression]] = {
    ast.Constant: _Checker._constant,
    ast.Name: _Checker._name,
    ast.Attribute: _Checker._attribute,
    ast.BoolOp: _Checker._bool_op,
    ast.UnaryOp: _Checker._unary,
    ast.BinOp: _Checker._binary,
    ast.Compare: _Checker._compare,
    ast.IfExp: _Checker._conditional,
    ast.Call: _Checker.call,
}
