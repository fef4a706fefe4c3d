"""Checked expressions: small immutable trees. Equal trees mean the same, so that rules can share their work.

An `Operation` is named after the operator or function (`"+"`, `"<"`, `"and"`, `"any_within"`, `"any_track"`); its
window length or other fixed number stands in `parameter` (seconds). Two trees are equal when they are written the
same way, wherever they stand: `key` is computed once, so that comparing deep trees stays cheap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from triggers.language.types import Type


@dataclass(frozen=True, slots=True)
class Expression:
    """What all expressions share; use the subclasses. Equality and hash follow `key` alone."""

    type: Type = field(compare=False)
    key: bytes = field(compare=True, repr=False)
    size: int = field(compare=False, repr=False)  # nodes of the tree, every use of a `let` name counted
    depth: int = field(compare=False, repr=False)
    reads_tracks: bool = field(compare=False, repr=False)  # has one value per track: only inside a quantifier
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
class TrackField(Expression):
    """A field of each track."""

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


def _key(*parts: object) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
        digest.update(b"\0")
    return digest.digest()


def constant(value: bool | float | str) -> Constant:
    """A literal; whole numbers become floats, so that `3` and `3.0` are the same."""
    value = value if isinstance(value, (bool, str)) else float(value)
    return Constant(Type.of(value), _key("constant", value), 1, 1, False, (), value)


def signal(name: str, signal_type: Type) -> SignalRead:
    """A signal. The same name read as two types is two different things (a rule cannot do so: it is checked)."""
    return SignalRead(signal_type, _key("signal", name, signal_type.name), 1, 1, False, (), name)


def track_field(name: str, field_type: Type) -> TrackField:
    """A field of each track."""
    return TrackField(field_type, _key("field", name), 1, 1, True, (), name)


def operation(
    name: str, result: Type, operands: tuple[Expression, ...], parameter: float | None = None, over_tracks: bool = False
) -> Operation:
    """An operator or function; `over_tracks` when the result has one value per track though no operand has."""
    key = _key("operation", name, parameter, *(operand.key for operand in operands))
    size = 1 + sum(operand.size for operand in operands)
    depth = 1 + max((operand.depth for operand in operands), default=0)
    reads_tracks = over_tracks or any(operand.reads_tracks for operand in operands)
    return Operation(result, key, size, depth, reads_tracks and name not in QUANTIFIERS, operands, name, parameter)


def membership(operand: Expression, choices: tuple[bool | float | str, ...]) -> Membership:
    """`operand in choices`; the order of the choices means nothing."""
    ordered = tuple(sorted(choices, key=repr))
    key = _key("in", operand.key, ordered)
    return Membership(Type.BOOLEAN, key, 1 + operand.size, 1 + operand.depth, operand.reads_tracks, (operand,), ordered)


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


QUANTIFIERS = frozenset({"any_track", "all_tracks", "count_tracks"})
