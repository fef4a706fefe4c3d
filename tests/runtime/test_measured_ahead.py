"""What images are like, measured before their tick."""

from __future__ import annotations

import numpy as np

from runtime.capture.ring_memory import SharedMemory
from runtime.formats.image_spec import ImageSpec
from runtime.image_statistics import ImageMeter
from runtime.measured_ahead import AHEAD_FRAMES, AheadMeter, MeasuredAhead, ahead_layout

SPEC = ImageSpec(64, 48)
GEOMETRY = SPEC.geometry(640, 480)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, SPEC.plane_shape, np.uint8)


def test_what_was_measured_ahead_is_what_the_meter_says() -> None:
    ahead = MeasuredAhead.of(2)
    ahead.want(True)
    AheadMeter("rgb", ahead)(1, 41, picture(1), GEOMETRY)
    assert ahead.find(0, 41) is None
    assert ahead.find(1, 41) == (ImageMeter("rgb").measure_one(picture(1), GEOMETRY),)


def test_nothing_is_measured_that_nobody_wants() -> None:
    ahead = MeasuredAhead.of(1)
    AheadMeter("rgb", ahead)(0, 1, picture(1), GEOMETRY)
    assert ahead.find(0, 1) is None


def test_an_image_that_is_too_small_was_looked_at_and_says_nothing() -> None:
    ahead = MeasuredAhead.of(1)
    ahead.want(True)
    small = ImageSpec(8, 8)
    AheadMeter("rgb", ahead)(0, 3, np.zeros(small.plane_shape, np.uint8), small.geometry(8, 8))
    assert ahead.find(0, 3) == (None,)


def test_old_frames_make_room() -> None:
    ahead = MeasuredAhead.of(1)
    ahead.want(True)
    meter = AheadMeter("rgb", ahead)
    for sequence in range(AHEAD_FRAMES + 1):
        meter(0, sequence, picture(sequence), GEOMETRY)
    assert ahead.find(0, 0) is None
    assert ahead.find(0, AHEAD_FRAMES) is not None


def test_another_process_reads_the_same_table() -> None:
    mine = SharedMemory(ahead_layout(2))
    writer = MeasuredAhead(mine.arrays)
    other = SharedMemory(ahead_layout(2), mine.descriptor)
    reader = MeasuredAhead(other.arrays, clear=False)
    reader.want(True)
    AheadMeter("rgb", writer)(0, 5, picture(5), GEOMETRY)
    assert writer.find(0, 5) is not None
    assert reader.find(0, 5) == writer.find(0, 5)
