"""A condition's text -> the questions whose answers explain it: its parts, the names it uses, what it compares.

Everything here is text in the rule language again, so that the answers come from the engine itself. A part inside a
quantifier is asked of every track, object or camera of the test by its number or name.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from triggers.language.source import parse

MAX_PARTS = 60
LONGEST_LABEL = 90

#: By the last part of a quantifier's or aggregate's name: the plural of its population and the field that tells items.
_ITEM_FIELDS = {
    "track": ("tracks", "track_id"),
    "tracks": ("tracks", "track_id"),
    "object": ("objects", "object_id"),
    "objects": ("objects", "object_id"),
    "camera": ("cameras", "camera"),
    "cameras": ("cameras", "camera"),
}
_QUANTIFIER_VERBS = ("any", "all", "count", "min", "max", "mean")
_ORDERINGS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


@dataclass(frozen=True, slots=True)
class Question:
    """One part: `asks` has one text for the whole scene (key "") or one an item; `compares` numbers beside them."""

    label: str
    depth: int
    asks: Mapping[str, str]
    compares: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Items:
    """What a test has of each population: numbers of tracks and objects, names of cameras."""

    tracks: Sequence[int]
    objects: Sequence[int]
    cameras: Sequence[str]

    def of(self, population: str) -> Sequence[int | str]:
        """The items of "tracks", "objects" or "cameras"."""
        if population == "cameras":
            return self.cameras
        return self.tracks if population == "tracks" else self.objects


def questions_about(text: str, lets: Mapping[str, str], items: Items) -> list[Question]:
    """The parts of a checked condition, outermost first; at most MAX_PARTS."""
    walker = _Walker(lets, items)
    found: list[Question] = []
    for question in walker.parts_of(text, 0, None):
        if len(found) == MAX_PARTS:
            break
        found.append(question)
    return found


class _Walker:
    """Walks a condition's syntax tree. `population` is set inside a quantifier."""

    def __init__(self, lets: Mapping[str, str], items: Items) -> None:
        self._lets = lets
        self._items = items

    def parts_of(self, text: str, depth: int, population: str | None) -> Iterator[Question]:
        tree, shift = parse(text)
        source = text.replace("\n", " ").replace("\r", " ").replace("\t", " ")[shift:]
        yield from self._walk(tree, source, depth, population)

    def _walk(self, node: ast.expr, source: str, depth: int, population: str | None) -> Iterator[Question]:
        """The parts of something whose own value is told already."""
        if isinstance(node, ast.BoolOp):
            for value in node.values:
                if isinstance(value, ast.BoolOp):
                    yield self._question(value, source, depth, population)
                    yield from self._walk(value, source, depth + 1, population)
                else:
                    yield from self._walk(value, source, depth, population)
            return
        yield self._question(node, source, depth, population)
        yield from self._below(node, source, depth + 1, population)

    def _below(self, node: ast.expr, source: str, depth: int, population: str | None) -> Iterator[Question]:
        """What stands inside a part that is not simply several conditions."""
        if isinstance(node, ast.Name) and node.id in self._lets:
            yield from self.parts_of(self._lets[node.id], depth, population)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield from self._walk(node.operand, source, depth, population)
        elif isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                if isinstance(side, (ast.Call, ast.Name)):
                    yield from self._below(side, source, depth, population)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            inner = population_of(node.func.id)
            conditions = node.args[-1:] if inner else node.args[:1]
            for argument in conditions:
                if inner or isinstance(argument, (ast.BoolOp, ast.Compare, ast.Call)) or self._is_let(argument):
                    yield from self._walk(argument, source, depth, inner or population)

    def _is_let(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id in self._lets

    def _question(self, node: ast.expr, source: str, depth: int, population: str | None) -> Question:
        text = _segment(node, source)
        label = " ".join(text.split())
        label = label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"
        numbers = _compared_numbers(node, source)
        if population is None:
            return Question(label, depth, {"": text}, {"": numbers})
        asks, compares = {}, {}
        _, item_field = _ITEM_FIELDS[population]
        singular = population[:-1]
        for item in self._items.of(population):
            is_item = f"{item_field} == {json.dumps(item)}"
            asks[f"{singular} {item}"] = f"any_{singular}({is_item} and ({text}))"
            compares[f"{singular} {item}"] = [f"max_{population}({number}, {is_item})" for number in numbers]
        return Question(label, depth, asks, compares)


def population_of(function: str) -> str | None:
    """The population that a quantifier or aggregate is over; None for other functions."""
    verb, _, last = function.partition("_")
    return _ITEM_FIELDS[last][0] if verb in _QUANTIFIER_VERBS and last in _ITEM_FIELDS else None


def _compared_numbers(node: ast.expr, source: str) -> list[str]:
    """The texts of the numbers that a comparison holds against each other, literals aside."""
    if not isinstance(node, ast.Compare) or not all(isinstance(operator, _ORDERINGS) for operator in node.ops):
        return []
    sides = [side for side in (node.left, *node.comparators) if not _is_literal(side)]
    return [_segment(side, source) for side in sides]


def _is_literal(node: ast.expr) -> bool:
    inner = node.operand if isinstance(node, ast.UnaryOp) else node
    return isinstance(inner, ast.Constant)


def _segment(node: ast.expr, source: str) -> str:
    return ast.get_source_segment(source, node) or ""
