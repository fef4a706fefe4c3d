"""Unquoted YAML scalars by the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema).

Only `true` and `false` are booleans (`off`, `no` and `12:30` stay text), and `1e-3` is a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

MAX_DIGITS = 300

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def plain_value(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means. OverflowError for a number of more digits than anybody writes."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise OverflowError(f"number has more than {MAX_DIGITS} digits")
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base) if base != 10 else int(text, 10)
    if _FLOAT.fullmatch(text):
        return float(text)
    infinity = _INFINITY.fullmatch(text)
    if infinity is not None:
        return float("-inf") if infinity.group(1) == "-" else float("inf")
    return float("nan") if text in (".nan", ".NaN", ".NAN") else text
