"""Camera health as signals, so that rules can fire on it.

`health.cameras_missing` counts the cameras without a frame on this tick; `health.faulty_cameras` lists the cameras
at fault by name, `health.camera_faults` says what is wrong with each as `name:fault`; both are sorted, joined with
commas, and empty while all is well. Without framesets (no network runs) nobody can say how many are missing: unknown.
"""

from __future__ import annotations

from collections.abc import Mapping

from runtime.capture.monitor import CameraHealth, HealthMonitor
from runtime.messages import Frameset, SignalValue


class CameraHealthSignals:
    """Asks the monitor once a tick and keeps its last answer for status reports."""

    def __init__(self, monitor: HealthMonitor) -> None:
        self._monitor = monitor
        self.latest: Mapping[str, CameraHealth] = {}

    def signals(self, frameset: Frameset | None, time_ns: int, moving: bool | None) -> Mapping[str, SignalValue]:
        """The `health.*` values of one tick."""
        self.latest = self._monitor.assess(time_ns, moving)
        faulty = sorted((camera, health.state) for camera, health in self.latest.items() if health.is_fault)
        values: dict[str, SignalValue] = {
            "health.faulty_cameras": ",".join(camera for camera, _ in faulty),
            "health.camera_faults": ",".join(f"{camera}:{fault}" for camera, fault in faulty),
        }
        if frameset is not None:
            values["health.cameras_missing"] = float((~frameset.present).sum())
        return values
