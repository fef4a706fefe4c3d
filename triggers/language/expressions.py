"""Checked expressions: small immutable trees. Equal trees mean the same, so that rules can share their work.

An `Operation` is named after the operator or function (`"+"`, `"<"`, `"and"`, `"any_within"`, `"any_track"`); its
window length or other fixed number stands in `parameter` (seconds). Two trees are equal when they are written the
same way, wherever they stand: `key` is computed once, so that comparing deep trees stays cheap.

`population` says of what an expression has one value per item: None outside quantifiers. The three ways to get items
into an expression are its fields, its functions (`displacement_px`) and operations over these; a quantifier or an
aggregate makes one value of them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from triggers.language import populations
from triggers.language.populations import Population
from triggers.language.types import Type
from triggers.language.zones import Zone

QUANTIFIERS = frozenset(populations.QUANTIFIERS)

#: Where the car is: what `inside` reads.
POSITION = ("vehicle.latitude_deg", "vehicle.longitude_deg")


@dataclass(frozen=True, slots=True)
class Expression:
    """What all expressions share; use the subclasses. Equality and hash follow `key` alone."""

    type: Type = field(compare=False)
    key: bytes = field(compare=True, repr=False)
    size: int = field(compare=False, repr=False)  # nodes of the tree, every use of a `let` name counted
    depth: int = field(compare=False, repr=False)
    population: Population | None = field(compare=False, repr=False)  # has one value per item of it
    operands: tuple[Expression, ...] = field(compare=False, repr=False, default=())


@dataclass(frozen=True, slots=True, eq=False)
class Constant(Expression):
    """A literal."""

    value: bool | float | str = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class SignalRead(Expression):
    """The value of a signal at this tick."""

    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ItemField(Expression):
    """A field of each item of a population."""

    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Operation(Expression):
    """An operator or function over operands."""

    name: str = ""
    parameter: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Membership(Expression):
    """`operand in (constants)`."""

    choices: tuple[bool | float | str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Inside(Expression):
    """`inside("name")`: operands are latitude and longitude; two zones of one shape and place are the same."""

    name: str = ""
    zone: Zone | None = None


def _key(*parts: object) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode("utf-8", "backslashreplace"))
        digest.update(b"\0")
    return digest.digest()


def constant(value: bool | float | str) -> Constant:
    """A literal; whole numbers become floats, so that `3` and `3.0` are the same."""
    value = value if isinstance(value, (bool, str)) else float(value)
    return Constant(Type.of(value), _key("constant", value), 1, 1, None, (), value)


def signal(name: str, signal_type: Type) -> SignalRead:
    """A signal. The same name read as two types is two different things (a rule cannot do so: it is checked)."""
    return SignalRead(signal_type, _key("signal", name, signal_type.name), 1, 1, None, (), name)


def item_field(name: str, field_type: Type, population: Population) -> ItemField:
    """A field of each item."""
    return ItemField(field_type, _key("field", population.value, name), 1, 1, population, (), name)


def operation(
    name: str,
    result: Type,
    operands: tuple[Expression, ...],
    parameter: float | None = None,
    over: Population | None = None,
) -> Operation:
    """An operator or function; `over` when the result has one value per item though no operand has."""
    where = over.value if over is not None else None
    key = _key("operation", name, parameter, where, *(operand.key for operand in operands))
    size = 1 + sum(operand.size for operand in operands)
    depth = 1 + max((operand.depth for operand in operands), default=0)
    population = next((operand.population for operand in operands if operand.population is not None), over)
    return Operation(result, key, size, depth, None if name in QUANTIFIERS else population, operands, name, parameter)


def membership(operand: Expression, choices: tuple[bool | float | str, ...]) -> Membership:
    """`operand in choices`; the order of the choices means nothing."""
    ordered = tuple(sorted(set(choices), key=repr))
    key = _key("in", operand.key, ordered)
    return Membership(Type.BOOLEAN, key, 1 + operand.size, 1 + operand.depth, operand.population, (operand,), ordered)


def inside(name: str, zone: Zone) -> Inside:
    """Whether the car is in a zone."""
    operands = tuple(signal(word, Type.NUMBER) for word in POSITION)
    return Inside(Type.BOOLEAN, _key("inside", zone), 3, 2, None, operands, name, zone)


def walk(expression: Expression) -> Iterator[Expression]:
    """Every distinct node below and including `expression`, operands first."""
    seen: set[bytes] = set()
    stack: list[tuple[Expression, bool]] = [(expression, False)]
    while stack:
        node, operands_done = stack.pop()
        if node.key in seen:
            continue
        if operands_done or not node.operands:
            seen.add(node.key)
            yield node
        else:
            stack.append((node, True))
            stack.extend((operand, False) for operand in reversed(node.operands))


def signals_read(expression: Expression) -> tuple[str, ...]:
    """The names of the signals that `expression` reads, sorted."""
    return tuple(sorted({node.name for node in walk(expression) if isinstance(node, SignalRead)}))
