"""Each camera as rules see it on one tick: its health, how old its frame was, what the image is like, where it looks.

Statistics of an image are made by its camera's thread, ahead of the tick that takes it (`measured_ahead`); what was not
measured ahead the tick measures itself, with the same result. They are made only while `measures_images` is set (a rule
asks for them, or a replay records them), and told only of an image that is new on this tick: a missing or held one says
nothing about now. `latency_ms` needs the monotonic time at which the frameset was taken; a replay has none and leaves
it unknown, because it would be the machine's and not the drive's. Where no network runs nobody assembles framesets;
then a camera is missing when its stream delivers nothing.

`misalignment_deg` is the slow mean (time constant `MISALIGNMENT_S`) of the median `confirming_gap_deg` of a camera's
tracks: of two calibrated cameras that see the same objects, a turned one sees all of them shifted. Near objects are
left out: the two cameras see different sides of them. It is unknown until `MISALIGNMENT_TICKS` ticks had such a track.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.capture.monitor import CameraHealth
from runtime.formats.image_spec import Geometry
from runtime.image_statistics import ImageMeter, ImageStatistics
from runtime.measured_ahead import MeasuredAhead
from runtime.messages import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, CameraView, Frameset, Track

MISALIGNMENT_S = 60.0
MISALIGNMENT_TICKS = 40
MISALIGNMENT_FROM_M = 10.0
#: States in which a stream brings no frames.
_SILENT_STATES = frozenset({"connecting", "ended", "failed", "dropping"})
#: View fields that are made of the image.
IMAGE_FIELDS = frozenset({"luma", "luma_std", "dark_share", "bright_share", "sharpness"})


class LatestHealth(Protocol):
    """Who knows every camera's health, as of this tick."""

    @property
    def latest(self) -> Mapping[str, CameraHealth]:
        """Health by camera."""


@dataclass(frozen=True, slots=True)
class Sight:
    """The frameset of one tick and how it came."""

    frameset: Frameset
    fresh: NDArray[np.bool_]  # [N] cameras with an image that no earlier tick had
    geometries: Sequence[Geometry | None]
    taken_ns: int | None = None  # monotonic; None in a replay


class CameraViews:
    """Makes the views of a tick; asked once a tick, after health."""

    def __init__(
        self,
        health: LatestHealth,
        color: str = "rgb",
        measures_images: bool = False,
        ahead: MeasuredAhead | None = None,
    ) -> None:
        """`ahead` has what was measured before the tick; without it the tick measures everything itself."""
        self._health = health
        self._meter = ImageMeter(color)
        self._ahead = ahead
        self._measures_images = False
        self.measures_images = measures_images
        self._misalignment = _Misalignment()

    @property
    def measures_images(self) -> bool:
        """Whether anyone asks what images are like."""
        return self._measures_images

    @measures_images.setter
    def measures_images(self, wanted: bool) -> None:
        self._measures_images = wanted
        if self._ahead is not None:
            self._ahead.want(wanted)

    def look(self, sight: Sight | None, tracks: Sequence[Track] | None, time_ns: int) -> list[CameraView] | None:
        """One view for each camera; None without any camera."""
        return self.complete(self.look_ahead(sight), tracks, time_ns)

    def look_ahead(self, sight: Sight | None) -> list[CameraView] | None:
        """The views without `misalignment_deg`: what is known before anything is tracked."""
        health = self._health.latest
        if not health:
            return None
        images = self._images(sight)
        return [_view(camera, state, sight, images) for camera, state in health.items()]

    def complete(
        self, views: Sequence[CameraView] | None, tracks: Sequence[Track] | None, time_ns: int
    ) -> list[CameraView] | None:
        """The same views with `misalignment_deg`, after this tick's tracks."""
        if views is None:
            return None
        if tracks:
            self._misalignment.take(tracks, time_ns)
        degrees = [self._misalignment.degrees(view.camera) for view in views]
        return [view if value is None else _with(view, value) for view, value in zip(views, degrees, strict=True)]

    def _images(self, sight: Sight | None) -> Mapping[str, ImageStatistics | None]:
        if sight is None or not self.measures_images:
            return {}
        frameset, found = sight.frameset, dict[str, ImageStatistics | None]()
        left = sight.fresh.copy()
        sequences = frameset.frame_sequence.tolist()
        for row in np.flatnonzero(left).tolist():
            measured = None if self._ahead is None else self._ahead.find(row, sequences[row])
            if measured is not None:
                found[frameset.cameras[row]] = measured[0]
                left[row] = False
        if left.any():  # nobody measured ahead, or images are measured only from now on
            here = self._meter.measure(frameset.images, left, sight.geometries)
            found.update((frameset.cameras[row], here[row]) for row in np.flatnonzero(left).tolist())
        return found


def _with(view: CameraView, misalignment_deg: float) -> CameraView:
    """The view with its last field; `dataclasses.replace` takes several times as long, for each camera of each tick."""
    return CameraView(
        view.camera, view.state, view.is_missing, view.latency_ms, view.luma, view.luma_std, view.dark_share,
        view.bright_share, view.sharpness, misalignment_deg,
    )  # fmt: skip


def _view(
    camera: str, health: CameraHealth, sight: Sight | None, images: Mapping[str, ImageStatistics | None]
) -> CameraView:
    image = images.get(camera)
    is_missing, latency_ms = _arrival(camera, health, sight)
    return CameraView(
        camera=camera,
        state=health.state,
        is_missing=is_missing,
        latency_ms=latency_ms,
        luma=None if image is None else image.luma,
        luma_std=None if image is None else image.luma_std,
        dark_share=None if image is None else image.dark_share,
        bright_share=None if image is None else image.bright_share,
        sharpness=None if image is None else image.sharpness,
    )


def _arrival(camera: str, health: CameraHealth, sight: Sight | None) -> tuple[bool, float | None]:
    """Whether the camera is missing on this tick, and the age of its frame when it was taken."""
    if sight is None or camera not in sight.frameset.cameras:
        return health.state in _SILENT_STATES, None
    row = sight.frameset.cameras.index(camera)
    if not sight.frameset.present[row]:
        return True, None
    if sight.taken_ns is None:
        return False, None
    age_ns = sight.taken_ns - int(sight.frameset.frame_time_ns[row])
    return False, round(age_ns / NANOSECONDS_PER_MILLISECOND, 3)


@dataclass(slots=True)
class _Mean:
    degrees: float
    time_ns: int
    ticks: int


class _Misalignment:
    """The slow mean of each camera's gap to the cameras that confirm its tracks."""

    def __init__(self) -> None:
        self._means: dict[str, _Mean] = {}

    def take(self, tracks: Sequence[Track], time_ns: int) -> None:
        gaps: dict[str, list[float]] = {}
        for track in tracks:
            is_far = track.distance_m is not None and track.distance_m >= MISALIGNMENT_FROM_M
            if is_far and track.confirming_gap_deg is not None:
                gaps.setdefault(track.camera, []).append(track.confirming_gap_deg)
        for camera, found in gaps.items():
            self._correct(camera, statistics.median(found), time_ns)

    def _correct(self, camera: str, gap_deg: float, time_ns: int) -> None:
        mean = self._means.setdefault(camera, _Mean(0.0, time_ns, 0))
        elapsed_s = (time_ns - mean.time_ns) / NANOSECONDS_PER_SECOND
        # A plain mean at first; then each tick by how long it stands for, and none by more than the first ones.
        slow = min(1.0 - math.exp(-elapsed_s / MISALIGNMENT_S), 1.0 / MISALIGNMENT_TICKS)
        weight = 1.0 / (mean.ticks + 1) if mean.ticks < MISALIGNMENT_TICKS else slow
        mean.degrees += weight * (gap_deg - mean.degrees)
        mean.time_ns, mean.ticks = time_ns, mean.ticks + 1

    def degrees(self, camera: str) -> float | None:
        """The mean of a camera, once enough ticks had a track to compare."""
        mean = self._means.get(camera)
        return None if mean is None or mean.ticks < MISALIGNMENT_TICKS else round(mean.degrees, 3)
