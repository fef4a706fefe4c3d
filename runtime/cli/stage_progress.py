"""Tells on standard error how far work of several stages is, so that minutes do not look like a standstill.

    with stage_progress() as progress:
        progress("ranges", 3, 48)

A terminal gets a bar for each stage; anything else (a log, a pipe) a plain line when a stage begins, every
`SECONDS_BETWEEN_LINES` while it lasts, and when it ends. Standard output is left to results.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 10.0

Tell = Callable[[str, int, int], None]


@contextmanager
def stage_progress(stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> Iterator[Tell]:
    """A function that takes stage, done and total."""
    target = stream if stream is not None else sys.stderr
    if not target.isatty():
        yield PlainLines(target, clock)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=target)) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield tell


class PlainLines:
    """Progress as lines, few enough for a log."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream, self._clock = stream, clock
        self._stage, self._told_at = "", 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = self._clock()
        is_due = stage != self._stage or done == total or now - self._told_at >= SECONDS_BETWEEN_LINES
        if is_due:
            self._stage, self._told_at = stage, now
            print(f"{stage}: {done} of {total}", file=self._stream, flush=True)
