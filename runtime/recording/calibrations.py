"""Calibrations in recordings: those of the rig's file whose cameras are recorded here.

Every second of history carries each of them, so that none depends on a second that may be gone; every clip has those
of its cameras once, in front. They are the rig's own, in pixels of the size that the rig's file names: a player scales
them to the video's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from runtime.recording.history_writer import HistoryWriter
from runtime.rig import Rig, RigCamera


def calibrated_cameras(rig: Rig | None, recorded: Collection[str]) -> tuple[RigCamera, ...]:
    """Cameras of the rig that are recorded, in its order; none without a rig."""
    return () if rig is None else tuple(camera for camera in rig.cameras if camera.name in recorded)


def record_calibrations(writer: HistoryWriter, cameras: Iterable[RigCamera]) -> None:
    """Put these into every second that is written from now on. The lens model is Brown-Conrady, as in OpenCV."""
    for camera in cameras:
        intrinsic = (camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0)
        writer.calibrate(camera.name, camera.width, camera.height, intrinsic, camera.distortion)
