"""A condition's text -> Python's syntax tree, within bounds: length before parsing, no comments, no deep nesting."""

from __future__ import annotations

import ast
import io
import tokenize

from triggers.language import vocabulary
from triggers.language.mistakes import CheckError, TextMistake

_CHECK_HERE = "check quotes, brackets and operators here"
#: What people write out of other habits, and what it is called here.
_FOREIGN = {
    "=": "compare with '=='",
    "&": "write and",
    "|": "write or",
    "!": "write not, or '!=' between two values",
    "≥": "write >=",
    "≤": "write <=",
    "≠": "write !=",
    "\u00d7": "write *",
    "\u2212": "write - (a hyphen)",
    **dict.fromkeys("\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb", 'use straight quotes: "…"'),
}


def parse(text: str) -> tuple[ast.expr, int]:
    """The tree, and how many characters of `text` stand before what its offsets count from."""
    if len(text) > vocabulary.MAX_TEXT_LENGTH:
        limit = vocabulary.MAX_TEXT_LENGTH
        raise CheckError(
            [TextMistake(0, f"is longer than {limit} characters", text[:40] + "…", "use `let` or two rules")]
        )
    one_line = text.replace("\n", " ").replace("\r", " ").replace("\t", " ")
    shift = len(one_line) - len(one_line.lstrip())
    if not one_line.strip():
        raise CheckError([TextMistake(0, "is empty", "", "write a condition such as vehicle.speed_mps > 3")])
    _refuse_comments(one_line[shift:], shift)
    try:
        return ast.parse(one_line[shift:], mode="eval").body, shift
    except SyntaxError as error:
        offset = min(shift + max((error.offset or 1) - 1, 0), len(text))
        shown = text[offset : offset + 20].strip() or text[-20:]
        fix = next((fix for found, fix in _FOREIGN.items() if shown.startswith(found)), _CHECK_HERE)
        raise CheckError([TextMistake(offset, f"is not an expression: {error.msg}", shown, fix)]) from error
    except (RecursionError, MemoryError, ValueError) as error:
        raise CheckError([TextMistake(0, "is nested too deeply to read", text[:40], "split it with `let`")]) from error


def _refuse_comments(text: str, shift: int) -> None:
    """A `#` would silently end the condition, since its lines are joined."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                fix = "put the comment on a line of its own above the key"
                raise CheckError([TextMistake(shift + token.start[1], "has a comment inside", token.string[:40], fix)])
    except (tokenize.TokenError, SyntaxError):
        return  # ast.parse says what is wrong


def dotted_name(node: ast.Attribute) -> str | None:
    """`vehicle.speed_mps` as it was written; None where something other than names stands before a dot."""
    parts = [node.attr]
    inner: ast.expr = node.value
    while isinstance(inner, ast.Attribute):
        parts.append(inner.attr)
        inner = inner.value
    return ".".join([inner.id, *reversed(parts)]) if isinstance(inner, ast.Name) else None
