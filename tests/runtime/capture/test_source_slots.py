"""Source frames on their way to a network that prepares images itself: whose memory is whose, and what cannot go."""

from __future__ import annotations

import itertools

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.capture.assembler import Assembler
from runtime.capture.batch_ring import BatchRing, Stored
from runtime.capture.phase import InstantGrid
from runtime.capture.source_frames import SourcePicture
from runtime.formats.image_spec import Geometry, ImageSpec
from runtime.formats.source_image import PictureFormat, SourceImage

PERIOD = 50_000_000
SPEC = ImageSpec(16, 8)
SLOTS = 4
WIDTH, HEIGHT = 64, 48


class Memory:
    """A `SourceMemory` of ordinary memory that counts what is asked of it."""

    def __init__(self, *, gives: int = 100, refuses: str = "") -> None:
        self.gives, self.refuses = gives, refuses
        self.taken: list[int] = []
        self.judged = 0

    def take(self, size_bytes: int) -> NDArray[np.uint8]:
        if len(self.taken) == self.gives:
            raise MemoryError("no pinned memory: CUDA_ERROR_OUT_OF_MEMORY")
        self.taken.append(size_bytes)
        return np.zeros(size_bytes, np.uint8)

    def why_not(self, picture: PictureFormat) -> str:
        self.judged += 1
        return self.refuses


def _picture(grey: int, width: int = WIDTH, height: int = HEIGHT, name: str = "yuv420p") -> SourcePicture:
    frame = av.VideoFrame(width, height, name)
    for plane in frame.planes:
        plane.update(bytes([grey]) * plane.buffer_size)
    return SourcePicture(frame, "h264")


def _prepare(view: NDArray[np.uint8]) -> Geometry:
    view[:] = 7
    return SPEC.geometry(WIDTH, HEIGHT)


@pytest.fixture
def frames() -> Assembler:
    made = Assembler(
        ("front", "slow"), SPEC, InstantGrid(PERIOD, "front", start_ns=0), BatchRing(("front", "slow"), SPEC)
    )
    made.sources = Memory()
    made.declare("slow", 5.0)
    return made


def _greys(frames: Assembler, instant: int) -> list[int | None]:
    """The grey of each camera's source; all of a picture must show the same, or it was overwritten."""
    frameset = frames.take(instant)
    found: list[int | None] = []
    for source in frameset.sources:
        assert source is None or isinstance(source, SourceImage)
        found.append(None if source is None else int(source.pixels[0]))
        assert source is None or len(np.unique(source.pixels)) == 1
    return found


def test_frames_go_as_they_are_and_memory_is_taken_once(frames: Assembler) -> None:
    for instant in range(50):
        assert frames.offer("front", instant * PERIOD, instant, _prepare, _picture(instant)) is Stored.STORED
        assert _greys(frames, instant) == [instant, None]
    memory = frames.sources
    assert len(memory.taken) == SLOTS + 2
    assert set(memory.taken) == {_picture(0).size_bytes}
    assert memory.judged == 1
    assert frames.geometries == (SPEC.geometry(WIDTH, HEIGHT), None)
    assert frames.counters()["front"].prepared_here == 0


def test_what_a_tick_reads_is_never_written(frames: Assembler) -> None:
    """Frames for all instants that are still open come while the tick looks at its own, for a thousand ticks."""
    grey = itertools.count()
    for instant in range(1000):
        frames.offer("front", instant * PERIOD, 10 * instant, _prepare, _picture(next(grey) % 251))
        if instant % 4 == 0:
            frames.offer("slow", instant * PERIOD, 10 * instant, _prepare, _picture(instant // 4 % 251))
        frameset = frames.take(instant)
        seen = [source.pixels.copy() for source in frameset.sources]
        for ahead in range(1, SLOTS):
            for camera in ("front", "slow") if instant % 4 == 3 else ("front",):
                time_ns = (instant + ahead) * PERIOD + ahead - 1_000_000
                frames.offer(camera, time_ns, 10 * instant + ahead, _prepare, _picture(next(grey) % 251))
        assert all(np.array_equal(before, now.pixels) for before, now in zip(seen, frameset.sources, strict=True))


def test_a_slow_cameras_frame_is_held_without_a_copy(frames: Assembler) -> None:
    shown = []
    for instant in range(12):
        frames.offer("front", instant * PERIOD, instant, _prepare, _picture(200))
        if instant in (0, 4):
            frames.offer("slow", instant * PERIOD, instant, _prepare, _picture(instant + 1))
        shown.append(_greys(frames, instant)[1])
    assert shown == [1, 1, 1, 1, 5, 5, 5, 5, 5, 5, 5, None]
    assert frames.counters()["slow"].held == 9


@pytest.mark.parametrize(
    ("memory", "picture", "words"),
    [
        (Memory(), _picture(1, name="yuv420p10le"), "yuv420p10le are not known there"),
        (Memory(refuses="more than 255 to 1"), _picture(1), "more than 255 to 1"),
        (Memory(gives=3), _picture(1), "CUDA_ERROR_OUT_OF_MEMORY"),
    ],
)
def test_what_cannot_go_as_it_is_is_prepared_here_and_counted(
    frames: Assembler, memory: Memory, picture: SourcePicture, words: str
) -> None:
    frames.sources = memory
    for instant in range(3):
        assert frames.offer("front", instant * PERIOD, instant, _prepare, picture) is Stored.STORED
        frameset = frames.take(instant)
        assert frameset.sources == (None, None)
        assert (frameset.images[0] == 7).all()
    counters = frames.counters()["front"]
    assert counters.prepared_here == 3
    assert words in counters.prepared_here_because
    assert len(memory.taken) in (0, 3)  # a driver that had no memory is not asked again with every frame


def test_a_picture_larger_than_the_first_is_prepared_here_and_the_next_goes_again(frames: Assembler) -> None:
    ways = []
    for instant, name in enumerate(("yuv420p", "yuv444p", "yuv420p")):
        frames.offer("front", instant * PERIOD, instant, _prepare, _picture(9, name=name))
        ways.append(frames.take(instant).sources[0] is not None)
    assert ways == [True, False, True]
    assert "yuv444p takes" in frames.counters()["front"].prepared_here_because


def test_those_who_watch_images_see_each_new_one_once_after_the_network(frames: Assembler) -> None:
    seen: list[tuple[int, int, int]] = []
    frames.on_prepared = lambda row, image, time_ns: seen.append((row, int(image[0, 0, 0]), time_ns))
    for instant in range(3):
        if instant == 0:
            frames.offer("slow", 0, 0, _prepare, _picture(1))
        frames.offer("front", instant * PERIOD, instant, _prepare, _picture(1))
        frames.take(instant).images[:] = instant + 50  # as the network's backend does
        frames.look_at_prepared()
        frames.look_at_prepared()
    assert seen == [(0, 50, 0), (1, 50, 0), (0, 51, PERIOD), (0, 52, 2 * PERIOD)]


def test_without_anybody_to_prepare_them_frames_that_were_left_are_missing(frames: Assembler) -> None:
    for instant in range(2):
        frames.offer("front", instant * PERIOD, instant, _prepare, _picture(1))
        frames.offer("slow", instant * PERIOD, instant, _prepare, _picture(1))
    assert frames.take(0).present.all()
    frames.sources = None
    frameset = frames.take(1)
    assert frameset.sources is None
    assert not frameset.present.any()
    assert (frameset.images == SPEC.pad_value).all()
    assert frames.geometries == (None, None)
    frames.offer("front", 2 * PERIOD, 2, _prepare, _picture(1))
    assert (frames.take(2).images[0] == 7).all()
