from __future__ import annotations

from pathlib import Path

from runtime.clock import SystemClock
from runtime.processes.recorder_process import _Beat
from runtime.processes.shell import ProcessShell


class SteppedClock(SystemClock):
    time_ns = 0

    def now_ns(self) -> int:
        return self.time_ns


def test_while_one_clip_takes_long_crashes_and_pulls_are_still_noted_about_once_a_second(tmp_path: Path) -> None:
    clock = SteppedClock()
    looks_ns: list[int] = []
    beat = _Beat(ProcessShell("recorder", tmp_path, clock, 10.0), clock)
    beat.watch = lambda: looks_ns.append(clock.time_ns)
    for picture in range(50):
        clock.time_ns = picture * 55_000_000
        beat()
    assert looks_ns == [0, 1_045_000_000, 2_090_000_000]
