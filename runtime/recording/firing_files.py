"""Firings that wait for their clip: `firings/*.json`, removed when their clip is sealed or is given up.

The runtime writes them, and for a runtime that died the recorder writes one (`crash_firing`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from runtime.formats import json_messages
from runtime.messages import NANOSECONDS_PER_SECOND, CaptureWindow, Firing, Priority
from runtime.recording.layout import HistoryLayout, write_atomically

CRASH_RULE = "runtime_crash"
#: What stands in a clip in place of a rule when the fleet asked for its range.
PULL_RULE = "range_pull"
#: Firings that may wait for the recorder; a rule gone wild must not fill the directory. Of 1,000 a minute 975 wait as a
#: matter of course: those of a clip of 55 s, and of the 3.5 s until its end is settled. The others are two minutes of
#: sealing, or of a recorder that starts again. Each takes a page of tmpfs, all of them 12 MB.
MAX_WAITING_FIRINGS = 3000


@dataclass(frozen=True, slots=True)
class WaitingFiring:
    """A firing, the run that made it, and the file that it waits in."""

    path: Path
    session: str
    firing: Firing

    @property
    def start_ns(self) -> int:
        """First instant that the firing wants kept."""
        return self.firing.time_ns - round(self.firing.capture.pre_s * NANOSECONDS_PER_SECOND)

    @property
    def end_ns(self) -> int:
        """Last instant that the firing wants kept."""
        return self.firing.time_ns + round(self.firing.capture.post_s * NANOSECONDS_PER_SECOND)


class FiringFileError(ValueError):
    """A firing file that cannot be understood."""


def read_firing(path: Path) -> WaitingFiring:
    """FiringFileError names the file and what is wrong with it; FileNotFoundError when it is gone."""
    data = path.read_bytes()
    try:
        record = json.loads(data)
        waiting = WaitingFiring(path, str(record["session"]), json_messages.firing_from_dict(record["firing"]))
        if waiting.start_ns > waiting.end_ns:
            raise ValueError(f"its window ends {waiting.start_ns - waiting.end_ns} ns before it starts")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise FiringFileError(f"{path}: not a firing ({type(error).__name__}: {error}); set aside as .bad") from error
    return waiting


def write_firing(layout: HistoryLayout, session: str, firing: Firing) -> Path:
    """Leave a firing for the recorder; a reader sees the whole file or none."""
    path = layout.firing(firing.time_ns, firing.sequence)
    record = {"session": session, "firing": json_messages.firing_to_dict(firing)}
    write_atomically(path, json_messages.encode_json(record))
    return path


class WaitingRoom:
    """Where firings wait for the recorder, at most `MAX_WAITING_FIRINGS`; belongs to the one who writes them.

    The recorder takes files away meanwhile. They are counted before one is refused, and not for each: to list thousands
    takes milliseconds of the thread that writes history.
    """

    def __init__(self, layout: HistoryLayout) -> None:
        self._layout = layout
        self._waiting_at_most = layout.count_firings()

    def has_room(self) -> bool:
        """Whether one more may wait."""
        if self._waiting_at_most >= MAX_WAITING_FIRINGS:
            self._waiting_at_most = self._layout.count_firings()
        return self._waiting_at_most < MAX_WAITING_FIRINGS

    def admit(self, session: str, firing: Firing) -> None:
        """As `write_firing`. OSError."""
        write_firing(self._layout, session, firing)
        self._waiting_at_most += 1


def set_aside(path: Path) -> None:
    """Keep a firing file that cannot be read for a look, out of the way."""
    path.replace(path.with_suffix(".bad"))


def crash_firing(time_ns: int, wall_ns: int, pre_s: float, software_version: str) -> Firing:
    """The firing of a runtime that died without saying so: its last `pre_s` seconds."""
    return Firing(
        rule=CRASH_RULE,
        rule_version=software_version,
        sequence=999_999,
        time_ns=time_ns,
        wall_ns=wall_ns,
        operands={},
        priority=Priority.HIGH,
        capture=CaptureWindow(pre_s=pre_s, post_s=0.0),
    )
