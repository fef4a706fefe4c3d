"""A rig's calibration for tests, and what recordings must say of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runtime.formats.foxglove_messages import decode_calibration
from runtime.formats.mcap_files import McapTopicReader
from runtime.recording.record_source import calibrations_in
from runtime.rig import Rig, RigCamera, save_rig
from runtime.rotations import looking

DISTORTION = (0.1, -0.02, 0.001, 0.0, 0.003)


def rig_of(names: Iterable[str], size: tuple[int, int] = (160, 96), fx: float = 100.0) -> Rig:
    """Cameras that look ahead; the focal length tells them apart."""
    where: dict[str, Any] = {"rotation": looking(0.0), "translation_m": (1.0, 0.0, 1.5), "rate_hz": 20.0}
    width, height = size
    cameras = [
        RigCamera(name, "", width, height, fx=fx + row, fy=fx, cx=80.0, cy=48.0, distortion=DISTORTION, **where)
        for row, name in enumerate(names)
    ]
    return Rig("small", tuple(cameras))


def write_rig(folder: Path, names: Iterable[str]) -> Path:
    """The file of such a rig."""
    save_rig(rig_of(names), folder / "rig.yaml")
    return folder / "rig.yaml"


def focal_lengths(clip: Path) -> dict[str, float]:
    """By camera, as the clip's calibrations say."""
    with McapTopicReader(clip, strict=True) as reader:
        messages = calibrations_in(reader)
    said = [decode_calibration(message.data) for message in messages]
    return {calibration.frame_id: calibration.K[0] for calibration in said}
