"""What is wrong with a file that a person wrote: every mistake at its place, with its value and its fix.

A loader collects `Problem`s and raises them together as one `DocumentError`, so that a person corrects a file
once and not once per mistake. Lines and columns count from 1; line 0 means the file as a whole (it is missing,
too large, not readable). A problem's text is one line: `rig.yaml:12:5: message (got …; fix: …)`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LONGEST_SHOWN_VALUE = 80


class NullValue:
    """Stands for a YAML null in a problem, where Python's None means that there is no value to show."""

    def __repr__(self) -> str:
        return "null"


NULL = NullValue()


def show_value(value: object) -> str:
    """`value` as a person would write it in YAML, shortened to one readable line."""
    try:
        text = json.dumps(value, ensure_ascii=False) if not isinstance(value, NullValue) else "null"
    except (TypeError, ValueError):
        text = repr(value)
    if len(text) > LONGEST_SHOWN_VALUE:
        return text[: LONGEST_SHOWN_VALUE - 1] + "…"
    return text


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where it is, what is wrong, the value found there (None: nothing to show) and what to write."""

    file: str
    line: int
    column: int
    message: str
    value: object = None
    fix: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        notes = []
        if self.value is not None:
            notes.append(f"got {show_value(self.value)}")
        if self.fix:
            notes.append(f"fix: {self.fix}")
        return f"{place}: {self.message}" + (f" ({'; '.join(notes)})" if notes else "")


class DocumentError(ValueError):
    """A file cannot be used. `problems` holds everything that is wrong with it, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(problems, key=lambda p: (p.file, p.line, p.column)))
        if not self.problems:
            raise AssertionError("a DocumentError without problems would say that a good file is bad")
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Mistake(ValueError):  # noqa: N818 - it is one, and reads so where it is raised
    """What a pydantic validator raises to name the fix as well, and a place below the value it was given."""

    def __init__(self, message: str, fix: str = "", at: Sequence[str | int] = ()) -> None:
        super().__init__(message)
        self.fix = fix
        self.at = tuple(at)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was most likely meant, or None when none is close."""
    matches = difflib.get_close_matches(word.lower(), {name.lower(): name for name in known}, n=1, cutoff=0.6)
    return next((name for name in known if matches and name.lower() == matches[0]), None)


def suggest(word: str, known: Iterable[str]) -> str:
    """A fix text for an unknown word: the nearest known one, else the (bounded) list of all of them."""
    names = sorted(known)
    match = nearest(word, names)
    if match is not None:
        return f"did you mean {match!r}?"
    if len(names) == 1:
        return f"write {names[0]}"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"use one of {shown}" if names else "remove it"
