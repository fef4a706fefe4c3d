"""A batch ring that two processes share: what one stores the other takes, and who dies or stands still harms nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from runtime.capture.assembler import Assembler
from runtime.capture.batch_ring import BatchRing, Stored
from runtime.capture.phase import GridSegment, InstantGrid
from runtime.capture.ring_memory import SharedMemory, SharedRingMemory, own_memory
from runtime.formats.image_spec import ImageSpec

PERIOD = 50_000_000
SPEC = ImageSpec(16, 8)
CAMERAS = ("front", "rear")
GEOMETRY = SPEC.geometry(64, 32)

#: The cameras' side in a process of its own: opens the ring, does what it is told, says so, and waits.
OTHER_SIDE = """
import os, sys
import numpy as np
from runtime.capture.batch_ring import BatchRing
from runtime.capture.ring_memory import SharedRingMemory
from runtime.formats.image_spec import ImageSpec
spec = ImageSpec(16, 8)
memory = SharedRingMemory(2, spec, 4, int(sys.argv[1])).memory
ring = BatchRing(("front", "rear"), spec, 4, memory)
task = sys.argv[2]
if task == "store":
    print(ring.store(7, 1, np.full(spec.plane_shape, 9, np.uint8), 123, 5, spec.geometry(64, 32)).value, flush=True)
elif task == "hold the lock":
    memory.lock.__enter__()
    print("held", flush=True)
elif task == "half a picture":
    memory.lock.__enter__()
    slot = ring._slots[7 % 4]
    slot.clear(7)
    slot.present[0] = False
    slot.images[0] = 200
    slot.padded[0] = False
    print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def shared() -> Iterator[SharedRingMemory]:
    memory = SharedRingMemory(len(CAMERAS), SPEC, 4)
    yield memory
    memory.shared.close()


class OtherSide:
    def __init__(self, memory: SharedRingMemory, task: str) -> None:
        descriptor = memory.shared.descriptor
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER_SIDE, str(descriptor), task], pass_fds=(descriptor,),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline().strip()

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                assert stream is not None
                stream.close()


def test_what_another_process_stores_is_taken_here(shared: SharedRingMemory) -> None:
    ring = BatchRing(CAMERAS, SPEC, 4, shared.memory)
    other = OtherSide(shared, "store")
    assert other.said == Stored.STORED.value
    other.end()
    slot = ring.take(7)
    assert slot.present.tolist() == [False, True]
    assert slot.images[1].min() == slot.images[1].max() == 9
    assert (slot.frame_time_ns[1], slot.frame_sequence[1]) == (123, 5)
    assert slot.geometries == [None, GEOMETRY]


def test_what_was_taken_here_is_late_there(shared: SharedRingMemory) -> None:
    BatchRing(CAMERAS, SPEC, 4, shared.memory).take(7)
    other = OtherSide(shared, "store")
    other.end()
    assert other.said == Stored.LATE.value


def test_tick_gets_nothing_from_a_process_that_stands_still_with_the_lock_and_never_waits_for_it(
    shared: SharedRingMemory,
) -> None:
    ring = BatchRing(CAMERAS, SPEC, 4, shared.memory)
    frames = Assembler(CAMERAS, SPEC, InstantGrid(PERIOD, start_ns=0), ring)
    other = OtherSide(shared, "hold the lock")
    assert other.said == "held"
    other.end(signal.SIGSTOP)
    assert frames.take(7).is_empty
    assert frames.blocked == 1
    other.end()
    frames.offer("front", 8 * PERIOD, 1, lambda view: GEOMETRY)
    assert frames.take(8).present.tolist() == [True, False]


def test_picture_that_was_being_written_when_its_process_died_is_nobodys(shared: SharedRingMemory) -> None:
    frames = Assembler(
        CAMERAS, SPEC, InstantGrid(PERIOD, start_ns=0), BatchRing(CAMERAS, SPEC, 4, shared.memory)
    )  # fmt: skip
    other = OtherSide(shared, "half a picture")
    other.end()
    frameset = frames.take(7)
    assert frameset.is_empty
    assert frameset.images.min() == frameset.images.max() == SPEC.pad_value


def test_memory_of_another_layout_is_refused(shared: SharedRingMemory) -> None:
    with pytest.raises(ValueError, match="shared memory has"):
        SharedRingMemory(len(CAMERAS) * 64, SPEC, 4, shared.shared.descriptor)


def test_files_are_closed_and_no_name_is_left() -> None:
    before = set(os.listdir("/proc/self/fd"))
    memory = SharedMemory([("numbers", (4,), np.int64)])
    memory.arrays["numbers"][:] = 7
    memory.close()
    del memory  # with its arrays: the mapping holds the file open for as long as anyone can read it
    assert set(os.listdir("/proc/self/fd")) == before


def test_own_and_shared_memory_have_the_same_arrays(shared: SharedRingMemory) -> None:
    own = own_memory(len(CAMERAS), SPEC, 4)
    for name in (
        "state",
        "instants",
        "present",
        "frame_time_ns",
        "frame_sequence",
        "source_size_px",
        "padded",
        "images",
    ):
        mine, other = getattr(own, name), getattr(shared.memory, name)
        assert (mine.shape, mine.dtype) == (other.shape, other.dtype)
        assert np.array_equal(mine, other)


def test_grid_follows_the_one_that_sees_the_frames() -> None:
    seeing, ticking = InstantGrid(PERIOD, "front"), InstantGrid(PERIOD, "front")
    ticking.start(1000)
    seeing.follow(ticking.segments())
    told = ticking.segments()[-1].first
    for number in range(200):
        seeing.observe("front", 7_000_000 + number * (PERIOD + 3000))
        news = seeing.segments(told)
        if news:
            told = news[-1].first
            ticking.follow(news)
    instants = range(0, 220, 7)
    assert [ticking.time_of(instant) for instant in instants] == [seeing.time_of(instant) for instant in instants]
    assert ticking.period_ns == seeing.period_ns != PERIOD


def test_grid_does_not_take_the_same_correction_twice() -> None:
    grid = InstantGrid(PERIOD)
    grid.start(0)
    pieces = [GridSegment(10, 10 * PERIOD + 5, PERIOD)]
    grid.follow(pieces)
    grid.follow(pieces)
    assert len(grid.segments()) == 2
