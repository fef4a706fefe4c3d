"""The four types of the language. Every type has one more value: unknown."""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

#: A value at one tick; None is unknown. Numbers are always float, never int.
Value: TypeAlias = bool | float | str | None


class Type(Enum):
    """What an expression yields when it is known."""

    NUMBER = "a number"
    BOOLEAN = "true or false"
    TEXT = "text"
    ANY = "a value of any type"  # a signal of which no rule has said yet what it is

    @staticmethod
    def of(value: bool | float | str) -> Type:
        """The type of a known value."""
        if isinstance(value, bool):
            return Type.BOOLEAN
        return Type.TEXT if isinstance(value, str) else Type.NUMBER
