"""Framesets: what is in them, what is missing, and that threads do not change them."""

import random
import threading
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.capture.assembler import Assembler
from runtime.capture.batch_ring import BatchRing, Stored
from runtime.capture.phase import InstantGrid
from runtime.capture.ring_memory import SharedRingMemory
from runtime.formats.image_spec import Geometry, ImageSpec

PERIOD = 50_000_000
SPEC = ImageSpec(16, 8, pad_value=114)
GEOMETRY = SPEC.geometry(64, 32)
CAMERAS = ("front", "rear", "left")


def fill(value: int) -> Callable[[NDArray[np.uint8]], Geometry]:
    def prepare(view: NDArray[np.uint8]) -> Geometry:
        view[:] = value
        return GEOMETRY

    return prepare


def must_not_be_prepared(view: NDArray[np.uint8]) -> Geometry:
    raise AssertionError("a frame that is of no use was scaled")


@pytest.fixture(autouse=True, params=["own memory", "shared memory"])
def memory_kind(request: pytest.FixtureRequest) -> str:
    """Everything here holds wherever the ring lies."""
    global _memory_kind
    _memory_kind = str(request.param)
    return _memory_kind


_memory_kind = "own memory"


def assembler(slots: int = 4) -> Assembler:
    memory = None
    if _memory_kind == "shared memory":
        memory = SharedRingMemory(len(CAMERAS), SPEC, slots).memory
    ring = BatchRing(CAMERAS, SPEC, slots, memory)
    return Assembler(CAMERAS, SPEC, InstantGrid(PERIOD, "front", start_ns=0), ring)


def test_a_frameset_has_every_cameras_frame_and_the_mask_of_the_missing() -> None:
    frames = assembler()
    frames.offer("front", 0, 10, fill(1))
    frames.offer("left", 900_000, 20, fill(2))
    frameset = frames.take(0)
    assert frameset.present.tolist() == [True, False, True]
    assert frameset.frame_time_ns.tolist() == [0, 0, 900_000]
    assert frameset.frame_sequence.tolist() == [10, -1, 20]
    assert [int(image.min()) for image in frameset.images] == [1, 114, 2]
    assert [int(image.max()) for image in frameset.images] == [1, 114, 2]
    assert (frameset.sequence, frameset.time_ns) == (0, 0)
    assert frames.geometries == (GEOMETRY, None, GEOMETRY)
    assert {camera: count.missing for camera, count in frames.counters().items()} == {"front": 0, "rear": 1, "left": 0}


def test_an_instant_without_frames_is_an_empty_frameset() -> None:
    assert assembler().take(3).is_empty


def test_a_frame_whose_instant_was_taken_is_late_and_never_scaled() -> None:
    frames = assembler()
    frames.take(5)
    assert frames.offer("rear", 5 * PERIOD, 1, must_not_be_prepared) is Stored.LATE
    assert frames.counters()["rear"].late == 1
    assert not frames.take(6).present.any()


def test_a_stalled_tick_refuses_what_would_overwrite_its_slot() -> None:
    frames = assembler(slots=4)
    frameset = frames.take(0)
    outcomes = [frames.offer("rear", instant * PERIOD, instant, fill(instant)) for instant in range(1, 6)]
    assert outcomes == [Stored.STORED] * 3 + [Stored.AHEAD] * 2
    assert int(frameset.images[1].max()) == 114
    assert frames.counters()["rear"].ahead == 2


def test_of_two_frames_of_one_instant_the_newer_stays_whichever_came_first() -> None:
    for order in ((0, 1), (1, 0)):
        frames = assembler()
        times = (40_000_000, 49_000_000)
        for index in order:
            frames.offer("rear", times[index], index, fill(50 + index))
        frameset = frames.take(1)
        assert int(frameset.frame_sequence[1]) == 1
        assert int(frameset.images[1].max()) == 51
        assert frames.counters()["rear"].superseded == 1


def test_pad_values_come_back_after_a_slot_was_used() -> None:
    frames = assembler(slots=2)
    frames.offer("front", 0, 0, fill(9))
    frames.take(0)
    frames.take(1)
    assert (frames.take(2).images == 114).all()


def test_a_slow_camera_is_held_for_one_and_a_half_of_its_periods() -> None:
    frames = assembler()
    frames.declare("rear", 8.0)
    frames.offer("rear", 0, 0, fill(77))
    present = [bool(frames.take(instant).present[1]) for instant in range(6)]
    assert present == [True, True, True, True, False, False]  # 187.5 ms
    assert frames.counters()["rear"].held == 3


def test_a_held_frame_keeps_its_own_time_and_picture() -> None:
    frames = assembler()
    frames.declare("rear", 8.0)
    frames.offer("rear", 0, 4, fill(77))
    frames.take(0)
    frameset = frames.take(2)
    assert (int(frameset.frame_time_ns[1]), int(frameset.frame_sequence[1])) == (0, 4)
    assert int(frameset.images[1].min()) == 77
    assert frames.geometries[1] == GEOMETRY


def test_a_dropped_frame_of_a_triggered_camera_is_missing_and_not_papered_over() -> None:
    frames = assembler()
    frames.declare("rear", 20.0)
    frames.offer("rear", 0, 0, fill(1))
    assert frames.take(0).present[1]
    assert not frames.take(1).present[1]


def test_a_free_running_camera_of_the_ticks_rate_may_slip_one_instant() -> None:
    frames = assembler()
    frames.declare("rear", 20.0, free_running=True)
    frames.offer("rear", 0, 0, fill(1))
    assert [bool(frames.take(instant).present[1]) for instant in range(3)] == [True, True, False]


def test_instants_cannot_be_taken_twice_or_backwards() -> None:
    frames = assembler()
    frames.take(4)
    with pytest.raises(ValueError, match="4 has been taken"):
        frames.take(4)


def test_a_ring_of_one_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="2 or more"):
        BatchRing(CAMERAS, SPEC, slots=1)


def test_camera_threads_make_the_same_framesets_as_one_loop() -> None:
    """The live runtime offers from a thread for each camera, the replay from one loop: same frames, same framesets."""
    noise = random.Random(3)
    offers = {
        camera: [
            (index * PERIOD + noise.randint(-2_000_000, 2_000_000), index, noise.randint(0, 255)) for index in range(40)
        ]
        for camera in CAMERAS
    }

    def run(offer_instant: Callable[[Assembler, int], None]) -> list[bytes]:
        frames = assembler()
        for camera in CAMERAS:
            frames.declare(camera, 20.0)
        taken = []
        for instant in range(40):
            offer_instant(frames, instant)
            frameset = frames.take(instant)
            taken.append(
                frameset.images.tobytes() + frameset.frame_time_ns.tobytes() + frameset.time_ns.to_bytes(8, "big")
            )
        return taken

    def in_a_loop(frames: Assembler, instant: int) -> None:
        for camera in CAMERAS:
            time_ns, sequence, value = offers[camera][instant]
            frames.offer(camera, time_ns, sequence, fill(value))

    def in_threads(frames: Assembler, instant: int) -> None:
        def one(camera: str) -> None:
            time_ns, sequence, value = offers[camera][instant]
            frames.offer(camera, time_ns, sequence, fill(value))

        threads = [threading.Thread(target=one, args=(camera,)) for camera in reversed(CAMERAS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert run(in_a_loop) == run(in_threads)
