"""The script: what is planted in a drive, when, and under which conditions it may begin.

The first cycle lasts 56 s and holds every kind of event once (two takeovers); longer drives repeat it with other
causes, cameras and times. An act waits until its conditions hold (speed, free road) and is given up when it had to
wait too long: what did not happen is not in the truth. Times in seconds from the start of the drive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CYCLE_S = 56.0
FIRST_ENGAGE_S = 1.5
SHORTEST_DRIVE_WITH_TAKEOVER_S = 15.0
PATIENCE_S = 5.0
TAKEOVER_CAUSES = ("brake", "steering", "cancel", "dropout", "gas")
FREEZE_CAMERAS = ("rear_left", "front_left", "rear")
DROP_CAMERAS = ("front_right", "rear_right", "front_wide")


@dataclass(frozen=True, slots=True)
class Act:
    """One planted thing. `kind` chooses what happens (see `stage`), `variant` how."""

    kind: str
    start_s: float
    length_s: float
    variant: str = ""
    needs_free_road: bool = False
    least_speed_mps: float = 0.0


@dataclass(frozen=True, slots=True)
class CameraFault:
    """A camera that freezes (repeats one image) or drops (delivers nothing) for a while."""

    camera: str
    kind: str  # "freeze" or "drop"
    start_s: float
    length_s: float

    @property
    def end_s(self) -> float:
        """When the camera is well again."""
        return self.start_s + self.length_s

    def covers(self, time_s: float) -> bool:
        """Whether the fault is on at this time."""
        return self.start_s <= time_s < self.end_s


@dataclass(frozen=True, slots=True)
class Script:
    """Everything planted in one drive, in order of time."""

    acts: tuple[Act, ...]
    faults: tuple[CameraFault, ...]


def write_script(duration_s: float, generator: np.random.Generator) -> Script:
    """The script of a drive. Drives of 15 s and more have at least one takeover."""
    acts: list[Act] = []
    faults: list[CameraFault] = []
    cycle = 0
    while cycle * CYCLE_S < duration_s:
        base = cycle * CYCLE_S
        jitter = generator.uniform(-0.4, 0.4, 16).tolist()
        acts += _cycle_acts(base, cycle, jitter)
        faults += _cycle_faults(base, cycle, jitter)
        cycle += 1
    if SHORTEST_DRIVE_WITH_TAKEOVER_S <= duration_s < 17.0:
        acts[0] = Act("takeover", duration_s * 0.55, 2.6, "brake", least_speed_mps=5.0)
    fitting = [act for act in acts if act.start_s + act.length_s <= duration_s - 1.5]
    faulty = [fault for fault in faults if fault.end_s <= duration_s - 1.0]
    return Script(tuple(fitting), tuple(faulty))


def _cycle_acts(base: float, cycle: int, jitter: list[float]) -> list[Act]:
    causes = [TAKEOVER_CAUSES[(2 * cycle + k) % len(TAKEOVER_CAUSES)] for k in (0, 1)]
    override = "gas" if cycle % 2 == 0 else "steering"
    return [
        Act("takeover", base + 12.3 + jitter[0], 2.6, causes[0], least_speed_mps=8.0),
        Act("override", base + 17.3 + jitter[1], 1.5, override, needs_free_road=override == "gas", least_speed_mps=9.0),
        Act("cut_in", base + 20.6 + jitter[2], 4.0, least_speed_mps=9.0),
        Act("parked_car", base + 21.0 + jitter[3], 0.1),
        Act("phantom_brake", base + 27.3 + jitter[4], 1.5, needs_free_road=True, least_speed_mps=9.0),
        Act("drift", base + 31.0 + jitter[5], 1.4, "left" if jitter[6] > 0 else "right", True, 9.0),
        Act("red_light", base + 33.8 + jitter[7], 9.0, least_speed_mps=6.0),
        Act("takeover", base + 48.6 + jitter[8], 6.5, causes[1], least_speed_mps=6.0),
        Act("hard_brake", base + 51.4 + jitter[9], 1.2, needs_free_road=True, least_speed_mps=6.0),
    ]


def _cycle_faults(base: float, cycle: int, jitter: list[float]) -> list[CameraFault]:
    freezing = FREEZE_CAMERAS[cycle % len(FREEZE_CAMERAS)]
    dropping = DROP_CAMERAS[cycle % len(DROP_CAMERAS)]
    return [
        CameraFault(freezing, "freeze", base + 37.5 + jitter[10], 3.0),
        CameraFault(dropping, "drop", base + 45.5 + jitter[11], 2.0),
    ]
