"""What rules are told of each camera: health, age, image, and where it looks."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.camera_views import MISALIGNMENT_TICKS, CameraViews, Sight
from runtime.capture.camera_watch import CameraCounters
from runtime.capture.monitor import CameraHealth
from runtime.formats.image_spec import ImageSpec
from runtime.image_statistics import ImageMeter
from runtime.messages import CameraView, Frameset, Track

SECOND = 1_000_000_000
HEIGHT, WIDTH = 96, 160
STRETCH = ImageSpec(WIDTH, HEIGHT).geometry(1280, 960)
IMAGE_VALUES = ("luma", "luma_std", "dark_share", "bright_share", "sharpness")


def _health(*cameras: str, state: str = "ok") -> SimpleNamespace:
    return SimpleNamespace(latest={c: CameraHealth(c, state, state != "ok", "", 0, CameraCounters()) for c in cameras})


def _sight(
    images: NDArray[np.uint8], present: Sequence[bool] = (True, True), fresh: Sequence[bool] = (True, True),
    taken_ns: int | None = SECOND,
) -> Sight:  # fmt: skip
    times_ns = np.array([SECOND - 30_000_000, SECOND - 42_500_000])
    frameset = Frameset(1, SECOND, ("front", "rear"), np.array(present), times_ns, np.zeros(2, np.int64), images)
    return Sight(frameset, np.array(fresh), (STRETCH, STRETCH), taken_ns)


def _grey(*levels: int) -> NDArray[np.uint8]:
    return np.stack([np.full((3, HEIGHT, WIDTH), level, np.uint8) for level in levels])


def _values(view: CameraView) -> list[float | None]:
    return [getattr(view, name) for name in IMAGE_VALUES]


def test_view_tells_state_and_age_of_the_frame() -> None:
    front, rear = CameraViews(_health("front", "rear")).look(_sight(_grey(1, 2)), [], SECOND) or ()
    assert (front.camera, front.state, front.is_missing, front.latency_ms) == ("front", "ok", False, 30.0)
    assert rear.latency_ms == 42.5
    assert _values(front) == [None] * 5  # no rule asks for images


def test_replay_does_not_know_how_old_a_frame_was() -> None:
    views = CameraViews(_health("front", "rear")).look(_sight(_grey(1, 2), taken_ns=None), [], SECOND) or ()
    assert [view.latency_ms for view in views] == [None, None]


def test_missing_camera_has_no_image_and_no_age() -> None:
    views = CameraViews(_health("front", "rear"), measures_images=True)
    front, rear = views.look(_sight(_grey(50, 114), (True, False), (True, False)), [], SECOND) or ()
    assert front.luma == 50.0
    assert (rear.is_missing, rear.latency_ms, *_values(rear)) == (True, None, *[None] * 5)


def test_held_image_says_nothing_about_now() -> None:
    views = CameraViews(_health("front", "rear"), measures_images=True)
    _, rear = views.look(_sight(_grey(50, 60), fresh=(True, False)), [], SECOND) or ()
    assert not rear.is_missing
    assert _values(rear) == [None] * 5


def test_without_framesets_health_alone_tells_who_is_missing() -> None:
    assert [view.is_missing for view in CameraViews(_health("front")).look(None, None, 0) or ()] == [False]
    assert [view.is_missing for view in CameraViews(_health("front", state="failed")).look(None, None, 0) or ()] == [
        True
    ]
    assert CameraViews(_health()).look(None, None, 0) is None


def _tracks(camera: str, gap_deg: float | None, distance_m: float = 30.0) -> list[Track]:
    gap: dict[str, float | None] = {"confirming_gap_deg": gap_deg, "distance_m": distance_m}
    return [Track(1, camera, "car", 0.9, (0.0, 0.0, 1.0, 1.0), 0, 0, True, **gap)]  # type: ignore[arg-type]


def _misalignment_after(gaps: Sequence[float | None], distance_m: float = 30.0) -> float | None:
    views, told = CameraViews(_health("front")), None
    for tick, gap_deg in enumerate(gaps):
        (view,) = views.look(None, _tracks("front", gap_deg, distance_m), tick * SECOND // 20) or ()
        told = view.misalignment_deg
    return told


def test_misalignment_is_the_slow_mean_of_gaps() -> None:
    steady = [1.5] * (MISALIGNMENT_TICKS - 1)
    assert _misalignment_after(steady) is None
    assert _misalignment_after([*steady, 1.5]) == 1.5
    noisy = [1.0 + (-1) ** tick for tick in range(400)]
    assert _misalignment_after(noisy) == pytest.approx(1.0, abs=0.05)
    # Within 5 s of a turn the mean has moved by about 1 - exp(-5/60) of it.
    assert _misalignment_after([0.0] * 100 + [2.0] * 100) == pytest.approx(2.0 * (1.0 - np.exp(-5 / 60)), abs=0.02)


def test_near_objects_and_unconfirmed_ones_say_nothing_about_alignment() -> None:
    assert _misalignment_after([3.0] * 100, distance_m=5.0) is None
    assert _misalignment_after([None] * 100) is None


# The image


def _measured(image: NDArray[np.uint8], color: str = "rgb") -> list[float]:
    (one,) = ImageMeter(color).measure(image[None], np.array([True]), (STRETCH,))
    assert one is not None
    return [getattr(one, name) for name in IMAGE_VALUES]


def test_luma_weighs_colours_as_bt_601_does() -> None:
    for channel, weight in enumerate((0.299, 0.587, 0.114)):
        image = np.zeros((3, HEIGHT, WIDTH), np.uint8)
        image[channel] = 200
        assert _measured(image)[0] == pytest.approx(200 * weight, abs=0.6)
        assert _measured(image[::-1], "bgr")[0] == _measured(image)[0]


def test_flat_image_has_neither_contrast_nor_sharpness() -> None:
    assert _measured(_grey(10)[0]) == [10.0, 0.0, 1.0, 0.0, 0.0]
    assert _measured(_grey(250)[0]) == [250.0, 0.0, 0.0, 1.0, 0.0]


def test_shares_and_spread_are_those_of_the_whole_image() -> None:
    image = _grey(0)[0]
    image[:, :, WIDTH // 4 :] = 255
    luma, luma_std, dark_share, bright_share, _ = _measured(image)
    assert luma == pytest.approx(0.75 * 255, abs=1.0)
    assert luma_std == pytest.approx(255 * np.sqrt(0.75 * 0.25), abs=1.0)
    assert (dark_share, bright_share) == (0.25, 0.75)


def test_blur_costs_sharpness() -> None:
    image = np.repeat(np.random.default_rng(1).integers(0, 256, (1, HEIGHT, WIDTH), np.uint8), 3, axis=0)
    blurred = (sum(np.roll(image.astype(np.uint16), shift, 2) for shift in range(-2, 3)) // 5).astype(np.uint8)
    assert _measured(blurred)[4] < 0.3 * _measured(image)[4]


def test_padding_is_not_part_of_the_picture() -> None:
    geometry = ImageSpec(WIDTH, HEIGHT, resize="letterbox").geometry(960, 960)
    image = np.full((1, 3, HEIGHT, WIDTH), 114, np.uint8)
    image[:, :, : geometry.content_height, : geometry.content_width] = 40
    (measured,) = ImageMeter("rgb").measure(image, np.array([True]), (geometry,))
    assert measured is not None
    assert (measured.luma, measured.luma_std, measured.sharpness) == (40.0, 0.0, 0.0)


def test_cameras_of_different_shapes_are_measured_each_for_itself() -> None:
    spec = ImageSpec(WIDTH, HEIGHT, resize="letterbox")
    images, geometries = _grey(10, 20, 30), (spec.geometry(960, 960), spec.geometry(1280, 720), None)
    measured = ImageMeter("rgb").measure(images, np.array([True, True, True]), geometries)
    assert [one and one.luma for one in measured] == [10.0, 20.0, None]
