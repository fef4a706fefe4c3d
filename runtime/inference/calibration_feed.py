"""The matrices of the rig that a network takes, computed once when it is opened.

Intrinsics are those of the *network's* image: a rig's are of the camera's source image, which capture brings to the
network's size (`ImageSpec.geometry`: `network_px = source_px * scale + offset`), so focal lengths and centre are scaled
and moved likewise. A source image may be larger or smaller than the rig says, as long as it shows the same (the same
field of view and aspect ratio). Lens distortion is not in a matrix; a network that needs straight lines needs cameras
whose images come undistorted.

Frames are those of `runtime.rig`: vehicle x forward, y left, z up, in metres; camera x right, y down, z forward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import ImageSpec
from runtime.inference.heads.decoder import BatchLayout, BundleFitError
from runtime.inference.manifest import CalibrationInput, Manifest
from runtime.rig import NO_DISTORTION, Rig, RigCamera
from runtime.rotations import FloatArray, looking

#: By input name, what enters on each stream: one array, or one for each camera where the network runs once per camera.
Calibrations = Mapping[str, Sequence[NDArray[np.float32]]]


def calibration_values(
    manifest: Manifest, layout: BatchLayout, cameras: Sequence[str], rig: Rig | None
) -> dict[str, list[NDArray[np.float32]]]:
    """Every calibration input's values for a rig with these cameras (`layout` is the network's on them).

    A row without a camera takes the declared fallback, or else a unit matrix, which has an inverse.

    Raises:
        BundleFitError: cameras that the calibration does not know, where the bundle declares no fallback.
    """
    known = {} if rig is None else {camera.name: camera for camera in rig.cameras}
    _refuse_unknown(manifest, [name for name in cameras if name not in known], rig)
    by_row = {row: known.get(camera) for camera, row in layout.row_of_camera.items()}
    spec = manifest.images.image_spec
    names = [entry.name for entry in manifest.image_inputs]
    values: dict[str, list[NDArray[np.float32]]] = {}
    for entry in manifest.calibrations:
        if layout.per_camera:
            streams = [[row] for row in range(layout.rows)]
        else:
            streams = [[names.index(entry.of)] if entry.of is not None else list(range(layout.rows))]
        values[entry.name] = [
            np.array([matrix_for(entry, by_row.get(row), spec) for row in rows], np.float32).reshape(entry.shape)
            for rows in streams
        ]
    return values


def matrix_for(entry: CalibrationInput, camera: RigCamera | None, spec: ImageSpec) -> FloatArray:
    """One matrix of `entry.matrix` sizes; None: a row without a camera, or with one that is not calibrated."""
    rows, columns = entry.matrix
    if camera is None:
        return np.array(entry.fallback, np.float64) if entry.fallback is not None else np.eye(rows, columns)
    whole = _whole(entry.what, camera, spec)
    return np.asarray((np.linalg.inv(whole) if entry.inverse else whole)[:rows, :columns], np.float64)


def _whole(what: str, camera: RigCamera, spec: ImageSpec) -> FloatArray:
    """[4, 4], of which the input takes its part."""
    if what == "intrinsics":
        return _intrinsics(camera, spec)
    camera_to_vehicle = np.eye(4)
    camera_to_vehicle[:3, :3] = camera.rotation_matrix
    camera_to_vehicle[:3, 3] = camera.translation_m
    if what == "extrinsics":
        return camera_to_vehicle
    return np.asarray(_intrinsics(camera, spec) @ np.linalg.inv(camera_to_vehicle))


def _intrinsics(camera: RigCamera, spec: ImageSpec) -> FloatArray:
    to_network = spec.geometry(camera.width, camera.height)
    matrix = np.eye(4)
    matrix[0, 0] = camera.fx * to_network.scale_x
    matrix[1, 1] = camera.fy * to_network.scale_y
    matrix[0, 2] = camera.cx * to_network.scale_x + to_network.offset_x
    matrix[1, 2] = camera.cy * to_network.scale_y + to_network.offset_y
    return matrix


def stand_in_cameras(manifest: Manifest) -> tuple[str, ...]:
    """Names of as many cameras as one run sees, the bundle's own where it has them: for looking at a network alone."""
    named = manifest.row_cameras
    rows = range(len(named) if named else manifest.rows)
    return tuple((named[row] if named else None) or f"camera_{row}" for row in rows)


def stand_in_rig(cameras: Sequence[str]) -> Rig:
    """A calibration for cameras that exist on no vehicle: 1280x960 with 60 degrees, looking round about."""
    step_deg = 360.0 / max(len(cameras), 1)
    return Rig(
        "stand-in",
        tuple(
            RigCamera(
                name=name, role="", width=1280, height=960, fx=1108.5, fy=1108.5, cx=640.0, cy=480.0,
                distortion=NO_DISTORTION, rotation=looking(index * step_deg), translation_m=(1.5, 0.0, 1.4),
                rate_hz=20.0,
            )
            for index, name in enumerate(cameras)
        ),
    )  # fmt: skip


def _refuse_unknown(manifest: Manifest, unknown: Sequence[str], rig: Rig | None) -> None:
    needing = [entry.name for entry in manifest.calibrations if entry.fallback is None]
    if not needing or not unknown:
        return
    which = "there is no rig file" if rig is None else f"rig {rig.name!r} does not know {', '.join(unknown)}"
    fix = "give a rig file that holds every camera, or declare a fallback for these inputs in model.yaml"
    takes = f"network {manifest.name!r} takes calibration ({', '.join(needing)})"
    raise BundleFitError(f"{takes}, but {which} (fix: {fix})")
