"""How the checker reads a call: plain functions, windows, histories of items, quantifiers, zones and queries."""

from __future__ import annotations

import ast
from collections.abc import Collection

from triggers.language import expressions, populations, vocabulary
from triggers.language.expressions import QUANTIFIERS, Expression, Operation
from triggers.language.populations import ITEM_FUNCTIONS, Population, Quantifier
from triggers.language.reporting import Reporter
from triggers.language.types import Type
from triggers.language.vocabulary import Function

ANY, BOOLEAN, NUMBER = Type.ANY, Type.BOOLEAN, Type.NUMBER
MAX_RANDOM_S = 86_400.0


def functions_of(population: Population | None) -> dict[str, Function]:
    """Every function that may be called inside a quantifier of `population` (None: outside of all)."""
    quantifiers = {name: quantifier.function for name, quantifier in populations.QUANTIFIERS.items()}
    own = ITEM_FUNCTIONS[population] if population is not None else {}
    return {**vocabulary.FUNCTIONS, **vocabulary.NAMED, **quantifiers, **own}


def usage(name: str, function: Function) -> str:
    """How to write a call of that function."""
    return f'{name}("name")' if name in vocabulary.NAMED else function.usage(name)


class CallChecker(Reporter):
    """The part of the checker that reads calls."""

    def call(self, node: ast.Call, expected: Type) -> Expression:
        """The expression for a call."""
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name is None:
            return self.wrong(node, "only named functions can be called", "write name(…)", expected)
        function = functions_of(self.population).get(name)
        if function is None:
            return self._no_such_function(node, name, expected)
        if not self._arguments_fit(node, name, function):
            return self.stand_in(expected if function.result is ANY else function.result)
        if name in vocabulary.NAMED:
            return self._named_call(node, name, function)
        if name in populations.QUANTIFIERS:
            return self._quantifier(node, name, populations.QUANTIFIERS[name])
        return self._plain_call(node, name, function)

    def _no_such_function(self, node: ast.Call, name: str, expected: Type) -> Expression:
        owners = populations.populations_of(name)
        if not owners:
            known = set(functions_of(self.population))
            return self.wrong(node.func, f"unknown function {name!r}", self.suggest(name, known), expected)
        return self.wrong(node, *outside(name, self.population, f"{name}(2.0) > …"), expected)

    def _arguments_fit(self, node: ast.Call, name: str, function: Function) -> bool:
        wanted = len(function.operands) + function.has_seconds
        is_enough = len(node.args) >= 2 if function.is_variadic else len(node.args) == wanted
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args) or not is_enough:
            self.wrong(node, f"{name} is called with the wrong arguments", f"write {usage(name, function)}", ANY)
            return False
        return True

    def _quantifier(self, node: ast.Call, name: str, quantifier: Quantifier) -> Expression:
        around, self.population = self.population, quantifier.population
        operands = tuple(
            self.check(argument, kind) for argument, kind in zip(node.args, quantifier.function.operands, strict=True)
        )
        self.population = around
        nested = {
            part.name for operand in operands for part in expressions.walk(operand) if isinstance(part, Operation)
        }
        result = quantifier.function.result
        if around is not None or not QUANTIFIERS.isdisjoint(nested):
            fix = "combine them with and / or"
            return self.wrong(node, f"{name} and another quantifier inside each other", fix, result)
        return expressions.operation(name, result, operands)

    def _plain_call(self, node: ast.Call, name: str, function: Function) -> Expression:
        values = node.args[:-1] if function.has_seconds else node.args
        types = function.operands * len(values) if function.is_variadic else function.operands
        operands = tuple(self.check(value, kind) for value, kind in zip(values, types, strict=True))
        is_history = self.population is not None and name in ITEM_FUNCTIONS[self.population]
        over_items = is_history or any(operand.population is not None for operand in operands)
        if over_items and function.is_temporal and not function.follows_items:
            follow = sorted(each for each, found in vocabulary.FUNCTIONS.items() if found.follows_items)
            fix = f"use {', '.join(follow)}, or {name} around the quantifier"
            return self.wrong(node, f"{name} cannot follow each item", fix, function.result)
        seconds = self._seconds(node.args[-1], name, over_items) if function.has_seconds else None
        result = operands[0].type if function.result is ANY else function.result
        return expressions.operation(name, result, operands, seconds, self.population if is_history else None)

    def _seconds(self, node: ast.expr, function_name: str, over_items: bool) -> float:
        value = node.value if isinstance(node, ast.Constant) else None
        limit = vocabulary.MAX_ITEM_WINDOW_S if over_items else vocabulary.MAX_WINDOW_S
        limit = MAX_RANDOM_S if function_name == "at_random" else limit
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if isinstance(value, (int, float)) and is_number and vocabulary.MIN_WINDOW_S <= value <= limit:
            return float(value)
        fix = f"write a literal from {vocabulary.MIN_WINDOW_S:g} to {limit:g}"
        self.wrong(node, f"{function_name} needs a fixed number of seconds", fix, NUMBER)
        return 1.0

    # -- what is called by its name in quotes

    def _named_call(self, node: ast.Call, name: str, function: Function) -> Expression:
        argument = node.args[0]
        called = argument.value if isinstance(argument, ast.Constant) else None
        if not isinstance(called, str):
            return self.wrong(
                argument, f"{name} needs a name in quotes", f"write {usage(name, function)}", function.result
            )
        if name == "inside":
            if called in self.scope.zones:
                return expressions.inside(called, self.scope.zones[called])
            return self._unnamed(argument, "zone", called, self.scope.zones, function)
        key, known = {
            "embedding_distance": ("embedding", self.scope.queries),
            "classifier": ("classifier", self.scope.classifiers),
        }[name]
        if called in known:
            return expressions.signal(f"{key}.{called}", NUMBER)
        return self._unnamed(argument, "query" if key == "embedding" else key, called, known, function)

    def _unnamed(
        self, node: ast.expr, kind: str, called: str, known: Collection[str], function: Function
    ) -> Expression:
        where = {"zone": "zones", "query": "queries", "classifier": "classifiers"}[kind]
        fix = self.suggest(called, set(known)) if known else f"declare it under '{where}:' at the top of the file"
        return self.wrong(node, f"no {kind} is called {called[:64]!r}", fix, function.result)


def outside(word: str, population: Population | None, example: str) -> tuple[str, str]:
    """What is wrong with a field or function of a population outside of its quantifiers, and the fix."""
    owners = populations.populations_of(word)
    kind = "field " if any(word in populations.FIELDS[owner] for owner in owners) else ""
    if population is not None:
        owned = " and ".join(owner.title for owner in owners)
        return (
            f"{population.title} have no {word!r}, only {owned} have",
            f"ask about {owned} in a quantifier of their own",
        )
    one = owners[0].value
    noun = f"{one} {kind}{word!r}" if kind else word
    return f"{noun} outside any_{one}, all_{one}s, count_{one}s", f"ask about {owners[0].title}: any_{one}({example})"
