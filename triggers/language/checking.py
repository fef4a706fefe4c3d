"""A condition's text -> a checked expression, or every mistake in it at its offset.

Python's own parser reads the text (`ast.parse`: nothing is executed); what comes out is rebuilt as `Expression`
nodes, kind by kind, and whatever is not known here is a mistake. Length, size and depth are bounded before any
recursion, so that a hostile text is refused at once.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping

from runtime.formats.documents import suggest
from triggers.language import expressions, vocabulary
from triggers.language.expressions import Constant, Expression, Operation, SignalRead
from triggers.language.mistakes import LANGUAGE_HINT, CheckError, TextMistake, describe, type_fix
from triggers.language.scope import Scope
from triggers.language.source import dotted_name, parse
from triggers.language.types import Type

NUMBER, BOOLEAN, TEXT, ANY = Type.NUMBER, Type.BOOLEAN, Type.TEXT, Type.ANY


def check(text: str, scope: Scope, expected: Type) -> Expression:
    """Parse and check `text`. Raises CheckError with every mistake."""
    tree, shift = parse(text)
    checker = _Checker(text, shift, scope)
    checker.check(tree, expected)  # learns the types of signals that nothing declares
    if checker.mistakes:
        raise CheckError(checker.mistakes)
    result = checker.check(tree, expected)
    if checker.mistakes:
        raise CheckError(checker.mistakes)
    return result


class _Checker:
    """Turns `ast` nodes into expressions; collects mistakes and goes on with a stand-in of the expected type."""

    def __init__(self, text: str, shift: int, scope: Scope) -> None:
        self.text = text
        self.shift = shift
        self.scope = scope
        self.mistakes: list[TextMistake] = []
        self._inside_quantifier = False
        self._depth = 0

    def check(self, node: ast.expr, expected: Type) -> Expression:
        """The expression for `node`, which must be of the `expected` type."""
        if self._depth >= vocabulary.MAX_DEPTH:
            return self._wrong(
                node, f"is nested deeper than {vocabulary.MAX_DEPTH} levels", "split it with `let`", expected
            )
        self._depth += 1
        try:
            handler = _HANDLERS.get(type(node))
            if handler is None:
                return self._wrong(node, f"{describe(node)} is not part of the rule language", LANGUAGE_HINT, expected)
            return self._require(node, handler(self, node, expected), expected)
        finally:
            self._depth -= 1

    # -- leaves

    def _constant(self, node: ast.Constant, expected: Type) -> Expression:
        value = node.value
        if isinstance(value, (bool, str)):
            return expressions.constant(value)
        if isinstance(value, (int, float)) and abs(value) <= 1e300 and math.isfinite(value):
            return expressions.constant(value)
        if value is None:
            return self._wrong(node, "None is not a value", "write known(x) to ask whether x is known", expected)
        return self._wrong(node, "is not a finite number, text, True or False", "write such a literal", expected)

    def _name(self, node: ast.Name, expected: Type) -> Expression:
        if node.id in self.scope.lets:
            return self.scope.lets[node.id]
        if node.id in vocabulary.TRACK_FIELDS:
            return self._track_field(node, expected)
        known = {*self.scope.lets, *self.scope.signal_names(), *vocabulary.FUNCTIONS, *vocabulary.QUANTIFIERS}
        if self._inside_quantifier:
            known |= {*vocabulary.TRACK_FIELDS, *vocabulary.TRACK_FUNCTIONS}
        if node.id in known:
            return self._wrong(node, f"{node.id} is a function and needs brackets", self._usage(node.id), expected)
        return self._wrong(node, f"unknown name {node.id!r}", self._suggest(node.id, known), expected)

    def _track_field(self, node: ast.Name, expected: Type) -> Expression:
        if not self._inside_quantifier:
            own = f"write vehicle.{node.id} for this car, or " if f"vehicle.{node.id}" in vocabulary.SIGNALS else ""
            fix = f"{own}ask about tracks: any_track({node.id} …)"
            return self._wrong(
                node, f"track field {node.id!r} outside any_track, all_tracks, count_tracks", fix, expected
            )
        return expressions.track_field(node.id, vocabulary.TRACK_FIELDS[node.id])

    def _attribute(self, node: ast.Attribute, expected: Type) -> Expression:
        name = dotted_name(node)
        if name is None:
            return self._wrong(node, "only signals have dots in their names", "write namespace.signal_name", expected)
        signal_type = self.scope.signal_type(name)
        if signal_type is None:
            return self._wrong(
                node, f"unknown signal {name!r}", self._suggest(name, self.scope.signal_names()), expected
            )
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
            return self._wrong(node, "'~' is not part of the rule language", "write not", expected)
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
            return self._wrong(node, "bit operators are not part of the rule language", fix, expected)
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
        return self._wrong(left_node, "'is' is not part of the rule language", "compare with '=='", BOOLEAN)

    def _same_type(self, left_node: ast.expr, right_node: ast.expr) -> tuple[Expression, Expression]:
        left = self.check(left_node, ANY)
        right = self.check(right_node, left.type)
        return self._require(left_node, left, right.type), right

    def _membership(self, left_node: ast.expr, right_node: ast.expr) -> Expression:
        operand = self.check(left_node, ANY)
        if not isinstance(right_node, (ast.Tuple, ast.List, ast.Set)) or not right_node.elts:
            return self._wrong(right_node, "'in' needs a list of values", 'write x in ("left", "right")', BOOLEAN)
        choices = [self.check(element, operand.type) for element in right_node.elts]
        operand = self._require(left_node, operand, choices[0].type)
        values = [choice.value for choice in choices if isinstance(choice, Constant)]
        if len(values) < len(choices):
            return self._wrong(right_node, "'in' needs literal values", "write numbers or text in quotes", BOOLEAN)
        return expressions.membership(operand, tuple(values))

    def _conditional(self, node: ast.IfExp, expected: Type) -> Expression:
        condition = self.check(node.test, BOOLEAN)
        then = self.check(node.body, expected)
        otherwise = self.check(node.orelse, then.type)
        then = self._require(node.body, then, otherwise.type)
        return expressions.operation("if", then.type, (condition, then, otherwise))

    # -- calls

    def _call(self, node: ast.Call, expected: Type) -> Expression:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        tables = (vocabulary.FUNCTIONS, vocabulary.QUANTIFIERS, vocabulary.TRACK_FUNCTIONS)
        function = next((table[name] for table in tables if name in table), None) if name else None
        if name is None or function is None:
            return self._unknown_function(node, expected)
        if name in vocabulary.TRACK_FUNCTIONS and not self._inside_quantifier:
            fix = f"ask about tracks: any_track({name}(2.0) > …)"
            return self._wrong(node, f"{name} outside any_track, all_tracks, count_tracks", fix, expected)
        if not self._arguments_fit(node, name, function):
            return self._stand_in(expected if function.result is ANY else function.result)
        if name in vocabulary.QUANTIFIERS:
            return self._quantifier(node, name, function)
        return self._plain_call(node, name, function)

    def _arguments_fit(self, node: ast.Call, name: str, function: vocabulary.Function) -> bool:
        wanted = len(function.operands) + function.has_seconds
        is_enough = len(node.args) >= 2 if function.is_variadic else len(node.args) == wanted
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args) or not is_enough:
            self._wrong(node, f"{name} is called with the wrong arguments", f"write {function.usage(name)}", ANY)
            return False
        return True

    def _quantifier(self, node: ast.Call, name: str, function: vocabulary.Function) -> Expression:
        was_inside, self._inside_quantifier = self._inside_quantifier, True
        condition = self.check(node.args[0], BOOLEAN)
        self._inside_quantifier = was_inside
        nested = (part.name for part in expressions.walk(condition) if isinstance(part, Operation))
        if was_inside or not vocabulary.QUANTIFIERS.keys().isdisjoint(nested):
            return self._wrong(
                node, f"{name} and another quantifier inside each other", "combine them with and / or", function.result
            )
        return expressions.operation(name, function.result, (condition,))

    def _plain_call(self, node: ast.Call, name: str, function: vocabulary.Function) -> Expression:
        seconds = self._seconds(node.args[-1], name) if function.has_seconds else None
        values = node.args[:-1] if function.has_seconds else node.args
        types = function.operands * len(values) if function.is_variadic else function.operands
        operands = tuple(self.check(value, kind) for value, kind in zip(values, types, strict=True))
        over_tracks = name in vocabulary.TRACK_FUNCTIONS
        if function.is_temporal and any(operand.reads_tracks for operand in operands):
            fix = f"use {', '.join(sorted(vocabulary.TRACK_FUNCTIONS))}, or {name}(any_track(…))"
            return self._wrong(node, f"{name} cannot follow each track", fix, function.result)
        result = operands[0].type if function.result is ANY else function.result
        return expressions.operation(name, result, operands, seconds, over_tracks)

    def _seconds(self, node: ast.expr, function_name: str) -> float:
        value = node.value if isinstance(node, ast.Constant) else None
        limit = (
            vocabulary.MAX_TRACK_WINDOW_S if function_name in vocabulary.TRACK_FUNCTIONS else vocabulary.MAX_WINDOW_S
        )
        if function_name == "at_random":
            limit = 86_400.0
        if (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and vocabulary.MIN_WINDOW_S <= value <= limit
        ):
            return float(value)
        fix = f"write a literal from {vocabulary.MIN_WINDOW_S:g} to {limit:g}"
        self._wrong(node, f"{function_name} needs a fixed number of seconds", fix, NUMBER)
        return 1.0

    def _unknown_function(self, node: ast.Call, expected: Type) -> Expression:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name is None:
            return self._wrong(node, "only named functions can be called", "write name(…)", expected)
        known = {*vocabulary.FUNCTIONS, *vocabulary.QUANTIFIERS, *vocabulary.TRACK_FUNCTIONS}
        return self._wrong(node.func, f"unknown function {name!r}", self._suggest(name, known), expected)

    # -- types and mistakes

    def _require(self, node: ast.expr, found: Expression, expected: Type) -> Expression:
        if found.size > vocabulary.MAX_NODES:
            message = f"has more than {vocabulary.MAX_NODES} parts (each use of a let name counted)"
            return self._wrong(node, message, "make two rules", expected)
        if expected is ANY or found.type is expected:
            return found
        if found.type is ANY:
            self._settle(found, expected)  # so that the second pass finds it typed
            return found
        message = f"is {found.type.value}, but {expected.value} is needed here"
        return self._wrong(node, message, type_fix(found.type, expected), expected)

    def _settle(self, found: Expression, expected: Type) -> None:
        """Every signal that gives `found` its type is of the `expected` one."""
        for part in expressions.walk(found):
            if isinstance(part, SignalRead) and part.type is ANY:
                self.scope.signal_types.setdefault(part.name, expected)

    def _wrong(self, node: ast.expr, message: str, fix: str, expected: Type) -> Expression:
        offset = self._offset(node)
        value = self.text[offset : self._end(node)]
        mistake = TextMistake(offset, message, value, fix)
        if mistake not in self.mistakes:
            self.mistakes.append(mistake)
        return self._stand_in(expected)

    def _stand_in(self, expected: Type) -> Expression:
        """An expression of the expected type, so that one mistake does not cause others."""
        return expressions.operation("stand-in", expected, ())

    def _offset(self, node: ast.expr) -> int:
        return self.shift + self._characters(node.col_offset)

    def _end(self, node: ast.expr) -> int:
        return self.shift + self._characters(node.end_col_offset or node.col_offset)

    def _characters(self, utf8_offset: int) -> int:
        """`ast` counts bytes of UTF-8."""
        encoded = self.text[self.shift :].encode("utf-8", "surrogatepass")
        return len(encoded[:utf8_offset].decode("utf-8", "replace"))

    def _suggest(self, name: str, known: set[str]) -> str:
        short = {word.partition(".")[2]: word for word in self.scope.signal_names()}
        return f"did you mean {short[name]!r}?" if name in short else suggest(name, known)

    def _usage(self, name: str) -> str:
        for table in (vocabulary.FUNCTIONS, vocabulary.QUANTIFIERS, vocabulary.TRACK_FUNCTIONS):
            if name in table:
                return f"write {table[name].usage(name)}"
        return "write a signal, a number or text in quotes"


_HANDLERS: Mapping[type[ast.expr], Callable[..., Expression]] = {
    ast.Constant: _Checker._constant,
    ast.Name: _Checker._name,
    ast.Attribute: _Checker._attribute,
    ast.BoolOp: _Checker._bool_op,
    ast.UnaryOp: _Checker._unary,
    ast.BinOp: _Checker._binary,
    ast.Compare: _Checker._compare,
    ast.IfExp: _Checker._conditional,
    ast.Call: _Checker._call,
}
