from __future__ import annotations

import io

from runtime.cli.stage_progress import PlainLines, stage_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_for_each_stage_and_one_now_and_then() -> None:
    log, times = io.StringIO(), iter([0.0, 1.0, 2.0, 11.0, 12.0, 12.5])
    tell = PlainLines(log, lambda: next(times))
    for stage, done in (("ranges", 1), ("ranges", 2), ("ranges", 3), ("ranges", 4), ("ranges", 9), ("speed", 1)):
        tell(stage, done, 9)
    assert log.getvalue().splitlines() == ["ranges: 1 of 9", "ranges: 4 of 9", "ranges: 9 of 9", "speed: 1 of 9"]


def test_a_terminal_gets_bars() -> None:
    terminal = Terminal()
    with stage_progress(terminal) as tell:
        tell("ranges", 1, 2)
        tell("speed", 2, 2)
    assert "ranges" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()
