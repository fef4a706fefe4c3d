"""What came of each check, as a table, as JSON and as an exit code."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

State = Literal["passed", "failed", "not run"]
EXIT_PASSED, EXIT_FAILED, EXIT_NOT_RUN = 0, 1, 2


class NotRunError(Exception):
    """A check cannot run here; the message says what is missing."""


class FailedError(Exception):
    """A check ran and did not hold; the message says where."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One check's result."""

    name: str
    state: State
    detail: str
    seconds: float
    figures: dict[str, Any] = field(default_factory=dict)


#: What a check that passed returns: a line for the table, and figures.
Found = tuple[str, dict[str, Any]]


def perform(name: str, check: Callable[[], Found], failures: tuple[type[Exception], ...]) -> Outcome:
    """Run one check: it returns a line and figures, or raises.

    Args:
        failures: what besides FailedError means that the check failed (the driver's error).
    """
    started = time.perf_counter()
    figures: dict[str, Any] = {}
    state: State = "passed"
    try:
        detail, figures = check()
    except NotRunError as error:
        state, detail = "not run", str(error)
    except (FailedError, *failures) as error:
        state, detail = "failed", str(error)
    return Outcome(name, state, detail, round(time.perf_counter() - started, 2), figures)


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0: all passed; 1: something failed; 2: nothing failed, but something could not run."""
    states = {outcome.state for outcome in outcomes}
    return EXIT_FAILED if "failed" in states else EXIT_NOT_RUN if "not run" in states else EXIT_PASSED


def print_table(outcomes: Sequence[Outcome], console: Console) -> None:
    """One line for each check."""
    table = Table("check", "result", "what was found", "s", title="GPU check")
    colours = {"passed": "green", "failed": "red", "not run": "yellow"}
    for outcome in outcomes:
        state = f"[{colours[outcome.state]}]{outcome.state}[/]"
        table.add_row(outcome.name, state, outcome.detail.replace("[", r"\["), f"{outcome.seconds:.2f}")
    console.print(table)
