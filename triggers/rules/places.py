"""Where a character of a YAML text value stands in its file: the line and column that a person looks for.

YAML folds, indents and quotes text, so that the value is not a piece of the file. What stays is the order of its
visible characters: they are met again in the file, one after the other, from the value's first line on. Backslashes
of double quotes are passed over. Where that fails (an escape such as `\\u0041`), the place is the value's start.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_LINES = 200  # a condition is at most 4096 characters long


def place_in_value(lines: Sequence[str], line: int, column: int, value: str, offset: int) -> tuple[int, int]:
    """Line and column (both from 1) of `value[offset]`, for a value that starts at `line` and `column`."""
    wanted = [character for character in value[: offset + 1] if not character.isspace()]
    if not wanted or line < 1 or line > len(lines):
        return line, column
    at_line, at_column = _start(lines, line, column)
    met = 0
    for number in range(at_line, min(at_line + MAX_LINES, len(lines) + 1)):
        for position in range(at_column - 1, len(lines[number - 1])):
            if lines[number - 1][position] == wanted[met]:
                met += 1
                if met == len(wanted):
                    return number, position + 1
            elif not (lines[number - 1][position].isspace() or lines[number - 1][position] == "\\"):
                return line, column
        at_column = 1
    return line, column


def _start(lines: Sequence[str], line: int, column: int) -> tuple[int, int]:
    """Behind the indicator of a block (`>-`, `|`) or the opening quote."""
    rest = lines[line - 1][column - 1 :]
    if rest[:1] in (">", "|"):
        return line + 1, 1
    return line, column + (rest[:1] in ("'", '"'))
